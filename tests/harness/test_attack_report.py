from __future__ import annotations

import csv
import dataclasses
import io
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from made_up_matrices import MUCH, attack, make_matrix, verdict, whole_matrix
from made_up_runs import EMULATED, make_row, make_run
from rich.console import Console

from harness import tables
from harness.attacks import cost, report
from harness.attacks.model import Absent, Matrix, Outcome
from harness.tables import attacks

if TYPE_CHECKING:
    from pathlib import Path

RUN = make_run([make_row("none", 1.5), make_row("mpk", 89, **EMULATED)])


def printed(matrix: Matrix, costs: cost.Costs | None = None, width: int = 140) -> str:
    stream = io.StringIO()
    report.print_matrix(matrix, Console(file=stream, width=width), costs)
    return stream.getvalue()


def rows_of(table: tables.Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.csv(table))))


def cells(table: tables.Table, part: int = 0) -> list[dict[str, str]]:
    return [
        {str(key): str(value) for key, value in row.items()}
        for row in table.parts[part][1].to_dict("records")
    ]


# ---- tables ----


def test_the_matrix_has_a_part_a_group_and_a_letter_a_cell() -> None:
    matrix = whole_matrix()
    made = attacks.matrix_table(matrix, cost.of(RUN))
    headings = [heading for heading, _ in made.parts]
    assert headings == [
        "What an empty call costs", "Benign", "Memory", "Control flow", "Machine state",
        "Keys and kernel", "Environment",
    ]  # fmt: skip
    costs = {row["backend"]: row for row in cells(made)}
    assert costs["none"]["an empty call, measured"] == "1.5 ns"
    assert costs["mpk"]["an empty call, instructions"] == "89.0"
    assert costs["mpk"]["an empty call, measured"] == "—"
    state = {row["attack"]: row for row in cells(made, 4)}
    assert state["set the alignment check flag"]["mpk-view, emulated 6.1"] == "X!"
    assert state["set the alignment check flag"]["mpk-view, emulated 6.12"] == "o"
    assert cells(made, 6)[0]["means"] == "S"


def test_the_csv_of_the_matrix_has_every_verdict() -> None:
    matrix = whole_matrix()
    rows = rows_of(attacks.matrix_table(matrix))
    assert len(rows) == len(matrix.verdicts)
    for row, one in zip(rows, matrix.verdicts, strict=True):
        assert (row["machine"], row["backend"], row["attack"], row["outcome"], row["said"]) == (
            one.machine, one.backend, one.attack, one.outcome, one.said,
        )  # fmt: skip


def test_claims_stand_against_facts_wall_by_claim() -> None:
    listed = [attack("heap"), attack("read"), attack("call", means="system call")]
    verdicts = [
        verdict("none", "heap", claims=["heap"]),
        verdict("none", "read", claims=["confidentiality"]),
        verdict("none", "call", claims=["syscalls"]),
        verdict("wall", "heap", Outcome.RECOVERED),
        verdict("wall", "read", claims=["confidentiality"], said="it returned 8 bytes"),
        verdict("wall", "call", Outcome.HARMLESS),
        verdict("bad", "heap", claims=["heap"], refuted=["heap"]),
        verdict("lax", "heap", Outcome.RECOVERED),
        verdict("lax", "call", claims=["heap", "syscalls"]),
    ]
    made = attacks.claims_table(
        make_matrix(listed, verdicts, dict.fromkeys(("wall", "bad", "lax"), MUCH))
    )
    brief = {row["backend"]: row for row in cells(made)}
    wall = brief["wall"]
    assert (wall["heap"], wall["confidentiality"]) == ("holds (1)", "no (1 of 1)")
    assert (wall["stack"], wall["syscalls"]) == ("not tested", "no (0 of 1)")
    assert brief["none"]["heap"] == "no (1 of 1)"
    assert brief["bad"]["heap"] == "REFUTED by 1"
    assert brief["lax"]["heap"] == "holds (1), 1 beyond it"
    detail = {(row["backend"], row["claim"]): row for row in cells(made, 1)}
    assert detail["bad", "heap"]["refuted by"].startswith("heap (here): a canary of heap; it ret")
    through = detail["wall", "confidentiality"]["got through, not claimed"]
    assert through == "read (here): a canary of confidentiality; it returned 8 bytes"
    facts = {(row["backend"], row["claim"]): row for row in rows_of(made)}
    assert facts["wall", "heap"]["tested_by"] == "heap"
    assert facts["bad", "heap"]["refuted_by"] == "heap (here)"
    assert facts["wall", "threads"]["verdict"] == "no"


