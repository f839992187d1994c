import gzip
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from inferwatt.engines import pages
from inferwatt.engines.fetch import inflated
from inferwatt.engines.pages import Page, Sample, histogram, read_page
from inferwatt.errors import RecordRejected

RECORDED = Path(__file__).parent / "pages" / "llamacpp.txt"
NAMES = ("a_total", "b_tokens")


def read(text: str) -> Page:
    """Read the two test metrics from a page."""
    return read_page(text.encode(), NAMES)


def values(page: Page) -> dict[tuple[str, pages.Labels], float]:
    """Return a page's samples by series."""
    return {(sample.name, sample.labels): sample.value for sample in page.samples}


@pytest.mark.parametrize("word", ["NaN", "nan", "+Inf", "-Inf", "Inf", "1e999", "-1e999"])
def test_what_is_no_finite_number_is_missing_and_counted(word: str) -> None:
    """Row 1: NaN, infinities and numbers that overflow into them are left out, never summed."""
    page = read(f"a_total {word}\nb_tokens 2\n")

    assert values(page) == {("b_tokens", ()): 2.0}
    assert page.bad_lines == {pages.NOT_FINITE: 1}


def test_a_brace_or_a_quote_inside_a_label_value_ends_nothing() -> None:
    """Row 2: the value of a label may hold `}`, an escaped quote, a backslash and a line end."""
    page = read('a_total{path="/x/{id}",said="\\"hi\\"}",win="C:\\\\n",two="1\\n2"} 7\n')

    assert values(page) == {
        ("a_total", (("path", "/x/{id}"), ("said", '"hi"}'), ("two", "1\n2"), ("win", "C:\\n"))): 7.0
    }


def test_crlf_reads_as_lf() -> None:
    """Row 3: a server that ends its lines as Windows does says the same."""
    assert read('a_total 1\r\nb_tokens{x="y"} 2\r\n') == read('a_total 1\nb_tokens{x="y"} 2\n')


@pytest.mark.parametrize("tail", ["a_tot", "a_total", "a_total ", "a_total 12", 'a_total{x="'])
def test_a_page_that_is_cut_in_mid_line_is_partial(tail: str) -> None:
    """Row 4: the last line may say 12 of 123; what stands before it is kept."""
    page = read(f"b_tokens 5\n{tail}")

    assert values(page) == {("b_tokens", ()): 5.0}
    assert page.partial
    assert page.bad_lines == {pages.CUT: 1}


def test_openmetrics_without_its_end_is_partial_and_text_needs_none() -> None:
    """Row 4: `# EOF` is asked of OpenMetrics only."""
    body = b"a_total 1\n"

    assert read_page(body, NAMES, openmetrics=True).partial
    assert not read_page(body + b"# EOF\n", NAMES, openmetrics=True).partial
    assert not read_page(body + b"# EOF", NAMES, openmetrics=True).partial
    assert not read_page(body, NAMES).partial
    assert read_page(body, NAMES, whole=False).partial


@pytest.mark.parametrize("exemplar", ['# {id="x"} 1', '# {id="x"} 1 1.5', "# whatever 1 2 3", '# {id="}#"} 9'])
def test_an_exemplar_is_not_a_time_stamp(exemplar: str) -> None:
    """Row 5: what follows the value after a hash sign says nothing of the value."""
    assert values(read(f"a_total 1 {exemplar}\n")) == {("a_total", ()): 1.0}


def test_three_numbers_are_no_sample() -> None:
    """Row 6: a third number is skipped with its line, and counted."""
    page = read("a_total 1 2 3\nb_tokens 2\n")

    assert values(page) == {("b_tokens", ()): 2.0}
    assert page.bad_lines == {pages.MALFORMED: 1}


def test_the_first_of_two_equal_series_counts() -> None:
    """Row 7: the same name with the same labels in any order is one series, and the second is counted as bad."""
    page = read('a_total{x="1",y="2"} 3\na_total{y="2",x="1"} 4\n')

    assert values(page) == {("a_total", (("x", "1"), ("y", "2"))): 3.0}
    assert page.bad_lines == {pages.DUPLICATE: 1}


@pytest.mark.parametrize("spelling", ["v:x_total", "v:x", "v_x_total", "v_x"])
def test_a_counter_is_found_under_each_of_its_spellings(spelling: str) -> None:
    """Row 8: with or without `_total`, with a colon or the underscore that collectors make of it."""
    page = read_page(f"{spelling} 3\n".encode(), ["v:x_total"])

    assert page.named(["v:other", "v:x_total"]) == (Sample(spelling, (), 3.0),)


@pytest.mark.parametrize("line", ["a_total 1 -5", "a_total 1 1795561633000", "a_total 1\t-1.5e3"])
def test_a_time_stamp_of_the_server_is_ignored(line: str) -> None:
    """Row 10: the meter uses its own clock."""
    assert values(read(f"{line}\n")) == {("a_total", ()): 1.0}


@pytest.mark.parametrize(
    "line", ["a_total 1 noon", "a_total one", "a_total 1_000", "a_total 0x10", "a_total", "a_total{ 1"]
)
def test_a_line_that_is_no_sample_is_skipped_and_counted(line: str) -> None:
    """Row 10: text where a number belongs, and what only Python would take for a number."""
    page = read(f"{line}\nb_tokens 2\n")

    assert values(page) == {("b_tokens", ()): 2.0}
    assert sum(page.bad_lines.values()) == 1


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"<!DOCTYPE html><html>502</html>", "HTML"),
        (b"\n  <html>a_total 1\n</html>", "HTML"),
        (b"", "empty"),
        (b" \r\n\n", "empty"),
        (b"# HELP a_total x\n", "no wanted sample"),
        (b"other 1\n", "no wanted sample"),
        (b"a_total NaN\n", "no wanted sample"),
        (bytes(range(256)) * 40, "no wanted sample"),
        (b"a_total 1\n" + b"x" * pages.MAX_BODY_BYTES, "longer than"),
    ],
)
def test_what_is_no_metrics_page_is_a_failed_scrape(body: bytes, what: str) -> None:
    """Rows 11 to 13: HTML, nothing, no sample and too much are failures, never zeros."""
    with pytest.raises(RecordRejected, match=what):
        read_page(body, NAMES)


