"""The tutorial prints what stands in it, and its plots show what it says."""

import xml.etree.ElementTree as ET

from docs import make_tutorial


def test_the_tutorial_is_what_its_blocks_print() -> None:
    """docs/tutorial.md is what `python docs/make_tutorial.py` would write now, and its plots are pictures."""
    text = make_tutorial.PAGE.read_text(encoding="utf-8")

    now, names = make_tutorial.page(text)

    assert now == text
    for plot in (make_tutorial.split_plot(names), make_tutorial.intervals_plot(names)):
        circles = ET.fromstring(plot).findall("{http://www.w3.org/2000/svg}circle")
        assert len(circles) > len(names["true"])
