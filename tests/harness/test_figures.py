from __future__ import annotations

import hashlib
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from legible import assert_legible, names_of_bars, prose, texts
from made_up_runs import (
    EMULATED,
    SIZES,
    failures_only,
    make_row,
    make_run,
    single_value,
    sized_rows,
)
from scipy import stats

from harness import comparison, figures, literature, wrpkru
from harness.figures import figure2, figure3, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KNOWN = (
    "none", "none-default-malloc", "pipe-floor", "pipe-floor-other-core", "sandcrust-pipe",
    "sandcrust-pipe-other-core", "sandcrust-fork", "sandcrust-fork-other-core", "mpk", "mpk-view",
    "mpk-abomonation-v1", "mpk-abomonation-v2", "mpk-bincode-v1", "mpk-bincode-v2", "pkru-safe",
    "sandcrust-pipe-hardened", "sandcrust-fork-hardened",
)  # fmt: skip
QUOTED_PKRU_SAFE = f"PKRU-Safe, 8.55 {comparison.TIMES} none (quoted)"
QUOTED_COUNTS = [
    "none (quoted)",
    "SDRaD-FFI abomonation-v1 (quoted)",
    "Sandcrust (quoted)",
    "Sandcrust, fork a call (quoted)",
]
PAPER_SIZES = (1, *(1 << power for power in (3, 6, 8, 9, 10, 12, 14, 15, 16, 18, 21)))


def reality() -> list[dict[str, Any]]:
    rows = [make_row("pipe-floor", 4000)]
    for backend, latency in (("none", 2.4), ("sandcrust-pipe", 4200), ("sandcrust-fork", 450e3)):
        rows += [make_row(backend, latency)]
        rows += sized_rows(backend, latency, PAPER_SIZES, ("random", "text"))
    rows += [make_row("acme-wall", 9000, level="python")]
    rows += sized_rows("acme-wall", 9000, PAPER_SIZES[:8], level="python")
    for backend, count in (("none", 6), ("mpk", 297), ("sandcrust-pipe", 13555)):
        rows += [make_row(backend, count, **EMULATED)]
        rows += sized_rows(backend, count, PAPER_SIZES, **EMULATED)
    return rows


# ---- Figure 2 ----


def test_latency_is_on_a_logarithmic_axis_where_each_bar_ends_at_its_mean() -> None:
    axes, *_ = figure2.draw(make_run([make_row("none", 2.4), make_row("acme", 4100)])).axes
    assert axes.get_xscale() == "log"
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert ends == pytest.approx([2.4, 4100])
    assert [text.get_text() for text in axes.texts] == [
        f"2.4 ns (1.0{comparison.TIMES})",
        f"4.1 µs (1,700{comparison.TIMES})",
    ]


def test_ticks_of_latency_are_powers_of_ten_with_units() -> None:
    *_, axes = figure2.draw(make_run([make_row("none", 2.4), make_row("acme", 450e3)])).axes
    ticks = dict(
        zip(axes.get_xticks(), (t.get_text() for t in axes.get_xticklabels()), strict=True)
    )
    assert ticks == {1: "1 ns", 1e3: "1 µs", 1e6: "1 ms"}


def test_the_baseline_comes_first_and_the_rest_from_fast_to_slow() -> None:
    rows = [make_row("slow", 9e5), make_row("fast", 1.5), make_row("none-default-malloc", 2.3)]
    axes, *_ = figure2.draw(make_run([*rows, make_row("none", 2.4)])).axes
    assert names_of_bars(axes) == ["none", "none-default-malloc", "fast", "slow"]


def test_every_backend_of_the_workload_has_a_bar_known_or_not() -> None:
    names = [*KNOWN, "acme-very-long-name-of-a-wall-that-somebody-else-built", "zz"]
    rows = [make_row(name, 3.0 + 7 * number) for number, name in enumerate(names)]
    figure = figure2.draw(make_run(rows))
    axes, *_ = figure.axes
    shown = [name.removesuffix(" (reference)") for name in names_of_bars(axes)]
    assert sorted(shown) == sorted(names)
    assert_legible(figure)


def test_references_are_grey_and_say_so() -> None:
    axes, *_ = figure2.draw(make_run([make_row("pipe-floor", 4000)])).axes
    assert names_of_bars(axes) == ["pipe-floor (reference)"]
    assert axes.patches[0].get_facecolor() == pytest.approx((0x8C / 255,) * 3 + (1,))


