"""Tables of attacks on walls: the matrix, claims against facts, the attacks, walls left out."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from harness import comparison
from harness.attacks import claims as claiming
from harness.attacks import cost as costing
from harness.attacks import grid as laying
from harness.attacks.model import Outcome
from harness.storage import replacing
from harness.tables import render, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from harness.attacks.claims import Fact
    from harness.attacks.cost import Costs
    from harness.attacks.grid import Grid
    from harness.attacks.model import Attack, Matrix, Verdict

_EXAMPLES = 3
_LONGEST = 160  # characters of what a caller got
_VERDICT = (
    "machine", "backend", "attack", "row", "group", "means", "benign", "outcome", "harms",
    "refuted", "said", "seconds",
)  # fmt: skip
_HOLDS = (
    "Holds: claimed, tested by so many attacks, and refuted by none; beyond it: so many others did "
    "such harm by means that the wall's claims do not reach to. No: not claimed; so many of the "
    "attacks that tried it got through."
)
_TESTED = (
    "A claim is tested by an attack that does, where there is no wall, what the claim says cannot "
    "be done; recovery also by one after which the host is gone or does not go on. Of attacks that "
    "make system calls or execute a WRPKRU of their own only those count that the claims of the "
    "wall reach to."
)
_CONTROL = (
    "Control: harms. What does no harm without a wall proves nothing of walls. Where no machine is "
    "named, all had the same."
)
_LISTED = ("attack", "row", "group", "means", "benign", "summary", "without a wall", "control")
_FACT = (
    "backend", "claim", "claimed", "verdict", "tested", "tested_by", "refuted_by", "got_through",
)  # fmt: skip
_FORMS: tuple[tuple[str, Callable[[table.Table], str]], ...] = (
    (".md", render.markdown),
    (".tex", render.latex),
    (".csv", render.csv),
)


def attack_tables(matrix: Matrix, costs: Costs | None = None) -> list[table.Table]:
    """Make the tables of a matrix; that of walls left out only if there are any.

    Args:
        matrix: The attacks and how they ended; may be empty.
        costs: Of an empty call behind each wall, if they are known.
    """
    return [
        matrix_table(matrix, costs),
        claims_table(matrix),
        list_table(matrix),
        *([absent_table(matrix)] if matrix.absent else ()),
    ]


def write_all(matrix: Matrix, costs: Costs | None, folder: Path) -> list[Path]:
    """Write the tables of a matrix, each as `.md`, `.tex` and `.csv`; return the files.

    Args:
        matrix: The attacks and how they ended.
        costs: Of an empty call behind each wall, if they are known.
        folder: Where to; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for made in attack_tables(matrix, costs):
        for suffix, form in _FORMS:
            path = folder / f"{made.name}{suffix}"
            with replacing(path) as temporary:
                temporary.write_text(form(made), encoding="utf-8")
            paths.append(path)
    return paths


def matrix_table(matrix: Matrix, costs: Costs | None = None) -> table.Table:
    """Tabulate how each attack ended behind each wall: a part a group, a letter a cell.

    Its CSV has all verdicts, a row each.
    """
    grid = laying.lay_out(matrix)
    parts = [("What an empty call costs", _costs(grid, costs))] if costs and grid.columns else []
    for group, rows in grid.groups.items():
        cells = {"attack": [row.label for row in rows], "means": [row.means for row in rows]}
        for column in grid.columns:
            marks = [grid.cells.get((row, column)) for row in rows]
            cells[column.label] = [cell.mark if cell else "" for cell in marks]
        parts.append((group[:1].upper() + group[1:], pd.DataFrame(cells)))
    legend = "; ".join(f"{laying.LETTERS[outcome]} {laying.WORDS[outcome]}" for outcome in Outcome)
    return _readable(
        table.Table(
            "attacks",
            "Attacks on walls, and how they ended",
            parts or [("Outcomes", pd.DataFrame())],
            rows=pd.DataFrame(_verdicts(matrix), columns=list(_VERDICT)),
            notes=[
                f"{legend}.",
                f"{laying.REFUTED} {laying.REFUTED_WORDS}.",
                laying.MEANS_WORDS,
                laying.ADMITTED_WORDS,
                laying.BENIGN_WORDS,
                *([laying.NO_CONTROL_WORDS] if any(row.uncontrolled for row in grid.rows) else ()),
                "A row of several attacks shows the worst of them.",
                *laying.places(matrix, grid),
                *(costs.sources() if costs else ()),
            ],
        )
    )


