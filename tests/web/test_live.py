import json
import threading
from pathlib import Path

import pytest

from inferwatt.export.prometheus import OPENMETRICS_TYPE, TEXT_TYPE
from inferwatt.testing import FakeClock
from inferwatt.web.assets import BUILD
from inferwatt.web.live import Shown

from .running import BEARER, OPENMETRICS, OWN, STRANGER, Meter, a_snapshot, ask, running


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/v1/live", "/v1/snapshot", "/v1/requests"])
def test_head_answers_without_a_body(path: str) -> None:
    """HEAD says what GET would, and a stream ends at once."""
    with running(Meter(), STRANGER) as serving:
        answer, body = ask(serving, path, BEARER, method="HEAD")

    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize(
    ("accept", "kind"), [(OPENMETRICS, OPENMETRICS_TYPE), ({}, TEXT_TYPE), ({"Accept": "*/*"}, TEXT_TYPE)]
)
def test_metrics_come_as_asked(accept: dict[str, str], kind: str) -> None:
    """Prometheus gets OpenMetrics, everybody else text 0.0.4, by the same address."""
    with running(Meter(), STRANGER) as serving:
        answer, body = ask(serving, "/metrics", {**accept, **BEARER})

    assert answer.getheader("content-type") == kind
    assert body.endswith(b"# EOF\n") is (kind == OPENMETRICS_TYPE)


def test_figures_change_at_most_once_a_second() -> None:
    """Two scrapes within a second are the same, so that a stranger sees no single step; after it they are new."""
    clock = FakeClock()
    meter = Meter()
    shown = Shown(lambda: meter.snapshot, dict, clock.monotonic_ns, 1.0)
    before = shown.view(details=True)
    meter.show(99.0)
    clock.advance(999_999_999)
    within = shown.view(details=True)
    clock.advance(1)

    assert before is within
    assert b"99.0" in shown.view(details=True)


def test_health_is_told_by_status() -> None:
    """A probe reads the status line; what is wrong is in the body, to whom it may be shown."""
    meter = Meter()
    with running(meter, STRANGER) as serving:
        well = ask(serving, "/healthz")
        meter.health = {"status": "failed", "version": "0.1", "host": "h"}
        ill = ask(serving, "/healthz", BEARER)

    assert (well[0].status, json.loads(well[1])) == (200, {"status": "ok", "version": "0.1"})
    assert (ill[0].status, json.loads(ill[1])["host"]) == (503, "h")


def test_a_ledger_that_waits_for_its_disk_holds_up_nothing_else() -> None:
    """Health, metrics and the stream are answered from memory while a request for rows hangs."""
    meter = Meter(hold=threading.Event())
    assert meter.hold is not None
    with running(meter, STRANGER) as serving:
        hanging = threading.Thread(target=ask, args=(serving, "/v1/requests", BEARER))
        hanging.start()
        while not meter.asked:
            ask(serving, "/healthz")
        statuses = [ask(serving, path)[0].status for path in ("/healthz", "/metrics", "/v1/snapshot")]
        meter.hold.set()
        hanging.join()

    assert statuses == [200, 200, 200]


def test_requests_are_found_by_tenant_model_and_id() -> None:
    """The ledger is asked with what was asked of us; an id of several requests gives them all."""
    meter = Meter()
    with running(meter, STRANGER) as serving:
        ask(serving, "/v1/requests?limit=7&tenant=a%26b&model=m", BEARER)
        one = json.loads(ask(serving, "/v1/requests/a/b%20c", BEARER)[1])
        meter.found = [{"request": "r1"}, {"request": "r2"}]
        several = json.loads(ask(serving, "/v1/requests/x", BEARER)[1])
        meter.found = []
        none = ask(serving, "/v1/requests/x", BEARER)[0].status

    assert meter.asked[0] == {"limit": 7, "tenant": "a&b", "model": "m"}
    assert meter.asked[1]["request"] == "a/b c"
    assert (one, several, none) == ({"request": "r1"}, [{"request": "r1"}, {"request": "r2"}], 404)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=-1", "limit=1001", "limit=x", "limit=", "limit=" + "9" * 5000, "tenant=" + "x" * 600]
)
def test_a_bad_query_is_refused_before_the_ledger(query: str) -> None:
    """Limits are checked here; the disk is not asked for nonsense."""
    meter = Meter()
    with running(meter, STRANGER) as serving:
        answer, body = ask(serving, f"/v1/requests?{query}", BEARER)

    assert answer.status == 400
    assert json.loads(body)["error"]["fix"]
    assert meter.asked == []


def test_the_built_page_is_served_and_cached_by_content(tmp_path: Path) -> None:
    """The bundle's files come with their types, unchanged ones are not sent again, and no path leads out of it."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static/index.html").write_text("<p>page</p>")
    (tmp_path / "static/app.js").write_text("1")
    (tmp_path / "secret").write_text("secret")
    with running(Meter(), OWN, static_dir=tmp_path / "static") as serving:
        page = ask(serving, "/")
        script, _ = ask(serving, "/static/app.js")
        again = ask(serving, "/static/app.js", {"If-None-Match": script.getheader("etag") or ""})[0].status
        out = [ask(serving, path)[0].status for path in ("/static/../secret", "/static/%2e%2e%2fsecret", "/static/")]

    assert (page[0].getheader("content-type"), page[1]) == ("text/html; charset=utf-8", b"<p>page</p>")
    assert (script.getheader("content-type") or "").startswith(("text/javascript", "application/javascript"))
    assert (again, out) == (304, [404, 404, 404])


def test_without_a_bundle_a_plain_page_says_how_to_build_it(tmp_path: Path) -> None:
    """A checkout that was not built still shows where the figures are."""
    with running(Meter(), OWN, static_dir=tmp_path / "absent") as serving:
        _, body = ask(serving, "/")

    assert BUILD.encode() in body
    assert b'href="/metrics"' in body


def test_a_failure_is_answered_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that cannot be made says so without a traceback; the log has it."""
    meter = Meter()
    meter.snapshot = a_snapshot()
    object.__setattr__(meter.snapshot, "live", object())
    with running(meter, STRANGER) as serving:
        answer, body = ask(serving, "/v1/snapshot")

    assert answer.status == 500
    assert b"Traceback" not in body
    assert "no answer to /v1/snapshot" in caplog.text
