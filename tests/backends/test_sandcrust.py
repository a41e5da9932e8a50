"""What the process sandboxes must hold beyond the contract of every backend."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import platform
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from backends import native, registry
from backends.contract import (
    ForeignError,
    SandboxBusyError,
    SandboxDeadError,
    ViolationError,
    ViolationKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backends.sandcrust import Sandcrust
    from parts import Functions, Resources


@pytest.fixture(params=["pipe", "fork"])
def wall(request: pytest.FixtureRequest) -> Sandcrust:
    return registry.find(f"sandcrust-{request.param}")


@pytest.fixture
def affinity() -> Iterator[set[int]]:
    before = os.sched_getaffinity(0)
    yield before
    os.sched_setaffinity(0, before)


def test_10000_violations_in_a_row_leave_nothing_behind(
    wall: Sandcrust, functions: Functions, resources: Callable[[], Resources]
) -> None:
    kinds = [
        (functions.hostile("abort"), b"", {}),
        (functions.hostile("write"), struct.pack("Q", 0), {}),
        (functions.hostile("exit"), b"\x03", {}),
        (functions.hostile("forge"), b"rgarbage that is no answer", {}),
        (functions.hostile("loop"), b"", {"timeout": 0.0005}),
    ]
    reverse = functions.benign("reverse")
    with wall.open([reverse, *(kind for kind, _, _ in kinds)]) as sandbox:

        def violate(times: int) -> None:
            for i in range(times):
                function, data, options = kinds[i % len(kinds)]
                try:  # pytest.raises keeps more than a violation does
                    sandbox.call(function, data, **options)
                except ViolationError:
                    continue
                pytest.fail(f"{function.symbol} was no violation")

        violate(200)
        before = resources()
        violate(10_000)
        assert sandbox.call(reverse, b"abc") == b"cba"
        after = resources()
    assert after.descriptors <= before.descriptors + 4  # the child that is alive now
    assert after.children <= before.children + 1
    assert after.memory - before.memory < 1 << 20


def test_without_respawn_a_violation_ends_the_sandbox(
    wall: Sandcrust, functions: Functions
) -> None:
    abort, reverse = functions.hostile("abort"), functions.benign("reverse")
    with dataclasses.replace(wall, respawn=False).open([abort, reverse]) as sandbox:
        assert sandbox.call(reverse, b"abc") == b"cba"
        with pytest.raises(ViolationError):
            sandbox.call(abort)
        with pytest.raises(SandboxDeadError):
            sandbox.call(reverse, b"abc")


def test_output_beyond_the_limit_is_a_violation_and_up_to_it_is_not(
    wall: Sandcrust, functions: Functions
) -> None:
    long_output = functions.hostile("long_output")
    with dataclasses.replace(wall, max_output_length=100_000).open([long_output]) as sandbox:
        assert sandbox.call(long_output, struct.pack("Q", 100_000)) == bytes(100_000)
        with pytest.raises(ViolationError, match="longer than the limit"):
            sandbox.call(long_output, struct.pack("Q", 100_001))
        assert sandbox.call(long_output, struct.pack("Q", 3)) == bytes(3)


def test_a_fault_says_where_it_was(wall: Sandcrust, functions: Functions) -> None:
    write, jump = functions.hostile("write"), functions.hostile("jump")
    with wall.open([write, jump]) as sandbox:
        with pytest.raises(ViolationError) as raised:
            sandbox.call(write, struct.pack("Q", 0x1230))
        fault = raised.value.fault
        assert (fault.kind, fault.signal) == (ViolationKind.SIGNAL, signal.SIGSEGV)
        assert fault.address == 0x1230
        assert fault.instruction is not None
        with pytest.raises(ViolationError) as raised:
            sandbox.call(jump, struct.pack("Q", 0x1000))
        assert raised.value.fault.instruction == 0x1000


def test_death_is_an_error_for_a_function_without_a_result_too(functions: Functions) -> None:
    with registry.find("sandcrust-pipe").open([functions.EMPTY]) as sandbox:
        sandbox.call(functions.EMPTY)
        os.kill(sandbox.process(), signal.SIGKILL)
        with pytest.raises(ViolationError, match="SIGKILL"):
            sandbox.call(functions.EMPTY)
        assert sandbox.call(functions.EMPTY) == b""


def test_a_descendant_that_holds_the_pipe_does_not_hide_the_death(
    wall: Sandcrust, functions: Functions
) -> None:
    leave = functions.hostile("leave_a_child")
    with wall.open([leave]) as sandbox, pytest.raises(ViolationError, match="SIGKILL"):
        sandbox.call(leave, timeout=5)
    assert not psutil.Process().children(recursive=True)


# ---- the user's program ----


def test_ctrl_c_ends_a_call_and_the_next_one_is_right(
    wall: Sandcrust, functions: Functions
) -> None:
    loop, reverse = functions.hostile("loop"), functions.benign("reverse")
    with wall.open([loop, reverse]) as sandbox:
        threading.Timer(0.1, signal.raise_signal, [signal.SIGINT]).start()
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            sandbox.call(loop, timeout=20)
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(0.3)  # the second may come late
        assert sandbox.call(reverse, b"abc") == b"cba"


def test_a_signal_whose_handler_returns_does_not_end_a_call(
    wall: Sandcrust, functions: Functions
) -> None:
    sleep, seen = functions.hostile("sleep"), []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(True))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        with wall.open([sleep]) as sandbox:
            begin = time.monotonic()
            with pytest.raises(ViolationError, match="time limit"):
                sandbox.call(sleep, timeout=0.3)
            assert time.monotonic() - begin >= 0.3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(seen) > 5


def test_a_signal_handler_that_uses_the_sandbox_it_interrupted_is_told(
    wall: Sandcrust, functions: Functions
) -> None:
    sleep, reverse = functions.hostile("sleep"), functions.benign("reverse")
    with wall.open([sleep, reverse]) as sandbox:
        before = signal.signal(signal.SIGALRM, lambda *_: sandbox.call(reverse, b"abc"))
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            with pytest.raises(SandboxBusyError):
                sandbox.call(sleep, timeout=5)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert sandbox.call(reverse, b"abc") == b"cba"


def test_after_fork_both_processes_go_on_with_a_child_of_their_own(
    wall: Sandcrust, functions: Functions
) -> None:
    reverse, count = functions.benign("reverse"), functions.benign("count")
    with wall.open([reverse, count]) as sandbox:
        sandbox.call(count)
        before = sandbox.process()
        copy = os.fork()
        if copy == 0:
            fine = sandbox.call(reverse, b"abc") == b"cba"
            fine &= sandbox.call(count) == struct.pack("Q", 1)
            fine &= wall.name == "sandcrust-fork" or sandbox.process() != before
            sandbox.close()
            os._exit(0 if fine else 1)
        assert os.waitpid(copy, 0)[1] == 0
        assert sandbox.process() == before
        assert sandbox.call(reverse, b"abc") == b"cba"


def test_fork_while_another_thread_is_in_a_call(wall: Sandcrust, functions: Functions) -> None:
    sleep, reverse = functions.hostile("sleep"), functions.benign("reverse")
    with wall.open([sleep, reverse]) as sandbox:

        def wait() -> None:
            with pytest.raises(ViolationError):
                sandbox.call(sleep, timeout=1)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        copy = os.fork()
        if copy == 0:
            signal.alarm(5)  # it must not hang
            os._exit(0 if sandbox.call(reverse, b"abc") == b"cba" else 1)
        assert os.waitpid(copy, 0)[1] == 0
        thread.join()
        assert sandbox.call(reverse, b"abc") == b"cba"


@pytest.mark.parametrize("function", ["sleep", "block_signals_and_loop", "loop"])
@pytest.mark.parametrize("suffix", ["", "-hardened"])
def test_the_child_dies_with_its_parent(wall: Sandcrust, suffix: str, function: str) -> None:
    name = wall.name + suffix
    if function == "sleep" and suffix:
        pytest.skip("a hardened child may not sleep")
    if not (available := registry.find(name).availability()).available:
        pytest.skip(available.reason)
    program = f"""
        import threading, time
        from backends import native, registry
        from backends.contract import ForeignFunction
        hostile = ForeignFunction(native.HOSTILE, "hostile_{function}")
        sandbox = registry.find({name!r}).open([hostile])
        threading.Timer(0.3, print, ["ready"], {{"flush": True}}).start()
        sandbox.call(hostile)
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    [child] = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()


