"""A matrix of attacks as rows and columns: what stands where, and the worst of what shares a cell.

A row is what an attack is shown as, a column a wall on a machine. Figures, tables and the console
show the same grid.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.attacks.model import GROUPS, HARM, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness.attacks.model import Attack, Matrix, Means, Verdict

#: The wall that is none: attacks on it are the positive controls.
CONTROL = "none"

#: What stands in a cell: small letters where nothing was harmed, capitals where something was.
LETTERS = {
    Outcome.HARMLESS: "o",
    Outcome.RECOVERED: "r",
    Outcome.REFUSED: "n",
    Outcome.CONTAINED: "c",
    Outcome.DISCLOSED: "D",
    Outcome.HUNG: "H",
    Outcome.HOST_DIED: "X",
    Outcome.ESCAPED: "E",
    Outcome.UNAVAILABLE: "/",
}

#: Goes behind the letter where a claim of the wall was refuted.
REFUTED = "!"

#: Goes behind the name of a row that harms nothing where there is no wall.
NO_CONTROL = "*"

MEANS: Mapping[Means, str] = {
    "memory": "M",
    "system call": "S",
    "own WRPKRU": "W",
    "runtime's WRPKRU": "R",
    "libc's WRPKRU": "L",
}

#: What each outcome says, in words.
WORDS = {
    Outcome.HARMLESS: "harmless: the call returned, and nothing was harmed",
    Outcome.RECOVERED: "recovered: an error to the caller, and the next call was right",
    Outcome.REFUSED: "refused: the wall does not load this code",
    Outcome.CONTAINED: "contained: nothing was harmed, but the sandbox had to end",
    Outcome.DISCLOSED: "disclosed: memory outside was read, and nothing changed",
    Outcome.HUNG: "hung: the host did not go on within the time limit",
    Outcome.HOST_DIED: "host died: its process ended",
    Outcome.ESCAPED: "escaped: something outside was changed or done",
    Outcome.UNAVAILABLE: "unavailable: it cannot be tried there",
}
REFUTED_WORDS = "behind a letter: against a claim of the wall, which is refuted"
MEANS_WORDS = (
    "Means: M memory (loads, stores, jumps), S system calls, W its own WRPKRU or XRSTOR, R that of "
    "the walls' gates, L libc's. Claims reach to S and R only where system calls are claimed, to W "
    "only where strictness is, and to L nowhere."
)
ADMITTED_WORDS = f"Capitals without {REFUTED} are limits that a wall admits."
BENIGN_WORDS = "Benign rows are no attacks: whatever is not harmless does not work behind the wall."
NO_CONTROL_WORDS = f"{NO_CONTROL} did no harm without a wall either, and so proves nothing."

_RANK = {outcome: rank for rank, outcome in enumerate(Outcome)}

# Walls that are known, in the order in which they are shown; those of third parties come between
# the processes and the protection keys.
_FAMILIES = (CONTROL, "sandcrust-pipe", "sandcrust-fork", "", "pkru-safe", "mpk")
_FIRST = ("mpk", "mpk-view", "mpk-nosud")
_TWINS = ("hardened", "strict")


@dataclass(frozen=True, slots=True)
class Column:
    """A wall on a machine.

    Attributes:
        backend: The wall.
        machine: The machine.
        named: The wall is on other machines too, so that this one has to be named.
    """

    backend: str
    machine: str
    named: bool

    @property
    def label(self) -> str:
        """The wall, and the machine where that is not the only one."""
        return f"{self.backend}, {self.machine}" if self.named else self.backend


@dataclass(frozen=True, slots=True)
class Row:
    """What one or several attacks are shown as.

    Attributes:
        group: Of the attacks.
        name: What they do.
        attacks: They.
        uncontrolled: They did no harm where there is no wall.
    """

    group: str
    name: str
    attacks: tuple[Attack, ...]
    uncontrolled: bool

    @property
    def label(self) -> str:
        """Its name, marked where it proves nothing."""
        return f"{self.name} {NO_CONTROL}" if self.uncontrolled else self.name

    @property
    def means(self) -> str:
        """The letters of what the attacks work by."""
        used = {attack.means for attack in self.attacks}
        return "".join(letter for means, letter in MEANS.items() if means in used)


@dataclass(frozen=True, slots=True)
class Cell:
    """How attacks ended.

    Attributes:
        outcome: The worst.
        refuted: Claims of the wall that are thereby wrong.
    """

    outcome: Outcome
    refuted: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """What stands in the cell."""
        return LETTERS[self.outcome] + (REFUTED if self.refuted else "")


@dataclass(frozen=True)
class Grid:
    """A matrix, laid out.

    Attributes:
        columns: In the order in which they are shown.
        rows: By group.
        cells: By row and column; what was not tried has none.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    cells: Mapping[tuple[Row, Column], Cell] = field(repr=False)

    @property
    def groups(self) -> dict[str, list[Row]]:
        """The rows of each group."""
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            groups[row.group].append(row)
        return dict(groups)

    def tally(self, group: str, column: Column) -> dict[Cell, int]:
        """Count how the rows of a group ended in a column: the worst first, refuted before all.

        Which claims were refuted makes no difference here.
        """
        cells = [self.cells.get((row, column)) for row in self.rows if row.group == group]
        counts: dict[Cell, int] = defaultdict(int)
        for cell in cells:
            if cell is not None:
                counts[Cell(cell.outcome, ("any",) if cell.refuted else ())] += 1

        def severity(cell: Cell) -> tuple[bool, bool, int]:
            return bool(cell.refuted), *_severity(cell.outcome)

        return {cell: counts[cell] for cell in sorted(counts, key=severity, reverse=True)}


