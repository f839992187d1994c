"""What each kind of server's page says: recorded, documented, or in a source's form; each file's head says which."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from inferwatt.config import load
from inferwatt.engines.counters import Counters, Delta
from inferwatt.engines.pages import read_page
from inferwatt.engines.servers import EnginesConfig, KindConfig, ServerKind, loaded_models, server_kinds
from inferwatt.engines.wanted import wanted
from inferwatt.errors import ConfigError, RecordRejected
from inferwatt.records import Observed
from inferwatt.settings import AgentConfig

PAGES = Path(__file__).parent / "pages"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


def page(name: str) -> str:
    """Return a page's text."""
    return (PAGES / f"{name}.txt").read_text()


def deltas(kind: ServerKind, *texts: str) -> Mapping[str, Delta]:
    """Return what the last of several pages tells of a server whose counters began at zero."""
    counters = Counters(kind)
    counters.forget(from_zero=True)
    for text in texts:
        growth = counters.advance(read_page(text.encode(), kind.names))
    return growth.models


def counts(delta: Delta) -> tuple[int | None, ...]:
    """Return computed, cached and output tokens, inferences, running and waiting requests."""
    return (
        delta.computed_tokens,
        delta.cached_tokens,
        delta.output_tokens,
        delta.inferences,
        delta.running,
        delta.waiting,
    )


@pytest.mark.parametrize(
    ("kind", "name", "model", "expected"),
    [
        ("vllm", "vllm_0.32", "tiny-qwen", (22, 0, 38, None, 0, 0)),
        ("vllm", "vllm_0.32_dp2", "tiny-qwen", (384, 0, 192, None, 0, 0)),
        ("vllm", "vllm_0.32_preempt", "tiny-llama", (4672, 128, 6144, None, 0, 0)),
        ("sglang", "sglang", LLAMA, (600, 400, 150, None, 3, 2)),
        ("sglang", "sglang_documented", LLAMA, (8128902, 0, 7557572, None, None, None)),
        ("tgi", "tgi", "", (5000, None, 1000, None, 1, 2)),
        ("triton", "triton_pytriton_0.7.0", "tiny", (None, None, None, 20, None, 0)),
        ("triton", "triton_trtllm", "tensorrt_llm", (None, None, None, 7, 1, 1)),
        ("trtllm", "trtllm", "nemotron-nano-3", (1350, 450, 30, None, 2, 1)),
        ("dynamo", "dynamo", "a", (304, 96, 500, None, 4, 3)),
        ("dynamo", "dynamo", "b", (70, 0, 20, None, 0, None)),
        ("lmdeploy", "lmdeploy", "internlm3", (160, 0, 42, None, 3, None)),
        ("kserve", "kserve", "iris", (None, None, None, 12, None, None)),
    ],
)
def test_what_each_server_s_page_counts(kind: str, name: str, model: str, expected: tuple[int | None, ...]) -> None:
    """Tokens of all labels are summed, cached ones taken off prompts that include them, gauges are of one rank."""
    assert counts(deltas(server_kinds()[kind], page(name))[model]) == expected


@pytest.mark.parametrize("path", sorted(PAGES.glob("*.txt")), ids=lambda path: path.stem)
def test_every_page_names_its_origin(path: Path) -> None:
    """A page is recorded, documented or synthetic, and says of what and of which version."""
    assert re.match(r"# (Recorded from: .+\n# Command: |documented: |synthetic, in the form of )", path.read_text())


@pytest.mark.parametrize("name", ["vllm_0.32", "sglang", "trtllm", "lmdeploy"])
def test_names_may_have_a_colon_or_not_and_a_total_or_not(name: str) -> None:
    """What a collector rewrites (`vllm_x`), and what a client leaves off (`_total`), says the same."""
    kind = server_kinds()[name.partition("_")[0]]
    text = page(name)
    rewritten = re.sub(r"^(\w+):", r"\1_", text, flags=re.MULTILINE)
    bare = re.sub(
        r"^(\w+[:_](?:prompt|generation|cached|prompt_cached)_tokens)_total\b", r"\1", text, flags=re.MULTILINE
    )

    assert rewritten != text or name == "trtllm"
    assert bare != text
    assert deltas(kind, rewritten) == deltas(kind, bare) == deltas(kind, text)


