from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import (
    EMULATED,
    SIZES,
    failures_only,
    make_row,
    make_run,
    single_value,
    sized_rows,
    whole_run,
)
from scipy import stats

from harness import comparison, tables
from harness.comparison import TIMES

if TYPE_CHECKING:
    from pathlib import Path


def part(table: tables.Table, heading: str) -> pd.DataFrame:
    (cells,) = (cells for title, cells in table.parts if heading in title)
    return cells.set_index("backend")


# ---- numbers as text ----


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.4, "ns", "2.40 ns"),
        (999.7, "ns", "1.00 µs"),
        (4123, "ns", "4.12 µs"),
        (450e3, "ns", "450 µs"),
        (2.5e9, "ns", "2.50 s"),
        (9e12, "ns", "9,000 s"),
        (0.0312, "ns", "0.0312 ns"),
        (0, "ns", "0 ns"),
        (297, "instructions", "297"),
        (13555, "instructions", "13.6 k"),
        (math.nan, "ns", "—"),
    ],
)
def test_a_quantity_has_three_significant_digits_and_its_unit(
    value: float, unit: str, text: str
) -> None:
    assert comparison.format_quantity(value, unit) == text


def test_a_deviation_that_is_a_rounding_error_is_written_as_none() -> None:
    assert comparison.format_percent(1.5e-14) == "0 %"
    assert comparison.format_percent(0.0154) == "0.015 %"
    assert comparison.format_percent(math.nan) == comparison.NOTHING


@given(st.floats(1e-3, 1e13), st.sampled_from(["ns", "instructions"]))
def test_a_written_quantity_reads_back_to_half_a_unit_of_its_third_digit(
    value: float, unit: str
) -> None:
    number, _, prefix = comparison.format_quantity(value, unit).partition(" ")
    scale = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1, "G": 1e9, "M": 1e6, "k": 1e3, "": 1}[prefix]
    assert float(number.replace(",", "")) * scale == pytest.approx(value, rel=0.00501)


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 B"), (1000, "1,000 B"), (1 << 15, "32 KiB"), (1536, "1.5 KiB"), (1 << 21, "2 MiB")],
)
def test_a_size_is_written_exactly(size: int, text: str) -> None:
    assert comparison.format_size(size) == text


# ---- comparing ----


def test_a_ratio_is_to_the_baseline_of_the_same_provenance_and_level_only() -> None:
    rows = [
        make_row("none", 2.0),
        make_row("mpk", 5.0),
        make_row("none", 10.0, **EMULATED),
        make_row("mpk", 300.0, **EMULATED),
        make_row("acme", 900.0, level="python"),
    ]
    ratios = comparison.with_ratios(make_run(rows).table)["ratio_to_none"].tolist()
    assert ratios[:4] == [1, 2.5, 1, 30]
    assert math.isnan(ratios[4])


def test_geometric_means_are_over_the_sizes_that_all_have() -> None:
    rows = sized_rows("none", 0) + sized_rows("acme", 500, SIZES[1:4])
    rows = [row for row in rows if row["workload"] == "snappy-compress"]
    table = make_run(rows).table
    assert comparison.common_sizes(table) == list(SIZES[1:4])
    means = comparison.geometric_means(table, comparison.common_sizes(table))
    assert means["none", "native"] == stats.gmean([60 + 0.2 * size for size in SIZES[1:4]])
    assert means["acme", "native"] == stats.gmean([560 + 0.2 * size for size in SIZES[1:4]])


# ---- tables ----


def test_the_table_of_figure_2_gives_each_number_its_unit_and_provenance() -> None:
    rows = [
        make_row("sandcrust-pipe", 4200),
        make_row("none", 2.4),
        make_row("mpk", 297, **EMULATED),
    ]
    cells = part(tables.figure2_table(make_run(rows)), "Mean")
    quoted = f"PKRU-Safe, 8.55 {TIMES} none (quoted)"
    assert list(cells.index) == ["none", "sandcrust-pipe", quoted, "mpk"]
    assert cells.loc[quoted, ["mean", "provenance", "values"]].tolist() == [
        "20.5 ns", "literature", "—",
    ]  # fmt: skip
    assert cells.loc["sandcrust-pipe", "mean"] == "4.20 µs"
    assert cells.loc["sandcrust-pipe", "95 % low"] == "4.16 µs"
    assert cells.loc["sandcrust-pipe", "std, % of mean"] == "2.0 %"
    assert cells.loc["sandcrust-pipe", f"{TIMES} none"] == f"1,750{TIMES}"
    assert cells.loc["mpk", ["mean", "quantity", "provenance", f"{TIMES} none"]].tolist() == [
        "297", "instructions", "emulated", "—",
    ]  # fmt: skip


