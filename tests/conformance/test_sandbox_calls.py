"""One declaration, every wall: how calls end, whatever the backend."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import pytest

import sandbox_library
from backends import (
    DomainViolation,
    ForeignError,
    In,
    Out,
    Sandbox,
    Status,
    UnsupportedError,
    ViolationError,
)
from backends.contract import SandboxClosedError, ViolationKind

if TYPE_CHECKING:
    from backends.contract import Backend

# ---- declared by a Python function ----


def test_a_python_function_declares_a_foreign_one(sandbox: Sandbox) -> None:
    @sandbox.declare(
        "void fill(uint8_t *output, uint32_t length, uint8_t value)", output=Out(length="length")
    )
    def fill(length: int, value: int = 3) -> bytes:
        """Fill memory."""
        raise AssertionError

    assert fill(2) == b"\x03\x03"
    assert fill(1, value=9) == b"\x09"
    assert (fill.__name__, fill.__doc__) == ("fill", "Fill memory.")

    @sandbox.declare("int sum_bytes(const void *data, size_t length)")
    def sum_bytes(data: Annotated[bytes, In(length="length")]) -> int:
        raise AssertionError

    assert sum_bytes(b"\x01\x02") == 3


# ---- violations ----


def test_a_violation_is_an_error_and_the_program_goes_on(recovering: Sandbox) -> None:
    crash = recovering.function("int crash(int code)")
    length = recovering.function("size_t text_length(const char *text)")
    for _ in range(3):
        with pytest.raises(DomainViolation, match="^crash died of SIGSEGV") as raised:
            crash(5)
        assert raised.value.function == "crash"
        assert raised.value.kind is ViolationKind.SIGNAL
        assert raised.value.address in (64, None)
        if raised.value.symbol is not None:
            assert raised.value.symbol.startswith("crash+0x")
            assert raised.value.symbol.endswith("in libsandbox.so")
        assert length("abc") == 3


def test_on_violation_is_returned_instead(recovering: Sandbox) -> None:
    for value in (None, b"nothing", -1):
        crash = recovering.function("int crash(int code)", on_violation=value)
        assert crash(1) == value
    status = recovering.function("int status(int code)", returns=Status(), on_violation=None)
    with pytest.raises(ForeignError):
        status(1)  # an error is no violation


def test_a_time_limit_is_one_of_each_call(backend: Backend) -> None:
    library = sandbox_library.build()
    if not backend.guarantees.time_limit:
        ending = (
            pytest.warns(RuntimeWarning, match="no wall")
            if backend.kind == "baseline"
            else pytest.raises(UnsupportedError, match="limit")
        )
        with ending:
            Sandbox(library, backend=backend, timeout=0.5).close()
        return
    with Sandbox(library, backend=backend, timeout=0.2) as sandbox:
        spin = sandbox.function("void spin(void)")
        length = sandbox.function("size_t text_length(const char *text)")
        for _ in range(2):
            with pytest.raises(ViolationError) as raised:
                spin()
            assert raised.value.kind is ViolationKind.TIMEOUT
            assert length("abc") == 3


def test_a_length_beyond_the_room_is_a_violation(sandbox: Sandbox) -> None:
    overclaim = sandbox.function(
        "void overclaim(char *output, size_t *length, size_t claim)",
        output=Out(capacity=10, length="length"),
    )
    assert overclaim(1) == b"x"
    assert overclaim(10) == b"x" + bytes(9)
    for claim in (11, 1 << 32, (1 << 64) - 1):
        with pytest.raises(
            ViolationError, match=f"length says {claim} elements of output"
        ) as raised:
            overclaim(claim)
        assert raised.value.kind is ViolationKind.PROTOCOL
    take = sandbox.function(
        "int take(char *output, int room, int wanted)",
        output=Out(capacity=50, length="room", returned=True),
    )
    with pytest.raises(ViolationError, match="the return value says 51 elements of output"):
        take(51)


def test_a_truth_value_that_is_none_is_a_violation(sandbox: Sandbox) -> None:
    in_structure = sandbox.function(
        "void bad_truth_in(struct truth *truth)",
        declarations=sandbox_library.SHAPES,
        truth=Out(),
    )
    alone = sandbox.function(
        "void bad_truth(bool *values, size_t count)", values=Out(capacity=3, length="count")
    )
    for function in (in_structure, alone):
        with pytest.raises(ViolationError, match="_Bool of value 7") as raised:
            function()
        assert raised.value.kind is ViolationKind.PROTOCOL


# ---- the sandbox ----


def test_functions_can_be_declared_after_a_call(sandbox: Sandbox) -> None:
    assert sandbox.function("int status(int code)")(3) == 3
    assert sandbox.function("size_t text_length(const char *text)")("abc") == 3
    assert sandbox.function("int status(int code)")(4) == 4


def test_a_library_or_symbol_that_is_not_there_is_an_os_error(backend: Backend) -> None:
    with Sandbox("./nowhere.so", backend=backend) as sandbox:
        nothing = sandbox.function("void nothing(void)")
        with pytest.raises(OSError, match="nowhere"):
            nothing()
    with Sandbox(sandbox_library.build(), backend=backend) as sandbox:
        nothing = sandbox.function("void nothing(void)")
        with pytest.raises(OSError, match="nothing"):
            nothing()


def test_a_closed_sandbox_runs_nothing(sandbox: Sandbox) -> None:
    status = sandbox.function("int status(int code)")
    assert status(1) == 1
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxClosedError):
        status(1)


def test_threads_share_a_sandbox(backend: Backend, sandbox: Sandbox) -> None:
    if not backend.guarantees.threads:
        pytest.skip("this backend does not claim threads")
    reverse = sandbox_library.declare_reverse(sandbox)
    wrong = []

    def work(number: int) -> None:
        for i in range(50):
            text = f"{number}/{i}".encode()
            if reverse(text) != text[::-1]:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_library_is_found_by_its_name(backend: Backend) -> None:
    import snappy

    with Sandbox("libsnappy.so.1", backend=backend) as library:
        compress = library.function(
            "int snappy_compress(const char *input, size_t input_length, char *compressed,"
            " size_t *compressed_length)",
            input=In(length="input_length"),
            compressed=Out(
                capacity=lambda input: 32 + len(input) + len(input) // 6,  # noqa: A006
                length="compressed_length",
            ),
            returns=Status(ok=0),
        )
        data = b"the wall must not change what is behind it " * 1000
        assert snappy.uncompress(compress(data)) == data
