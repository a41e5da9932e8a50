"""What every backend must do, written against `backends.contract` alone.

For one backend: `python -m pytest tests/conformance --backend NAME`.
"""

from __future__ import annotations

import ctypes
import itertools
import signal
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from backends.contract import (
    Backend,
    ForeignError,
    IsolationError,
    SandboxClosedError,
    TimedLoop,
    TimedViolations,
    UnsupportedError,
    ViolationError,
    ViolationKind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from parts import Functions, Resources

MEBIBYTE = 1 << 20


def require(claimed: bool, what: str) -> None:
    if not claimed:
        pytest.skip(f"this backend does not claim {what}")


# ---- right answers ----


@pytest.mark.parametrize("length", [0, 1, 255, 4080, 4096, 65536, 65537, 16 * MEBIBYTE])
def test_output_is_what_the_function_made_of_the_input(
    backend: Backend, functions: Functions, length: int
) -> None:
    data = bytes(itertools.islice(itertools.cycle(range(251)), length))
    echo, reverse = functions.benign("echo"), functions.benign("reverse")
    with backend.open([echo, reverse]) as sandbox:
        assert sandbox.call(echo, data) == data
        assert sandbox.call(reverse, data) == data[::-1]


def test_any_bytes_like_object_is_input(backend: Backend, functions: Functions) -> None:
    reverse = functions.benign("reverse")
    with backend.open([reverse]) as sandbox:
        assert sandbox.call(reverse, bytearray(b"abc")) == b"cba"
        assert sandbox.call(reverse, memoryview(b"xabcx")[1:4]) == b"cba"


def test_calls_of_different_functions_do_not_mix(backend: Backend, functions: Functions) -> None:
    echo, reverse = functions.benign("echo"), functions.benign("reverse")
    with backend.open([functions.EMPTY, echo, reverse]) as sandbox:
        for number in range(200):
            data = str(number).encode() * (number % 7)
            assert sandbox.call(echo, data) == data
            assert sandbox.call(functions.EMPTY) == b""
            assert sandbox.call(reverse, data) == data[::-1]


def test_real_libraries_give_the_same_result_as_without_a_wall(
    backend: Backend, functions: Functions
) -> None:
    import snappy

    data = b"the wall must not change what is behind it " * 5000
    with backend.open([functions.COMPRESS, functions.UNCOMPRESS]) as sandbox:
        compressed = sandbox.call(functions.COMPRESS, data)
        assert snappy.uncompress(compressed) == data
        assert sandbox.call(functions.UNCOMPRESS, compressed) == data


def test_two_sandboxes_at_once_do_not_mix(backend: Backend, functions: Functions) -> None:
    echo = functions.benign("echo")
    with backend.open([echo]) as one, backend.open([echo]) as two:
        assert one.call(echo, b"one") == b"one"
        assert two.call(echo, b"two") == b"two"
        one.close()
        assert two.call(echo, b"two") == b"two"


# ---- wrong input ----


@pytest.mark.parametrize("code", [1, 2, 77, 255])
def test_an_error_code_of_the_function_is_raised_and_nothing_is_lost(
    backend: Backend, functions: Functions, code: int
) -> None:
    error, reverse = functions.benign("error"), functions.benign("reverse")
    with backend.open([error, reverse]) as sandbox:
        for _ in range(3):
            with pytest.raises(ForeignError) as raised:
                sandbox.call(error, bytes([code]))
            assert raised.value.code == code
            assert sandbox.call(reverse, b"abc") == b"cba"


def test_input_that_is_not_bytes_is_refused(backend: Backend, functions: Functions) -> None:
    echo = functions.benign("echo")
    with backend.open([echo]) as sandbox:
        for wrong in ("text", 7, None):
            with pytest.raises(TypeError):
                sandbox.call(echo, wrong)  # type: ignore[arg-type]
        assert sandbox.call(echo, b"x") == b"x"


def test_a_function_that_the_sandbox_was_not_opened_with_is_refused(
    backend: Backend, functions: Functions
) -> None:
    echo = functions.benign("echo")
    with backend.open([echo]) as sandbox:
        with pytest.raises(ValueError, match="benign_reverse"):
            sandbox.call(functions.benign("reverse"), b"x")
        assert sandbox.call(echo, b"x") == b"x"


def test_a_library_or_symbol_that_is_not_there_is_an_os_error(
    backend: Backend, functions: Functions
) -> None:
    echo = functions.benign("echo")
    with pytest.raises(OSError, match="nowhere"):
        backend.open([echo._replace(library=echo.library.with_name("nowhere.so"))])
    with pytest.raises(OSError, match="benign_nothing"):
        backend.open([echo._replace(symbol="benign_nothing")])


# ---- violations ----

HARM = {
    "null pointer written": ("write", struct.pack("Q", 0)),
    "null pointer read": ("read", struct.pack("Q", 8)),
    "wild pointer written": ("write", struct.pack("Q", 0x7FFF_FFFF_0000)),
    "address that is not canonical": ("write", struct.pack("Q", 1 << 63)),
    "wild jump": ("jump", struct.pack("Q", 4096)),
    "abort": ("abort", b""),
    "exit": ("exit", b"\x07"),
    "exit 0": ("exit", b"\x00"),
    "SIGFPE": ("raise", bytes([signal.SIGFPE])),
    "SIGKILL": ("raise", bytes([signal.SIGKILL])),
    "illegal instruction": ("illegal_instruction", b""),
    "stack overflow": ("stack_overflow", b""),
    "output that is not memory": ("null_output", b""),
}


@pytest.mark.parametrize("harm", HARM)
def test_a_violation_is_an_error_and_the_next_call_is_right(
    backend: Backend, functions: Functions, harm: str
) -> None:
    require(backend.guarantees.recovery, "recovery")
    name, data = HARM[harm]
    hostile, reverse = functions.hostile(name), functions.benign("reverse")
    with backend.open([hostile, reverse]) as sandbox:
        for _ in range(3):
            with pytest.raises(ViolationError) as raised:
                sandbox.call(hostile, data)
            assert hostile.symbol in str(raised.value)
            assert sandbox.call(reverse, b"abc") == b"cba"


def test_a_violation_discards_what_the_functions_had_in_memory(
    backend: Backend, functions: Functions
) -> None:
    require(backend.guarantees.recovery, "recovery")
    count, abort = functions.benign("count"), functions.hostile("abort")
    with backend.open([count, abort]) as sandbox:
        sandbox.call(count)
        sandbox.call(count)
        with pytest.raises(ViolationError):
            sandbox.call(abort)
        assert sandbox.call(count) == struct.pack("Q", 1)


def test_the_callers_heap_cannot_be_written(backend: Backend, functions: Functions) -> None:
    require(backend.guarantees.heap, "that the heap cannot be written")
    canary = ctypes.create_string_buffer(b"canary")
    write = functions.hostile("write")
    with backend.open([write]) as sandbox:
        try:
            sandbox.call(write, struct.pack("Q", ctypes.addressof(canary)))
        except ViolationError as violation:
            assert violation.fault.kind is ViolationKind.SIGNAL  # noqa: PT017 - either is fine
    assert canary.value == b"canary"


def test_the_callers_static_data_cannot_be_written(backend: Backend, functions: Functions) -> None:
    require(backend.guarantees.static_data, "that static data cannot be written")
    optarg = ctypes.c_uint64.in_dll(ctypes.CDLL(None), "optarg")
    before = optarg.value
    write = functions.hostile("write")
    with backend.open([write]) as sandbox:
        try:
            sandbox.call(write, struct.pack("Q", ctypes.addressof(optarg)))
        except ViolationError as violation:
            assert violation.fault.kind is ViolationKind.SIGNAL  # noqa: PT017 - either is fine
    assert optarg.value == before


# ---- time limits ----


@pytest.mark.parametrize("name", ["loop", "sleep", "block_signals_and_loop"])
def test_a_call_past_its_time_limit_is_ended_and_the_next_one_is_right(
    backend: Backend, functions: Functions, name: str
) -> None:
    require(backend.guarantees.time_limit, "a time limit")
    hostile, reverse = functions.hostile(name), functions.benign("reverse")
    with backend.open([hostile, reverse]) as sandbox:
        begin = time.monotonic()
        with pytest.raises(ViolationError) as raised:
            sandbox.call(hostile, timeout=0.1)
        refused = raised.value.fault.system_call is not None
        if name == "sleep" and backend.guarantees.syscalls:
            assert refused  # it does what it does by a system call, and does not get that far
        if not refused or name == "loop":
            assert raised.value.fault.kind is ViolationKind.TIMEOUT
            assert 0.1 <= time.monotonic() - begin < 2
        assert sandbox.call(reverse, b"abc", timeout=10) == b"cba"


def test_a_time_limit_that_cannot_be_kept_is_refused(
    backend: Backend, functions: Functions
) -> None:
    if backend.guarantees.time_limit:
        pytest.skip("this backend claims a time limit")
    with backend.open([functions.EMPTY]) as sandbox:
        with pytest.raises(UnsupportedError):
            sandbox.call(functions.EMPTY, timeout=1)
        assert sandbox.call(functions.EMPTY) == b""


def test_what_is_of_the_wrong_type_is_refused(backend: Backend, functions: Functions) -> None:
    echo = functions.benign("echo")
    with backend.open([echo]) as sandbox:
        for no_function in ("benign_echo", None, echo.library):
            with pytest.raises((TypeError, ValueError), match=r"[Ff]unction"):
                sandbox.call(no_function)
        for no_bytes in ("text", 5, None):
            with pytest.raises(TypeError):
                sandbox.call(echo, no_bytes)
        for no_time in ("1", b"1", [1]):
            with pytest.raises((TypeError, UnsupportedError)):
                sandbox.call(echo, timeout=no_time)
        assert sandbox.call(echo, b"x") == b"x"


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_time_limit_that_is_not_positive_is_refused(
    backend: Backend, functions: Functions, timeout: float
) -> None:
    require(backend.guarantees.time_limit, "a time limit")
    with backend.open([functions.EMPTY]) as sandbox:
        with pytest.raises(ValueError, match="timeout"):
            sandbox.call(functions.EMPTY, timeout=timeout)
        assert sandbox.call(functions.EMPTY) == b""


# ---- threads ----


def test_threads_can_share_a_sandbox(backend: Backend, functions: Functions) -> None:
    require(backend.guarantees.threads, "threads")
    reverse = functions.benign("reverse")
    with backend.open([reverse]) as sandbox:

        def calls(thread: int) -> bool:
            return all(
                sandbox.call(reverse, b"%d/%d" % (thread, i)) == (b"%d/%d" % (thread, i))[::-1]
                for i in range(200)
            )

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(calls, range(4)))