def claims_table(matrix: Matrix) -> table.Table:
    """Tabulate claims against facts: what each wall claims, what tested it, what got through."""
    facts = claiming.facts(matrix)
    walls = list(dict.fromkeys(fact.backend for fact in facts))
    brief: dict[str, list[str]] = {"backend": walls}
    for fact in facts:
        brief.setdefault(_words(fact.claim), []).append(_in_brief(fact))
    told = [fact for fact in facts if fact.refuted or fact.through]
    detail = {
        "backend": [fact.backend for fact in told],
        "claim": [_words(fact.claim) for fact in told],
        "verdict": [fact.verdict for fact in told],
        "refuted by": [_examples(fact.refuted) for fact in told],
        "got through, not claimed": [_examples(fact.through) for fact in told],
    }
    rows = [
        {
            "backend": fact.backend,
            "claim": fact.claim,
            "claimed": fact.claimed,
            "verdict": fact.verdict,
            "tested": len(fact.tested),
            "tested_by": " ".join(fact.tested),
            "refuted_by": _listed(fact.refuted),
            "got_through": _listed(fact.through),
        }
        for fact in facts
    ]
    parts = [("Claims", pd.DataFrame(brief) if facts else pd.DataFrame())]
    if told:
        parts.append(("What was harmed", pd.DataFrame(detail)))
    return _readable(
        table.Table(
            "attacks-claims",
            "What walls claim, and what attacks say of it",
            parts,
            rows=pd.DataFrame(rows, columns=list(_FACT)),
            notes=[
                _HOLDS,
                _TESTED,
                "Behind an attack's name stands the machine.",
            ],
            prose={"refuted by": 0.3, "got through, not claimed": 0.3},
        )
    )


def list_table(matrix: Matrix) -> table.Table:
    """Tabulate the attacks: what each does, and what it did where there is no wall."""
    controls: dict[str, list[Verdict]] = {}
    for verdict in matrix.verdicts:
        if verdict.backend == laying.CONTROL:
            controls.setdefault(verdict.attack, []).append(verdict)
    failed = {verdict.attack for verdict in matrix.failed_controls()}
    rows = pd.DataFrame(
        [
            {
                "attack": attack.name,
                "row": attack.row,
                "group": attack.group,
                "means": attack.means,
                "benign": attack.benign,
                "summary": attack.summary,
                "without a wall": _control(controls.get(attack.name, [])),
                "control": _controlled(attack, controls, failed),
            }
            for attack in matrix.attacks
        ],
        columns=list(_LISTED),
    )
    return _readable(
        table.Table(
            "attacks-list",
            "The attacks, and what they do where there is no wall",
            [("Attacks", rows.drop(columns=["row", "benign"]).map(_short))],
            rows=rows,
            notes=[
                _CONTROL,
                laying.BENIGN_WORDS,
            ],
            prose={"summary": 0.35, "without a wall": 0.3},
        )
    )


def absent_table(matrix: Matrix) -> table.Table:
    """Tabulate the walls that were not attacked: why, and what would make them available."""
    rows = pd.DataFrame(
        [(absent.backend, absent.reason, absent.remedy) for absent in matrix.absent],
        columns=["backend", "reason", "remedy"],
    )
    return _readable(
        table.Table(
            "attacks-absent",
            "Walls that were not attacked",
            [("Walls", rows.map(_short))],
            rows=rows,
            notes=[],
            prose={"reason": 0.35, "remedy": 0.35},
        )
    )


# ---- cells ----