def test_times_and_instructions_are_in_tables_of_their_own() -> None:
    rows = sized_rows("none", 0, contents=("random", "text")) + sized_rows("mpk", 300, **EMULATED)
    made = tables.figure3_tables(make_run(rows))
    assert sorted(table.name for table in made) == [
        "figure3-snappy-compress-random-emulated-instructions",
        "figure3-snappy-compress-random-measured-ns",
        "figure3-snappy-compress-text-measured-ns",
        "figure3-snappy-uncompress-random-emulated-instructions",
        "figure3-snappy-uncompress-random-measured-ns",
        "figure3-snappy-uncompress-text-measured-ns",
    ]
    assert all(len(set(table.rows["unit"])) == 1 for table in made)


def test_a_table_of_figure_3_has_mean_spread_and_ratio_of_each_size() -> None:
    rows = sized_rows("none", 0) + sized_rows("sandcrust-pipe", 4000, SIZES[:4])
    table = tables.figure3_tables(make_run(rows))[0]
    mean, spread = part(table, "Mean execution time"), part(table, "Standard deviation")
    assert list(mean.columns) == ["1 B", "64 B", "4 KiB", "256 KiB", "2 MiB", "geo. mean"]
    assert mean.loc["sandcrust-pipe", "1 B"] == "4.06 µs"
    assert mean.loc["sandcrust-pipe", "2 MiB"] == "—"
    expected = stats.gmean([4060 + 0.2 * size for size in SIZES[:4]])
    assert mean.loc["sandcrust-pipe", "geo. mean"] == comparison.format_quantity(expected, "ns")
    assert spread.loc["none", "64 B"] == "2.0 %"
    ratio = part(table, "Ratio")
    assert ratio.loc["sandcrust-pipe", "1 B"] == comparison.format_ratio(4060.2 / 60.2)
    assert any("over the 4 sizes of 5 that all have (1 B, 64 B, 4 KiB" in n for n in table.notes)


def test_notes_list_what_is_missing_and_why() -> None:
    rows = [make_row("none", 2), make_row("pipe-floor", 4000), *sized_rows("none", 0)]
    reason = "CPU has no protection keys"
    run = make_run(
        rows,
        unavailable=[
            SimpleNamespace(backend=name, reason=reason, remedy="") for name in ("mpk", "mpk-view")
        ],
        failures=[
            SimpleNamespace(
                cell="snappy-compress/random/64/acme", error="Traceback\nOSError: lost"
            ),
            SimpleNamespace(cell="switch/acme", error="refused"),
        ],
        finished=False,
    )
    notes = tables.figure3_tables(run)[0].notes
    assert f"Not available: mpk, mpk-view: {reason}." in notes
    assert "Failed: snappy-compress/random/64/acme: OSError: lost." in notes
    assert not any("pipe-floor" in note for note in notes)  # a reference, only for switch
    assert "Host: Some CPU @ 2 GHz. Run: r1 (preset quick, not finished)." in notes
    assert "Measured (ns): means of 60 values from 20 processes each." in notes
    assert not any("refused" in note for note in notes)


def test_backends_that_a_workload_does_not_run_on_are_named_under_that_workload_only() -> None:
    claims = "it claims no recovery"
    refused = [
        SimpleNamespace(backend=name, reason=reason, remedy="", workload="switch")
        for name, reason in (("acme", claims), ("odd", "it is odd"), ("mpk-nosud", claims))
    ]
    rows = [make_row("none", 2), *sized_rows("none", 0), *sized_rows("acme", 0)]
    run = make_run(rows, inapplicable=refused)
    notes = tables.figure2_table(run).notes
    assert f"Not on switch: acme, mpk-nosud: {claims}." in notes
    assert "Not on switch: odd: it is odd." in notes
    assert not any(note.startswith("No measured result") for note in notes)
    assert not any("claims" in note for table in tables.figure3_tables(run) for note in table.notes)


def test_many_failures_of_one_kind_take_one_note_that_counts_them() -> None:
    failed = [SimpleNamespace(cell=f"switch/b{number}", error="lost") for number in range(40)]
    (note,) = (n for n in tables.figure2_table(make_run([], failures=failed)).notes if "lost" in n)
    cells = ", ".join(f"switch/b{number}" for number in range(6))
    assert note == f"Failed: {cells} and 34 more: lost."


def test_one_value_has_no_interval_and_the_notes_say_so() -> None:
    table = tables.figure2_table(make_run([single_value("none", 2.4)]))
    cells = part(table, "Mean")
    assert cells.loc["none", ["95 % low", "std, % of mean"]].tolist() == ["—", "—"]
    assert "No intervals: they take more than one value." in table.notes


