"""Attacks on the walls of protection keys: what each claims holds, and where each does not."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from backends import registry
from harness.attacks import catalogue
from harness.attacks.model import Outcome, Verdict

# A signal that is raised is refused as a system call, whichever it is: one stands for all.
ATTACKS = [
    entry
    for entry in catalogue.entries()
    if entry.attack.row != "raise any signal" or entry.attack.name == "raise-sigsegv"
]
#: mpk-strict is mpk in all else; of the others, what is special of them.
WALLS = {
    "mpk-strict": [entry.attack.name for entry in ATTACKS],
    "mpk": ["own-wrpkru", "own-xrstor", "jump-to-libc-s-wrpkru", "valid-call"],
    "pkru-safe": ["read-secret", "write-secret", "valid-call"],
}
#: By these, memory that is no secret is read, which no wall of keys claims to prevent.
READS = {"read-heap", "read-python-heap", "read-stack", "read-global", "read-thread-local"}
OWN = {"own-wrpkru", "own-xrstor"}
FINE = (Outcome.HARMLESS, Outcome.RECOVERED, Outcome.UNAVAILABLE)


def attack(wall: str, names: list[str]) -> list[Verdict]:
    command = [sys.executable, "-m", "harness.attacks.supervisor", "--machine", "here"]
    command += ["--slower", "10", "--calls", "100", "--backend", wall]
    for name in names:
        command += ["--attack", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [msgspec.json.decode(line, type=Verdict) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return [verdict for wall, names in WALLS.items() for verdict in attack(wall, names)]


def said(verdicts: list[Verdict]) -> str:
    return "\n".join(f"{v.backend}: {v.attack}: {v.outcome}: {v.harms} {v.said}" for v in verdicts)


def test_no_attack_refutes_a_claim(verdicts: list[Verdict]) -> None:
    assert len(verdicts) == 2 * sum(len(names) for names in WALLS.values())
    refuted = [verdict for verdict in verdicts if verdict.refuted]
    assert not refuted, said(refuted)


def test_without_a_wall_every_attack_does_harm(verdicts: list[Verdict]) -> None:
    benign = {entry.attack.name for entry in ATTACKS if entry.attack.benign}
    failed = [
        v
        for v in verdicts
        if v.backend == "none" and v.outcome in FINE and v.attack not in benign
        if v.outcome is not Outcome.UNAVAILABLE
    ]
    assert not failed, said(failed)
    # Here there are keys to free and to load.
    outcomes = {v.attack: v.outcome for v in verdicts if v.backend == "none"}
    assert outcomes["pkey-free"] is Outcome.ESCAPED
    assert all(outcomes[name] is Outcome.ESCAPED for name in OWN)


def test_a_domain_recovers_from_all_but_code_that_lifts_its_wall(verdicts: list[Verdict]) -> None:
    limits = READS | OWN | {"jump-to-libc-s-wrpkru"}
    strict = {v.attack: v for v in verdicts if v.backend == "mpk-strict"}
    bad = [v for name, v in strict.items() if name not in limits and v.outcome not in FINE]
    assert not bad, said(bad)
    assert {strict[name].outcome for name in OWN} == {Outcome.REFUSED}
    plain = {v.attack: v.outcome for v in verdicts if v.backend == "mpk"}
    assert {plain[name] for name in OWN} == {Outcome.ESCAPED}


def test_secrets_in_memory_set_apart_stay_there(verdicts: list[Verdict]) -> None:
    walls = {b.name for b in registry.all_backends() if b.guarantees.secrets}
    for verdict in verdicts:
        if verdict.backend in walls and verdict.attack in ("read-secret", "write-secret"):
            assert not any(harm.claim == "secrets" for harm in verdict.harms), verdict
