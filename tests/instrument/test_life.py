"""Streams that are cut, calls at once, spans, servers of one's own: each call is counted once, for what it was."""

import asyncio
import gc
import threading
from typing import Any

import huggingface_hub
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import inferwatt
from inferwatt.records import Outcome, Provenance
from tests.instrument import ways
from tests.instrument.answers import OUTPUT, PROMPT
from tests.instrument.apis import Apis
from tests.instrument.ways import MESSAGES

# Streams that are cut.


def _slow(url: str) -> Any:
    client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    return client.chat.completions.create(model="slow", messages=MESSAGES, stream=True)


def test_a_closed_stream_is_aborted_with_what_came(apis: Apis) -> None:
    """What was delivered is counted, about a token a piece, and says so."""
    with inferwatt.calls() as made:
        stream = _slow(apis.url)
        next(stream)
        stream.close()

    (call,) = made
    assert (call.outcome, call.output_tokens, call.output_counted) == (Outcome.ABORTED, 1, True)
    assert inferwatt.energy_of(stream) is call


def test_a_dropped_stream_is_aborted(apis: Apis) -> None:
    """Nobody reads on, nobody closes it: it ends when it is forgotten."""
    with inferwatt.calls() as made:
        for _ in _slow(apis.url):
            break
        gc.collect()

    assert [call.outcome for call in made] == [Outcome.ABORTED]


def test_a_stream_that_is_read_in_two_turns_is_one_call(apis: Apis) -> None:
    """A pause in reading is no end."""
    with inferwatt.calls() as made:
        client: Any = openai.OpenAI(base_url=f"{apis.url}/v1", api_key="x")
        stream = client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options=ways.USAGE
        )
        for _ in stream:
            break
        assert made == []
        rest = list(stream)

    assert (len(rest), [call.outcome for call in made]) == (4, [Outcome.FINISHED])


def test_a_cancelled_task_aborts_its_stream(apis: Apis) -> None:
    """Cancellation goes through as it is, and the call is aborted."""

    async def go() -> None:
        client: Any = openai.AsyncOpenAI(base_url=f"{apis.url}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(model="slow", messages=MESSAGES, stream=True)
        came = asyncio.Event()

        async def read() -> None:
            async for _ in stream:
                came.set()

        task = asyncio.create_task(read())
        await came.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.close()
        await client.close()

    with inferwatt.calls() as made:
        asyncio.run(go())

    assert [call.outcome for call in made] == [Outcome.ABORTED]


def test_a_stream_is_what_the_library_made(apis: Apis) -> None:
    """It is one of its class, by its name, and gives what it would give without us."""
    client: Any = openai.OpenAI(base_url=f"{apis.url}/v1", api_key="x")
    stream = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)
    with_us = [piece.model_dump(exclude={"id"}) for piece in stream]
    assert isinstance(stream, openai.Stream)
    assert (type(stream).__name__, type(stream).__module__) == ("Stream", "openai")
    inferwatt.uninstrument()
    without = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)

    assert with_us == [piece.model_dump(exclude={"id"}) for piece in without]


# At once.


def test_threads_and_tasks_have_their_own_calls(apis: Apis) -> None:
    """Eight threads of five calls and ten tasks at once: each block has its own, none is lost or counted twice."""
    counted: list[int] = []

    def thread() -> None:
        with inferwatt.calls() as made:
            for _ in range(5):
                ways.openai_chat(apis.url, "gpt-4o")
        counted.append(len(made))

    async def task() -> int:
        with inferwatt.calls() as made:
            await ways.openai_achat(apis.url, "gpt-4o")
            await ways.anthropic_amessage(apis.url, "claude-sonnet-4-0")
        return len(made)

    async def tasks() -> list[int]:
        return await asyncio.gather(*(task() for _ in range(10)))

    threads = [threading.Thread(target=thread) for _ in range(8)]
    for one in threads:
        one.start()
    with inferwatt.calls() as around:
        by_task = asyncio.run(tasks())
    for one in threads:
        one.join()

    assert counted == [5] * 8
    assert by_task == [2] * 10
    assert len(around) == 20


