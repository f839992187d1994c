import json

import pytest

from .running import BEARER, NEEDS_PROC, OPENMETRICS, OWN, STRANGER, TOKEN, Meter, Reader, ask, raw, running


@NEEDS_PROC
def test_the_own_user_sees_tenants_and_requests_without_a_token() -> None:
    """Whoever runs the agent needs nothing else, on the page, the API and the metrics."""
    with running(Meter(), OWN) as serving:
        view = json.loads(ask(serving, "/v1/snapshot")[1])
        requests = json.loads(ask(serving, "/v1/requests")[1])
        metrics = ask(serving, "/metrics", OPENMETRICS)[1]

    assert (view["restricted"], len(view["tenants"]), len(view["requests"])) == (False, 1, 1)
    assert requests == {"requests": [{"request": "r1"}]}
    assert b'tenant="acme"' in metrics
    assert b'# {request_id="chatcmpl-1"}' in metrics


def test_another_user_sees_sums_only() -> None:
    """Without the token another user of the machine learns no tenant and no request, anywhere, and is told so."""
    with running(Meter(), STRANGER) as serving:
        reader = Reader(serving)
        pushed = reader.line()
        reader.close()
        bodies = [
            pushed,
            ask(serving, "/v1/snapshot")[1],
            ask(serving, "/metrics")[1],
            ask(serving, "/metrics", OPENMETRICS)[1],
            ask(serving, "/v1/requests")[1],
            ask(serving, "/v1/requests/r1")[1],
            ask(serving, "/healthz")[1],
        ]
        refused = ask(serving, "/v1/requests")[0]
        view = json.loads(bodies[1])

    assert not any(b"acme" in body or b"chatcmpl" in body for body in bodies)
    assert (view["restricted"], view["tenants"], view["requests"]) == (True, [], [])
    assert refused.status == 403
    assert b"process_open_fds 3" in bodies[2]


@NEEDS_PROC
def test_a_proxy_of_the_own_user_opens_nothing() -> None:
    """Behind a reverse proxy the peer's user is the proxy's, so that only the token counts."""
    with running(Meter(), OWN) as serving:
        status = [ask(serving, "/v1/requests", {name: "x"})[0].status for name in ("X-Forwarded-For", "Via")]

    assert status == [403, 403]


def test_the_token_opens_by_header_and_by_link() -> None:
    """A scraper sends the token; a browser opens a link once, keeps a cookie, and the address forgets the token."""
    with running(Meter(), STRANGER) as serving:
        by_header = ask(serving, "/v1/requests", BEARER)[0].status
        link, _ = ask(serving, f"/v1/requests?limit=5&token={TOKEN}")
        cookie = (link.getheader("set-cookie") or "").split(";")
        by_cookie = ask(serving, "/v1/requests", {"Cookie": cookie[0]})[0].status
        wrong = ask(serving, "/?token=wrong")[0].status
        elsewhere = ask(serving, f"//evil.example/?token={TOKEN}")[0].getheader("location")

    assert (by_header, link.status, link.getheader("location"), by_cookie, wrong) == (
        *(200, 303, "/v1/requests?limit=5"),
        *(200, 403),
    )
    assert {" HttpOnly", " SameSite=strict"} <= set(cookie)
    assert TOKEN not in cookie[0]
    assert (elsewhere or "").startswith("/evil")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.2", "localhost.evil.example:80", "localhost, evil"])
def test_a_rebound_name_is_not_answered(host: str) -> None:
    """A hostile page that binds its own name to this machine gets nothing from any address."""
    with running(Meter(), OWN) as serving:
        answers = [ask(serving, path, {"Host": host})[0].status for path in ("/", "/metrics", "/healthz", "/v1/live")]

    assert answers == [421] * 4


def test_two_host_headers_are_not_answered() -> None:
    """No reading of an ambiguous request is chosen."""
    with running(Meter(), OWN) as serving:
        answer = raw(serving, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))


def test_other_pages_may_link_but_not_load() -> None:
    """What another page embeds or fetches is refused, a link on it works, and no answer allows other origins."""
    with running(Meter(), OWN) as serving:
        loaded = ask(serving, "/v1/snapshot", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"})[0]
        linked = ask(serving, "/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"})[0]

    assert (loaded.status, linked.status) == (403, 200)
    assert not any(name.lower().startswith("access-control") for name, _ in linked.getheaders())


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/v1/snapshot", "/absent", "/v1/requests/absent"])
def test_every_answer_carries_the_security_headers(path: str) -> None:
    """Right or wrong, no answer can be framed, sniffed or made to load from elsewhere."""
    with running(Meter(found=[]), OWN) as serving:
        answer, _ = ask(serving, path)
    headers = {name.lower(): value for name, value in answer.getheaders()}

    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(method: str) -> None:
    """Only GET and HEAD are served, on every address."""
    with running(Meter(), OWN) as serving:
        answers = [ask(serving, path, method=method)[0] for path in ("/", "/v1/requests", "/absent")]

    assert {(answer.status, answer.getheader("allow")) for answer in answers} == {(405, "GET, HEAD")}