def test_trtllm_s_spellings_say_the_same() -> None:
    """`trtllm_` and `trtllm:` are one, and a page of the first version without a prefix has requests and no tokens."""
    kind = server_kinds()["trtllm"]
    oldest = 'request_success_total{finished_reason="stop",model_name="m"} 3\n'

    assert deltas(kind, page("trtllm").replace("trtllm_", "trtllm:")) == deltas(kind, page("trtllm"))
    assert counts(deltas(kind, oldest)["m"]) == (None,) * 6
    assert deltas(kind, oldest)["m"].requests_ok == 3


def test_vllm_of_other_versions_is_read_by_its_older_names() -> None:
    """Without prompt_tokens_cached_total the parts by source stand in, then the prefix cache's hits; else not known."""
    kind = server_kinds()["vllm"]
    prompt = 'vllm:prompt_tokens_total{model_name="m"} 100\n'
    parts = 'vllm:prompt_tokens_by_source_total{model_name="m",source="SRC"} 30\n'
    sources = parts.replace("SRC", "local_compute") + parts.replace("SRC", "local_cache_hit")

    assert deltas(kind, prompt + sources)["m"].computed_tokens == 70
    assert deltas(kind, prompt + 'vllm:prefix_cache_hits_total{model_name="m"} 20\n')["m"].computed_tokens == 80
    assert deltas(kind, prompt)["m"].computed_tokens is None
    assert deltas(kind, prompt.replace("vllm:", "kserve_vllm:") + sources)["m"].computed_tokens == 70


@pytest.mark.parametrize("name", ["vllm:iteration_tokens_total", "lmdeploy:iteration_tokens_total"])
def test_a_histogram_is_never_mistaken_for_a_counter(name: str) -> None:
    """`iteration_tokens_total` is a histogram by that name: asked for as a counter, there is none."""
    kind = name.partition(":")[0]
    text = page("vllm_0.32" if kind == "vllm" else kind)
    asked = EnginesConfig(kind={"mine": KindConfig(output_tokens=(name,))}).kinds["mine"]

    assert f"{name}_sum" in text
    with pytest.raises(RecordRejected, match="no wanted sample"):
        read_page(text.encode(), asked.names)


def test_latencies_are_passed_on_with_the_server_s_own_bounds() -> None:
    """Streamed and plain answers are one histogram; each bucket alone, and the sum."""
    delta = deltas(server_kinds()["sglang"], page("sglang"))[LLAMA]

    assert delta.latencies == {"first_token_seconds": Observed((0.1, 0.4), (1, 1, 1), 2.0)}


def test_only_what_a_histogram_gained_is_passed_on() -> None:
    """A page that shows the same again has no latencies; one more observation is one."""
    kind, text = server_kinds()["tgi"], page("tgi")
    more = text.replace(
        'bucket{le="+Inf"} 10\ntgi_request_queue_duration_sum 1.2',
        'bucket{le="+Inf"} 11\ntgi_request_queue_duration_sum 1.5',
    )

    assert deltas(kind, text, text)[""].latencies == {}
    observed = deltas(kind, text, more)[""].latencies["queue_seconds"]
    assert observed.counts == (0, 0, 1)
    assert observed.seconds == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('le="+Inf",model', 'le="9",model'),
        (
            'le="0.4",model_name="meta-llama/Llama-3.1-8B-Instruct"} 2.0',
            'le="0.4",model_name="meta-llama/Llama-3.1-8B-Instruct"} 0.0',
        ),
        ("sglang:time_to_first_token_seconds_sum", "sglang:sum_of"),
        ('seconds_bucket{is_streaming="false",le="0.1"', 'seconds_bucket{is_streaming="false",le="0.7"'),
    ],
)
def test_a_histogram_that_cannot_be_true_is_left_out(old: str, new: str) -> None:
    """Row 16: no end, counts that fall, no sum, bounds out of order: nothing is made up, tokens are told."""
    delta = deltas(server_kinds()["sglang"], page("sglang").replace(old, new))[LLAMA]

    assert delta.latencies.get("first_token_seconds", Observed((), (0,), 0.0)).counts[0] == 0
    assert delta.output_tokens == 150


