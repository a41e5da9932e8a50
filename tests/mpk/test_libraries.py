"""Prebuilt libraries give the same results in a domain as outside."""

from __future__ import annotations

import bz2
import random
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backends import native, registry
from backends.contract import ForeignError, ForeignFunction

if TYPE_CHECKING:
    from backends.contract import Backend, Sandbox
    from parts import Functions

# Compiled by tests/test_protection_keys.py.
LIBRARIES = Path(__file__).parents[2] / "build" / "tests-mpk" / "liblibraries.so"

ZLIB_COMPRESS = ForeignFunction(LIBRARIES, "zlib_compress")
ZLIB_UNCOMPRESS = ForeignFunction(LIBRARIES, "zlib_uncompress")
BZIP2_COMPRESS = ForeignFunction(LIBRARIES, "bzip2_compress")
DECODE_PNG = ForeignFunction(native.PNG, "foreign_decode_png")

TEXT = b"the wall must not change what is behind it; " * 3000


@pytest.fixture(params=["mpk", "mpk-view"])
def wall(request: pytest.FixtureRequest) -> Backend:
    if not LIBRARIES.exists():
        pytest.skip("the libraries' headers were not there: zlib1g-dev, libbz2-dev")
    return registry.find(request.param)


def outcome(sandbox: Sandbox, function: ForeignFunction, data: bytes) -> bytes | int:
    try:
        return bytes(sandbox.call(function, data))
    except ForeignError as error:
        return error.code


def test_zlib(wall: Backend) -> None:
    with wall.open([ZLIB_COMPRESS, ZLIB_UNCOMPRESS]) as sandbox:
        compressed = bytes(sandbox.call(ZLIB_COMPRESS, TEXT))
        assert compressed == zlib.compress(TEXT, 9)
        assert sandbox.call(ZLIB_UNCOMPRESS, compressed) == TEXT
        for cut in (0, 1, 10, len(compressed) - 1):
            assert outcome(sandbox, ZLIB_UNCOMPRESS, compressed[:cut]) == 101


def test_bzip2(wall: Backend) -> None:
    with wall.open([BZIP2_COMPRESS]) as sandbox:
        assert bz2.decompress(sandbox.call(BZIP2_COMPRESS, TEXT)) == TEXT


def test_snappy_by_its_name(wall: Backend, functions: Functions) -> None:
    """A library is found as the dynamic loader finds it, not only by its path."""
    import snappy

    with wall.open([functions.COMPRESS]) as sandbox:
        assert snappy.uncompress(bytes(sandbox.call(functions.COMPRESS, TEXT))) == TEXT


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def image(width: int, height: int, channels: int) -> bytes:
    """A PNG of noise on a gradient; one channel: a palette of 16 colours."""
    numbers = random.Random(width)  # noqa: S311 - the same every time
    rows = []
    for y in range(height):
        pixels = bytes(
            (x + y + numbers.randrange(4)) % (16 if channels == 1 else 256)
            for x in range(width * channels)
        )
        rows.append(b"\0" + pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3 if channels == 1 else 2, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(48))) if channels == 1 else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + pixels + chunk(b"IEND", b"")


def test_libpng_on_images_and_on_corrupt_ones(wall: Backend) -> None:
    numbers = random.Random(7)  # noqa: S311
    with (
        registry.find("none").open([DECODE_PNG]) as outside,
        wall.open([DECODE_PNG]) as inside,
    ):
        for picture in (image(64, 48, 1), image(101, 59, 3)):
            whole = outcome(outside, DECODE_PNG, picture)
            assert isinstance(whole, bytes)
            assert outcome(inside, DECODE_PNG, picture) == whole
            errors = 0
            for _ in range(100):
                broken = bytearray(picture)
                broken[numbers.randrange(8, len(broken))] ^= 1 << numbers.randrange(8)
                wanted = outcome(outside, DECODE_PNG, bytes(broken))
                assert outcome(inside, DECODE_PNG, bytes(broken)) == wanted
                errors += isinstance(wanted, int)
            assert errors > 50