def test_a_sandbox_outlives_the_thread_that_opened_it(
    backend: Backend, functions: Functions
) -> None:
    require(backend.guarantees.threads, "threads")
    reverse = functions.benign("reverse")
    opened = []
    thread = threading.Thread(target=lambda: opened.append(backend.open([reverse])))
    thread.start()
    thread.join()
    with opened[0] as sandbox:
        time.sleep(0.05)
        assert sandbox.call(reverse, b"abc") == b"cba"


# ---- opening and closing ----


def test_use_after_close_is_an_error(backend: Backend, functions: Functions) -> None:
    sandbox = backend.open([functions.EMPTY])
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxClosedError):
        sandbox.call(functions.EMPTY)


def test_opening_and_closing_leaks_nothing(
    backend: Backend, functions: Functions, resources: Callable[[], Resources]
) -> None:
    def cycle() -> None:
        with backend.open([functions.EMPTY]) as sandbox:
            sandbox.call(functions.EMPTY)

    for _ in range(50):
        cycle()
    before = resources()
    for _ in range(300):
        cycle()
    after = resources()
    assert after.descriptors == before.descriptors
    assert after.children == before.children
    assert after.memory - before.memory < MEBIBYTE // 3


def test_violations_leak_nothing(
    backend: Backend, functions: Functions, resources: Callable[[], Resources]
) -> None:
    require(backend.guarantees.recovery, "recovery")
    abort, reverse = functions.hostile("abort"), functions.benign("reverse")
    with backend.open([abort, reverse]) as sandbox:

        def violate(times: int) -> None:
            for _ in range(times):
                with pytest.raises(ViolationError):
                    sandbox.call(abort)
            assert sandbox.call(reverse, b"abc") == b"cba"

        violate(20)
        before = resources()
        violate(200)
        after = resources()
    assert after.descriptors == before.descriptors
    assert after.children == before.children
    assert after.memory - before.memory < MEBIBYTE


