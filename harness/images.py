"""Images to decode: four of the paper's sizes and kinds, and two that people drew.

The paper's own are not at hand. These have their dimensions, colour types and, within 15 %, their
file sizes, and what a decoder meets in such files: the photographs are noise in octaves on
gradients, with edges, and a grain as of a sensor; the drawings flat shapes, lines and rows of
strokes like text. All arithmetic is on whole numbers, so that the pixels are the same everywhere;
the files depend on the version of zlib.

`python -m harness.images FOLDER NAME` writes NAME.png and NAME.rows, what the file decodes to.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Integers = NDArray[np.int32]

_PALETTE, _RGB = 3, 2  # PNG's colour types


def encoded(name: str) -> bytes:
    """Give an image as a PNG file.

    Raises:
        ValueError: There is no such image.
    """
    if name in _MADE:
        return _encode(_MADE[name]())
    if name in _SHIPPED:
        # Found without being imported, which takes a second.
        package = importlib.util.find_spec("matplotlib")
        if package is None or package.origin is None:
            raise ValueError(f"image {name!r} is matplotlib's, which is not installed")
        return (Path(package.origin).parent / _SHIPPED[name]).read_bytes()
    raise ValueError(f"no image {name!r}; there are: {', '.join((*_MADE, *_SHIPPED))}")


def pixels(name: str) -> Pixels:
    """Make the pixels of one of inputs.PAPER_IMAGES: rows × columns × 3, red, green, blue."""
    made = _MADE[name]()
    return _COLOURS[made] if made.ndim == 2 else made  # noqa: PLR2004 - a palette's indices


def decoded(file: bytes) -> bytes:
    """Decode a PNG with Pillow, which does not use libpng, to what foreign_decode_png gives."""
    from PIL import Image

    with Image.open(io.BytesIO(file)) as image:
        rows = image.convert("RGB").tobytes()
        return struct.pack("=II", image.height, 3 * image.width) + rows


def main() -> None:
    """Write an image and what it decodes to into a folder."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    file = encoded(name)
    (folder / f"{name}.png").write_bytes(file)
    (folder / f"{name}.rows").write_bytes(decoded(file))


# ---- what they show ----


