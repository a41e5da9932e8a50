"""Claims against facts: which attacks tested a claim of a wall, and what came of it.

What tests a claim is an attack that does, where there is no wall, what the claim says cannot be
done. Attacks that do no harm there test nothing.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.attacks.grid import CONTROL, wall_order
from harness.attacks.model import Outcome, opened, within_claims

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.attacks.model import Attack, Matrix, Verdict

# A claim that attacks test in another way than by a canary: the host is gone, or does not go on.
_RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class Fact:
    """A claim that a wall makes or does not make, and what attacks say of it.

    Attributes:
        backend: The wall.
        claim: The field of `Guarantees`.
        claimed: Whether the wall makes it.
        tested: Names of the attacks that tried what the claim is about, on any machine; of a claim
            that is made, only those that it reaches to.
        refuted: Verdicts that show the claim to be wrong.
        through: Verdicts of such harm as nothing was claimed about.
    """

    backend: str
    claim: str
    claimed: bool
    tested: Sequence[str]
    refuted: Sequence[Verdict]
    through: Sequence[Verdict]

    @property
    def verdict(self) -> str:
        """One of `holds`, `REFUTED`, `not tested`, and of what is not claimed `no`."""
        if self.refuted:
            return "REFUTED"
        if not self.claimed:
            return "no"
        return "holds" if self.tested else "not tested"


def facts(matrix: Matrix) -> list[Fact]:
    """List the claims of each wall that was attacked, claimed or not."""
    attacks = {attack.name: attack for attack in matrix.attacks}
    tests = _tests(matrix, attacks)
    by_wall: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in matrix.verdicts:
        by_wall[verdict.backend].append(verdict)
    found = []
    for backend in sorted(by_wall, key=wall_order):
        verdicts, guarantees = by_wall[backend], matrix.guarantees.get(backend, {})
        tried = [v for v in verdicts if v.outcome is not Outcome.UNAVAILABLE]
        reached = [
            v
            for v in tried
            if v.attack in attacks and within_claims(guarantees, attacks[v.attack].means)
        ]
        for claim in claims(matrix):
            claimed = guarantees.get(claim, False)
            tested = [
                verdict.attack
                for verdict in (reached if claimed else tried)
                if (verdict.machine, claim, verdict.attack) in tests
            ]
            refuted = [v for v in verdicts if claim in v.refuted]
            through = [
                v for v in verdicts if claim in _harmed(v, attacks) and claim not in v.refuted
            ]
            tested = list(dict.fromkeys(tested))
            found.append(Fact(backend, claim, claimed, tested, refuted, through))
    return found


def claims(matrix: Matrix) -> list[str]:
    """List the claims that there are, in their order."""
    named = [claim for guarantees in matrix.guarantees.values() for claim in guarantees]
    harmed = sorted(harm.claim for verdict in matrix.verdicts for harm in verdict.harms)
    return list(dict.fromkeys((*named, *harmed)))


def _tests(matrix: Matrix, attacks: Mapping[str, Attack]) -> set[tuple[str, str, str]]:
    """List machine, claim and attack where the attack does what the claim says cannot be done.

    On a machine without a control, that of the others counts.
    """
    harm = {
        (verdict.machine, claim, verdict.attack)
        for verdict in matrix.verdicts
        if verdict.backend == CONTROL
        for claim in _harmed(verdict, attacks)
    }
    controlled = {verdict.machine for verdict in matrix.verdicts if verdict.backend == CONTROL}
    others = {verdict.machine for verdict in matrix.verdicts} - controlled
    return harm | {(machine, claim, attack) for _, claim, attack in harm for machine in others}


def _harmed(verdict: Verdict, attacks: Mapping[str, Attack]) -> Iterator[str]:
    yield from dict.fromkeys(harm.claim for harm in verdict.harms)
    if verdict.attack in attacks:
        yield from opened(attacks[verdict.attack], verdict.harms)
    ended = any(harm.how == "ended" for harm in verdict.harms)
    if ended or verdict.outcome in (Outcome.HOST_DIED, Outcome.HUNG):
        yield _RECOVERY
