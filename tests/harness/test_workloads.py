from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest

from backends import registry
from backends.contract import (
    Fault,
    ForeignError,
    ForeignFunction,
    Sandbox,
    ViolationError,
    ViolationKind,
)
from harness import inputs, timing, workloads
from harness.plan import Cell

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "pcg-vectors.json").read_text())
RETURNING = [
    (workload, content)
    for workload in workloads.WORKLOADS
    for content in workload.contents or ("",)
    if content != "fault"
]


@pytest.mark.parametrize(
    ("workload", "content"), RETURNING, ids=lambda part: getattr(part, "name", part)
)
@pytest.mark.parametrize("size", [1, 4096])
def test_a_right_result_passes(workload: workloads.Workload, content: str, size: int) -> None:
    if size != 1 and not workload.sized:
        pytest.skip("it has one size")
    call = workload.call(content, size)
    with registry.find("none").open(workload.functions()) as sandbox:
        workload.checked_result(sandbox, call)


class Lying(Sandbox):
    """Changes a byte of what the foreign function returned."""

    def __init__(self, sandbox: Sandbox, symbol: str, at: int = 0) -> None:
        self.sandbox, self.symbol, self.at = sandbox, symbol, at

    def call(self, function: ForeignFunction, data=b"", *, timeout=None) -> bytes:
        result = bytearray(self.sandbox.call(function, data))
        if function.symbol == self.symbol:
            if not result:
                return b"x"
            result[self.at] ^= 1
        return bytes(result)

    def close(self) -> None:
        self.sandbox.close()


@pytest.mark.parametrize(
    ("name", "content", "lies_in", "at"),
    [
        ("switch", "", "foreign_empty", 0),
        ("snappy-compress", "random", "foreign_compress", 0),
        ("snappy-compress", "random", "foreign_uncompress", 0),
        ("snappy-uncompress", "random", "foreign_uncompress", 0),
        ("png-decode", "palette-256x256", "foreign_decode_png", 0),  # the header
        ("png-decode", "palette-256x256", "foreign_decode_png", -1),  # the last pixel
        ("png-decode", "palette-256x256", "foreign_is_png", 0),
        ("malloc", "pairs", "foreign_allocate_pairs", 0),
        ("malloc", "live-1000", "foreign_allocate_live", 3),
        ("rewind", "return", "foreign_fault", 0),
    ],
)
def test_a_wrong_result_is_an_error_and_not_a_number(
    name: str, content: str, lies_in: str, at: int
) -> None:
    workload = workloads.find(name)
    call = workload.call(content, 1000)
    with (
        Lying(registry.find("none").open(workload.functions()), lies_in, at) as sandbox,
        pytest.raises(Exception, match=r"wrong result|error code"),
    ):
        workload.checked_result(sandbox, call)


def test_an_unknown_workload_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(LookupError, match="switch, snappy-compress"):
        workloads.find("gzip")


# ---- malloc ----


def test_sizes_of_blocks_are_the_artifacts() -> None:
    sizes = struct.unpack("<1000H", workloads.find("malloc").call("pairs").data)
    assert list(sizes[:16]) == VECTORS["malloc_sizes_first_16"]
    assert all(size < 4096 for size in sizes)


def test_a_call_states_how_many_pairs_it_makes() -> None:
    malloc = workloads.find("malloc")
    assert malloc.call("pairs").operations == len(malloc.call("pairs").data) // 2 == 1000
    live = malloc.call("live-1000")
    assert live.operations == len(live.data) // 4 == 21_000
    assert workloads.find("switch").call().operations == 1


def test_a_thousand_blocks_are_live_once_all_slots_are_taken() -> None:
    steps = struct.unpack("<42000H", workloads.find("malloc").call("live-1000").data)
    slots, sizes = steps[::2], steps[1::2]
    assert list(slots[:1000]) == list(range(1000))
    assert set(slots[1000:]) == set(range(1000))
    assert list(sizes[:16]) == VECTORS["malloc_sizes_first_16"]


@pytest.mark.parametrize(
    ("content", "data"),
    [("pairs", b"\1"), ("live-1000", b"\0\0\1"), ("live-1000", struct.pack("<HH", 1000, 1))],
)
def test_a_malformed_input_is_an_error_code(content: str, data: bytes) -> None:
    malloc = workloads.find("malloc")
    with (
        registry.find("none").open(malloc.functions()) as sandbox,
        pytest.raises(ForeignError, match="101"),
    ):
        sandbox.call(malloc.call(content).function, data)


# ---- rewind ----


def test_the_fault_is_what_timed_calls_must_end_in() -> None:
    rewind = workloads.find("rewind")
    call = rewind.call("fault")
    cell = Cell(backend="sandcrust-pipe", workload="rewind", content="fault")
    with registry.find("sandcrust-pipe").open(rewind.functions()) as sandbox:
        fault = rewind.checked_result(sandbox, call)
        assert isinstance(fault, Fault)
        assert "foreign_fault" in str(fault)
        for level in ("native", "python"):
            seconds = timing.timed_calls(
                Cell(backend=cell.backend, workload="rewind", level=level), sandbox, call, fault
            )
            assert 0 < seconds(5) < 5
        other = dataclasses.replace(fault, address=1)
        with pytest.raises(workloads.WrongResultError):
            timing.timed_calls(cell, sandbox, call, other)(1)


class Raising(Sandbox):
    """Ends calls that have input with this fault, or returns if there is none."""

    def __init__(self, fault: Fault | None) -> None:
        self.fault = fault

    def call(self, function: ForeignFunction, data=b"", *, timeout=None) -> bytes:
        if data and self.fault:
            raise ViolationError(function.symbol, self.fault)
        return b""

    def close(self) -> None: ...


@pytest.mark.parametrize(
    "fault", [None, Fault(ViolationKind.TIMEOUT), Fault(ViolationKind.SIGNAL, signal=6)]
)
def test_another_end_than_the_fault_is_a_wrong_result(fault: Fault | None) -> None:
    rewind = workloads.find("rewind")
    with pytest.raises(workloads.WrongResultError):
        rewind.checked_result(Raising(fault), rewind.call("fault"))


# ---- timed calls ----


@pytest.mark.parametrize("level", ["native", "python"])
def test_a_timed_call_that_returns_something_else_is_an_error(level) -> None:
    switch = workloads.find("snappy-compress")
    call = switch.call("text", 100)
    cell = Cell(backend="none", workload="snappy-compress", level=level)
    with registry.find("none").open(switch.functions()) as sandbox:
        expected = switch.checked_result(sandbox, call)
        assert 0 < timing.timed_calls(cell, sandbox, call, expected)(10) < 5
        with pytest.raises(workloads.WrongResultError):
            timing.timed_calls(cell, sandbox, call, expected + b"x")(10)


def test_metadata_state_the_operations_and_no_empty_text() -> None:
    cell = Cell(backend="none", workload="malloc", content="pairs", size=2000)
    malloc = workloads.find("malloc")
    with registry.find("none").open(malloc.functions()) as sandbox:
        stated = timing.metadata(cell, registry.find("none"), sandbox, malloc.call("pairs"))
    assert stated["operations"] == 1000
    assert stated["content"] == "pairs"
    assert "codec" not in stated
    assert all(value != "" for value in stated.values())


def test_sizes_of_contents_are_those_of_the_inputs() -> None:
    png = workloads.find("png-decode")
    for name in inputs.SHIPPED_IMAGES:
        assert png.size(name) == len(inputs.image(name).file)
    assert workloads.find("malloc").size("pairs") == 2000
    assert workloads.find("rewind").size("fault") == 0