def _noise(height: int, width: int, cell: int, seed: int) -> Integers:
    """Make smooth noise in [0, 65536), interpolated between random values `cell` pixels apart."""
    rows, columns = height // cell + 2, width // cell + 2
    corners = _hash(np.arange(rows * columns, dtype=np.uint32), seed).reshape(rows, columns)
    values = (corners >> np.uint32(16)).astype(np.int32)
    # First down, then across: rows are interpolated while there are still few columns.
    down, across = np.arange(height), np.arange(width)
    upper, lower = values[down // cell], values[down // cell + 1]
    tall = upper + (lower - upper) // cell * (down % cell)[:, None].astype(np.int32)
    left, right = tall[:, across // cell], tall[:, across // cell + 1]
    smooth: Integers = left + (right - left) // cell * (across % cell).astype(np.int32)
    return smooth


def _hash(numbers: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]:
    """Scramble numbers: Wellons' lowbias32, which leaves no pattern that can be seen."""
    scrambled = numbers + np.uint32(seed * 0x9E3779B9 & 0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        scrambled = (scrambled ^ (scrambled >> np.uint32(shift))) * np.uint32(factor)
    return scrambled ^ (scrambled >> np.uint32(16))


def _photograph(height: int, width: int, grain: int) -> Pixels:
    """A landscape: a sky that darkens upwards, hills, a forest, a field; octaves of noise, grain.

    The trunks of the forest stand upright and the furrows of the field lie flat, so that rows
    differ in which of PNG's filters suits them.

    Args:
        height: Rows.
        width: Columns.
        grain: Amplitude of the noise of single pixels; it decides how well the file compresses.
    """
    y = np.arange(height, dtype=np.int32)[:, None]
    scene = np.zeros((height, width), np.int32)
    for octave, cell in enumerate((128, 64, 32, 16, 8)):
        scene += _noise(height, width, cell, octave) >> (9 + octave)
    image = np.empty((height, width, 3), np.int32)
    for channel, (top, bottom) in enumerate(((40, 130), (80, 140), (150, 160))):
        image[:, :, channel] = top + (bottom - top) * y // height + (scene >> 2)
    trunks, furrows = _noise(1, width, 3, 40) >> 10, _noise(height, 1, 2, 41) >> 10
    textures = (np.zeros_like(trunks), trunks, furrows)
    for hill, texture in enumerate(textures):  # each nearer, lower and darker
        profile = _noise(1, width, 90 - 25 * hill, 20 + hill)[0] >> 9
        crest = height * (2 + hill) // 5 - profile
        ground = y >= crest
        for channel, colour in enumerate((60, 85, 40)):
            shaded = colour - 12 * hill + (scene * (4 + hill) >> 3) + texture
            image[:, :, channel] = np.where(ground, shaded, image[:, :, channel])
    numbers = np.arange(height * width * 3, dtype=np.uint32)
    random = (_hash(numbers, 99) >> np.uint32(16)).astype(np.int32).reshape(image.shape)
    image += (random * grain >> 16) - grain // 2
    return np.clip(image, 0, 255).astype(np.uint8)


def _drawing(height: int, width: int, shapes: int, lines: int, size: int) -> Pixels:
    """Indices of 16 colours: discs and boxes, lines across all, and rows of strokes like text.

    Args:
        height: Rows.
        width: Columns.
        shapes: Discs and boxes, by turns.
        lines: Sloping lines across the whole width.
        size: Height of a row of text.
    """
    canvas = np.zeros((height, width), np.uint8)
    y, x = np.arange(height, dtype=np.int32)[:, None], np.arange(width, dtype=np.int32)[None]
    draws = _hash(np.arange(8 * (shapes + lines), dtype=np.uint32), 7).astype(np.int64)
    for number, draw in enumerate(draws.reshape(-1, 8)[:shapes]):
        row, column = int(draw[0]) % height, int(draw[1]) % width
        half = height // 16 + int(draw[2]) % (height // 8)
        top, left = max(row - half, 0), max(column - half, 0)
        part = canvas[top : row + half, left : column + half]
        if number % 2:
            part[:] = 1 + draw[3] % 14
        else:
            reach = (y[top : row + half] - row) ** 2 + (x[:, left : column + half] - column) ** 2
            part[reach < half * half] = 1 + draw[3] % 14
            part[(reach < half * half) & (reach > (half - 2) ** 2)] = 15
    for draw in draws.reshape(-1, 8)[shapes:]:
        ends = int(draw[0]) % height, int(draw[1]) % height
        at = ends[0] + (ends[1] - ends[0]) * x[0] // width
        canvas[at, x[0]] = 15
    for line, top in enumerate(range(height // 3, height - size, size * 3 // 2)):
        _write(canvas[top : top + size, width // 16 : -width // 16], line)
    return canvas


def _write(line: Pixels, seed: int) -> None:
    """Write a row of glyphs: each of a few strokes, the same glyph the same everywhere."""
    size = line.shape[0]
    advance = size * 2 // 3
    text = _hash(np.arange(line.shape[1] // advance, dtype=np.uint32), 50 + seed)
    for place, letter in enumerate(text % np.uint32(30)):
        if letter >= 26:  # noqa: PLR2004 - the space, a sixth of a text
            continue
        glyph = line[:, place * advance : (place + 1) * advance - 2]
        middle = glyph[size // 2 : size // 2 + 2]
        strokes = (glyph[:, :2], glyph[:, -2:], glyph[:2], glyph[-2:], middle)
        for bit, stroke in enumerate(strokes):
            if (int(letter) + 3) >> bit & 1:
                stroke[:] = 15


# Sixteen colours, dark lines last.
_COLOURS = np.array(
    [(250, 250, 245)]
    + [(40 + 53 * i % 200, 40 + 97 * i % 200, 40 + 31 * i % 200) for i in range(14)]
    + [(20, 20, 30)],
    dtype=np.uint8,
)


def _painting(height: int, width: int) -> Pixels:
    """A drawing in RGB whose background is a gradient."""
    indices = _drawing(height, width, shapes=60, lines=80, size=8)
    y, x = np.ogrid[:height, :width]
    shade = 250 - 60 * y // height - 30 * x // width
    light = (shade[:, :, None] - np.array([0, 10, 0])).astype(np.uint8)
    return np.where(indices[:, :, None] == 0, light, _COLOURS[indices])


_MADE: dict[str, Callable[[], Pixels]] = {
    "palette-256x256": lambda: _drawing(256, 256, shapes=16, lines=13, size=8),
    "rgb-701x599": lambda: _painting(599, 701),
    "rgb-454x603": lambda: _photograph(603, 454, grain=6),
    "rgb-816x1088": lambda: _photograph(1088, 816, grain=3),
}
# Of matplotlib's: a shaded picture, and a logo with text.
_SHIPPED = {
    "matplotlib-present": "mpl-data/sample_data/Minduka_Present_Blue_Pack.png",
    "matplotlib-logo": "mpl-data/sample_data/logo2.png",
}


# ---- PNG ----


def _encode(image: Pixels) -> bytes:
    """Encode rows × columns of indices to _COLOURS, or rows × columns × 3 of RGB."""
    height, width = image.shape[:2]
    is_palette = image.ndim == 2  # noqa: PLR2004 - axes
    header = struct.pack(">IIBBBBB", width, height, 8, _PALETTE if is_palette else _RGB, 0, 0, 0)
    # The specification's advice (PNG, third edition, section 12.7): a palette's indices are best
    # left as they are; of other rows the filter with the least sum of absolute differences.
    lines = image.reshape(height, -1)
    lines = np.insert(lines, 0, 0, axis=1) if is_palette else _filtered(lines)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", _COLOURS.tobytes()) if is_palette else b"",
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
            _chunk(b"IEND", b""),
        ]
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _filtered(lines: Pixels) -> Pixels:
    """Filter each row (of 3 bytes a pixel) in the five ways and keep the best, its number first."""
    left, up, corner = (np.zeros_like(lines) for _ in range(3))
    left[:, 3:] = lines[:, :-3]
    up[1:] = lines[:-1]
    corner[1:, 3:] = lines[:-1, :-3]
    average = ((left.astype(np.uint16) + up) >> 1).astype(np.uint8)
    predictions: list[Any] = [0, left, up, average, _paeth(left, up, corner)]
    filtered = np.stack([lines - prediction for prediction in predictions])
    # The difference 255 is -1.
    costs = np.minimum(filtered, -filtered).sum(axis=2, dtype=np.int64)
    best = costs.argmin(axis=0)
    rows = np.arange(len(lines))
    return np.concatenate([best[:, None].astype(np.uint8), filtered[best, rows]], axis=1)


def _paeth(left: Pixels, up: Pixels, corner: Pixels) -> Pixels:
    """Predict by the neighbour nearest to left + up - corner; on a tie, left, then up."""
    a, b, c = (part.astype(np.int16) for part in (left, up, corner))
    to_left, to_up, to_corner = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    return np.where(
        (to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner)
    )


if __name__ == "__main__":
    main()
