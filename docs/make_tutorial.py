"""Runs the blocks of docs/tutorial.md, writes beside them what they print, and draws the plots.

`python docs/make_tutorial.py`; a test compares what is printed. The plots are drawn from the same numbers.
"""

import contextlib
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("tutorial.md")
IMAGES = Path(__file__).with_name("images")
WIDTH, HEIGHT, EDGE = 720, 420, 60
LINEAR = 0.02
"""Up to about so much an error is drawn in proportion, beyond by its logarithm."""
OURS, REBUILT, THEIRS, INK, GRID = "#0a7d5a", "#3b6fd4", "#c8553d", "#3a3a3a", "#d9d9d9"
_BLOCKS = re.compile(r"```python\n(.*?)```(\n\n```text\n)(.*?)```", re.DOTALL)


def page(text: str) -> tuple[str, dict[str, Any]]:
    """Return the page with what its blocks print now, and the names that they left."""
    names: dict[str, Any] = {}

    def ran(found: re.Match[str]) -> str:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(found[1], PAGE.name, "exec"), names)
        return f"```python\n{found[1]}```{found[2]}{out.getvalue()}```"

    return _BLOCKS.sub(ran, text), names


class Plot:
    """A picture with axes, as SVG."""

    def __init__(self, title: str, across: str, up: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
            f' font-size="13" fill="{INK}" role="img">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<text x="{EDGE}" y="28" font-size="16">{title}</text>',
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 14}" text-anchor="middle">{across}</text>',
            f'<text x="18" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 18 {HEIGHT / 2})">{up}</text>',
        ]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a place in the unit square is drawn."""
        return EDGE + x * (WIDTH - 2 * EDGE), HEIGHT - EDGE - y * (HEIGHT - 2.1 * EDGE)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float = 1.0) -> None:
        """Draw a line within the unit square."""
        (x0, y0), (x1, y1) = self.at(*start), self.at(*end)
        self._parts.append(
            f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" stroke="{colour}" stroke-width="{width}"/>'
        )

    def dot(self, x: float, y: float, colour: str, radius: float = 3.0) -> None:
        """Draw a dot within the unit square."""
        cx, cy = self.at(x, y)
        self._parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}" fill="{colour}" fill-opacity="0.7"/>')

    def mark(self, x: float, y: float, text: str, *, anchor: str = "end", dx: float = -6.0, dy: float = 4.0) -> None:
        """Write beside a place."""
        cx, cy = self.at(x, y)
        self._parts.append(f'<text x="{cx + dx:.1f}" y="{cy + dy:.1f}" text-anchor="{anchor}">{text}</text>')

    def key(self, entries: Sequence[tuple[str, str]]) -> None:
        """Say what the colours are, above the plot."""
        x = float(EDGE)
        for colour, text in entries:
            self._parts.append(f'<circle cx="{x + 5}" cy="46" r="5" fill="{colour}"/>')
            self._parts.append(f'<text x="{x + 16}" y="50">{text}</text>')
            x += 34 + 7.2 * len(text)

    def text(self) -> str:
        """Return the picture."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"


def split_plot(names: dict[str, Any]) -> str:
    """Draw told against true joules, both by their logarithms."""
    true, drawn = names["true"], (("by_output", THEIRS), ("rebuilt", REBUILT), ("exact", OURS))
    told = {answers: {name: names[answers][name].energy_uj / 1e6 for name in true} for answers, _ in drawn}
    seen = [*true.values(), *(joules for each in told.values() for joules in each.values())]
    low, high = math.floor(math.log10(min(seen))), math.ceil(math.log10(max(seen)))
    plot = Plot("What each request is said to have used", "true joules", "told joules")

    def place(joules: float) -> float:
        return (math.log10(joules) - low) / (high - low)

    for power in range(low, high + 1):
        at = place(10.0**power)
        plot.line((at, 0), (at, 1), GRID)
        plot.line((0, at), (1, at), GRID)
        plot.mark(0, at, f"{10.0**power:,.6g}")
        plot.mark(at, 0, f"{10.0**power:,.6g}", anchor="middle", dx=0, dy=18)
    plot.line((0, 0), (1, 1), INK)
    for answers, colour in drawn:
        for name, joules in true.items():
            plot.dot(place(joules), place(told[answers][name]), colour)
    plot.key([(OURS, "ours, steps known"), (REBUILT, "ours, steps rebuilt"), (THEIRS, "by output tokens")])
    return plot.text()


def intervals_plot(names: dict[str, Any]) -> str:
    """Draw each request's error and interval, the smallest requests first; far errors by their logarithm, none cut."""
    true, exact = names["true"], names["exact"]
    order = sorted(true, key=lambda name: float(true[name]))
    rows = [
        tuple(uj / (true[name] * 1e6) - 1 for uj in (exact[name].low_uj, exact[name].energy_uj, exact[name].high_uj))
        for name in order
    ]
    most = max(abs(ratio) for row in rows for ratio in row)
    plot = Plot("How far each request is off, and how far it may be", "requests, the smallest first", "told less true")

    def place(ratio: float) -> float:
        return 0.5 + math.copysign(math.log1p(abs(ratio) / LINEAR) / math.log1p(most / LINEAR), ratio) / 2

    for percent in (-100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100):
        if abs(percent) / 100 <= most:
            plot.line((0, place(percent / 100)), (1, place(percent / 100)), INK if percent == 0 else GRID)
            plot.mark(0, place(percent / 100), f"{percent:+d}%" if percent else "0")
    for number, (low, ratio, high) in enumerate(rows):
        x = (number + 0.5) / len(order)
        colour = OURS if low <= 0 <= high else THEIRS
        plot.line((x, place(low)), (x, place(high)), colour, 1.2)
        plot.dot(x, place(ratio), colour, 2.0)
    plot.key([(OURS, "the interval holds the truth"), (THEIRS, "it does not")])
    return plot.text()


def main() -> None:
    """Write the page and its plots."""
    text, names = page(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    (IMAGES / "tutorial-split.svg").write_text(split_plot(names), encoding="utf-8")
    (IMAGES / "tutorial-intervals.svg").write_text(intervals_plot(names), encoding="utf-8")


if __name__ == "__main__":
    main()
