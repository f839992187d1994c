"""What a fair split has to keep, whatever the load: over the public API, with any steps and any counter."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferwatt.attribution.over_arrays import Split, Steps, attribute
from inferwatt.records import Model

MS = 1_000_000
MODEL = Model("m", 16e9, 16e9, 524288.0, 131072.0)
NAMES = "abcdef"
LAWS = settings(max_examples=25, deadline=None)


@dataclass(frozen=True, slots=True)
class Story:
    """Steps end to end, and the watts of each 50 ms meanwhile."""

    steps: Steps
    watts: tuple[int, ...]

    @property
    def counter(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The polls of a counter each 50 ms."""
        uj = np.cumsum([0, *self.watts]) * 50_000
        return np.arange(len(uj)) * 50 * MS, uj

    def split(self, *, by_uj: int = 1, later_ns: int = 0) -> Split:
        """Split it; its counter multiplied, or all of it later."""
        t_ns, uj = self.counter
        steps = replace(
            self.steps,
            start_ns=np.asarray(self.steps.start_ns) + later_ns,
            end_ns=np.asarray(self.steps.end_ns) + later_ns,
        )
        return attribute(t_ns + later_ns, uj * by_uj, steps, model=MODEL)


def told(rows: list[tuple[int, list[tuple[str, int, int, bool]]]], watts: list[int]) -> Story:
    """Return the story of steps, each so many ms long, with members (name, new, context, prefill)."""
    ends = np.cumsum([length for length, _ in rows]) * MS
    starts = ends - np.array([length for length, _ in rows]) * MS
    members = [(number, *member) for number, (_, each) in enumerate(rows) for member in each]
    step, name, new, context, prefill = zip(*members, strict=True)
    seconds = int(ends[-1] // (50 * MS)) + 2
    return Story(Steps(starts, ends, step, name, new, context, prefill), tuple((watts * seconds)[:seconds]))


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, int, int, bool]]:
    """Who is in a step: a few requests, some with a prompt."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    prompts = [draw(st.booleans()) for _ in names]
    return [
        (name, draw(st.integers(1, 800)) if prompt else 1, draw(st.integers(0, 5000)), prompt)
        for name, prompt in zip(names, prompts, strict=True)
    ]


ROWS = st.lists(st.tuples(st.integers(5, 60), members()), min_size=3, max_size=25)
WATTS = st.lists(st.integers(50, 700), min_size=1, max_size=8)
STORIES = st.builds(told, ROWS, WATTS)


def joules(split: Split) -> dict[str, float]:
    """Return each request's energy."""
    return dict(zip(split.request, split.energy_joules.tolist(), strict=True))


@given(STORIES)
@LAWS
def test_every_joule_is_somebodys(story: Story) -> None:
    """Conservation: requests, idle and nobody's sum to what the counter gained; prefill and decode to the whole."""
    split = story.split()

    whole = split.energy_joules.sum() + split.idle_joules + split.unattributed_joules
    assert whole == pytest.approx(split.measured_joules, abs=1e-6)
    assert split.prefill_joules + split.decode_joules == pytest.approx(split.energy_joules, abs=1e-9)
    assert (split.low_joules <= split.energy_joules).all()
    assert (split.energy_joules <= split.high_joules).all()


@given(ROWS, WATTS, st.integers(0, 24))
@LAWS
def test_twins_pay_alike(rows: list[tuple[int, list[tuple[str, int, int, bool]]]], watts: list[int], at: int) -> None:
    """Symmetry: a request that did in every step what another did gets what it gets, but for rounding of ticks."""
    name = rows[at % len(rows)][1][0][0]
    with_twin = [(ms, [*each, *(("twin", *rest) for known, *rest in each if known == name)]) for ms, each in rows]

    found = joules(told(with_twin, watts).split())  # type: ignore[arg-type]

    ticks = sum(ms for ms, _ in rows) / 50 + 2
    assert found["twin"] == pytest.approx(found[name], abs=2 * ticks * 1e-6)  # prefill and decode are rounded apart


@given(ROWS, WATTS)
@LAWS
def test_who_does_nothing_pays_nothing(
    rows: list[tuple[int, list[tuple[str, int, int, bool]]]], watts: list[int]
) -> None:
    """Dummy: a member without a new token is no member: the others have to the microjoule what they have without it."""
    idle = [(ms, [*each, ("idler", 0, 0, False)]) for ms, each in rows]

    assert joules(told(idle, watts).split()) == joules(told(rows, watts).split())