def test_units_and_provenances_have_panels_of_their_own() -> None:
    rows = [
        make_row("none", 2.4),
        make_row("pkru-safe", 21, provenance="modelled"),
        make_row("sdrad", 300, provenance="literature"),
        make_row("mpk", 297, **EMULATED),
    ]
    figure = figure2.draw(make_run(rows))
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == [
        "measured, time",
        "modelled, time",
        "literature, time",
        "emulated, instructions",
        "literature, instructions",
    ]
    assert [names_of_bars(axes) for axes in figure.axes] == [
        ["none"],
        ["pkru-safe"],
        [QUOTED_PKRU_SAFE, "sdrad"],
        ["mpk"],
        QUOTED_COUNTS,
    ]
    times, counts = figure.axes[:3], figure.axes[3]
    assert len({axes.get_xlim() for axes in times}) == 1
    assert "ns" not in "".join(label.get_text() for label in counts.get_xticklabels())
    assert_legible(figure)


def test_times_and_counts_stand_side_by_side_on_an_axis_each_on_a_page() -> None:
    figure = figure2.draw(make_run([*reality(), make_row("mpk", 40, provenance="modelled")]))
    width, height = figure.get_size_inches()
    assert width == style.PAGE
    assert height < 6.5
    counted = {axes: "instructions" in axes.get_title("left") for axes in figure.axes}
    for of_counts in (False, True):
        column = [axes for axes in figure.axes if counted[axes] == of_counts]
        assert len({axes.get_xlim() for axes in column}) == 1
        assert len({axes.get_position().x0 for axes in column}) == 1
        labelled = [axes for axes in column if axes.get_xlabel()]
        assert labelled == column[-1:]
    ends = [max(axes.get_position().x1 for axes in figure.axes if not counted[axes])]
    starts = [min(axes.get_position().x0 for axes in figure.axes if counted[axes])]
    assert ends < starts
    assert_legible(figure)


def test_what_modelled_numbers_are_made_of_is_told_once_under_the_figure() -> None:
    rows = [make_row("none", 2.4), make_row("mpk", 40, provenance="modelled")]
    rows += sized_rows("none", 0) + sized_rows("mpk", 40, provenance="modelled")
    for figure in (figure2.draw(make_run(rows)), figure3.draw(make_run(rows), "random")):
        assert prose(figure).count(f"Modelled: {wrpkru.EXPLANATION}.") == 1
        assert prose(figure).count("timed without WRPKRU") == 1


def test_provenance_is_marked_on_bars_and_explained() -> None:
    rows = [make_row(name, 9, provenance=name) for name in ("measured", "modelled", "literature")]
    figure = figure2.draw(make_run([*rows, make_row("emulated", 9, **EMULATED)]))
    measured, modelled, literature, emulated = (axes.patches[0] for axes in figure.axes[:4])
    white = (1, 1, 1, 1)
    assert not measured.get_hatch()
    assert measured.get_facecolor() != white
    assert modelled.get_hatch()
    assert emulated.get_hatch()
    assert modelled.get_hatch() != emulated.get_hatch()
    assert not literature.get_hatch()
    assert literature.get_facecolor() == white
    for meaning in comparison.PROVENANCE.values():
        assert meaning in prose(figure)


def test_missing_backends_and_failed_cells_are_under_the_figure_with_reasons() -> None:
    run = make_run(
        [make_row("none", 2.4), *sized_rows("shy", 9)],
        unavailable=[SimpleNamespace(backend="mpk", reason="CPU has no $keys$ at_all", remedy="")],
        failures=[SimpleNamespace(cell="switch/acme", error="TimeoutError: 60 s")],
    )
    figure = figure2.draw(run)
    assert "Not available: mpk: CPU has no $keys$ at_all." in prose(figure)
    assert "Failed: switch/acme: TimeoutError: 60 s." in prose(figure)
    assert "No measured result here: shy." in prose(figure)
    assert "Host: Some CPU @ 2 GHz." in prose(figure)
    assert "means of 60 values from 20 processes" in prose(figure)
    assert "95 % bootstrap" in prose(figure)
    assert_legible(figure)


def test_an_interval_is_drawn_where_there_is_one() -> None:
    axes, *_ = figure2.draw(make_run([make_row("none", 100, low=80.0, high=130.0)])).axes
    reach = axes.collections[-1].get_segments()[0]
    assert sorted(point[0] for point in reach) == pytest.approx([80, 130])
    axes, *_ = figure2.draw(make_run([single_value("none", 100)])).axes
    assert not axes.collections