def test_strictness_is_tested_by_code_that_opens_the_wall_where_it_is_loaded() -> None:
    strict = dataclasses.replace(MUCH, strict=True)
    verdicts = [
        verdict("none", "open", claims=["heap"]),
        verdict("lax", "open", claims=["heap"]),
        verdict("strict", "open", Outcome.REFUSED),
        verdict("bad", "open", claims=["heap"], refuted=["heap", "strict"]),
    ]
    walls = {"lax": MUCH, "strict": strict, "bad": strict}
    matrix = make_matrix([attack("open", means="own WRPKRU")], verdicts, walls)
    brief = {row["backend"]: row["strict"] for row in cells(attacks.claims_table(matrix))}
    assert brief == {
        "none": "no (1 of 1)",
        "lax": "no (1 of 1)",
        "strict": "holds (1)",
        "bad": "REFUTED by 1",
    }


def test_attacks_are_listed_with_what_they_did_without_a_wall() -> None:
    listed = [attack("bad"), attack("dud"), attack("new"), attack("add", benign=True)]
    verdicts = [
        verdict("none", "bad", claims=["heap"]),
        verdict("none", "bad", Outcome.HOST_DIED, machine="emulated 6.1"),
        verdict("none", "dud", Outcome.HARMLESS),
        verdict("none", "add", Outcome.HARMLESS),
    ]
    rows = {row["attack"]: row for row in cells(attacks.list_table(make_matrix(listed, verdicts)))}
    assert rows["bad"]["without a wall"] == (
        "here: escaped: a canary of heap; emulated 6.1: host-died"
    )
    assert [rows[one.name]["control"] for one in listed] == [
        "harms", "NO HARM", "not tried", "benign",
    ]  # fmt: skip
    assert rows["bad"]["summary"] == "It does bad."


def test_walls_left_out_are_told_with_reason_and_remedy() -> None:
    matrix = make_matrix(absent=[Absent("w", "no keys", "Emulate it")])
    assert cells(attacks.absent_table(matrix)) == [
        {"backend": "w", "reason": "no keys", "remedy": "Emulate it"}
    ]
    names = [table.name for table in attacks.attack_tables(make_matrix())]
    assert names == ["attacks", "attacks-claims", "attacks-list"]


def test_words_of_others_are_shown_by_markdown_as_they_are() -> None:
    said = "a|b *c*\n<d> `e`"
    matrix = make_matrix([attack(summary=said)], [verdict("none", claims=["heap"], said=said)])
    shown = r"a\|b \*c\* \<d\> \`e\`"
    assert shown in tables.markdown(attacks.list_table(matrix))
    assert shown in tables.markdown(attacks.claims_table(matrix))


