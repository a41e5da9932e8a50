from __future__ import annotations

from legible import assert_legible, prose, texts
from made_up_runs import WALLS, sized_rows, whole_run

from harness import paper, tables
from harness.figures import figure2, figure3, figure4


def test_figure_4_has_a_line_a_codec_and_level_under_the_papers_labels() -> None:
    figure = figure4.draw(whole_run(), "random")
    labels = [text.split(":")[0] for text in texts(figure) if "_opt_" in text]
    assert labels == [f"v{codec}_opt_{level}" for codec in (1, 2) for level in range(4)]
    looks = {
        (line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern))
        for line in figure.axes[0].lines
        if not str(line.get_label()).startswith("_")
    }
    assert len(looks) == 8
    assert_legible(figure)


def test_a_line_of_figure_4_is_that_of_its_own_backend() -> None:
    run = whole_run()
    lines = {line.get_label(): line for line in figure4.draw(run, "random").axes[0].lines}
    mine = run.table[
        (run.table["backend"] == "mpk-abomonation-v2-O3")
        & (run.table["workload"] == "snappy-compress")
    ]
    assert list(lines["mpk-abomonation-v2-O3"].get_ydata()) == mine["mean"].tolist()


def test_one_level_makes_no_figure_4_and_other_levels_are_in_no_other_figure() -> None:
    others = tuple(name for name in WALLS if "-O" in name)
    assert figure4.contents(whole_run(without=others)) == []
    assert figure4.contents(whole_run()) == ["random"]
    for figure in (figure2.draw(whole_run()), figure3.draw(whole_run(), "random")):
        assert "-O0" not in prose(figure)
        assert "mpk-abomonation-v2" in prose(figure)
        assert_legible(figure)


def test_a_provenance_of_one_level_is_left_out_everywhere_and_the_figure_says_so() -> None:
    one_level = [
        row
        for codec in ("mpk-abomonation-v1", "mpk-abomonation-v2")
        for row in sized_rows(codec, 90, provenance="modelled")
    ]
    run = whole_run(more=one_level)
    figure = figure4.draw(run, "random")
    assert len(figure.axes) == 2
    assert "Not shown, having one level of optimisation only: modelled." in prose(figure)
    assert {table.rows["provenance"].unique().item() for table in tables.figure4_tables(run)} == {
        "emulated"
    }
    assert {part.data for part in paper.parts(run) if "Figure 4" in part.number} == {
        "backends: 8 emulated"
    }
    assert "Not shown" not in prose(figure4.draw(whole_run(), "random"))


def test_a_level_that_is_missing_is_named() -> None:
    text = prose(figure4.draw(whole_run(without=("mpk-abomonation-v2-O1",)), "random"))
    assert "No emulated result here: mpk-abomonation-v2-O1." in text