def test_a_program_that_ends_without_closing_says_so_and_leaves_no_process() -> None:
    program = """
        import gc
        from backends import registry
        sandbox = registry.find("sandcrust-pipe").open([])
        print(sandbox.process(), flush=True)
        del sandbox
        gc.collect()
    """
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ResourceWarning" in done.stderr
    assert not psutil.pid_exists(int(done.stdout))


# ---- placement ----


def test_placement_is_kept_and_given_back(affinity: set[int], functions: Functions) -> None:
    if len(affinity) < 2:
        pytest.skip("needs 2 CPUs")
    with registry.find("sandcrust-pipe").open([functions.EMPTY]) as same:
        [caller] = os.sched_getaffinity(0)
        assert os.sched_getaffinity(same.process()) == {caller}
        assert same.placement() == {"caller_cpu": str(caller), "sandbox_cpu": str(caller)}
        with registry.find("sandcrust-pipe-other-core").open([functions.EMPTY]) as other:
            [theirs] = os.sched_getaffinity(other.process())
            assert theirs != caller
            assert os.sched_getaffinity(0) == {caller}
    assert os.sched_getaffinity(0) == affinity


def test_another_core_is_unavailable_where_there_is_none(
    affinity: set[int], functions: Functions
) -> None:
    os.sched_setaffinity(0, {min(affinity)})
    backend = registry.find("sandcrust-pipe-other-core")
    availability = backend.availability()
    assert not availability.available
    assert "2 CPUs" in availability.reason
    assert availability.remedy
    with pytest.raises(OSError, match="2 CPUs"):
        backend.open([functions.EMPTY])
    assert os.sched_getaffinity(0) == {min(affinity)}


