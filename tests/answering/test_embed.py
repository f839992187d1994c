"""The object in a body and in an event: all other bytes stay."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.answering.embed import headers_of, into_body, into_event
from inferwatt.answering.figures import figure, head
from inferwatt.records import Component, EnergyPart, Provenance, RequestEnergy, Tier

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.lists(one) | st.dictionaries(st.text(), one)
)
BODIES = st.dictionaries(st.text().filter(lambda key: key != "inferwatt"), VALUES)
ENERGY = RequestEnergy(
    "p:1",
    (
        EnergyPart(Component.ACCELERATOR, Provenance.MEASURED, 1_000_000, 2_000_000, 2_500_000, 3_500_000, 0.05),
        EnergyPart(Component.CPU, Provenance.MODELLED, 100_000, 200_000, 250_000, 350_000, 0.3),
    ),
    Tier.REQUEST_SPAN,
    final=False,
)


@given(BODIES, st.sampled_from([None, 1, "\t"]), st.sampled_from(["", "\n", " \r\n"]))
def test_any_json_object_takes_it(body: dict[str, Any], indent: int | str | None, tail: str) -> None:
    """Decoded it has one member more, and taken out again it is the server's to the byte."""
    raw = (json.dumps(body, indent=indent) + tail).encode()
    out = into_body(raw, {"id": "x"})
    added = len(out) - len(raw)
    start = next(at for at in range(len(raw), -1, -1) if out[:at] == raw[:at] and out[at + added :] == raw[at:])

    assert json.loads(out) == {**body, "inferwatt": {"id": "x"}}
    assert out[:start] + out[start + added :] == raw


@pytest.mark.parametrize(
    "body", [b"", b"{", b"}", b"[]", b'"}"', b"null", b"<html>{}", b'{"a": 1', b'{"inferwatt": {}}', b"[{}]"]
)
def test_what_is_no_object_or_has_it_is_left_alone(body: bytes) -> None:
    """Nothing is put where it would not be a member, or would be a second one."""
    assert into_body(body, {"id": "x"}) == body


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'data: {"a":1}\n\n', b'data: {"a":1,"inferwatt":{"id":"x"}}\n\n'),
        (b"data:{}\r\n\r\n", b'data:{"inferwatt":{"id":"x"}}\r\n\r\n'),
        (
            b'data: {"a":\ndata: 1}\nid: 7\n\n: ping }\n\n',
            b'data: {"a":\ndata: 1,"inferwatt":{"id":"x"}}\nid: 7\n\n: ping }\n\n',
        ),
        (b"data: [DONE]\n\n", b"data: [DONE]\n\n"),
    ],
)  # fmt: skip
def test_an_event_takes_it_in_its_data(event: bytes, expected: bytes) -> None:
    """Only a data line can hold it, whatever stands behind."""
    assert into_event(event, {"id": "x"}) == expected


def test_what_is_not_known_is_not_there() -> None:
    """Without joules there are an id and a place to ask, never a 0."""
    for nothing in (None, RequestEnergy("p:1", (), Tier.TOKEN_SHARE, final=False)):
        assert figure("p:1", nothing) == {"id": "p:1", "final": False, "state": "pending", "link": "/v1/requests/p%3A1"}


def test_the_figure_says_what_it_is_of_and_how_sure() -> None:
    """Parts add to the whole, the weakest provenance stands for it, and each component says its own."""
    told = figure("p:1", ENERGY, url="https://a")

    assert told["energy_joules"] == pytest.approx(told["prefill_joules"] + told["decode_joules"])
    assert told["low_joules"] <= told["energy_joules"] <= told["high_joules"]
    assert (told["state"], told["provenance"], told["tier"]) == ("provisional", "modelled", "request_span")
    assert [one["provenance"] for one in told["components"]] == ["measured", "modelled"]
    assert told["link"] == "https://a/v1/requests/p%3A1"


def test_headers_say_the_same_and_a_streams_the_id_only() -> None:
    """One header for each plain member; no line can be smuggled in by a name."""
    told = dict(headers_of(figure("p:1\r\nx: y", ENERGY)))

    assert told["x-inferwatt-energy-joules"] == "3.3"
    assert told["x-inferwatt-request-id"] == "p:1x: y"
    assert [name for name, _ in headers_of(head("p:1"))] == ["x-inferwatt-request-id", "x-inferwatt-link"]
