"""Names, shapes and ports: what is made of what vLLM says."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from inferwatt.engines import vllm_front
from inferwatt.engines.vllm_front import Front, FrontLogger
from inferwatt.engines.vllm_names import names_of
from inferwatt.engines.vllm_shape import about, port_of, shape
from inferwatt.outbox import Outbox


@pytest.mark.parametrize(
    ("internal", "external", "response_id", "request_id"),
    [
        ("chatcmpl-abc-8efce1ed", "chatcmpl-abc", "chatcmpl-abc", "abc"),
        ("cmpl-abc-0-ab97aca4", "cmpl-abc-0", "cmpl-abc", "abc"),
        ("1_cmpl-abc-7-ab97aca4", "cmpl-abc-7", "cmpl-abc", "abc"),
        ("0_chatcmpl-iw-4-b958c5df", "chatcmpl-iw-4", "chatcmpl-iw-4", "iw-4"),
        ("resp_1f-00000000", "resp_1f", "resp_1f", "1f"),
        ("resp_1f_0-00000000", "resp_1f_0", "resp_1f", "1f"),
        ("transcribe-abc-8efce1ed", "transcribe-abc", "transcribe-abc", "abc"),
        ("decision-abc-8efce1ed", "decision-abc", "decision-abc", "abc"),
        ("mine", "mine", "mine", "mine"),
    ],
)
def test_the_names_of_a_request(internal: str, external: str, response_id: str, request_id: str) -> None:
    """The engine's name leads to the answer's id and to the client's own (as vLLM 0.32 makes them)."""
    assert names_of(internal) == (external, response_id, request_id)


def test_a_name_without_a_suffix_stays() -> None:
    """Where vLLM is told not to make names unique, eight digits at the end are the client's."""
    assert names_of("chatcmpl-a-00000001", is_suffixed=False).request_id == "a-00000001"


def qwen(**more: Any) -> SimpleNamespace:
    """The configuration of the tiny Qwen2 of our tests."""
    known: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
    }
    known |= {"num_key_value_heads": 2, "vocab_size": 300, "hidden_act": "silu", "tie_word_embeddings": False}
    return SimpleNamespace(**{**known, **more})


def test_a_models_shape_is_its_dimensions() -> None:
    """FLOPs, weights and cache of a dense model follow from its layers, by hand."""
    model = SimpleNamespace(dtype="torch.bfloat16", quantization=None)
    layer = 128 * 128 * 2 + 128 * 64 * 2 + 3 * 128 * 256

    assert shape(qwen(), model, "auto") == {
        "flops_per_token": 2 * (4 * layer + 300 * 128),
        "attention_flops_per_token_pair": 4 * 4 * 128,
        "kv_bytes_per_token": 2 * 4 * 64 * 2,
        "weight_bytes": 2 * (4 * layer + 2 * 300 * 128),
    }


def test_a_mixture_of_experts_counts_those_of_a_token() -> None:
    """All experts are weights, those that a token asks are FLOPs."""
    model = SimpleNamespace(dtype="torch.float16", quantization=None)
    found = shape(qwen(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=64), model, "fp8")
    attention, expert = 128 * 128 * 2 + 128 * 64 * 2, 3 * 128 * 64

    assert found is not None
    assert found["flops_per_token"] == 2 * (4 * (attention + 2 * expert) + 300 * 128)
    assert (found["experts"], found["experts_per_token"]) == (8, 2)
    assert found["expert_bytes"] == 2 * 4 * 8 * expert
    assert found["kv_bytes_per_token"] == 2 * 4 * 64 * 1


def test_what_is_not_known_is_left_out() -> None:
    """A model built otherwise has no shape; quantized weights have no size; an empty configuration has nothing."""
    quantized = SimpleNamespace(dtype="torch.float16", quantization="awq")
    said = about(SimpleNamespace(), version="1", role="engine", index=0, process={"port": None})

    assert shape(qwen(kv_lora_rank=512), quantized, "auto") is None
    assert "weight_bytes" not in (shape(qwen(), quantized, "auto") or {})
    assert said == {"role": "engine", "version": "1", "engine_index": 0, "model": ""}


@pytest.mark.parametrize(
    ("words", "port"),
    [("serve m --port 81", 81), ("serve --port=82 m", 82), ("serve m", None), ("m --port", None), ("--port x", None)],
)
def test_the_port_of_a_command_line(words: str, port: int | None) -> None:
    """Only a port that is named is a port that we know."""
    assert port_of(words.split()) == port


def finished(name: str | None) -> SimpleNamespace:
    """What vLLM's front end says of a finished request (v1/metrics/stats.py, FinishedRequestStats)."""
    return SimpleNamespace(
        request_id=name,
        finish_reason=SimpleNamespace(name="STOP"),
        num_prompt_tokens=7,
        num_cached_tokens=4,
        num_generation_tokens=2,
    )


def test_a_front_end_says_what_it_finished() -> None:
    """A named request is told; one without a name (vLLM before 0.20) is not."""
    front, outbox = Front({}), Outbox()
    front.note(SimpleNamespace(finished_requests=[finished("chatcmpl-a"), finished(None)]))
    front.note(SimpleNamespace(finished_requests=[]))
    front.collect(outbox)
    frame = outbox.next_frame()

    assert frame is not None
    assert b'"chatcmpl-a"' in frame
    assert b',"STOP",7,4,2]]' in frame
    assert outbox.next_frame() is None


def test_what_vllm_takes_back_after_a_stop_string_is_no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the step in which it does so, by name and count; the answers of the process are told the same."""
    front, outbox = Front({}), Outbox()
    monkeypatch.setattr(vllm_front, "_started", [front])

    def trim(_request: Any, output: Any, kept: int) -> str:
        del output.new_token_ids[kept:]
        return "done"

    def step(kept: int) -> None:
        request = SimpleNamespace(external_req_id="chatcmpl-a", stats=SimpleNamespace(num_generation_tokens=2))
        output = SimpleNamespace(new_token_ids=[5, 6])
        assert vllm_front.heard(trim, front)(request, output, kept) == "done"
        assert output.new_token_ids == [5, 6][:kept]
        front.note(SimpleNamespace(finished_requests=[finished("chatcmpl-a"), finished("chatcmpl-b")]))

    step(kept=1)
    step(kept=2)
    front.collect(outbox)
    frame = outbox.next_frame()

    assert frame is not None
    assert [end[5] for end in json.loads(frame[4:])["ends"]] == [1, 2, 2, 2]
    assert [end.output_tokens for end in vllm_front.finished("chatcmpl-a")] == [2, 1]


def test_what_we_do_not_understand_of_it_is_counted_alone() -> None:
    """VLLM's own function is called once, whatever we make of it, and what it raises is its own."""
    front = Front({})
    output = SimpleNamespace(new_token_ids=[5, 6])
    vllm_front.heard(lambda _request, output: output.new_token_ids.pop(), front)(object(), output)

    assert (output.new_token_ids, front.dropped) == ([5], 1)
    vllm_front.heard(lambda _request, _output: None, front)(object(), object())
    assert front.dropped == 2


def test_a_logger_that_nobody_wants_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be called as vLLM likes, with whatever it has then."""
    monkeypatch.setenv("INFERWATT_VLLM", "0")
    logger = FrontLogger(object(), 3)
    logger.record(scheduler_stats=None, iteration_stats=object(), mm_cache_stats=None, engine_idx=0)
    logger.record_sleep_state(1, 1)

    assert logger._front is None