# Who is told.


def test_the_span_around_a_call_says_its_joules(apis: Apis) -> None:
    """A recording span gets energy, bounds and provenance; without one nothing is set."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("test")
    with inferwatt.calls() as made, tracer.start_as_current_span("chat gpt-4o"):
        ways.openai_chat(apis.url, "gpt-4o")

    (span,) = kept.get_finished_spans()
    (call,) = made
    assert span.attributes == {
        "inferwatt.energy_joules": call.energy_joules,
        "inferwatt.low_joules": call.low_joules,
        "inferwatt.high_joules": call.high_joules,
        "inferwatt.provenance": "estimated",
        "inferwatt.state": "final",
        "inferwatt.method": call.method,
    }


def test_the_span_says_the_emissions_where_a_kwh_is_given(apis: Apis) -> None:
    """With their interval and the figure that they come from."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    inferwatt.instrument(carbon_grams_per_kwh=360, carbon_source="a test")
    with provider.get_tracer("test").start_as_current_span("chat gpt-4o"):
        ways.openai_chat(apis.url, "gpt-4o")

    said = dict(kept.get_finished_spans()[0].attributes or {})
    for name in ("", "low_", "high_"):
        joules = said[f"inferwatt.{name or 'energy_'}joules"]
        assert isinstance(joules, float)
        assert said[f"inferwatt.emissions_{name}co2e_grams"] == pytest.approx(joules / 10_000)
    assert said["inferwatt.emissions_source"] == "360 g/kWh, a test"


def test_totals_keep_provenances_apart(apis: Apis) -> None:
    """A measured call and an estimated one are never one sum."""
    with inferwatt.calls() as made:
        ways.openai_chat(apis.url, "metered")
        ways.openai_chat(apis.url, "gpt-4o")
        ways.openai_chat(apis.url, "gpt-4o")

    assert {name: total.calls for name, total in made.totals.items()} == {
        Provenance.MEASURED: 1,
        Provenance.ESTIMATED: 2,
    }
    assert made.totals[Provenance.MEASURED].energy_joules == 2.5
    assert made.unknown == 0


def test_an_answer_that_is_plain_text(apis: Apis) -> None:
    """huggingface_hub's text_generation returns text: it is a call all the same, with tokens where it has details."""
    client = huggingface_hub.InferenceClient(f"{apis.url}/tgi")
    with inferwatt.calls() as made:
        text = client.text_generation("Hello")
        whole = client.text_generation("Hello", details=True)

    assert (text, whole.generated_text) == ("Hello.", "Hello.")
    assert [(call.prompt_tokens, call.output_tokens) for call in made] == [(None, None), (PROMPT, OUTPUT)]
    assert [call.state for call in made] == ["unknown", "final"]


# Servers of one's own.


@pytest.mark.real
@pytest.mark.parametrize("library", ["openai", "huggingface", "litellm"])
def test_a_real_server_of_ones_own_is_not_estimated(library: str, llamacpp_server: Any) -> None:
    """llama.cpp's own tokens are read; its joules are its meter's to say: nothing is made up for any model."""
    inferwatt.uninstrument()
    inferwatt.instrument()
    names = {
        "openai": ways.openai_chat_stream,
        "huggingface": ways.huggingface_chat,
        "litellm": ways.litellm_completion,
    }
    with inferwatt.calls() as made:
        answer = names[library](llamacpp_server.url, "m")

    (call,) = made
    assert (call.provider, call.energy_joules, call.state) == ("", None, "unknown")
    assert call.prompt_tokens is not None
    assert call.output_tokens is not None
    if library != "openai":
        usage = answer.usage
        assert (call.prompt_tokens, call.output_tokens) == (usage.prompt_tokens, usage.completion_tokens)