# ---- what a backend says of itself ----


def test_a_native_loop_gives_the_result_of_a_call_and_takes_time(
    backend: Backend, functions: Functions
) -> None:
    reverse = functions.benign("reverse")
    with backend.open([reverse]) as sandbox:
        assert isinstance(sandbox, TimedLoop) == backend.native_loop
        if isinstance(sandbox, TimedLoop):
            batch = sandbox.timed_loop(reverse, b"abc", 100)
            assert batch.last == b"cba"
            assert 0 < batch.seconds < 10


def test_a_native_loop_reports_what_goes_wrong_in_it(
    backend: Backend, functions: Functions
) -> None:
    error, reverse = functions.benign("error"), functions.benign("reverse")
    with backend.open([error, reverse]) as sandbox:
        if not isinstance(sandbox, TimedLoop):
            pytest.skip("this backend has no native loop")
        with pytest.raises(IsolationError):
            sandbox.timed_loop(error, b"\x09", 100)
        assert sandbox.call(reverse, b"abc") == b"cba"


def test_a_native_loop_of_violations_gives_the_fault_that_a_call_gives(
    backend: Backend, functions: Functions
) -> None:
    require(backend.guarantees.recovery, "recovery")
    write, reverse = functions.hostile("write"), functions.benign("reverse")
    address_0 = bytes(8)
    with backend.open([write, reverse]) as sandbox:
        assert isinstance(sandbox, TimedViolations) == backend.native_loop
        if isinstance(sandbox, TimedViolations):
            with pytest.raises(ViolationError) as raised:
                sandbox.call(write, address_0)
            batch = sandbox.timed_violations(write, address_0, 20)
            assert batch.last == raised.value.fault
            assert 0 < batch.seconds < 10
            with pytest.raises(ValueError, match="benign_reverse returned"):
                sandbox.timed_violations(reverse, b"abc", 20)
        assert sandbox.call(reverse, b"abc") == b"cba"


def test_its_description_is_complete(backend: Backend) -> None:
    assert backend.summary.endswith(".")
    assert backend.mechanism
    assert all(isinstance(value, str) for value in backend.options.values())