def test_without_a_baseline_there_are_no_ratios_and_a_note_says_so() -> None:
    figure = figure2.draw(make_run([make_row("acme", 4100)]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["4.1 µs"]
    assert "No ratios: the baseline, none, has no result." in prose(figure)


def test_a_mean_without_logarithm_is_named_instead_of_drawn() -> None:
    figure = figure2.draw(make_run([make_row("none", 2.4), make_row("odd", 0.0)]))
    assert names_of_bars(figure.axes[0]) == ["none"]
    assert "Not on a logarithmic axis: switch/odd (0 ns)." in prose(figure)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.02, 5e9), min_size=1, max_size=30), st.booleans(), st.booleans())
@example([1.0] * 15, False, True)  # a note's line as long as there is room
def test_figure_2_is_legible_whatever_the_numbers(
    means: list[float], long: bool, counted: bool
) -> None:
    name = "wall-of-a-vendor-with-much-to-say" if long else "w"
    rows = [make_row(f"{name}-{number}", mean) for number, mean in enumerate(means)]
    rows += [make_row(f"{name}-c{n}", mean, **EMULATED) for n, mean in enumerate(means) if counted]
    assert_legible(figure2.draw(make_run([make_row("none", 2.4), *rows])))


# ---- Figure 3 ----


def test_both_axes_are_logarithmic_with_ticks_at_the_true_sizes() -> None:
    figure = figure3.draw(make_run(sized_rows("none", 0, PAPER_SIZES)), "random")
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        assert axes.get_xticks().tolist() == list(PAPER_SIZES)
        labels = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
        labelled = {size: label for size, label in zip(PAPER_SIZES, labels, strict=True) if label}
        assert labelled == {
            1: "1 B", 8: "8 B", 64: "64 B", 512: "512 B", 4096: "4 KiB", 32768: "32 KiB",
            262144: "256 KiB", 2097152: "2 MiB",
        }  # fmt: skip


def test_a_line_goes_through_the_means_in_microseconds() -> None:
    rows = sized_rows("none", 0)
    figure = figure3.draw(make_run(rows[::-1]), "random")
    (line,) = figure.axes[0].lines[:1]
    assert list(line.get_xdata()) == list(SIZES)
    assert list(line.get_ydata()) == pytest.approx([(60 + 0.2 * size) / 1000 for size in SIZES])


def test_legend_has_the_geometric_means_over_common_sizes_and_says_which() -> None:
    rows = sized_rows("none", 0) + sized_rows("acme", 500, SIZES[:3])
    figure = figure3.draw(make_run(rows), "random")
    for name, fixed in (("none", 60), ("acme", 560)):
        mean = stats.gmean([fixed + 0.2 * size for size in SIZES[:3]])
        text = comparison.format_quantity(mean, "ns")
        assert f"{name}: {text} | {text}" in texts(figure)
    assert "over the 3 sizes of 5 that all have (1 B, 64 B, 4 KiB)" in prose(figure)


def test_no_size_in_common_gives_no_geometric_mean() -> None:
    rows = sized_rows("none", 0, SIZES[:2]) + sized_rows("acme", 500, SIZES[2:])
    figure = figure3.draw(make_run(rows), "random")
    assert "none: — | —" in texts(figure)
    assert "no size is common to all" in prose(figure)


def test_a_backend_of_python_level_only_is_shown_dotted_and_explained() -> None:
    rows = sized_rows("none", 0) + sized_rows("acme", 9000, level="python")
    figure = figure3.draw(make_run(rows), "random")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["acme (python level)"].get_linestyle() == ":" or (
        lines["acme (python level)"]._unscaled_dash_pattern == style.DOTTED
    )
    assert "python level: binding included" in texts(figure)


def test_each_unit_has_a_row_of_panels_and_each_content_a_figure(tmp_path: Path) -> None:
    run = make_run(reality())
    figure = figure3.draw(run, "random")
    assert [axes.get_title("left") for axes in figure.axes] == [
        "(a) snappy-compress, measured", "(b) snappy-uncompress, measured",
        "(a) snappy-compress, emulated", "(b) snappy-uncompress, emulated",
    ]  # fmt: skip
    assert [axes.get_ylabel() for axes in figure.axes[::2]] == [
        "execution time (µs)",
        "instructions retired",
    ]
    assert "Snappy on random content" in prose(figure)
    assert "No measured result here: mpk." in prose(figure)
    assert "No emulated result here: acme-wall, sandcrust-fork." in prose(figure)
    assert len(figure3.draw(run, "text").axes) == 2
    assert_legible(figure)
    paths = figures.draw_all(run, tmp_path)
    assert [path.name for path in paths] == [
        f"{name}.{suffix}"
        for name in ("figure1", "figure2", "figure3-random", "figure3-text")
        for suffix in ("png", "svg", "pdf")
    ]