def test_a_label_that_is_not_there_means_all() -> None:
    """`{tp_rank=0}` is asked of series that have the label; those of a server without ranks count as they are."""
    text = 'sglang:num_running_reqs{model_name="m"} 4\nsglang:num_queue_reqs{model_name="m",tp_rank="0"} 1\n'

    assert counts(deltas(server_kinds()["sglang"], text)["m"])[4:] == (4, 1)


def test_a_user_adds_a_kind_and_changes_one() -> None:
    """A kind of one's own is a table with a counter; one of ours keeps what is not named (a prefix of Dynamo's)."""
    settings = EnginesConfig(
        kind={
            "mine": KindConfig(output_tokens=("made_tokens{kind=text}",), running=("busy",), model_labels=("m",)),
            "dynamo": KindConfig(output_tokens=("corp_output_tokens_total",)),
        }
    )

    made = deltas(
        settings.kinds["mine"], 'made_tokens{kind="text",m="x"} 4\nmade_tokens{kind="audio",m="x"} 9\nbusy 1\n'
    )
    assert counts(made["x"]) == (None, None, 4, None, 1, None)
    assert settings.kinds["dynamo"].running == server_kinds()["dynamo"].running
    assert deltas(settings.kinds["dynamo"], 'corp_output_tokens_total{model="m"} 5\n')["m"].output_tokens == 5


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        (KindConfig(running=("busy",)), r"engines\.kind\.mine"),
        (KindConfig(output_tokens=("a b",)), r"engines\.kind\.mine\.output_tokens"),
        (KindConfig(output_tokens=("a{b~c}",)), r"engines\.kind\.mine\.output_tokens"),
    ],
)
def test_a_wrong_kind_of_the_user_names_its_key(kind: KindConfig, where: str) -> None:
    """A kind that counts nothing, and what is no metric's name."""
    with pytest.raises(ConfigError, match=where):
        _ = EnginesConfig(kind={"mine": kind}).kinds


def test_every_metric_of_ours_is_spelled_as_one() -> None:
    """servers.toml has names that can be read, with labels or without."""
    for kind in server_kinds().values():
        assert all(wanted(name) for name in kind.names)


def test_ollama_says_which_models_are_loaded() -> None:
    """The answer to /api/ps as its documentation has it; what is something else names no model."""
    answer = {"models": [{"name": "llama3.2:latest", "model": "llama3.2:latest", "size_vram": 5137025024}]}

    assert loaded_models(answer) == ("llama3.2:latest",)
    assert loaded_models({"models": []}) == ()
    assert loaded_models({"status": "ok"}) == ("",)


def test_a_kind_in_the_configuration_file_is_typed(tmp_path: Path) -> None:
    """`[engines.kind.NAME]` is read as it is written; a wrong key or value stops the start with its line."""
    file = tmp_path / "inferwatt.toml"
    file.write_text('[engines.kind.mine]\noutput_tokens = ["a_total"]\nprompt_includes_cached = true\n')
    loaded = load(AgentConfig, file=file).value.engines
    assert loaded.kinds["mine"].prompt_includes_cached

    file.write_text('[engines.kind.mine]\noutput_token = ["a_total"]\n')
    with pytest.raises(ConfigError, match=r"line 2(.|\n)*output_token|output_token(.|\n)*line 2"):
        load(AgentConfig, file=file)
    file.write_text('[engines.kind.mine]\nports = ["x"]\n')
    with pytest.raises(ConfigError, match=r"engines\.kind\.mine\.ports"):
        load(AgentConfig, file=file)