@pytest.mark.parametrize("matrix", [make_matrix(), make_matrix([attack()]), whole_matrix()])
def test_tables_are_written_whatever_there_is(matrix: Matrix, tmp_path: Path) -> None:
    paths = attacks.write_all(matrix, None, tmp_path)
    names = ["attacks", "attacks-claims", "attacks-list", *["attacks-absent"][: len(matrix.absent)]]
    assert [path.name for path in paths] == [
        f"{name}{suffix}" for name in names for suffix in (".md", ".tex", ".csv")
    ]
    assert all(path.read_text(encoding="utf-8").strip() for path in paths)
    if not matrix.verdicts:
        assert "No result." in (tmp_path / "attacks-claims.md").read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(tmp_path: Path) -> None:
    matrix = whole_matrix()
    matrix.verdicts.append(verdict("none", "add", Outcome.HARMLESS, said="50 % \\x #1 ∞ … {"))
    matrix.verdicts.append(verdict("mpk", "kill-the-parent-process-0", claims=["heap"], said="~^&"))
    attacks.write_all(matrix, cost.of(RUN), tmp_path)
    inputs = "".join(rf"\input{{{path.stem}}}" for path in sorted(tmp_path.glob("*.tex")))
    (tmp_path / "all.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{array,booktabs,graphicx}"
        rf"\begin{{document}}{inputs}\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


# ---- the console ----


def test_the_console_tells_how_many_rows_of_each_group_ended_how() -> None:
    text = printed(whole_matrix(), cost.of(RUN))
    line = re.search(r"^ *none .*$", text, re.MULTILINE)
    assert line is not None
    assert line[0].split() == [
        "none", "1.5", "ns", "18.0" if "18.0" in line[0] else "—", "1o", "4E", "2D", "1E",
        "2X", "1H", "2E", "3E", "2E", "1X",
    ]  # fmt: skip
    assert "Not attacked: page-table. the kernel lacks |it|. Build one with it." in text


def test_machines_are_named_only_where_a_wall_ended_differently() -> None:
    lines = [line.strip() for line in printed(whole_matrix()).splitlines()]
    assert sum(line.startswith("mpk-view ") for line in lines) == 2
    assert sum(line.startswith("mpk-nosud ") for line in lines) == 1
    assert sum(line == "emulated 6.1" for line in lines) == 1


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_count_is_lost_on_a_narrow_console(width: int) -> None:
    text = printed(whole_matrix(9), cost.of(RUN), width)
    assert max(map(len, text.splitlines())) <= width
    table = text.split("How many rows")[0]
    counts = re.findall(r"\b(\d+)[ornc/DHXE]!?(?=\s)", table)
    lines = len(whole_matrix().guarantees) + 1  # mpk-view has two
    assert sum(map(int, counts)) == lines * len(whole_matrix(9).attacks)


def test_what_went_wrong_is_listed_and_counted_also_if_nothing_did() -> None:
    listed = [attack("bad"), attack("dud"), attack("add", benign=True)]
    verdicts = [
        verdict("none", "dud", Outcome.RECOVERED),
        verdict("w", "bad", claims=["heap"], refuted=["heap"], said="[red]it[/] said\nso"),
        verdict("w", "add", Outcome.REFUSED, said="not loaded"),
    ]
    text = printed(make_matrix(listed, verdicts), width=200)
    assert "Claims refuted: 1\n  bad on w, here: escaped, against heap; a canary of heap; " in text
    assert "[red]it[/] said so" in text
    assert "Attacks that prove nothing: 1\n  dud on none, here: recovered" in text
    assert "Benign, and does not work: 1\n  add on w, here: refused; not loaded" in text
    fine = printed(make_matrix([attack()], [verdict()]))
    for heading in ("Claims refuted", "Attacks that prove nothing", "Benign, and does not work"):
        assert f"{heading}: none" in fine


def test_an_empty_matrix_is_said_to_be() -> None:
    for matrix in (make_matrix(), make_matrix([attack()], complete=False)):
        assert "No attack was tried." in printed(matrix, cost.of(RUN))


# ---- all of it ----


def test_figures_and_tables_are_written_to_folders_of_their_own(tmp_path: Path) -> None:
    matrix = make_matrix([attack()], [verdict("none"), verdict("mpk", machine="m")])
    paths = report.write_all(matrix, RUN, tmp_path)
    assert len(paths) == len(set(paths)) == 18
    assert {path.parent.name for path in paths} == {"figures", "tables"}
    assert all(path.is_file() for path in paths)
    assert "89.0" in (tmp_path / "tables" / "attacks.md").read_text()
