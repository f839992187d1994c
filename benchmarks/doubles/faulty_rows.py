"""What was seen of each tool under each fault, in figures and in one sentence. Pure: no clock, no file, no process."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

GPUS = 8
ILL = 3
MOVED = 0
"""A healthy GPU whose power changes while the fault lasts, so that a gauge can be seen to follow or not."""
HEALTHY = tuple(gpu for gpu in range(GPUS) if gpu != ILL)
WATTS, OTHER_WATTS, REST_WATTS = 300.0, 200.0, 1.0
TICK_SECONDS = 0.1
RIGHT_TICKS = 2
"""What is so many ticks of a GPU's counter from the truth is right: one at each end of a window."""
WATTS_RATIO = 0.03
STANDS_RATIO = 0.25
"""Figures that grow by less than this part of what was used have stood still."""
SLOW_SECONDS = 2.0
WORDS = 140
NOTHING = "–"


class Figures(NamedTuple):
    """What a tool says at one moment: joules since the window began, by GPU or in one sum, or watts now."""

    joules: Mapping[int, float] = {}
    whole: float | None = None
    watts: Mapping[int, float] = {}
    raised: str = ""


class Seen(NamedTuple):
    """One tool under one fault: what it said twice while the fault lasted (`apart` seconds), and at the end."""

    tool: str
    lack: str = ""
    failed_start: str = ""
    first: Figures = Figures()
    second: Figures = Figures()
    apart: float = 0.0
    end: Figures = Figures()
    stop_seconds: float | None = None
    events: Mapping[str, int] = {}
    words: tuple[str, ...] = ()


class Scene(NamedTuple):
    """One fault: joules really used, GPU by GPU, the ill one's until it fell ill, and what was seen of each tool."""

    fault: str
    truth: Mapping[int, float]
    until_ill: float | None
    seen: Sequence[Seen]

    @property
    def seven(self) -> float:
        """The joules that the healthy ones really used."""
        return sum(self.truth[gpu] for gpu in HEALTHY)

    @property
    def eight(self) -> float:
        """The joules that all of them really used."""
        return sum(self.truth.values())


def healthy(figures: Figures) -> float | None:
    """Return the joules of the seven, None where one of them has none."""
    found = [figures.joules[gpu] for gpu in HEALTHY if gpu in figures.joules]
    return sum(found) if len(found) == len(HEALTHY) else None


def negative(seen: Seen) -> float | None:
    """Return the most negative joule that the tool gave out, None without one."""
    figures = (seen.first, seen.second, seen.end)
    told = [value for one in figures for value in (*one.joules.values(), one.whole or 0.0)]
    return min(told) if told and min(told) < 0 else None


def went_on(seen: Seen) -> bool | None:
    """Tell whether the healthy GPUs' figures went on moving during the fault; None where there were none before it."""
    if seen.second.watts:
        return abs(seen.second.watts.get(MOVED, 0.0) - OTHER_WATTS) < WATTS_RATIO * OTHER_WATTS
    if raised(seen):
        return False
    before = _sum(seen.first)
    used = (WATTS * (len(HEALTHY) - 1) + OTHER_WATTS) * seen.apart
    return _sum(seen.second) - before > STANDS_RATIO * used if before else None


def raised(seen: Seen) -> str:
    """Return what it raised when it was looked at during the fault."""
    return seen.first.raised or seen.second.raised


def _sum(figures: Figures) -> float:
    if figures.whole is not None:
        return figures.whole
    return sum(figures.joules.get(gpu, 0.0) for gpu in HEALTHY)


def sentence(seen: Seen, scene: Scene) -> str:
    """Say in one short sentence what was seen."""
    if seen.lack:
        return f"absent: {seen.lack}"
    if seen.failed_start:
        return f"**does not start: {_class(seen.failed_start)}**"
    return "; ".join([*_of_joules(seen, scene), *_of_the_fault(seen), *_of_the_stop(seen)])


def _of_joules(seen: Seen, scene: Scene) -> list[str]:
    end, shown = seen.end, _shown(seen.end)
    if end.raised:
        return [f"**no figure at the end: {_class(end.raised)}**"]
    if end.whole is not None:
        return [f"all eight in one sum: {_verdict(end.whole, scene.eight, GPUS)}"]
    if shown:
        return [f"no joules, the power of {shown} of the seven"]
    if not end.joules:
        return ["no figure of any GPU, and says why" if seen.words else "**no figure of any GPU, and no word why**"]
    seven, ill = healthy(end), end.joules.get(ILL)
    return [
        "the seven: " + ("**not all there**" if seven is None else _verdict(seven, scene.seven, len(HEALTHY))),
        f"GPU {ILL}: " + ("absent" if ill is None else _verdict(ill, scene.truth[ILL], 1, scene.until_ill)),
    ]


