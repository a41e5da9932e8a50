"""What an attack is, how it can end, and what that says of a wall's claims; their file."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

import msgspec

from harness.storage import read, replacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from backends.contract import Guarantees

ATTACKS_FILE = "attacks.json"

#: Version of the layout of that file, and of what outcomes and means in it mean.
FORMAT = 2

#: What an attack works by. Claims reach as far as is said in `backends.contract.Guarantees`.
Means = Literal["memory", "system call", "own WRPKRU", "runtime's WRPKRU", "libc's WRPKRU"]

#: Groups of attacks, in the order in which they are shown.
GROUPS = ("benign", "memory", "control flow", "machine state", "keys and kernel", "environment")


class Outcome(StrEnum):
    """How an attack ended, by observation; from the best to the worst."""

    HARMLESS = "harmless"
    """The call returned, and nothing was harmed."""
    RECOVERED = "recovered"
    """An error to the caller, nothing harmed, and the next calls were right."""
    REFUSED = "refused"
    """The sandbox was not opened: the wall does not load this code."""
    CONTAINED = "contained"
    """Nothing outside was harmed, but the sandbox had to end."""
    DISCLOSED = "disclosed"
    """Memory outside was read, and nothing was changed or done there."""
    HUNG = "hung"
    """The host did not go on within the time limit."""
    HOST_DIED = "host-died"
    """The host's process ended."""
    ESCAPED = "escaped"
    """A canary was changed, or the system was made to do something outside."""
    UNAVAILABLE = "unavailable"
    """It cannot be tried: the machine or the wall lacks what the attack or the call needs."""


#: Outcomes that are harm: what an attack must come to where there is no wall.
HARM = frozenset((Outcome.DISCLOSED, Outcome.HUNG, Outcome.HOST_DIED, Outcome.ESCAPED))

#: What harm is: something was changed or done, memory was read, or what was there is no more.
How = Literal["changed", "read", "ended"]


class Attack(msgspec.Struct, frozen=True):
    """A hostile foreign function with its argument.

    Attributes:
        name: Unique; letters, digits and dashes.
        row: What it is shown as; attacks that differ in an argument share a row.
        group: One of `GROUPS`.
        summary: What it does, in a few words.
        means: What it works by.
        benign: It is no attack, but what must go on working.
    """

    name: str
    row: str
    group: str
    summary: str
    means: Means
    benign: bool = False


class Harm(msgspec.Struct, frozen=True):
    """Something outside the wall that was harmed.

    Attributes:
        what: The canary, in words.
        claim: The field of `Guarantees` that says that this cannot be.
        how: What was done to it.
    """

    what: str
    claim: str
    how: How = "changed"


class Verdict(msgspec.Struct, frozen=True):
    """How one attack on one wall ended.

    Attributes:
        machine: Name of the machine.
        backend: Name of the wall.
        attack: Name of the attack.
        outcome: How it ended.
        harms: What was harmed.
        refuted: Claims of the wall that are thereby wrong.
        said: What the caller got, in words: the result, the error, the signal that it died of.
        seconds: What it took, the host's start included.
    """

    machine: str
    backend: str
    attack: str
    outcome: Outcome
    harms: list[Harm]
    refuted: list[str]
    said: str
    seconds: float


class Machine(msgspec.Struct, frozen=True):
    """Where attacks ran.

    Attributes:
        name: `here`, or `emulated 6.12`.
        kernel: As `uname -r` says.
        cpu: The CPU's name, and whether it has protection keys.
        seconds: What all of it took.
    """

    name: str
    kernel: str
    cpu: str
    seconds: float


class Absent(msgspec.Struct, frozen=True):
    """A wall that was not attacked: why, and what would make it available."""

    backend: str
    reason: str
    remedy: str


class Matrix(msgspec.Struct, kw_only=True):
    """Attacks on walls.

    Attributes:
        started: UTC, ISO 8601.
        machines: Where they ran.
        attacks: In the order in which they are shown.
        guarantees: What each wall claims, by its name.
        verdicts: One a machine, wall and attack. Those on `none` are the positive controls.
        absent: Walls that were not attacked anywhere.
        complete: Everything that was asked for ran.
        failures: What machines said that did not do their part, which says nothing of walls.
        format: Version of this layout.
    """

    started: str
    machines: list[Machine]
    attacks: list[Attack]
    guarantees: dict[str, dict[str, bool]]
    verdicts: list[Verdict]
    absent: list[Absent]
    complete: bool = False
    failures: dict[str, str] = {}
    format: int = FORMAT

    def refuted(self) -> list[Verdict]:
        """List the verdicts that show a claim to be wrong."""
        return [verdict for verdict in self.verdicts if verdict.refuted]

    def failed_controls(self) -> list[Verdict]:
        """List the attacks that did no harm where there is no wall, and so prove nothing."""
        benign = {attack.name for attack in self.attacks if attack.benign}
        return [
            verdict
            for verdict in self.verdicts
            if verdict.backend == "none"
            and verdict.attack not in benign
            and verdict.outcome not in (*HARM, Outcome.UNAVAILABLE)
        ]


def within_claims(claims: Mapping[str, bool], means: Means) -> bool:
    """Say whether the claims of a wall reach as far as what works by these means.

    Claims other than `syscalls` and `strict` are about what code does by itself; see `Guarantees`.
    That libc's WRPKRU cannot be used is claimed of no wall.
    """
    needed = {
        "system call": "syscalls",
        "own WRPKRU": "strict",
        "runtime's WRPKRU": "syscalls",  # what is behind two of them is a call that is refused
    }
    return means == "memory" or (means in needed and claims.get(needed[means], False))


def opened(attack: Attack, harms: Sequence[Harm]) -> set[str]:
    """Return the claim that code which could open the wall is not loaded, if it was and did."""
    return {"strict"} if attack.means == "own WRPKRU" and harms else set()


def refuted(guarantees: Guarantees, attack: Attack, harms: list[Harm]) -> list[str]:
    """List the claims of a wall that an attack has shown to be wrong."""
    claims = dataclasses.asdict(guarantees)
    if not within_claims(claims, attack.means):
        return []
    harmed = {harm.claim for harm in harms} | opened(attack, harms)
    return sorted(claim for claim in harmed if claims[claim])


def save(matrix: Matrix, folder: Path) -> Path:
    """Write a matrix.

    Raises:
        OSError: It cannot be written; an older one is as it was.
    """
    path = folder / ATTACKS_FILE
    data: bytes = msgspec.json.format(msgspec.json.encode(matrix), indent=1)
    with replacing(path) as temporary:
        temporary.write_bytes(data + b"\n")
    return path


def load(folder: Path) -> Matrix:
    """Read a matrix.

    Raises:
        StorageError: It is missing, truncated or not this project's.
    """
    return read(
        folder / ATTACKS_FILE,
        Matrix,
        what="a matrix of attacks",
        missing=f"{folder} has no {ATTACKS_FILE}. Name a folder that `isobench attack` made",
        again="make it again with `isobench attack`",
        version=FORMAT,
    )
