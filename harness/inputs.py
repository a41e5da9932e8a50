"""The bytes that workloads run on, the same on every machine.

Content of any length: `random` is the paper's, uniform in [0, 255), which does not compress. `text`
is made of common English words, likelier the commoner they are (Zipf's law), and compresses about
2:1.
"""

from __future__ import annotations

import mmap
import struct
import sys
from bisect import bisect
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backends import native

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENTS = ("random", "text")

#: Images of the paper's sizes, columns × rows; see `harness.images`.
PAPER_IMAGES = ("palette-256x256", "rgb-701x599", "rgb-454x603", "rgb-816x1088")
#: Images that an installed package ships.
SHIPPED_IMAGES = ("matplotlib-present", "matplotlib-logo")
_IMAGES = (*PAPER_IMAGES, *SHIPPED_IMAGES)

# From the most to the least frequent. What matters is their number and their lengths.
_WORDS = """
    the of and to a in that it is was for on with as be at by this had not are but from or have
    an they which one you were her all she there would their we him been has when who will more
    no if out so said what up its about into than them can only other new some could time these
    two may then do first any my now such like our over man me even most made after also did
    many before must through back years where much your way well down should because each just
    those people how too little state good very make world still own see men work long get here
    between both life being under never day same another know while last might us great old year
    off come since against go came right used take three states himself few house use during
    without again place american around however home small found mrs thought went say part once
    general high upon school every united number does until got always away something fact water
    though less public put thing almost hand enough far took head yet government system better
    set told nothing night end why called eyes find going look asked later knew point next
    program city business group toward young days let room word side social given present
    several order national possible rather second face per among form important often things
    looked early white large case become need four big felt along god best church ever least
    power development light thing seemed family interest want members mind country area others
    done turned although open service certain kind problem began different door thus help means
    sense whole matter
""".split()  # noqa: SIM905 - as a list it is 300 lines


def content(name: str, length: int) -> bytes:
    """Make `length` bytes of a content.

    Raises:
        ValueError: There is no such content.
    """
    if name == "random":
        return native.paper_bytes(length)
    if name == "text":
        return _text(length)
    raise ValueError(f"no content {name!r}; there are: {', '.join(CONTENTS)}")


class Image(NamedTuple):
    """An image to decode.

    Attributes:
        file: A PNG.
        rows: What Pillow, which has a decoder of its own, makes of it, as foreign_decode_png gives
            it: u32 rows, u32 bytes of a row, then the rows in 8-bit RGB.
    """

    file: mmap.mmap
    rows: mmap.mmap


_images: dict[str, Image] = {}


def image(name: str) -> Image:
    """Give an image, of which this process keeps a copy.

    It is made in another process, and the copy is in shared memory: forking a process that had
    loaded numpy for it costs five times as much, and forks are what is measured.

    Raises:
        ValueError: There is no such image.
    """
    if name not in _IMAGES:
        raise ValueError(f"no image {name!r}; there are: {', '.join(_IMAGES)}")
    if name not in _images:
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory(prefix="isobench-image-") as folder:
            command = [sys.executable, "-m", "harness.images", folder, name]
            subprocess.run(command, check=True)  # noqa: S603 - our own interpreter and module
            load(Path(folder))
    return _images[name]


def save(folder: Path, contents: Iterable[str]) -> None:
    """Write to a folder what of these contents takes long to make, for another process."""
    for name in dict.fromkeys(contents):
        if name in _IMAGES:
            (folder / f"{name}.png").write_bytes(image(name).file)
            (folder / f"{name}.rows").write_bytes(image(name).rows)


def load(folder: Path) -> None:
    """Read what `save` wrote."""
    for file in folder.glob("*.png"):
        _images[file.stem] = Image(_shared(file), _shared(file.with_suffix(".rows")))


def _shared(file: Path) -> mmap.mmap:
    memory = mmap.mmap(-1, file.stat().st_size)
    with file.open("rb", buffering=0) as source:
        length = 0
        while count := source.readinto(memoryview(memory)[length:]):
            length += count
    return memory


def allocations(steps: int) -> bytes:
    """Make the paper's sizes of blocks: `steps` uint16, little-endian, uniform in [0, 4096)."""
    return native.paper_sizes(steps)


def replacements(blocks: int, steps: int) -> tuple[bytes, bytes]:
    """Make the steps that allocate so many blocks and then replace, at random, one a step.

    The slots are of the generator's 32-bit draws.

    Returns:
        `blocks + steps` of a slot and a size, both uint16, little-endian; and the sizes alone.
    """
    draws = memoryview(native.paper_draws(steps)).cast("I")
    slots = [*range(blocks), *(draw * blocks >> 32 for draw in draws)]
    sizes = allocations(blocks + steps)
    pairs = zip(slots, memoryview(sizes).cast("H"), strict=True)
    return b"".join(struct.pack("<HH", slot, size) for slot, size in pairs), sizes


def _text(length: int) -> bytes:
    weights = list(accumulate(1 / rank for rank in range(1, len(_WORDS) + 1)))
    # The shortest word with its space has 2 bytes, so half as many draws as bytes are enough.
    draws = memoryview(native.paper_draws(length // 2 + 1)).cast("I")
    scale = weights[-1] / 2**32
    words = (_WORDS[bisect(weights, draw * scale)] for draw in draws)
    sentence_length = 12  # words
    parts: list[str] = []
    total = 0
    for number, word in enumerate(words):
        end = number % sentence_length == sentence_length - 1
        start = number % sentence_length == 0
        part = (word.capitalize() if start else word) + (".\n" if end else " ")
        parts.append(part)
        total += len(part)
        if total >= length:
            break
    return "".join(parts).encode()[:length]