def _shown(figures: Figures) -> int:
    return sum(gpu in figures.watts for gpu in HEALTHY)


def _verdict(joules: float, true: float, gpus: int, until_ill: float | None = None) -> str:
    """Compare with what so many GPUs really used, and with what was used until the fault."""
    near = RIGHT_TICKS * TICK_SECONDS * WATTS * gpus
    if joules < 0:
        return f"**{_joules(joules)}**"
    if abs(joules - true) <= near:
        return "right"
    if until_ill is not None and abs(joules - until_ill) <= near:
        return "right until the fault, then no more"
    if not joules:
        return "**0 J**"
    return f"**{abs(joules / true - 1):.0%} too {'much' if joules > true else 'little'}**"


def _of_the_fault(seen: Seen) -> list[str]:
    if raised(seen):
        return [f"**who asks meanwhile: {_class(raised(seen))}**"]
    return ["**all figures stood still meanwhile**"] if went_on(seen) is False else []


def _of_the_stop(seen: Seen) -> list[str]:
    slow = seen.stop_seconds is not None and seen.stop_seconds > SLOW_SECONDS
    return [f"**{_seconds(seen.stop_seconds)} to stop**"] if slow else []


def _class(told: str) -> str:
    return told.partition(":")[0]


def row(seen: Seen) -> tuple[str, ...]:
    """Return the cells of the tool in the table of a fault."""
    if seen.lack:
        return (seen.tool, f"absent: {seen.lack}", *[NOTHING] * 6)
    if seen.failed_start:
        return (seen.tool, *[NOTHING] * 6, quoted((seen.failed_start, *seen.words)))
    end, lowest = seen.end, negative(seen)
    return (
        seen.tool,
        *_energies(seen),
        "no" if lowest is None else f"**{_joules(lowest)}**",
        {True: "yes", False: "**no**", None: NOTHING}[went_on(seen)],
        _class(raised(seen) or end.raised) or "no",
        _seconds(seen.stop_seconds),
        "; ".join([*_counted(seen.events), *([quoted(seen.words)] if seen.words else [])]) or "nothing",
    )


def _energies(seen: Seen) -> tuple[str, str]:
    """Return what there is of the seven and of the ill one: joules at the end, or watts while the fault lasted."""
    if seen.end.whole is not None:
        return f"{_joules(seen.end.whole)} for all eight", "in that sum"
    if seen.second.watts:
        watts = seen.second.watts.get(ILL)
        return f"{_shown(seen.second)} gauges", "no gauge" if watts is None else f"{watts:.0f} W"
    return _joules(healthy(seen.end)), _joules(seen.end.joules.get(ILL))


def _counted(events: Mapping[str, int]) -> list[str]:
    return [f"`{kind}` {count}" for kind, count in events.items()]


def _joules(joules: float | None) -> str:
    return NOTHING if joules is None else f"{joules:,.0f} J".replace("-", "−")


def _seconds(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{seconds:.1f} s"


def quoted(words: Sequence[str]) -> str:
    """Return the first thing that was said, cut to length, and how much more there was."""
    first = words[0].replace("|", "/")
    more = f" and {len(words) - 1} more" if len(words) > 1 else ""
    return f"“{first[:WORDS]}{'…' if len(first) > WORDS else ''}”{more}"


def figures_of(scenes: Mapping[str, Scene]) -> dict[str, float]:
    """Return what the JSON line says, by fault and tool; what was not seen is absent."""
    figures: dict[str, float | None] = {}
    for name, scene in scenes.items():
        for seen in scene.seen:
            at, end = f"{name}_{seen.tool.replace('-', '_').lower()}", seen.end
            moved = went_on(seen)
            figures[f"{at}_healthy_ratio"] = _ratio(healthy(end), scene.seven)
            figures[f"{at}_ill_ratio"] = _ratio(end.joules.get(ILL), scene.truth[ILL])
            figures[f"{at}_whole_ratio"] = _ratio(end.whole, scene.eight)
            figures[f"{at}_stop_seconds"] = seen.stop_seconds
            figures[f"{at}_went_on"] = None if moved is None else float(moved)
    return {name: round(value, 4) for name, value in figures.items() if value is not None}


def _ratio(joules: float | None, true: float) -> float | None:
    return None if joules is None else joules / true