# ---- Figure 4, Table I, section V-A, rewind ----


def test_a_table_of_figure_4_has_the_papers_labels_and_ratios_to_no_wall() -> None:
    run = whole_run()
    table = tables.figure4_tables(run)[0]
    assert table.name == "figure4-snappy-compress-random-emulated-instructions"
    ratio = part(table, "Ratio")
    assert [name.split(" ")[0] for name in ratio.index] == [
        f"v{codec}_opt_{level}" for codec in (1, 2) for level in range(4)
    ]
    sized = run.table[(run.table["workload"] == "snappy-compress") & (run.table["size"] == 8)]
    means = sized.set_index("backend")["mean"]
    assert ratio.loc["v1_opt_2 (mpk-abomonation-v1)", "8 B"] == comparison.format_ratio(
        means["mpk-abomonation-v1"] / means["none"]
    )


def test_levels_of_optimisation_are_in_the_tables_of_figure_4_only() -> None:
    run = whole_run()
    levels = tuple({name for name in run.table["backend"] if "-O" in name})
    for table in (tables.figure2_table(run), *tables.figure3_tables(run)):
        assert not table.rows["backend"].str.contains("-O").any()
    assert not tables.figure4_tables(whole_run(without=levels))


def test_table_1_has_mean_deviation_ratio_and_upstreams_ratio_by_size_of_picture() -> None:
    (table,) = tables.table1_tables(whole_run())
    ((_, cells),) = table.parts
    assert table.name == "table1-emulated-instructions"
    assert cells["image"].unique().tolist() == [
        "palette-256x256", "rgb-701x599", "rgb-454x603", "rgb-816x1088",
    ]  # fmt: skip
    first = cells[cells["image"] == "palette-256x256"].set_index("backend")
    ours, upstream = f"{TIMES} none", f"{TIMES} none, upstream (quoted)"
    assert first.loc["mpk", [ours, upstream]].tolist() == [f"1.01{TIMES}", f"1.16{TIMES}"]
    assert first.loc["sandcrust-pipe", "mean"] == "2.47 M"
    assert first.loc["none", "std, % of mean"] == "0 %"
    assert any("fa52832" in note for note in table.notes)


def test_table_1_in_time_is_a_table_of_its_own_in_microseconds() -> None:
    picture = {"workload": "png-decode", "content": "acme", "size": 9}
    rows = [make_row("none", 812e3, **picture), make_row("mpk", 9e5, **EMULATED, **picture)]
    made = tables.table1_tables(make_run(rows))
    assert [table.name for table in made] == [
        "table1-measured-ns",
        "table1-emulated-instructions",
    ]
    ((_, cells),) = made[0].parts
    assert cells["mean"].tolist() == ["812 µs"]
    assert not any("Quoted" in note for note in made[0].notes)


def test_a_pair_of_malloc_and_free_is_a_call_divided_by_its_operations() -> None:
    table = tables.section5a_table(whole_run())
    assert table is not None
    ((_, cells),) = table.parts
    pairs = cells[cells["content"] == "pairs"].set_index("backend")
    assert pairs.loc["mpk", "mean of a pair"] == "300"
    assert pairs.loc["mpk", f"{TIMES} none"] == f"1.17{TIMES}"
    assert pairs["upstream (quoted)"].to_dict() == {"none": "257", "mpk": "521"}
    assert pairs.loc["mpk", f"{TIMES} none, upstream (quoted)"] == f"2.03{TIMES}"
    live = cells[cells["content"] == "live-1000"].set_index("backend")
    assert live.loc["mpk", "upstream (quoted)"] == "—"
    assert set(table.rows["mean"]) == {257, 300}


def test_in_time_upstreams_ratio_is_said_to_be_of_instructions() -> None:
    facts = {"workload": "malloc", "content": "pairs", "operations": 1000, "size": 2000}
    table = tables.section5a_table(make_run([make_row("none", 20e3, **facts)]))
    assert table is not None
    ((_, cells),) = table.parts
    assert cells[["mean of a pair", "upstream (quoted)"]].iloc[0].tolist() == ["20.0 ns", "—"]
    assert "Upstream's ratios are of instructions." in table.notes
    assert any(note.startswith("Quoted: glibc") for note in table.notes)


