"""Attacks on the walls that work here, and the command that makes them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
from click.testing import CliRunner
from made_up_matrices import make_matrix

from backends import registry
from backends.contract import Availability
from harness import storage
from harness.attacks import catalogue, matrix, model
from harness.attacks.model import HARM, Harm, Outcome, Verdict
from harness.cli import main as cli

if TYPE_CHECKING:
    from collections.abc import Sequence

REFERENCE = Path(__file__).parents[2] / "results" / "reference"

# A host whose wall cannot limit a call is given up after a second.
pytestmark = pytest.mark.timeout(300)

WALLS = ("sandcrust-pipe", "sandcrust-fork", "sandcrust-pipe-hardened", "sandcrust-fork-hardened")


def attack(*backends: str, attacks: Sequence[str] = ()) -> list[Verdict]:
    """Attack in a process of its own: hosts are forked, and this one has threads."""
    command = [sys.executable, "-m", "harness.attacks.supervisor", "--machine", "here"]
    command += [f"--backend={name}" for name in backends]
    command += [f"--attack={name}" for name in attacks]
    done = subprocess.run([*command, "--calls", "100"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [msgspec.json.decode(line, type=Verdict) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    return attack(*(name for name in WALLS if registry.find(name).availability().available))


def said(verdicts: list[Verdict]) -> str:
    return "\n".join(f"{v.backend}: {v.attack}: {v.outcome}: {v.harms} {v.said}" for v in verdicts)


# ---- what they do ----


def test_there_are_at_least_60_rows_of_attacks_and_their_names_are_unique() -> None:
    entries = catalogue.entries()
    names = [entry.attack.name for entry in entries]
    assert len(set(names)) == len(names)
    assert len({entry.attack.row for entry in entries if not entry.attack.benign}) >= 60
    assert {entry.attack.group for entry in entries} == set(model.GROUPS)


def test_without_a_wall_every_attack_does_harm(verdicts: list[Verdict]) -> None:
    benign = {entry.attack.name for entry in catalogue.entries() if entry.attack.benign}
    control = {v.attack: v for v in verdicts if v.backend == "none"}
    assert set(control) == {entry.attack.name for entry in catalogue.entries()}
    failed = [
        verdict
        for name, verdict in control.items()
        if name not in benign and verdict.outcome not in (*HARM, Outcome.UNAVAILABLE)
    ]
    assert not failed, said(failed)
    unavailable = {v.attack for v in control.values() if v.outcome is Outcome.UNAVAILABLE}
    # Without protection keys; without FSGSBASE; or switched off for all processes.
    keys = {"pkey-free", "pkey-alloc-secret", "own-xrstor"}
    keys |= {"own-wrpkru", "jump-into-the-gate", "jump-to-libc-s-wrpkru"}
    bases = {"fs-base", "gs-base"}
    off = {"io-uring", "io-uring-write", "io-uring-secret", "userfaultfd", "vsyscall", "int-0x80"}
    assert unavailable <= keys | bases | off
    assert all(control[name].outcome is Outcome.HARMLESS for name in benign)


@pytest.mark.parametrize(
    ("name", "canary"),
    [
        ("use-after-free", "heap"),
        ("double-free", "heap"),
        ("fs-base", "FS base"),
        ("gs-base", "GS base"),
        ("arch-prctl-fs", "FS base"),
        ("arch-prctl", "GS base"),
        ("write-code", "code"),
        ("thread", "threads"),
        ("write-descriptor", "descriptor"),
        ("signal-handler", "signal handlers"),
        ("ptrace", "heap"),
    ],
)
def test_without_a_wall_the_host_outlives_and_shows_the_harm(
    verdicts: list[Verdict], name: str, canary: str
) -> None:
    (control,) = (v for v in verdicts if v.backend == "none" and v.attack == name)
    if control.outcome is Outcome.UNAVAILABLE:
        pytest.skip(f"this machine refuses it whatever the wall: {control.said}")
    assert [harm.what for harm in control.harms] == [canary], control


def test_a_length_is_changed_between_where_it_is_checked_and_used() -> None:
    # It is the other one half of the time.
    made = attack("none", attacks=["length-changed-behind-the-check"] * 30)
    told = [v for v in made if Harm("heap was read", "confidentiality", "read") in v.harms]
    assert len(made) == 30
    assert told, said(made)


def test_what_needs_protection_keys_is_not_tried_without_them(verdicts: list[Verdict]) -> None:
    has_keys = "ospke" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    for name in ("own-wrpkru", "jump-into-the-gate", "jump-to-libc-s-wrpkru"):
        (control,) = (v for v in verdicts if v.attack == name and v.backend == "none")
        assert (control.outcome is Outcome.UNAVAILABLE) == (not has_keys), name


def test_a_process_has_a_copy_of_the_function_that_waits_from_before_it_was_forked(
    verdicts: list[Verdict],
) -> None:
    said = {v.backend: v.said for v in verdicts if v.attack == "longjmp" and v.backend != "none"}
    assert said
    for backend, words in said.items():
        assert "ended its process with status 1" in words, backend


@pytest.mark.parametrize(
    ("name", "call"), [("ptrace", "ptrace"), ("thread", "clone"), ("write-descriptor", "write")]
)
def test_hardening_refuses_what_the_attack_is_about(
    verdicts: list[Verdict], name: str, call: str
) -> None:
    number = {"ptrace": 101, "clone": 56, "write": 1}[call]
    if not catalogue._X86:
        pytest.skip(f"the number of {call} is not {number} there")
    said = [v.said for v in verdicts if v.attack == name and v.backend.endswith("-hardened")]
    assert said
    assert all(f"by system call {number} " in words for words in said), said


def test_the_hosts_descriptor_is_written_from_any_process(verdicts: list[Verdict]) -> None:
    for verdict in verdicts:
        if verdict.attack == "write-descriptor":
            hardened = verdict.backend.endswith("-hardened")
            assert verdict.harms == ([] if hardened else [Harm("descriptor", "syscalls")]), verdict


def test_no_attack_refutes_a_claim_of_a_wall(verdicts: list[Verdict]) -> None:
    refuted = [verdict for verdict in verdicts if verdict.refuted]
    assert not refuted, said(refuted)


def test_what_claims_recovery_neither_dies_nor_hangs(verdicts: list[Verdict]) -> None:
    claiming = {b.name for b in registry.all_backends() if b.guarantees.recovery}
    bad = [v for v in verdicts if v.backend in claiming]
    bad = [v for v in bad if any(harm.how == "ended" for harm in v.harms)]
    assert not bad, said(bad)


def test_benign_calls_work_behind_every_wall(verdicts: list[Verdict]) -> None:
    benign = {entry.attack.name for entry in catalogue.entries() if entry.attack.benign}
    bad = [v for v in verdicts if v.attack in benign and v.outcome is not Outcome.HARMLESS]
    assert not bad, said(bad)


@pytest.mark.parametrize(
    "name",
    ["create-file", "write-file", "unlink-file", "socket", "signal-host", "ptrace", "io-uring",
     "process-vm-writev", "proc-host-mem"],
)  # fmt: skip
def test_only_hardening_keeps_a_process_from_the_system(verdicts: list[Verdict], name: str) -> None:
    outcomes = {v.backend: v.outcome for v in verdicts if v.attack == name}
    if outcomes["none"] is Outcome.UNAVAILABLE:
        pytest.skip("this machine refuses it whatever the wall")
    for backend, outcome in outcomes.items():
        if backend.endswith("-hardened"):
            assert outcome is Outcome.RECOVERED, backend
        else:
            assert outcome is Outcome.ESCAPED, backend


def test_a_process_tells_what_was_in_memory_before_it_was_forked(verdicts: list[Verdict]) -> None:
    told = [v for v in verdicts if v.backend == "sandcrust-fork" and v.attack == "read-secret"]
    assert told[0].harms == [Harm("secret was read", "secrets", "read")]


def test_a_plain_store_changes_what_every_process_shares(verdicts: list[Verdict]) -> None:
    stored = [v for v in verdicts if v.attack == "write-shared-memory"]
    assert stored
    for verdict in stored:
        assert verdict.harms == [Harm("shared memory", "shared_memory")], verdict


def test_a_file_that_the_host_has_mapped_is_reached_by_system_calls_alone(
    verdicts: list[Verdict],
) -> None:
    for name in ("shared-mapping", "mapped-file"):
        harmed = {v.backend: v.harms for v in verdicts if v.attack == name}
        for backend, harms in harmed.items():
            hardened = backend.endswith("-hardened")
            assert harms == ([] if hardened else [Harm("mapped file", "syscalls")]), backend


def test_a_result_that_points_at_a_secret_tells_it(verdicts: list[Verdict]) -> None:
    told = [v for v in verdicts if v.attack == "wild-result-secret"]
    assert told
    for verdict in told:
        assert Harm("secret was read", "secrets", "read") in verdict.harms, verdict


# ---- the command ----


def test_attacks_are_listed() -> None:
    done = CliRunner().invoke(cli, ["attack", "--list"], env={"COLUMNS": "120"})
    assert done.exit_code == 0
    for entry in catalogue.entries():
        assert entry.attack.name in done.output
    done = CliRunner().invoke(cli, ["attack", "--list", "--attack", "ptrace"])
    assert "ptrace" in done.output
    assert "io-uring" not in done.output
    done = CliRunner().invoke(cli, ["attack", "--list", "--backend", "sandcrust"])
    assert done.exit_code == 2
    assert "sandcrust-pipe" in done.output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--attack", "ptrase"], "ptrace"),
        (["--backend", "sandcrust"], "sandcrust-pipe"),
        (["--backend", "pipe-floor"], "no foreign function"),
        (["--name", "a/b"], "without slashes"),
        (["--from", "nowhere"], "isobench attack"),
        (["--cost", "nowhere", "--no-emulate"], "not a run"),
    ],
)
def test_bad_input_is_told(arguments: list[str], hint: str) -> None:
    done = CliRunner().invoke(cli, ["attack", *arguments])
    assert done.exit_code == 2
    assert hint in " ".join(done.output.split())


def test_a_wall_that_is_named_and_not_there_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Availability(available=False, reason="it was sold", remedy="Buy another")
    for name in ("mpk", "sandcrust-pipe"):
        monkeypatch.setattr(type(registry.find(name)), "availability", lambda _: absent)
    arguments = ["--no-emulate", "--backend", "none", "--attack", "write-heap"]
    for name in ("mpk", "sandcrust-pipe"):
        done = CliRunner().invoke(cli, ["attack", *arguments, "--backend", name])
        assert done.exit_code == 2
        assert f"{name}: it was sold. Buy another" in " ".join(done.output.split())


def test_a_matrix_is_stored_and_shown_again(tmp_path: Path) -> None:
    arguments = ["--no-emulate", "--backend", "sandcrust-pipe", "--results", str(tmp_path)]
    arguments += ["--attack", "write-heap", "--attack", "chdir", "--attack", "valid-call"]
    done = CliRunner().invoke(cli, ["attack", *arguments, "--name", "m"])
    assert done.exit_code == 0, done.output
    loaded = model.load(tmp_path / "m")
    assert loaded.complete
    assert [(v.backend, v.attack, v.outcome.value) for v in loaded.verdicts] == [
        ("none", "write-heap", "escaped"),
        ("none", "chdir", "escaped"),
        ("none", "valid-call", "harmless"),
        ("sandcrust-pipe", "write-heap", "harmless"),
        ("sandcrust-pipe", "chdir", "harmless"),
        ("sandcrust-pipe", "valid-call", "harmless"),
    ]
    again = CliRunner().invoke(cli, ["attack", "--from", str(tmp_path / "m")])
    assert again.exit_code == 0
    assert "Claims refuted: none" in again.output
    assert (tmp_path / "m" / "figures" / "attacks-summary.png").stat().st_size > 1000


def test_ctrl_c_keeps_what_is_finished_and_leaves_nothing_running(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "attack", "--no-emulate", "--name", "m"]
    command += ["--backend", "none", "--results", str(tmp_path), "--attack", "valid-call"]
    with subprocess.Popen(
        [*command, "--attack", "endless-loop", "--attack", "sleep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("here: none"):
                break
        time.sleep(0.3)  # it loops
        below = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 130, rest
    assert len(below) > 1
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive
    loaded = model.load(tmp_path / "m")
    assert not loaded.complete
    assert [verdict.attack for verdict in loaded.verdicts] == ["valid-call"]


def test_a_refuted_claim_is_exit_code_1(tmp_path: Path) -> None:
    attacks = [entry.attack for entry in catalogue.entries()[:4]]
    claims = {"heap": True}
    harm = [Harm("heap", "heap")]
    escaped = Verdict("here", "w", attacks[3].name, Outcome.ESCAPED, harm, ["heap"], "", 0.1)
    machine = model.Machine("here", "6.1", "a CPU", 1.0)
    made = model.Matrix(
        started="2026-01-01T00:00:00+00:00",
        machines=[machine],
        attacks=attacks,
        guarantees={"w": claims},
        verdicts=[escaped],
        absent=[],
        complete=True,
    )
    model.save(made, tmp_path)
    done = CliRunner().invoke(cli, ["attack", "--from", str(tmp_path)])
    assert done.exit_code == 1
    assert "heap" in done.output


@pytest.mark.parametrize("complete", [False, True])
def test_a_matrix_that_is_not_complete_is_exit_code_1(tmp_path: Path, *, complete: bool) -> None:
    model.save(make_matrix(complete=complete), tmp_path)
    done = CliRunner().invoke(cli, ["attack", "--from", str(tmp_path)])
    assert done.exit_code == (0 if complete else 1)
    assert ("Not complete" in done.output) == (not complete)


def test_costs_are_those_of_the_matrix_own_folder(tmp_path: Path) -> None:
    shutil.copytree(REFERENCE, tmp_path / "old")
    shutil.copytree(REFERENCE, tmp_path / "new")
    record = tmp_path / "new" / storage.RUN_FILE
    record.write_text(record.read_text().replace('"id": "', '"id": "new-', 1))
    os.utime(tmp_path / "old" / storage.RUN_FILE, (1, 1))
    for folder in ("old", "new"):
        arguments = ["--from", str(tmp_path / folder), "--results", str(tmp_path)]
        done = CliRunner().invoke(cli, ["attack", *arguments])
        assert "; run " in " ".join(done.output.split())
        assert ("; run new-" in " ".join(done.output.split())) == (folder == "new")


def test_what_is_finished_is_kept_when_a_supervisor_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = Verdict("here", "none", "valid-call", Outcome.HARMLESS, [], [], "3 bytes", 0.1)
    code = f"print({msgspec.json.encode(one).decode()!r}); raise RuntimeError('it broke')"
    monkeypatch.setattr(matrix, "_command", lambda *_: [sys.executable, "-c", code])
    arguments = ["--no-emulate", "--backend", "none", "--attack", "valid-call"]
    arguments += ["--attack", "chdir", "--results", str(tmp_path), "--name", "m"]
    done = CliRunner().invoke(cli, ["attack", *arguments])
    assert done.exit_code == 1
    assert "RuntimeError: it broke" in done.output
    assert f"--from {tmp_path / 'm'}" in " ".join(done.output.split())
    loaded = model.load(tmp_path / "m")
    assert loaded.verdicts == [one]
    assert not loaded.complete
    again = CliRunner().invoke(cli, ["attack", "--from", str(tmp_path / "m")])
    assert "Machine here failed: RuntimeError: it broke" in " ".join(again.output.split())
    assert again.exit_code == 1


def test_a_machine_that_fails_leaves_the_others_their_part(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Verdict("good", "none", "valid-call", Outcome.HARMLESS, [], [], "3 bytes", 0.1)
    codes = {
        "bad": "raise RuntimeError('it broke')",
        "good": f"import time; time.sleep(0.5); print({msgspec.json.encode(one).decode()!r})",
    }
    command = lambda part, _: [sys.executable, "-c", codes[part.machine]]  # noqa: E731
    monkeypatch.setattr(matrix, "_command", command)
    parts = [matrix.Part(name, "", ["none"]) for name in codes]
    done = matrix.run(matrix.Plan(parts, [catalogue.find("valid-call")], [], 2), lambda _: None)
    assert done.verdicts == [one]
    assert list(done.failures) == ["bad"]
    assert not done.complete


def test_walls_that_are_not_attacked_are_listed_with_reason() -> None:
    chosen, others = matrix.standard(registry.all_backends())
    plan = matrix.plan(chosen, catalogue.entries(), kernels=(), calls=2)
    attacked = {name for part in plan.parts for name in part.backends}
    absent = {one.backend: one for one in (*plan.absent, *others)}
    walls = {b.name for b in registry.all_backends() if b.kind != "reference"}
    assert attacked | set(absent) == walls
    assert all(one.reason and one.remedy for one in absent.values())