def test_a_sandbox_that_cannot_open_leaves_nothing_behind(
    affinity: set[int], functions: Functions, resources: Callable[[], Resources]
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resources()
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    fillers = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(4):  # one too few of the five that it takes
            with pytest.raises(OSError, match="pipe2|pidfd_open"):
                registry.find("sandcrust-pipe").open([functions.EMPTY])
            os.close(fillers.pop())
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resources()[:2] == before[:2]
    assert os.sched_getaffinity(0) == affinity


def test_an_unclosed_sandbox_is_closed_and_warned_of(functions: Functions) -> None:
    sandbox = registry.find("sandcrust-pipe").open([functions.EMPTY])
    process = sandbox.process()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del sandbox
        gc.collect()
    assert not psutil.pid_exists(process)


def test_the_native_library_is_found() -> None:
    assert native.WORKLOADS.exists()
    assert native.STANDALONE.exists()


# ---- hardened ----


@pytest.fixture
def hardened(wall: Sandcrust) -> Sandcrust:
    found: Sandcrust = registry.find(f"{wall.name}-hardened")
    available = found.availability()
    if not available.available:
        pytest.skip(f"{available.reason}. {available.remedy}")
    return found


def test_a_refused_system_call_is_a_violation_with_its_number(
    hardened: Sandcrust, functions: Functions
) -> None:
    leave, reverse = functions.hostile("leave_a_child"), functions.benign("reverse")
    with hardened.open([leave, reverse]) as sandbox:
        with pytest.raises(ViolationError, match=r"SIGSYS by system call \d+ \(") as raised:
            sandbox.call(leave)
        fault = raised.value.fault
        assert (fault.kind, fault.signal) == (ViolationKind.SIGNAL, signal.SIGSYS)
        assert fault.system_call == {"x86_64": 56, "aarch64": 220}[platform.machine()]  # clone
        assert fault.address is None
        assert sandbox.call(reverse, b"abc") == b"cba"


def test_an_address_space_can_be_limited(hardened: Sandcrust, functions: Functions) -> None:
    use_heap = functions.hostile("use_heap")
    now = psutil.Process().memory_info().vms
    limited = dataclasses.replace(hardened, address_space=now + (256 << 20))
    much, little = struct.pack("Q", 1 << 29), struct.pack("Q", 1 << 20)
    with hardened.open([use_heap]) as sandbox:
        assert sandbox.call(use_heap, much) == b""
    with limited.open([use_heap]) as sandbox:
        assert sandbox.call(use_heap, little) == b""
        with pytest.raises(ForeignError):
            sandbox.call(use_heap, much)


class _Lacking:
    """The native library as if hardening, or Landlock, were not to be had."""

    ISO_HARDENING_NOT_BUILT, ISO_HARDENING_NO_FILTERS = 1, 2

    def __init__(self, here: int) -> None:
        self._here = here

    def iso_hardening_here(self) -> int:
        return self._here

    def iso_landlock_version(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("here", "reason", "remedy"), [(1, "libseccomp", "libseccomp-dev"), (2, "kernel", "SECCOMP")]
)
def test_without_what_it_is_made_of_it_is_unavailable_and_says_why(
    monkeypatch: pytest.MonkeyPatch, here: int, reason: str, remedy: str
) -> None:
    monkeypatch.setattr(native, "lib", _Lacking(here))
    for transport in ("pipe", "fork"):
        availability = registry.find(f"sandcrust-{transport}-hardened").availability()
        assert not availability.available
        assert reason in availability.reason
        assert remedy in availability.remedy
        assert registry.find(f"sandcrust-{transport}").availability().available


def test_without_landlock_it_is_available_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "lib", _Lacking(0))
    availability = registry.find("sandcrust-pipe-hardened").availability()
    assert availability.available
    assert "no Landlock" in availability.note
