"""Files made to keep a scanner busy: small ones whose tables overlap."""

from __future__ import annotations

import struct
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import gadgets

if TYPE_CHECKING:
    from collections.abc import Callable

#: A library with two gadgets, two symbols and a dynamic section, in less than a kilobyte.
SMALL = (Path(__file__).parents[1] / "fuzz/corpus/elf/library").read_bytes()

SECTION, SYMBOL = 64, 24  # bytes
PHOFF, SHOFF, PHNUM = 32, 40, 56  # offsets in the header


def changed(content: bytes, changes: dict[int, bytes]) -> bytes:
    array = bytearray(content)
    for offset, new in changes.items():
        array[offset : offset + len(new)] = new
    return bytes(array)


def sections() -> int:
    return int(struct.unpack_from("<Q", SMALL, SHOFF)[0])


def overlapping_code() -> bytes:
    """Thousands of executable segments, each of which maps the whole file."""
    count = 20_000
    size = len(SMALL) + count * 56
    segments = [
        struct.pack("<IIQQQQQQ", 1, 5, 0, number << 32, 0, size, size, 4096)
        for number in range(count)
    ]
    head = {PHOFF: struct.pack("<Q", len(SMALL)), PHNUM: struct.pack("<H", count)}
    return changed(SMALL, head) + b"".join(segments)


def long_names() -> bytes:
    """Thousands of symbols that all have the same long name."""
    count, length = 8_000, 200_000
    begin = len(SMALL)
    symbols = [struct.pack("<IBBHQQ", 0, 0x12, 0, 1, number, 1) for number in range(count)]
    table = sections() + SECTION
    names = table + SECTION
    return (
        changed(
            SMALL,
            {
                table + 24: struct.pack("<QQ", begin, count * SYMBOL),
                names + 24: struct.pack("<QQ", begin + count * SYMBOL, length),
            },
        )
        + b"".join(symbols)
        + b"a" * length
        + b"\0"
    )


@pytest.mark.parametrize("make", [overlapping_code, long_names])
def test_what_would_take_all_day_is_refused_in_seconds_and_little_memory(
    make: Callable[[], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "hostile.so"
    path.write_bytes(make())
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(gadgets.NotScannableError, match="damaged.*tables overlap"):
            gadgets.scan(path)
        assert time.monotonic() - begin < 10
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_the_library_that_they_are_made_of_is_scanned(tmp_path: Path) -> None:
    path = tmp_path / "small.so"
    path.write_bytes(SMALL)
    assert [gadget.symbol for gadget in gadgets.scan(path)] == ["lifts+0x1", "untyped+0x0"]
