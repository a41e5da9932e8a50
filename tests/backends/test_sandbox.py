"""A sandbox for users in the middle of other things: signals, forks, late declarations."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

import sandbox_library
from backends import In, Out, Sandbox, Status, ViolationError
from backends.contract import SandboxBusyError, SandboxClosedError

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


def test_a_call_after_close_says_whose(sandbox: Sandbox) -> None:
    status = sandbox.function("int status(int code)")
    sandbox.close()
    with pytest.raises(SandboxClosedError, match=r"libsandbox\.so under sandcrust-pipe"):
        status(1)
