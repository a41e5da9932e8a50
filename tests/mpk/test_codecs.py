"""Domains whose arguments and results are laid out by a codec, SDRaD-FFI's way."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from backends import registry
from backends.contract import ViolationError

if TYPE_CHECKING:
    from backends.mpk import ProtectionKeys
    from parts import Functions

SERIALISED = [
    backend.name
    for backend in registry.all_backends()
    if backend.mechanism == "mpk" and backend.codec
]


@pytest.fixture(params=SERIALISED)
def wall(request: pytest.FixtureRequest) -> ProtectionKeys:
    return registry.find(request.param)


def test_there_is_one_for_each_codec_and_level() -> None:
    assert len(SERIALISED) == 4 * 4


@pytest.mark.parametrize("size", [0, 1, 250, 251, 1 << 16, (1 << 16) + 1, 1 << 21])
def test_snappy_gives_what_it_gives_outside(
    wall: ProtectionKeys, functions: Functions, size: int
) -> None:
    data = os.urandom(size // 2).ljust(size, b"x")
    with (
        wall.open([functions.COMPRESS, functions.UNCOMPRESS]) as inside,
        registry.find("none").open([functions.COMPRESS]) as outside,
    ):
        compressed = inside.call(functions.COMPRESS, data)
        assert compressed == outside.call(functions.COMPRESS, data)
        assert inside.call(functions.UNCOMPRESS, compressed) == data


def test_arguments_grow_and_survive_violations(wall: ProtectionKeys, functions: Functions) -> None:
    reverse, write = functions.benign("reverse"), functions.hostile("write")
    with wall.open([reverse, write]) as sandbox:
        for size in (1, 1 << 20, 3, 1 << 18):
            data = os.urandom(size)
            assert sandbox.call(reverse, data) == data[::-1]
            with pytest.raises(ViolationError):
                sandbox.call(write, struct.pack("Q", 0))


def test_a_result_that_is_not_there_is_a_violation(
    wall: ProtectionKeys, functions: Functions
) -> None:
    null, reverse = functions.hostile("null_output"), functions.benign("reverse")
    with wall.open([null, reverse]) as sandbox:
        for _ in range(3):
            with pytest.raises(ViolationError):
                sandbox.call(null, struct.pack("Q", 1 << 40))
            assert sandbox.call(reverse, b"abc") == b"cba"
