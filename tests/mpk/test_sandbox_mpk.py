"""What a declared function's violation tells under protection keys, and what is left of one.

That it behaves as under other walls is tested in tests/conformance/test_sandbox_*.py.
"""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING

import pytest

import sandbox_documents
import sandbox_library
from backends import DataDomain, DomainViolation, In, Out, Sandbox, native, registry
from backends.contract import ForeignFunction, ViolationKind

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["mpk", "mpk-view"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_violation_has_an_address_and_a_symbol(name: str) -> None:
    with Sandbox(sandbox_library.build(), backend=name) as sandbox:
        crash = sandbox.function("int crash(int code)")
        with pytest.raises(DomainViolation) as raised:
            crash(1)
        assert raised.value.kind is ViolationKind.SIGNAL
        assert raised.value.address == 64
        assert re.fullmatch(r"crash\+0x[0-9a-f]+ in libsandbox\.so", raised.value.symbol)


def test_memory_of_the_caller_cannot_be_written_by_a_declared_function(name: str) -> None:
    canary = ctypes.create_string_buffer(b"canary")
    address = ctypes.addressof(canary)
    # A prototype that lies: the pointer is passed as a number.
    with Sandbox(sandbox_library.build(), backend=name) as sandbox:
        fill = sandbox.function("void fill(uintptr_t output, uint32_t length, uint8_t value)")
        with pytest.raises(DomainViolation) as raised:
            fill(address, 6, 0)
        assert raised.value.address == address
        assert raised.value.fault.access == "write"
        assert raised.value.fault.protection_key == 0
    assert canary.value == b"canary"


def test_input_cannot_be_written_where_it_lies(name: str) -> None:
    with Sandbox(sandbox_library.build(), backend=name) as sandbox:
        shout = sandbox.function("void shout(const char *text)")  # which does write
        with pytest.raises(DomainViolation) as raised:
            shout(b"quiet")
        assert raised.value.symbol.startswith("shout+0x")


def test_results_are_copies_that_later_calls_leave_alone(name: str) -> None:
    with Sandbox(sandbox_library.build(), backend=name) as sandbox:
        fill = sandbox.function(
            "void fill(uint8_t *output, uint32_t length, uint8_t value)",
            output=Out(length="length"),
        )
        results = [fill(10_000, value) for value in range(100)]
        assert all(type(result) is bytes for result in results)
        assert all(set(result) == {value} for value, result in enumerate(results))


def test_a_function_lies_elsewhere_in_a_domain_than_in_this_process(name: str) -> None:
    target = ForeignFunction(sandbox_library.build(), "status")
    here = int(native.ffi.cast("uintptr_t", native.resolve(target)))
    with registry.find(name).open([target]) as sandbox:
        assert sandbox.address_of(target) != here
        with pytest.raises(ValueError, match="crash"):
            sandbox.address_of(target._replace(symbol="crash"))


def test_a_secret_is_open_to_the_library_that_it_is_granted_to(name: str) -> None:
    with (
        DataDomain(4096) as data,
        Sandbox(sandbox_library.build(), backend=name) as sandbox,
    ):
        data.memory[:3] = b"\x01\x02\x03"
        total = sandbox.function("int sum_bytes(uintptr_t data, size_t n)", on_violation="refused")
        fill = sandbox.function(
            "void fill(uintptr_t output, uint32_t n, uint8_t value)", on_violation="refused"
        )
        crash = sandbox.function("int crash(int code)", on_violation="crashed")
        assert total(data.address, 3) == "refused"
        sandbox.grant(data, "read")
        assert total(data.address, 3) == 6
        assert fill(data.address, 3, 7) == "refused"
        assert crash(1) == "crashed"
        assert total(data.address, 3) == 6  # after a violation, and in the next domain, too
        assert sandbox.function("int status(int code)")(5) == 5
        assert total(data.address, 3) == 6
        sandbox.grant(data, "write")
        assert fill(data.address, 3, 7) is None
        assert bytes(data.memory[:4]) == b"\x07\x07\x07\x00"
        sandbox.grant(data, "none")
        assert total(data.address, 3) == "refused"
        with pytest.raises(ValueError, match="rights are one of none, read, write"):
            sandbox.grant(data, "execute")
        with pytest.raises(TypeError, match="to a DataDomain, not to b'secret'"):
            sandbox.grant(b"secret", "read")
        sandbox.grant(data, "read")
        data.close()
        with pytest.raises(ValueError, match="the data domain is closed"):
            sandbox.grant(data, "read")
        assert sandbox.function("size_t text_length(const char *text)")("abc") == 3


def test_many_calls_leave_nothing_behind(name: str) -> None:
    with Sandbox(sandbox_library.build(), backend=name) as sandbox:
        reverse = sandbox.function(
            "int reverse(const char *input, size_t n, char *output, size_t *written)",
            input=In(length="n"),
            output=Out(capacity=1 << 20, length="written"),
        )
        data = bytes(1 << 20)
        for _ in range(3000):  # 3 GiB, and a heap has 2
            assert reverse(data[: 1 << 10]).output == data[: 1 << 10]


# ---- what documents and examples show; each program starts slowly on an emulated machine ----


@pytest.mark.parametrize("snippet", sandbox_documents.SNIPPETS)
def test_the_first_example_works_copied_into_an_empty_file(
    name: str, tmp_path: Path, snippet: str
) -> None:
    sandbox_documents.check_snippet(snippet, registry.find(name), tmp_path)


def test_the_guide_runs_from_its_first_block_to_its_last(tmp_path: Path) -> None:
    sandbox_documents.check_guide(registry.find("mpk"), tmp_path)


@pytest.mark.parametrize("example", sandbox_documents.SAID)
def test_the_example_runs(example: str) -> None:
    sandbox_documents.check_example(example, registry.find("mpk"))