@pytest.mark.parametrize("sizes", [(1,), (65536,), (1000, 1001), (1, 3, 1 << 30)])
def test_any_sizes_will_do(sizes: tuple[int, ...]) -> None:
    figure = figure3.draw(make_run(sized_rows("none", 0, sizes)), "random")
    assert figure.axes[0].get_xticks().tolist() == list(sizes)
    assert_legible(figure)


def test_a_workload_without_result_leaves_a_panel_that_says_so() -> None:
    rows = [row for row in sized_rows("none", 0) if row["workload"] == "snappy-compress"]
    figure = figure3.draw(make_run(rows), "random")
    assert [text.get_text() for text in figure.axes[1].texts] == ["no measured result"]
    mean = comparison.format_quantity(stats.gmean([60 + 0.2 * size for size in SIZES]), "ns")
    assert f"none: {mean} | —" in texts(figure)


def test_twenty_five_backends_are_told_apart_and_legible() -> None:
    names = [*KNOWN[:8], *(f"vendor-{n}-with-a-wall-of-their-own-and-a-name" for n in range(17))]
    rows = [row for n, name in enumerate(names) for row in sized_rows(name, 20.0 * 1.7**n)]
    figure = figure3.draw(make_run(rows), "random")
    looks = {
        (line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern))
        for line in figure.axes[0].lines
        if not str(line.get_label()).startswith("_")
    }
    assert len(looks) == len(names)
    assert_legible(figure)


def test_values_without_interval_are_drawn_without() -> None:
    unknown = {"std": math.nan, "low": math.nan, "high": math.nan, "n": 1, "processes": 1}
    rows = [row | unknown for row in sized_rows("none", 0)]
    figure = figure3.draw(make_run(rows), "random")
    assert "No intervals" in prose(figure)
    assert "interval of the mean" not in prose(figure)


# ---- quoted figures ----


def quoted_marks(axes: Axes) -> list[Any]:
    return [line for line in axes.lines if line.get_fillstyle() == "none"]


def test_the_artifacts_counts_are_open_marks_among_counts_of_random_content_only() -> None:
    both = reality() + sized_rows("none", 6, PAPER_SIZES, ("text",), **EMULATED)
    figure = figure3.draw(make_run(both), "random")
    times, counts = figure.axes[:2], figure.axes[2:]
    for axes in times:
        assert not quoted_marks(axes)
    for axes in counts:
        assert [len(line.get_xdata()) for line in quoted_marks(axes)] == 5 * [12]
        assert {line.get_linestyle() for line in quoted_marks(axes)} == {"None"}
    text = prose(figure)
    assert "SDRaD-FFI bincode-v1 (quoted)" in text
    assert "published artifact fa52832" in text
    assert comparison.PROVENANCE["literature"] in text
    assert "quoted" not in prose(figure3.draw(make_run(both), "text")).lower()
    assert_legible(figure)


def test_quoted_means_are_over_the_sizes_of_the_run() -> None:
    quoted = literature.counts(["snappy-compress", "snappy-uncompress"])
    mine = quoted[(quoted["backend"] == "none (quoted)") & (quoted["content"] == "random")]
    for sizes in ((1 << 16,), (1, 256, 1 << 21)):
        both = [
            stats.gmean(mine.loc[(mine["workload"] == work) & mine["size"].isin(sizes), "mean"])
            for work in ("snappy-compress", "snappy-uncompress")
        ]
        means = " | ".join(comparison.format_quantity(mean, "instructions") for mean in both)
        rows = sized_rows("none", 6, sizes, **EMULATED)
        assert f"none (quoted): {means}" in prose(figure3.draw(make_run(rows), "random"))


def test_where_a_size_of_the_run_is_not_quoted_there_is_no_quoted_mean() -> None:
    rows = sized_rows("none", 6, (1, 100, 1 << 21), **EMULATED)
    nothing = comparison.NOTHING
    text = prose(figure3.draw(make_run(rows), "random"))
    assert f"none (quoted): {nothing} | {nothing}" in text


