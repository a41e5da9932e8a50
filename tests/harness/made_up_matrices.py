"""Made-up matrices of attacks, for tests of what shows them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from backends.contract import Guarantees
from harness.attacks import model
from harness.attacks.model import Absent, Attack, Harm, Machine, Matrix, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Machine("here", "6.1.0-26-amd64", "Some CPU, no protection keys", 410.0)
NEW = Machine("emulated 6.12", "6.12.9-amd64", "QEMU TCG, protection keys", 300.0)
OLD = Machine("emulated 6.1", "6.1.0-26-amd64", "QEMU TCG, protection keys", 300.0)

NOTHING = Guarantees()
MUCH = Guarantees(
    heap=True, stack=True, static_data=True, machine_state=True, recovery=True, time_limit=True
)
ALL = dataclasses.replace(MUCH, shared_memory=True, secrets=True, syscalls=True)
SOME = {
    "none": NOTHING,
    "pkru-safe": Guarantees(secrets=True),
    "mpk-strict": dataclasses.replace(ALL, strict=True),
    "mpk-nosud": dataclasses.replace(ALL, syscalls=False, recovery=False, time_limit=False),
}

PROCESSES = ("sandcrust-pipe", "sandcrust-fork", "sandcrust-pipe-hardened",
             "sandcrust-fork-hardened")  # fmt: skip
DOMAINS = ("pkru-safe", "mpk", "mpk-view", "mpk-nosud", "mpk-strict", "mpk-bincode-v1",
           "mpk-bincode-v2", "mpk-abomonation-v1", "mpk-abomonation-v2")  # fmt: skip

#: Group, row, means, claim, and how it ends on most walls.
_ROWS: tuple[tuple[str, str, model.Means, str, Outcome], ...] = (
    ("memory", "write to the caller's heap", "memory", "heap", Outcome.RECOVERED),
    ("memory", "write to the caller's stack", "memory", "stack", Outcome.RECOVERED),
    ("memory", "write to a variable of another library", "memory", "static_data",
     Outcome.RECOVERED),
    ("memory", "write to thread-local storage", "memory", "static_data", Outcome.RECOVERED),
    ("memory", "read the caller's heap", "memory", "confidentiality", Outcome.DISCLOSED),
    ("memory", "read a secret that is set apart", "memory", "secrets", Outcome.RECOVERED),
    ("control flow", "jump to an unmapped address", "memory", "recovery", Outcome.RECOVERED),
    ("control flow", "overflow the stack", "memory", "recovery", Outcome.CONTAINED),
    ("control flow", "longjmp() to a frame of the caller", "memory", "stack", Outcome.RECOVERED),
    ("control flow", "loop without end", "memory", "recovery", Outcome.RECOVERED),
    ("machine state", "set the alignment check flag", "memory", "machine_state",
     Outcome.HARMLESS),
    ("machine state", "change the rounding mode", "memory", "machine_state", Outcome.HARMLESS),
    ("keys and kernel", "jump to pkey_set() of libc", "memory", "heap", Outcome.RECOVERED),
    ("keys and kernel", "execute a WRPKRU of its own", "own WRPKRU", "heap", Outcome.ESCAPED),
    ("keys and kernel", "pkey_mprotect() the caller's heap", "system call", "heap",
     Outcome.ESCAPED),
    ("environment", "kill the parent process", "system call", "recovery", Outcome.ESCAPED),
    ("environment", "write to an inherited descriptor", "system call", "syscalls",
     Outcome.ESCAPED),
    ("environment", "fork and stay", "system call", "syscalls", Outcome.CONTAINED),
)  # fmt: skip


def attack(name: str = "write-heap", **other: Any) -> Attack:
    facts = {"row": name, "group": "memory", "summary": f"It does {name}.", "means": "memory"}
    return Attack(name, **(facts | other))


def verdict(
    backend: str = "none",
    name: str = "write-heap",
    outcome: Outcome = Outcome.ESCAPED,
    *,
    claims: Sequence[str] = (),
    **other: Any,
) -> Verdict:
    """Make one that harmed a canary of each of these claims."""
    facts = {"machine": "here", "refuted": [], "said": "it returned 8 bytes", "seconds": 0.1}
    harms = [Harm(f"a canary of {claim}", claim) for claim in claims]
    return Verdict(backend=backend, attack=name, outcome=outcome, harms=harms, **(facts | other))


def make_matrix(
    attacks: Sequence[Attack] = (),
    verdicts: Sequence[Verdict] = (),
    guarantees: dict[str, Guarantees] | None = None,
    **other: Any,
) -> Matrix:
    claims = {name: dataclasses.asdict(claim) for name, claim in (guarantees or {}).items()}
    for name in {verdict.backend for verdict in verdicts} - set(claims):
        claims[name] = dataclasses.asdict(NOTHING)
    facts = {"started": "2026-01-01T00:00:00Z", "machines": [HERE], "absent": [], "complete": True}
    return Matrix(
        attacks=list(attacks), verdicts=list(verdicts), guarantees=claims, **(facts | other)
    )


def whole_matrix(times: int = 1, walls: Iterable[str] = ()) -> Matrix:
    """Make one with every group, outcome and kind of wall, each row so many times."""
    attacks = [attack("add", row="return a sum", group="benign", benign=True)]
    ends: dict[str, tuple[str, Outcome]] = {"add": ("", Outcome.HARMLESS)}
    for number in range(times):
        for group, row, means, claim, usual in _ROWS:
            name = f"{'-'.join(row.replace('()', '').replace(chr(39), '').split())}-{number}"
            shown = row if number == 0 else f"{row}, {number}"
            attacks.append(attack(name, row=shown, group=group, means=means))
            ends[name] = (claim, usual)
    guarantees = dict.fromkeys((*PROCESSES, *walls), MUCH) | dict.fromkeys(DOMAINS, ALL) | SOME
    places = [(HERE.name, wall) for wall in ("none", *PROCESSES, *walls)]
    places += [(machine.name, wall) for machine in (NEW, OLD) for wall in ("none", *DOMAINS)]
    verdicts = [
        _end(machine, wall, guarantees[wall], one, ends[one.name])
        for machine, wall in places
        for one in attacks
    ]
    return make_matrix(
        attacks,
        verdicts,
        guarantees,
        machines=[HERE, NEW, OLD],
        absent=[Absent("page-table", "the kernel lacks |it|", "Build one with it")],
    )


def _end(
    machine: str, wall: str, claims: Guarantees, one: Attack, usual: tuple[str, Outcome]
) -> Verdict:
    claim, outcome = usual
    read = claim in {"confidentiality", "secrets"}
    reached = Outcome.DISCLOSED if read else Outcome.ESCAPED
    reached = Outcome.HOST_DIED if claim == "recovery" else reached
    if wall == "none" and not one.benign:
        outcome = Outcome.HUNG if "loop" in one.name else reached
    elif wall == "mpk-strict" and one.means == "own WRPKRU":
        outcome = Outcome.REFUSED
    elif wall == "mpk-view" and one.name.startswith("set-the-alignment") and machine == OLD.name:
        outcome = Outcome.HOST_DIED
    elif wall == "pkru-safe" and outcome is Outcome.RECOVERED and claim != "secrets":
        outcome = reached
    elif claims.syscalls and one.means == "system call":
        outcome = Outcome.RECOVERED
    elif wall.startswith("sandcrust") and one.group == "keys and kernel":
        outcome = Outcome.UNAVAILABLE
    harms = [] if one.benign or outcome not in model.HARM else [Harm(f"a canary: {claim}", claim)]
    if wall == "mpk-view" and outcome is Outcome.HOST_DIED:
        harms.append(Harm("the host", "recovery"))
    refuted = model.refuted(claims, one, harms)
    return Verdict(machine, wall, one.name, outcome, harms, refuted, f"it said |{wall}|", 0.2)