def lay_out(matrix: Matrix) -> Grid:
    """Lay a matrix out.

    Whatever was tried is there: walls that are not known, groups that are not, and nothing at all.
    """
    columns = _columns(matrix)
    rows = _rows(matrix)
    found: dict[tuple[str, str, str], list[Verdict]] = defaultdict(list)
    for verdict in matrix.verdicts:
        found[verdict.attack, verdict.backend, verdict.machine].append(verdict)
    cells = {}
    for row in rows:
        for column in columns:
            verdicts = [
                verdict
                for attack in row.attacks
                for verdict in found[attack.name, column.backend, column.machine]
            ]
            if verdicts:
                cells[row, column] = worst(verdicts)
    return Grid(columns, rows, cells)


def worst(verdicts: Iterable[Verdict]) -> Cell:
    """Take the worst outcome, and all claims refuted; what could not be tried does not count."""
    verdicts = list(verdicts)
    outcome = max((verdict.outcome for verdict in verdicts), key=_severity)
    return Cell(outcome, tuple(sorted({claim for v in verdicts for claim in v.refuted})))


def wall_order(backend: str) -> tuple[int, int, str, bool, str]:
    """Return what sorts walls: the control, processes, third parties', protection keys.

    A hardened or strict wall comes right after what it is a variant of.
    """
    families = [
        family
        for family in _FAMILIES
        if family and (backend == family or backend.startswith(f"{family}-"))
    ]
    family = max(families, key=len, default="")
    words = backend.split("-")
    plain = "-".join(word for word in words if word not in _TWINS)
    known = _FIRST.index(plain) if plain in _FIRST else len(_FIRST)
    return _FAMILIES.index(family), known, plain, plain != backend, backend


def family_of(backend: str) -> int:
    """Number the family of a wall, to leave a gap between two."""
    # Both ways of Sandcrust are processes.
    return {2: 1}.get(wall_order(backend)[0], wall_order(backend)[0])


def _severity(outcome: Outcome) -> tuple[bool, int]:
    return outcome is not Outcome.UNAVAILABLE, _RANK[outcome]


def _columns(matrix: Matrix) -> list[Column]:
    machines: dict[str, set[str]] = defaultdict(set)
    for verdict in matrix.verdicts:
        machines[verdict.backend].add(verdict.machine)
    known = [machine.name for machine in matrix.machines]

    def machine_order(name: str) -> tuple[int, str]:
        return known.index(name) if name in known else len(known), name

    return [
        Column(backend, machine, named=len(machines[backend]) > 1)
        for backend in sorted(machines, key=wall_order)
        for machine in sorted(machines[backend], key=machine_order)
    ]


def _rows(matrix: Matrix) -> list[Row]:
    harmful = {v.attack for v in matrix.verdicts if v.backend == CONTROL and v.outcome in HARM}
    failed = {verdict.attack for verdict in matrix.failed_controls()}
    members: dict[tuple[str, str], list[Attack]] = defaultdict(list)
    for attack in matrix.attacks:
        members[attack.group, attack.row].append(attack)
    rows = []
    for (group, name), attacks in members.items():
        names = {attack.name for attack in attacks}
        uncontrolled = bool(names & failed) and not names & harmful
        rows.append(Row(group, name, tuple(attacks), uncontrolled))
    order = list(dict.fromkeys((*GROUPS, *(row.group for row in rows))))
    return sorted(rows, key=lambda row: order.index(row.group))


def places(matrix: Matrix, grid: Grid) -> list[str]:
    """Say where attacks ran, and whether all of it did."""
    lines = []
    for machine in matrix.machines:
        walls = dict.fromkeys(
            column.backend
            for column in grid.columns
            if column.machine == machine.name and not column.named
        )
        alone = f"; only there: {', '.join(walls)}" if walls and len(matrix.machines) > 1 else ""
        lines.append(f"Machine {machine.name}: Linux {machine.kernel}, {machine.cpu}{alone}.")
    if not matrix.complete:
        lines.append("Not complete: some of what was asked for did not run.")
    lines += [
        f"Machine {name} failed: {_last_line(text)}" for name, text in matrix.failures.items()
    ]
    return lines


def _last_line(text: str) -> str:
    """Return the last line, which says what the others lead to."""
    return text.strip().rpartition("\n")[2]


def absences(matrix: Matrix) -> list[str]:
    """Say which walls were not attacked, and why: a line a reason."""
    walls: dict[str, list[str]] = defaultdict(list)
    for absent in matrix.absent:
        walls[f"{absent.reason}. {absent.remedy}."].append(absent.backend)
    return [f"Not attacked: {', '.join(names)}. {why}" for why, names in walls.items()]
