from __future__ import annotations

import hashlib
import io
import struct
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness import images, inputs

if TYPE_CHECKING:
    from pathlib import Path

# Columns, rows, mode, bytes of the paper's file; and the SHA-256 of our pixels.
PAPER = {
    "palette-256x256": (256, 256, "P", 5_600, "f214bd4fef4412aa"),
    "rgb-701x599": (701, 599, "RGB", 64_000, "94626e70fd7988cf"),
    "rgb-454x603": (454, 603, "RGB", 387_000, "ae2904ec89697da0"),
    "rgb-816x1088": (816, 1088, "RGB", 894_000, "0e361c91c2614528"),
}


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def scan_lines(file: bytes) -> bytes:
    """What is compressed in a file whose only IDAT is its last chunk but one."""
    start = file.index(b"IDAT") + 4
    return zlib.decompress(file[start:-12])


def test_the_papers_images_are_all_there() -> None:
    assert tuple(PAPER) == inputs.PAPER_IMAGES == tuple(images._MADE)
    assert tuple(images._SHIPPED) == inputs.SHIPPED_IMAGES


@pytest.mark.parametrize("name", PAPER)
def test_an_image_has_the_papers_dimensions_kind_and_about_its_file_size(name: str) -> None:
    width, height, mode, length, _ = PAPER[name]
    file = images.encoded(name)
    assert opened(file).size == (width, height)
    assert opened(file).mode == mode
    assert 0.85 < len(file) / length < 1.15


@pytest.mark.parametrize("name", PAPER)
def test_the_pixels_are_the_same_everywhere(name: str) -> None:
    width, height, *_, digest = PAPER[name]
    pixels = images.pixels(name)
    assert pixels.shape == (height, width, 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest().startswith(digest)


@pytest.mark.parametrize("name", PAPER)
def test_another_decoder_finds_the_pixels_that_were_drawn(name: str) -> None:
    found = np.asarray(opened(images.encoded(name)).convert("RGB"))
    assert np.array_equal(found, images.pixels(name))


@pytest.mark.parametrize("name", ["rgb-454x603", "rgb-816x1088"])
def test_a_photograph_is_neither_flat_nor_noise(name: str) -> None:
    file = images.encoded(name)
    width, height, *_ = PAPER[name]
    assert 0.2 < len(file) / (3 * width * height) < 0.6  # as those of the paper
    rows = np.frombuffer(scan_lines(file), np.uint8).reshape(height, 3 * width + 1)
    used = np.bincount(rows[:, 0], minlength=5) / height
    assert used.max() < 0.95  # more than one filter is of use
    assert len(np.unique(images.pixels(name).reshape(-1, 3), axis=0)) > 5000


@given(st.integers(1, 12), st.integers(1, 12), st.randoms(use_true_random=False), st.booleans())
def test_whatever_is_encoded_is_decoded_to_the_same(height, width, random, is_palette) -> None:
    shape = (height, width) if is_palette else (height, width, 3)
    values = [random.randrange(16 if is_palette else 256) for _ in range(int(np.prod(shape)))]
    image = np.array(values, np.uint8).reshape(shape)
    found = np.asarray(opened(images._encode(image)).convert("RGB"))
    assert np.array_equal(found, images._COLOURS[image] if is_palette else image)


@given(st.integers(1, 10), st.integers(1, 10), st.randoms(use_true_random=False))
def test_each_row_has_the_filter_with_the_least_absolute_differences(height, width, random) -> None:
    # Small steps: so that filters differ in what they are worth.
    steps = [random.randrange(-3, 4) for _ in range(3 * height * width)]
    image = (128 + np.cumsum(steps)).astype(np.uint8).reshape(height, width, 3)
    lines = scan_lines(images._encode(image))
    row_length = 3 * width
    for y in range(height):
        begin = y * (row_length + 1)
        number, row = lines[begin], lines[begin + 1 : begin + 1 + row_length]
        above = image[y - 1].tobytes() if y else bytes(row_length)
        costs = [cost(filtered(f, image[y].tobytes(), above)) for f in range(5)]
        assert cost(row) == min(costs) == costs[number]


def cost(row: bytes) -> int:
    return sum(min(value, 256 - value) for value in row)


def filtered(number: int, row: bytes, above: bytes) -> bytes:
    """Filter as the specification says, byte by byte (PNG, section 9.2)."""
    out = bytearray()
    for i, value in enumerate(row):
        a = row[i - 3] if i >= 3 else 0
        b = above[i]
        c = above[i - 3] if i >= 3 else 0
        nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
        out.append((value - (0, a, b, (a + b) // 2, nearest)[number]) % 256)
    return bytes(out)


@pytest.mark.parametrize("name", inputs.SHIPPED_IMAGES)
def test_an_installed_package_ships_the_others(name: str) -> None:
    file = images.encoded(name)
    assert file.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", file[16:24]) == opened(file).size


def test_a_process_that_is_given_an_image_stays_small() -> None:
    # What a process has loaded is what forking it costs.
    program = (
        "import sys; from harness import inputs; inputs.image('matplotlib-logo'); "
        "sys.exit(bool({'numpy', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("name", ["palette-256x256", "matplotlib-present"])
def test_an_image_comes_with_its_rows_also_by_way_of_a_folder(name: str, tmp_path: Path) -> None:
    image = inputs.image(name)
    assert image.file[:] == images.encoded(name)
    height, row_length = struct.unpack("=II", image.rows[:8])
    assert opened(image.file[:]).size == (row_length // 3, height)
    assert image.rows[8:] == opened(image.file[:]).convert("RGB").tobytes()

    inputs.save(tmp_path, [name, name, "random"])
    assert len(list(tmp_path.iterdir())) == 2
    inputs.load(tmp_path)
    again = inputs.image(name)
    assert again.file is not image.file
    assert (again.file[:], again.rows[:]) == (image.file[:], image.rows[:])


def test_an_unknown_image_is_an_error_that_names_the_known_ones() -> None:
    for find in (images.encoded, inputs.image):
        with pytest.raises(ValueError, match="palette-256x256, .*matplotlib-logo"):
            find("mona-lisa")
