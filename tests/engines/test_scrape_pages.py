"""Pages that are cut, bad or rounded, over the life of one server."""

from inferwatt.engines.fetch import Answer
from inferwatt.records import Sums
from tests.engines.bench import Bench, bench

__all__ = ["bench"]


def test_a_partial_page_keeps_what_it_lacks_for_the_next(bench: Bench) -> None:
    """Row 4: a counter that a cut page lacks is unknown in that window, and whole again in the next."""
    bench.second()
    bench.server.prompt, bench.server.output = 5, 8
    whole = bench.server.page()
    bench.server.answers["/metrics"] = Answer(
        200, whole[: whole.index("llamacpp:tokens") + 9].encode(), {}, whole=False
    )
    cut = bench.second()
    bench.server.serve()
    bench.second()

    assert isinstance(cut[0], Sums)
    assert (cut[0].prompt_tokens, cut[0].output_tokens) == (5, None)
    assert bench.tokens() == (5, 0, 8)
    assert bench.health.partial_pages == 1


def test_a_counter_that_a_first_partial_page_lacked_is_not_counted_from_zero(bench: Bench) -> None:
    """What was done before we came is nobody's, also where the first page was cut."""
    bench.server.output = 1_000
    whole = bench.server.page()
    bench.server.answers["/metrics"] = Answer(200, whole[: whole.index("llamacpp:tokens")].encode(), {}, whole=False)
    bench.second()
    bench.server.serve()
    bench.second(2)

    assert bench.tokens() == (0, 0, 0)


def test_bad_lines_are_counted_by_reason(bench: Bench) -> None:
    """NaN and negative counters are left out, counted, and change no total."""
    bench.second()
    page = b"llamacpp:prompt_tokens_total NaN\nllamacpp:tokens_predicted_total -4\nllamacpp:requests_processing 1\n"
    bench.server.answers["/metrics"] = Answer(200, page, {})
    bench.second(2)

    assert bench.tokens() == (0, 0, 0)
    assert bench.health.bad_lines == {"not_finite": 2, "negative": 2}


def test_six_printed_digits_lose_nothing_for_good(bench: Bench) -> None:
    """llama.cpp prints 1.0516e+06: one window is rounded, the sum is not, and the resolution is said."""
    bench.second()
    for output in (999_990, 1_051_446, 1_051_454, 12_345_678):
        bench.server.output = output
        text = bench.server.page().replace(str(output), f"{output:g}")
        bench.server.answers["/metrics"] = Answer(200, text.encode(), {"process-start-time-unix": "100"})
        bench.second()

    assert bench.tokens() == (0, 0, 12_345_700)
    assert bench.health.resolution_tokens == 100
