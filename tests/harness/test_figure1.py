from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from legible import assert_legible, texts
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from backends import contract
from harness.figures import figure1


def test_every_name_in_figure_1_exists() -> None:
    root = Path(__file__).parents[2]
    native = "".join(
        path.read_text() for path in sorted((root / "native" / "domain").glob("*.[chS]"))
    )
    names = [name for step in figure1.STEPS.values() for name in step.names]
    assert len(names) > 8
    for name in names:
        first, *rest = name.split(".")
        found: Any = getattr(contract, first, None)
        for attribute in rest:
            found = getattr(found, attribute, None)
        in_python = found is not None
        in_c = re.search(rf"\b{name}(\(|:)", native) is not None
        assert in_python or in_c, name


def test_figure_1_is_legible_and_has_both_ways_out() -> None:
    figure = figure1.draw()
    assert_legible(figure)
    for step in figure1.STEPS.values():
        assert step.word in texts(figure)
    arrows = figure.findobj(FancyArrowPatch)
    assert {arrow.get_linestyle() for arrow in arrows} == {"solid", "dashed"}


def test_text_of_figure_1_stays_in_its_box() -> None:
    figure = figure1.draw()
    figure.draw_without_rendering()
    boxes = [box.get_window_extent() for box in figure.findobj(FancyBboxPatch)]
    lines = [
        text
        for text in figure.axes[0].texts
        if text.get_style() != "italic"  # the lanes' headings
    ]
    assert len(lines) > 20
    for text in lines:
        extent = text.get_window_extent()
        assert any(
            box.x0 < extent.x0 and extent.x1 < box.x1 and box.y0 < extent.y0 and extent.y1 < box.y1
            for box in boxes
        ), text.get_text()