@given(STORIES, st.permutations(range(len(NAMES))))
@LAWS
def test_names_decide_nothing(story: Story, order: list[int]) -> None:
    """Renamed requests get what they got under their old names."""
    other = dict(zip(NAMES, (f"request-{number}" for number in order), strict=True))
    renamed = replace(story, steps=replace(story.steps, request=[other[name] for name in story.steps.request]))

    assert joules(renamed.split()) == {other[name]: value for name, value in joules(story.split()).items()}


@given(STORIES, st.integers(1, 10**15))
@LAWS
def test_the_clock_decides_nothing(story: Story, later_ns: int) -> None:
    """The same later is the same."""
    assert joules(story.split(later_ns=later_ns)) == joules(story.split())


@given(STORIES, st.randoms(use_true_random=False))
@LAWS
def test_the_order_within_a_step_decides_nothing(story: Story, random: object) -> None:
    """Members in any order get what they got, but for rounding of ticks."""
    order = list(range(len(story.steps.request)))
    random.shuffle(order)  # type: ignore[attr-defined]
    steps = story.steps
    moved = replace(
        steps,
        step=np.asarray(steps.step)[order],
        request=[steps.request[place] for place in order],
        new_tokens=np.asarray(steps.new_tokens)[order],
        context_tokens=np.asarray(steps.context_tokens)[order],
        prefill=np.asarray(steps.prefill)[order],
    )

    found = joules(replace(story, steps=moved).split())

    assert found == pytest.approx(joules(story.split()), abs=len(story.watts) * 1e-6, rel=1e-6)


@given(STORIES)
@LAWS
def test_three_times_the_counter_is_three_times_the_joules(story: Story) -> None:
    """Whatever gain a counter has, each request's part of it is the same."""
    found, tripled = joules(story.split()), joules(story.split(by_uj=3))

    assert tripled == pytest.approx({name: 3 * value for name, value in found.items()}, abs=3e-4, rel=1e-4)


def learnt(count: int, context: int, theirs: int, seed: int) -> tuple[float, float]:
    """Return what the first of a last second gets, and its shared part, beside so many others with contexts of theirs.

    Before, four seconds of steps taught what they cost: 1.5 J each, and 0.2 mJ for each token of context.
    """
    random = np.random.default_rng(seed)
    rows = [
        (10, [(name, 1, int(random.integers(0, 6000)), False) for name in NAMES[: random.integers(1, 6)]])
        for _ in range(400)
    ]
    rows += [(10, [("x", 1, context, False), *((f"y{i}", 1, theirs, False) for i in range(count))])] * 100
    used = [150 + 0.02 * sum(each[2] for each in members) for _, members in rows]
    split = told(rows, [round(watts) for watts in np.reshape(used, (-1, 5)).mean(axis=1)]).split()
    at = split.request.index("x")
    return float(split.energy_joules[at]), float(split.shared_joules[at])


@given(st.integers(0, 5), st.integers(0, 5000), st.integers(200, 5000), st.integers(0, 5000), st.integers(0, 99))
@LAWS
def test_more_of_its_own_work_costs_as_much_more(count: int, context: int, more: int, theirs: int, seed: int) -> None:
    """Monotone: beside the same others, who reads a longer context pays for it, most of what it costs."""
    before, _ = learnt(count, context, theirs, seed)
    after, _ = learnt(count, context + more, theirs, seed)

    assert after - before >= 0.8 * 0.02 * more - 0.1


@given(st.integers(1, 6), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 99))
@LAWS
def test_a_neighbour_never_makes_a_share_dearer(count: int, context: int, theirs: int, seed: int) -> None:
    """At equal step time: whoever comes takes over an equal part of what all share, and nobody's energy rises."""
    before, shared_before = learnt(count - 1, context, theirs, seed)
    after, shared = learnt(count, context, theirs, seed)

    assert after <= before * 1.01 + 0.1
    assert shared == pytest.approx(shared_before * count / (count + 1), rel=0.08)


@given(STORIES)
@LAWS
def test_windows_add_up(story: Story) -> None:
    """Additivity: what a window gave stands, whatever comes after it, and the rest of the counter comes on top."""
    t_ns, uj = story.counter
    cut = len(t_ns) // 2
    whole, early = story.split(), attribute(t_ns[: cut + 1], uj[: cut + 1], story.steps, model=MODEL)
    ends = dict(zip(story.steps.request, np.asarray(story.steps.end_ns)[np.asarray(story.steps.step)], strict=True))

    assert early.measured_joules + (uj[-1] - uj[cut]) / 1e6 == pytest.approx(whole.measured_joules)
    for name, value in joules(early).items():
        if ends[name] <= t_ns[cut]:
            assert value == joules(whole)[name]  # nothing of it is in the second window
        assert value <= joules(whole)[name] + 1e-6