@pytest.mark.parametrize("sizes", [(1 << 16,), (256, 1 << 16), (1, 1 << 21)])
def test_every_mark_is_drawn_whole_within_its_axes(sizes: tuple[int, ...]) -> None:
    # Means of powers of ten lie on the edge of the axis.
    rows = [row | {"mean": 1e3} for row in sized_rows("none", 6, sizes, **EMULATED)]
    for axes in figure3.draw(make_run(rows), "random").axes:
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        marks = [line for line in axes.lines if line.get_marker() in ("o", "<", ">", "D", "^")]
        assert len(marks) == 6
        for line in marks:
            assert not line.get_clip_on()
            assert all(left < x < right for x in line.get_xdata())
            assert all(bottom <= y <= top for y in line.get_ydata())


def test_sizes_that_the_artifact_has_not_are_shown_without_it() -> None:
    rows = sized_rows("none", 6, (100, 200), **EMULATED)
    assert "quoted" not in prose(figure3.draw(make_run(rows), "random")).lower()


def test_an_interval_is_not_cut_off_at_the_top() -> None:
    rows = [row | {"mean": 90e3, "high": 400e3} for row in sized_rows("none", 6)]
    for axes in figure3.draw(make_run(rows), "random").axes:
        assert axes.get_ylim()[1] >= 400  # microseconds


def test_a_run_of_times_quotes_no_counts() -> None:
    text = prose(figure3.draw(make_run(sized_rows("none", 0)), "random"))
    assert "quoted" not in text.lower()


# ---- marks ----


def test_each_provenance_fills_marks_its_own_way() -> None:
    fills = [style.provenance_line(name).get_fillstyle() for name in comparison.PROVENANCE]
    assert len(set(fills)) == len(fills)


def test_a_backend_looks_the_same_whatever_else_is_in_the_run() -> None:
    one = style.marks(make_run([make_row("acme", 1)]).table)
    many = style.marks(make_run([make_row(name, 1) for name in (*KNOWN, "acme")]).table)
    assert one["acme"] == many["acme"]
    few = style.marks(make_run([make_row("mpk", 1), make_row("none", 1)]).table)
    assert few == {name: many[name] for name in ("mpk", "none")}


def test_known_backends_differ_in_grey() -> None:
    table = make_run([make_row(name, 1) for name in KNOWN]).table
    looks = {(mark.marker, mark.dashes) for mark in style.marks(table).values()}
    assert len(looks) == len(KNOWN)


def test_codecs_share_the_colour_of_their_mechanism() -> None:
    table = make_run([make_row(name, 1) for name in KNOWN]).table
    colours = {style.marks(table)[name].colour for name in KNOWN if name.startswith("mpk")}
    assert len(colours) == 1


# ---- files ----


def digests(paths: list[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def test_drawing_again_gives_the_same_bytes_in_another_process_too(tmp_path: Path) -> None:
    rows = [row for row in reality() if row["content"] != "text"]
    run = make_run(rows, warnings=("noisy",))
    paths = figures.draw_all(run, tmp_path / "one")
    (tmp_path / "run").write_bytes(pickle.dumps(run))
    code = (
        "import pickle, sys; from pathlib import Path; from harness.figures import draw_all; "
        "draw_all(pickle.loads(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, tmp_path / "run", tmp_path / "two"]
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    root = Path(__file__).parents[2]
    subprocess.run(command, check=True, cwd=root, env=environment)
    again = [tmp_path / "two" / path.name for path in paths]
    assert digests(again) == digests(paths)


def test_figures_are_300_dpi_at_column_width(tmp_path: Path) -> None:
    figures.draw_all(make_run([make_row("none", 2.4)]), tmp_path)
    png = (tmp_path / "figure2.png").read_bytes()
    assert int.from_bytes(png[16:20], "big") == 1050


def test_a_run_of_failures_only_gives_a_figure_that_says_why(tmp_path: Path) -> None:
    paths = figures.draw_all(failures_only(), tmp_path)
    assert [path.name for path in paths if path.suffix == ".png"] == ["figure1.png", "figure2.png"]
    figure = figure2.draw(failures_only())
    assert "No result of switch in this run." in prose(figure)
    assert "Failed: switch/mpk: OSError: no such key." in prose(figure)
    assert "Not available: page-table: kernel too old." in prose(figure)
    assert_legible(figure)


def test_the_harness_does_not_import_matplotlib_by_itself() -> None:
    code = "import harness, harness.tables, sys; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
