"""A sandbox for users in the middle of other things: signals, forks, late declarations."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, ClassVar

import pytest

import sandbox_library
from backends import In, Out, Sandbox, Status, UnsupportedError, ViolationError
from backends.contract import Backend, SandboxBusyError, SandboxClosedError
from backends.contract import Sandbox as OpenSandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parts import Resources


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(sandbox_library.build(), backend="sandcrust-pipe", timeout=5) as opened:
        yield opened


def test_state_lasts_until_a_violation_or_a_late_declaration(sandbox: Sandbox) -> None:
    count = sandbox.function("int count_calls(void)")
    crash = sandbox.function("int crash(int code)")
    first = count()  # not always 1: a child has the memory that this process had at the fork
    assert [count(), count()] == [first + 1, first + 2]
    with pytest.raises(ViolationError):
        crash(1)
    assert [count(), count()] == [first, first + 1]
    sandbox.function("int count_calls(void)")  # nothing new
    assert count() == first + 2
    sandbox.function("int status(int code)")
    assert count() == first


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((), "missing a required argument: 'code'"), ((1, 2), "too many positional arguments")],
)
def test_a_wrong_number_of_arguments_is_told_with_the_function(
    sandbox: Sandbox, arguments: tuple[int, ...], problem: str
) -> None:
    status = sandbox.function("int status(int code)")
    with pytest.raises(TypeError, match=rf"^status\(code\): {problem}$"):
        status(*arguments)


def test_a_signals_handler_is_refused_the_sandbox_that_it_interrupts(sandbox: Sandbox) -> None:
    status = sandbox.function("int status(int code)")
    spin = sandbox.function("void spin(void)")
    raised: list[type[BaseException]] = []

    def handler(*_: object) -> None:
        sandbox.function("size_t text_length(const char *text)")  # declaring is fine
        for use in (lambda: status(1), sandbox.close):
            try:
                use()
            except Exception as error:  # noqa: BLE001 - which one is asserted below
                raised.append(type(error))
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        begin = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            spin()
        assert time.monotonic() - begin < 3
    finally:
        signal.signal(signal.SIGALRM, before)
    assert raised == [SandboxBusyError, SandboxBusyError]
    assert status(7) == 7


def test_a_forked_child_calls_on_even_if_another_thread_was_in_a_call(sandbox: Sandbox) -> None:
    status = sandbox.function("int status(int code)")
    spin = sandbox.function("void spin(void)", on_violation=None)
    assert status(1) == 1
    thread = threading.Thread(target=spin)
    thread.start()
    time.sleep(0.1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if status(2) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()


def test_sandboxes_that_are_forgotten_or_closed_leave_nothing(
    resources: Callable[[], Resources],
) -> None:
    library = sandbox_library.build()

    def use() -> None:
        sandbox = Sandbox(library, backend="sandcrust-pipe")
        reverse = sandbox.function(
            "int reverse(const char *input, size_t n, char *output, size_t *written)",
            input=In(length="n"),
            output=Out(capacity=100_000, length="written"),
            returns=Status(),
        )
        assert reverse(b"abc" * 1000) == b"cba" * 1000

    use()
    gc.collect()
    before = resources()
    for _ in range(20):
        use()
    after = resources()
    assert after.descriptors == before.descriptors
    assert after.children == before.children
    assert after.memory < before.memory + (2 << 20)


class Granted(OpenSandbox):
    """A sandbox that notes what it is granted."""

    log: ClassVar[list[list[tuple[object, str]]]] = []

    def __init__(self) -> None:
        Granted.log.append([])

    def call(self, function, data=b"", *, timeout=None) -> bytes:
        return bytes(16)  # the reply of a function without memory, which returned 0

    def grant(self, data, rights) -> None:
        if data.closed:
            raise ValueError("closed")
        Granted.log[-1].append((data, rights))

    def close(self) -> None:
        pass


class Granting(Backend):
    def open(self, functions) -> OpenSandbox:
        return Granted()


class Data:
    closed = False


def test_what_was_granted_is_granted_again_where_the_wall_is_opened_again() -> None:
    Granted.log.clear()
    one, two = Data(), Data()
    library = sandbox_library.build()
    with Sandbox(library, backend=Granting("granting", "Grants.", "none")) as sandbox:
        sandbox.grant(one, "read")
        sandbox.grant(two, "read")
        sandbox.grant(two, "write")
        assert Granted.log == [[(one, "read"), (two, "read"), (two, "write")]]
        assert sandbox.function("int status(int code)")(1) == 0
        assert Granted.log[1:] == [[(one, "read"), (two, "write")]]
        one.closed = True
        sandbox.function("int crash(int code)")(1)
        assert Granted.log[2:] == [[(two, "write")]]


def test_walls_that_are_not_of_protection_keys_grant_nothing(sandbox: Sandbox) -> None:
    with pytest.raises(UnsupportedError, match=r"only walls of protection keys \(mpk…\)"):
        sandbox.grant(Data(), "read")
    assert sandbox.function("int status(int code)")(1) == 1


def test_a_call_after_close_says_whose(sandbox: Sandbox) -> None:
    status = sandbox.function("int status(int code)")
    sandbox.close()
    with pytest.raises(SandboxClosedError, match=r"libsandbox\.so under sandcrust-pipe"):
        status(1)
