"""foreign_decode_png makes 8-bit RGB of every kind of PNG there is."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from backends import native, registry
from backends.contract import ForeignError, ForeignFunction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backends.contract import Sandbox

DECODE = ForeignFunction(native.PNG, "foreign_decode_png")
IS_PNG = ForeignFunction(native.PNG, "foreign_is_png")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {"1": 1, "L": 1, "LA": 2, "P": 1, "RGB": 3, "RGBA": 4}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with registry.find("none").open([DECODE, IS_PNG]) as opened:
        yield opened


def decoded(sandbox: Sandbox, file: bytes) -> tuple[int, int, bytes]:
    """Columns, rows and pixels."""
    output = bytes(sandbox.call(DECODE, file))
    rows, row_length = struct.unpack("=II", output[:8])
    assert len(output) == 8 + rows * row_length
    assert row_length % 3 == 0
    return row_length // 3, rows, output[8:]


def saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "png", **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def assembled(width: int, height: int, header: bytes, lines: bytes) -> bytes:
    """A file of which Pillow writes no such kind: bit depth, colour type, …, interlacing."""
    parts = [(b"IHDR", struct.pack(">II", width, height) + header)]
    parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(kind, data) for kind, data in parts)


@given(
    st.sampled_from(list(CHANNELS)), st.integers(1, 40), st.integers(1, 20), st.binary(min_size=1)
)
def test_any_mode_is_what_pillow_finds(sandbox, mode, width, height, data) -> None:
    length = (width + 7) // 8 * height if mode == "1" else CHANNELS[mode] * width * height
    image = Image.frombytes(mode, (width, height), (data * length)[:length])
    if mode == "P":
        image.putpalette([value * 7 % 256 for value in range(768)])
    file = saved(image)
    assert decoded(sandbox, file) == (width, height, image.convert("RGB").tobytes())


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_transparent_colours_keep_their_colour(sandbox: Sandbox, mode: str) -> None:
    image = Image.frombytes(mode, (4, 2), bytes(range(8 * CHANNELS[mode])))
    if mode == "P":
        image.putpalette([value * 7 % 256 for value in range(768)])
    file = saved(image, transparency=(0, 1, 2) if mode == "RGB" else 1)
    assert b"tRNS" in file
    assert decoded(sandbox, file) == (4, 2, image.convert("RGB").tobytes())


@given(st.lists(st.integers(0, 0xFFFF), min_size=18, max_size=18))
def test_of_16_bits_the_upper_8_are_kept(sandbox, samples) -> None:
    lines = b"".join(b"\0" + struct.pack(">9H", *samples[i : i + 9]) for i in (0, 9))
    file = assembled(3, 2, bytes([16, 2, 0, 0, 0]), lines)
    assert decoded(sandbox, file) == (3, 2, bytes(sample >> 8 for sample in samples))


# Adam7: the first column and row of each pass, and the steps (PNG, section 8).
PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


@given(st.integers(1, 20), st.integers(1, 20), st.binary(min_size=1))
def test_interlaced_images_are_put_together(sandbox, width, height, data) -> None:
    pixels = (data * (3 * width * height))[: 3 * width * height]
    lines = bytearray()
    for left, top, across, down in PASSES:
        if left >= width:
            continue  # a pass without columns has no rows
        for y in range(top, height, down):
            lines += b"\0"
            for x in range(left, width, across):
                lines += pixels[3 * (y * width + x) : 3 * (y * width + x) + 3]
    file = assembled(width, height, bytes([8, 2, 0, 0, 1]), bytes(lines))
    assert decoded(sandbox, file) == (width, height, pixels)


def test_a_warning_is_not_printed(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    good = saved(Image.new("RGB", (3, 3)))
    # A second gamma, and one of none: libpng warns and goes on.
    gamma = chunk(b"gAMA", bytes(4))
    file = good[:33] + gamma + gamma + good[33:]
    assert decoded(sandbox, file) == decoded(sandbox, good)
    assert capfd.readouterr() == ("", "")


@given(st.binary(max_size=200))
def test_what_is_no_image_is_an_error(sandbox, data) -> None:
    for file in (data, SIGNATURE + data):
        with pytest.raises(ForeignError, match="101"):
            sandbox.call(DECODE, file)


def test_a_header_that_promises_more_than_there_is_is_an_error(sandbox: Sandbox) -> None:
    for side in (0, 1_000_000, 0x7FFFFFFF, 0xFFFFFFFF):
        file = assembled(side, side, bytes([8, 2, 0, 0, 0]), b"\0")
        with pytest.raises(ForeignError, match="10[01]"):
            sandbox.call(DECODE, file)


@given(st.binary(max_size=12))
def test_eight_bytes_tell_whether_it_is_a_png(sandbox, data) -> None:
    assert sandbox.call(IS_PNG, data) == bytes([data[:8] == SIGNATURE])
    assert sandbox.call(IS_PNG, SIGNATURE + data) == b"\1"
    assert sandbox.call(IS_PNG, SIGNATURE[:7]) == b"\0"
