"""Attacks on the walls of protection keys: what each claims holds, and where each does not."""

from __future__ import annotations

import re
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
#: What the system does for a domain whose calls nobody refuses, and which canary then tells.
BY_THE_SYSTEM = {
    "pkey-mprotect": "page",
    "write-code": "code",
    "ptrace": "heap",
    "thread": "threads",
    "signal-handler": "signal handlers",
    "shared-mapping": "mapped file",
    "io-uring": "descriptor",
    "userfaultfd": "private-page",
    "fork-bomb": "processes left behind: 16",
    "process-in-own-session": "processes left behind: 1",
    "process-sharing-memory": "processes left behind: 1",
    "code-made-at-run-time": "heap",
    "pkey-mprotect-secret": "secret",
    "pkey-alloc-secret": "secret",
    "mmap-over-secret": "secret",
    "mremap-over-secret": "secret",
    "madvise-secret": "secret",
    "proc-self-mem-secret": "secret",
    "process-vm-readv-secret": "secret was read",
}
#: mpk-strict is mpk in all else; of the others, what is special of them.
WALLS = {
    "mpk-strict": [entry.attack.name for entry in ATTACKS],
    "mpk": ["own-wrpkru", "own-xrstor", "jump-to-libc-s-wrpkru", "valid-call"],
    "mpk-nosud": [
        "write-shared-memory",
        "write-secret",
        "io-uring-write",
        "io-uring-secret",
        "arch-prctl-fs",
        *sorted(BY_THE_SYSTEM),
    ],
    "pkru-safe": ["read-secret", "write-secret", "wild-result-secret", "valid-call"],
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


@pytest.mark.parametrize("name", ["use-after-free", "double-free"])
def test_a_key_refuses_to_write_what_the_allocator_was_led_to_give_out(
    verdicts: list[Verdict], name: str
) -> None:
    (led,) = (v for v in verdicts if (v.backend, v.attack) == ("mpk-strict", name))
    assert led.outcome is Outcome.RECOVERED
    assert re.search(r"at write of address 0x\w+ behind protection key 0 ", led.said), led.said


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("thread", 56),
        ("length-changed-behind-the-check", 56),
        ("ptrace", 101),
        ("write-code", 329),
        ("signal-handler", 13),
    ],
)
def test_a_domain_is_refused_the_system_call_that_the_attack_is_about(
    verdicts: list[Verdict], name: str, number: int
) -> None:
    (refused,) = (v for v in verdicts if (v.backend, v.attack) == ("mpk-strict", name))
    assert f"by system call {number} " in refused.said, refused.said


def test_a_changed_base_of_fs_is_put_right_behind_the_gate(verdicts: list[Verdict]) -> None:
    outcomes = {(v.backend, v.attack): v for v in verdicts}
    control = outcomes["none", "fs-base"]
    assert [harm.what for harm in control.harms] == ["FS base"], control
    assert outcomes["mpk-strict", "fs-base"].outcome is Outcome.HARMLESS
    assert outcomes["mpk-nosud", "arch-prctl-fs"].outcome is Outcome.HARMLESS


def test_the_system_does_for_a_domain_what_its_key_forbids(verdicts: list[Verdict]) -> None:
    by_attack = {v.attack: v for v in verdicts if v.backend == "mpk-nosud"}
    for name, canary in BY_THE_SYSTEM.items():
        assert canary in [harm.what for harm in by_attack[name].harms], by_attack[name]
    # Its thread has the rights of whoever asked for it.
    for name in ("io-uring-write", "io-uring-secret"):
        assert not by_attack[name].harms, by_attack[name]


def test_secrets_in_memory_set_apart_stay_there(verdicts: list[Verdict]) -> None:
    walls = {b.name for b in registry.all_backends() if b.guarantees.secrets}
    for verdict in verdicts:
        if verdict.backend in walls and verdict.attack in ("read-secret", "write-secret"):
            assert not any(harm.claim == "secrets" for harm in verdict.harms), verdict
