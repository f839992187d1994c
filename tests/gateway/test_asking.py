"""What is read of a call, what is added to it, and which headers go on."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.gateway import asking, headers, paths

CHAT = paths.Call(paths.Protocol.OPENAI)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(
    st.sampled_from(["model", "stream", "n", "stream_options", "messages", "a"]), VALUES, max_size=5
)
OPTIONS = st.dictionaries(st.sampled_from(["include_usage", "continuous_usage_stats", "b"]), VALUES, max_size=3)


@given(BODIES, st.sampled_from([None, " ", "\n  "]))
def test_what_a_client_says_goes_on_and_the_usage_is_asked_beside_it(body: dict[str, Any], spaces: str | None) -> None:
    """Whatever it says: only `include_usage` is added, only to streams, and only where nothing of the kind was said."""
    data = (spaces or "").encode() + json.dumps(body, indent=2 if spaces else None).encode()

    sent = asking.with_usage(asking.read(data, CHAT))
    told = json.loads(sent.body)

    asks = body.get("stream") is True and ("stream_options" not in body or isinstance(body["stream_options"], dict))
    had = isinstance(body.get("stream_options"), dict) and body["stream_options"].get("include_usage")
    assert sent.hides_usage == bool(asks and not had)
    if sent.hides_usage:
        assert told.pop("stream_options") == {**body.get("stream_options", {}), "include_usage": True}
        assert told == {key: value for key, value in body.items() if key != "stream_options"}
    else:
        assert sent.body == data


@given(OPTIONS)
def test_a_clients_own_options_stand(options: dict[str, Any]) -> None:
    """Its continuous usage and all else stay as they are, on or off."""
    sent = asking.with_usage(asking.read(json.dumps({"stream": True, "stream_options": options}).encode(), CHAT))

    assert json.loads(sent.body)["stream_options"] == options | (
        {} if options.get("include_usage") else {"include_usage": True}
    )


@pytest.mark.parametrize(
    ("path", "protocol", "model", "streams"),
    [
        ("/v1/chat/completions", "openai", "", False),
        ("/v1/embeddings", "embeddings", "", False),
        ("/v1/messages", "anthropic", "", False),
        ("/v1/responses", "responses", "", False),
        ("/generate", "tgi", "", False),
        ("/generate_stream", "tgi", "", True),
        ("/openai/deployments/gpt-4o/chat/completions", "openai", "gpt-4o", False),
        ("/openai/deployments/e/embeddings", "embeddings", "e", False),
        ("/own", "other", "", False),
    ],
)
def test_a_path_is_a_call_by_its_protocol(path: str, protocol: str, model: str, streams: bool) -> None:
    """A path that only the configuration knows is passed on without being read."""
    call = paths.call_of(path, frozenset({"/own"}))

    assert call == paths.Call(paths.Protocol(protocol), model, streams)
    assert paths.call_of("/own") is None


@pytest.mark.parametrize(
    ("said", "answers"), [(2, 2), (0, 1), (-1, 1), (True, 1), ("2", 1), (2.0, 1), (10**9, 1), (None, 1)]
)
def test_how_many_answers_are_asked_for(said: object, answers: int) -> None:
    """What cannot be a number of answers is one; its server will say what it thinks of it."""
    assert asking.read(json.dumps({"n": said}).encode(), CHAT).answers == answers


@pytest.mark.parametrize(
    ("prompt", "answers", "prompts"),
    [("one", 2, 1), (["one", "two", "three"], 6, 3), ([1, 2, 3], 2, 1), ([[1, 2], [3]], 4, 2), ([], 2, 1), (7, 2, 1)],
)
def test_a_call_may_have_several_prompts(prompt: object, answers: int, prompts: int) -> None:
    """Each has its own answers; a list of numbers is one prompt of tokens."""
    asked = asking.read(json.dumps({"n": 2, "prompt": prompt}).encode(), CHAT)

    assert (asked.answers, asked.prompts) == (answers, prompts)


def test_headers_of_the_hop_end_here() -> None:
    """What Connection names, too; the rest goes on in its order, twice where it stood twice."""
    raw = [
        (b"host", b"a"), (b"connection", b"close, X-Secret"), (b"x-secret", b"1"), (b"te", b"trailers"),
        (b"upgrade", b"h2c"), (b"transfer-encoding", b"chunked"), (b"content-length", b"9"),
        (b"expect", b"100-continue"),
        (b"proxy-authorization", b"x"), (b"x-a", b"1"), (b"X-A", b"2"), (b"accept-encoding", b"br"),
        (b"x-inferwatt-tags", b"a=b"), (b"x-team", b"red"),
    ]  # fmt: skip

    sent = headers.asking(raw, "", "name", hides_key=False, tenant_header="x-team")

    assert sent == [("x-a", "1"), ("x-a", "2"), ("accept-encoding", "identity"), ("x-request-id", "name")]


def test_an_answers_headers_come_back_but_for_the_hops() -> None:
    """Cookies twice, dates and servers as they were; the length is that of the body that goes out."""
    raw = [
        (b"Content-Type", b"a"), (b"Connection", b"x-hop"), (b"X-Hop", b"1"), (b"Content-Length", b"5"),
        (b"X-Inferwatt-Request-Id", b"theirs"), (b"Set-Cookie", b"a=b"), (b"Set-Cookie", b"c=d"),
        (b"Transfer-Encoding", b"chunked"), (b"Trailer", b"x"),
    ]  # fmt: skip

    assert headers.answering(raw, [("x-inferwatt-request-id", "é€")], 7) == [
        (b"content-type", b"a"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"),
        (b"x-inferwatt-request-id", b"\xe9?"), (b"content-length", b"7"),
    ]  # fmt: skip


@given(st.text(max_size=200))
def test_an_id_or_a_tag_is_never_an_error(text: str) -> None:
    """Whatever a header holds, it is an id or none, tags or none."""
    found = headers.request_id({"x-request-id": text})
    tags = headers.tags({"x-inferwatt-tags": text, "traceparent": text})

    assert found in {text, ""}
    assert len(tags) <= headers.MOST_TAGS + 1