def test_the_rewinds_table_has_upstreams_under_ours_marked() -> None:
    table = tables.rewind_table(whole_run())
    assert table is not None
    ((_, cells),) = table.parts
    quoted = ["SDRaD (quoted)", "SDRaD (quoted)"]
    assert cells["backend"].tolist() == ["mpk", "mpk", *quoted]
    assert cells["content"].tolist() == ["return", "fault", "heap unused", "heap used"]
    assert cells["provenance"].tolist() == ["emulated", "emulated", "literature", "literature"]
    assert cells["mean"].tolist() == ["200", "4.90 k", "4.80 k", "40.7 k"]
    assert cells["beyond a return"].tolist() == ["—", "4.70 k", "—", "—"]


def test_the_interval_of_a_modelled_number_is_said_to_span_the_model() -> None:
    notes = tables.figure2_table(whole_run()).notes
    assert "Modelled: the interval spans the range of the published cost as well." in notes


def test_a_run_without_a_workload_has_no_table_of_it() -> None:
    run = make_run([make_row("none", 2.4)])
    assert [table.name for table in tables.all_tables(run)] == ["figure2", "findings"]


def test_upstreams_counts_are_a_column_beside_ours() -> None:
    rows = [make_row("none", 2.4), make_row("mpk", 90, mechanism="mpk", **EMULATED)]
    cells = part(tables.figure2_table(make_run(rows)), "Mean")
    assert cells["upstream (quoted)"].tolist() == ["—", "—", "297"]


# ---- files ----


def test_every_table_is_written_as_markdown_latex_and_csv(tmp_path: Path) -> None:
    rows = [make_row("none", 2.4), *sized_rows("none", 0)]
    paths = tables.write_all(make_run(rows), tmp_path / "new")
    assert [path.name for path in paths[:3]] == ["figure2.md", "figure2.tex", "figure2.csv"]
    assert [path.stem for path in paths[3::3]] == [
        "figure3-snappy-compress-random-measured-ns",
        "figure3-snappy-uncompress-random-measured-ns",
        "findings",
    ]
    assert all(path.stat().st_size for path in paths)


def test_csv_keeps_every_digit_and_names_units() -> None:
    rows = [make_row("none", 2.4), make_row("sandcrust-pipe", 4123.456789)]
    text = tables.csv(tables.figure2_table(make_run(rows)))
    read = pd.read_csv(io.StringIO(text)).set_index("backend")
    assert read.loc["sandcrust-pipe", "mean"] == 4123.456789
    assert read.loc["sandcrust-pipe", "unit"] == "ns"
    assert {"size_bytes", "std_percent_of_mean", "ratio_to_none"} <= set(read.columns)


def test_a_run_of_failures_only_says_why_there_is_nothing(tmp_path: Path) -> None:
    markdown, latex, csv = tables.write_all(failures_only(), tmp_path)
    for path in (markdown, latex):
        text = path.read_text()
        assert "No result." in text
        assert "switch/mpk: OSError: no such key" in text
        assert "page-table: kernel too old" in text
    assert csv.read_text().startswith("run,host,backend")


NASTY = r"50%_of&co#1 {a} ~x^2 \input $y$ <z> --fast µ…漢" + TIMES


def test_what_latex_gives_a_meaning_to_is_escaped() -> None:
    run = make_run(
        [make_row("none", 2.4), make_row("acme_50%&co", 4000)],
        unavailable=[SimpleNamespace(backend="x", reason=NASTY, remedy="")],
    )
    text = tables.latex(tables.figure2_table(run))
    assert r"acme\_50\%\&co" in text
    assert (
        r"50\%\_of\&co\#1 \{a\} \textasciitilde{}x\textasciicircum{}2 \textbackslash{}input \$y\$ "
        r"\textless{}z\textgreater{} -{}-fast $\mu$...?$\times$" in text
    )
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {11}
    assert text.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    unavailable = [SimpleNamespace(backend="x", reason=NASTY, remedy="")]
    rows = [make_row("none", 2.4), make_row("acme_50%&co", 4000)]
    run = whole_run(more=rows, unavailable=unavailable)
    names = [path.stem for path in tables.write_all(run, tmp_path) if path.suffix == ".tex"]
    assert {"table1-emulated-instructions", "section-5a", "rewind", "findings"} <= set(names)
    inputs = "\n".join(rf"\input{{{name}}}" for name in names)
    (tmp_path / "all.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{array,booktabs,graphicx}}\begin{{document}}{inputs}"
        r"\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_markdown_shows_special_characters_as_they_are() -> None:
    run = make_run(
        [make_row("none", 2)],
        unavailable=[SimpleNamespace(backend="x", reason="a_b|*c*", remedy="")],
    )
    assert r"- Not available: x: a\_b\|\*c\*." in tables.markdown(tables.figure2_table(run))