def test_a_gzip_bomb_is_cut_at_the_cap() -> None:
    """Row 14: the inflated size is what is capped, and all members of a gzip body are read."""
    bomb, is_end = inflated(gzip.compress(bytes(64 * 1024 * 1024)))

    assert len(bomb) == pages.MAX_BODY_BYTES + 1
    assert not is_end
    assert inflated(gzip.compress(b"a_total ") + gzip.compress(b"1\n")) == (b"a_total 1\n", True)


def test_strange_names_and_values_are_kept_as_data() -> None:
    """Row 15: UTF-8 names in quotes, a NUL and markup arrive as they are; who shows them escapes them."""
    page = read_page('{"a.b","el.é"="<script>"} 1\n{"a.b"} 2\na_total{x="\0"} 3\n'.encode(), ["a.b", "a_total"])

    assert values(page) == {
        ("a.b", (("el.é", "<script>"),)): 1.0,
        ("a.b", ()): 2.0,
        ("a_total", (("x", "\0"),)): 3.0,
    }


def test_bytes_that_are_no_text_are_skipped_and_counted() -> None:
    """Row 15: a label value that is no UTF-8 names nothing."""
    page = read_page(b'a_total{x="\xff"} 1\nb_tokens 2\n', NAMES)

    assert values(page) == {("b_tokens", ()): 2.0}
    assert page.bad_lines == {pages.MALFORMED: 1}


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        (["1", "0.5", "+Inf"], [1, 2, 3]),
        (["0.5", "1"], [1, 2]),
        (["0.5", "+Inf"], [2, 1]),
        (["x", "+Inf"], [1, 2]),
        ([], []),
    ],
)
def test_a_histogram_that_cannot_be_true_is_no_histogram(bounds: list[str], counts: list[int]) -> None:
    """Row 16: bounds out of order, no +Inf, counts that fall."""
    samples = [Sample("h_bucket", (("le", le),), float(n)) for le, n in zip(bounds, counts, strict=True)]

    assert histogram(samples) is None


def test_a_good_histogram_is_read() -> None:
    """Row 16, the other way: what is in order is kept."""
    page = read_page(b'h_bucket{le="0.5"} 1\nh_bucket{le="+Inf"} 4\n', ["h_bucket"])

    assert histogram(page.named(["h_bucket"])) == ((0.5, 1.0), (math.inf, 4.0))


def test_reading_stops_at_the_limit_of_series() -> None:
    """Row 17: a page of more than 100,000 series is read up to there, and that is counted."""
    page = read_page(b"".join(b'a_total{n="%d"} 1\n' % n for n in range(pages.MAX_SERIES + 10)), NAMES)

    assert len(page.samples) == pages.MAX_SERIES
    assert page.bad_lines == {pages.LIMIT: 1}


def test_the_page_of_a_real_llamacpp_server_is_read_as_prometheus_reads_it() -> None:
    """A recorded page gives the same numbers as prometheus_client's parser, family by family."""
    text = RECORDED.read_text()
    reference = {
        sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples
    }

    page = read_page(text.encode(), reference)

    assert {name: page.named([name])[0].value for name in reference} == reference
    assert (page.partial, page.bad_lines) == (False, {})
    assert reference["llamacpp:prompt_tokens_total"] == 35


LABEL_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name != "le")
LABEL_VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('\n"\\{}#, '), max_size=12)
VALUES = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 10**15).map(float)
SERIES = st.dictionaries(
    st.tuples(
        st.sampled_from(NAMES),
        st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=3).map(lambda d: tuple(sorted(d.items()))),
    ),
    VALUES,
    min_size=1,
    max_size=12,
)


def printed(series: dict[tuple[str, pages.Labels], float]) -> str:
    """Print series as a server would."""

    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')

    lines = []
    for (name, labels), value in series.items():
        block = ",".join(f'{key}="{escaped(text)}"' for key, text in labels)
        lines.append(f"{name}{{{block}}} {value!r}\n" if labels else f"{name} {value!r}\n")
    return "".join(lines)


@given(SERIES)
def test_any_well_formed_page_is_read_back_and_as_prometheus_reads_it(
    series: dict[tuple[str, pages.Labels], float],
) -> None:
    """Whatever the labels hold, our reader gives what was printed, and so does prometheus_client's."""
    text = printed(series)
    families = text_string_to_metric_families(text)
    reference = {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}

    assert values(read(text)) == series
    assert reference == series


@given(st.binary(max_size=400), SERIES)
def test_no_junk_breaks_the_reader_or_what_stands_beside_it(
    junk: bytes, series: dict[tuple[str, pages.Labels], float]
) -> None:
    """Lines of any bytes before good lines cost the good ones nothing, and raise nothing."""
    text = printed({key: value for key, value in series.items() if key[0] == "b_tokens"} or {("b_tokens", ()): 1.0})
    try:
        page = read_page(b"# \n" + junk + b"\n" + text.encode(), NAMES)
    except RecordRejected as exc:
        pytest.fail(str(exc))

    assert set(values(read(text)).items()) <= set(values(page).items()) or page.bad_lines.get(pages.DUPLICATE)