def _readable(made: table.Table) -> table.Table:
    """Have Markdown show words as they are."""
    shown = [(heading, cells.map(_as_it_is)) for heading, cells in made.parts]
    return replace(made, markdown_parts=shown)


def _as_it_is(text: str) -> str:
    return re.sub(r"[\\`*_<>|]", r"\\\g<0>", text)


def _costs(grid: Grid, costs: Costs | None) -> pd.DataFrame:
    walls = list(dict.fromkeys(column.backend for column in grid.columns))
    columns = {"backend": walls}
    for provenance, heading in costing.HEADINGS.items():
        columns[heading] = [
            costs.text(provenance, wall) if costs else comparison.NOTHING for wall in walls
        ]
    return pd.DataFrame(columns)


def _verdicts(matrix: Matrix) -> Iterator[dict[str, object]]:
    attacks = {attack.name: attack for attack in matrix.attacks}
    for verdict in matrix.verdicts:
        attack = attacks.get(verdict.attack)
        yield {
            "machine": verdict.machine,
            "backend": verdict.backend,
            "attack": verdict.attack,
            "row": attack.row if attack else "",
            "group": attack.group if attack else "",
            "means": attack.means if attack else "",
            "benign": attack.benign if attack else "",
            "outcome": str(verdict.outcome),
            "harms": "; ".join(f"{harm.claim}: {harm.what}" for harm in verdict.harms),
            "refuted": " ".join(verdict.refuted),
            "said": verdict.said,
            "seconds": verdict.seconds,
        }


def _words(claim: str) -> str:
    return claim.replace("_", " ")


def _in_brief(fact: Fact) -> str:
    if fact.refuted:
        return f"REFUTED by {len({verdict.attack for verdict in fact.refuted})}"
    through = {verdict.attack for verdict in fact.through}
    if not fact.claimed:
        tested = set(fact.tested) | through
        return f"no ({len(through)} of {len(tested)})" if tested else "no"
    if not fact.tested:
        return fact.verdict
    return f"holds ({len(fact.tested)})" + (f", {len(through)} beyond it" if through else "")


def _named(verdicts: Iterable[Verdict]) -> list[str]:
    """Name attacks, each once with all its machines."""
    machines: dict[str, list[str]] = {}
    for verdict in verdicts:
        machines.setdefault(verdict.attack, []).append(verdict.machine)
    return [f"{name} ({', '.join(dict.fromkeys(where))})" for name, where in machines.items()]


def _listed(verdicts: Iterable[Verdict]) -> str:
    return "; ".join(_named(verdicts))


def _examples(verdicts: Sequence[Verdict]) -> str:
    """Name a few attacks, and say of the first what it harmed and what the caller got."""
    if not verdicts:
        return ""
    first, named = verdicts[0], _named(verdicts)
    harmed = "; ".join(harm.what for harm in first.harms) or str(first.outcome)
    more = len(named) - _EXAMPLES
    also = [*named[1:_EXAMPLES], *([f"{more} more"] if more > 0 else ())]
    return f"{named[0]}: {_short(harmed)}; {_short(first.said)}" + (
        f". Also {', '.join(also)}" if also else ""
    )


def _control(verdicts: Sequence[Verdict]) -> str:
    """Say how an attack ended where there is no wall, once if it did so on all machines."""
    said: dict[str, list[str]] = {}
    for verdict in verdicts:
        harms = ", ".join(harm.what for harm in verdict.harms)
        text = f"{verdict.outcome}: {harms}" if harms else str(verdict.outcome)
        said.setdefault(_short(text), []).append(verdict.machine)
    if len(said) == 1:
        return next(iter(said))
    return "; ".join(f"{', '.join(where)}: {text}" for text, where in said.items())


def _controlled(attack: Attack, controls: dict[str, list[Verdict]], failed: set[str]) -> str:
    if attack.benign:
        return "benign"
    tried = [v for v in controls.get(attack.name, []) if v.outcome is not Outcome.UNAVAILABLE]
    if not tried:
        return "not tried"
    return "NO HARM" if attack.name in failed else "harms"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
