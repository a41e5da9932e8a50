"""Decode a PNG with libpng's simplified API behind a wall.

That API keeps its state in a structure with a pointer in it, which would mean nothing on the other
side of a wall. So a few lines of C stay with it, and take and give plain memory. Needs a C compiler
and libpng's header (Debian: libpng-dev).

python examples/sandbox/png_decode.py --backend sandcrust-pipe [FILE]
"""

from __future__ import annotations

import argparse
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from backends import ForeignError, In, Out, Sandbox, Status

DECODER = r"""
#include <png.h>

int decode(const void *file, size_t length, unsigned char *pixels, size_t *pixels_length,
           unsigned *width, unsigned *height)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (!png_image_begin_read_from_memory(&image, file, length)) {
        return 1;
    }
    image.format = PNG_FORMAT_RGBA;
    if (PNG_IMAGE_SIZE(image) > *pixels_length) {
        png_image_free(&image);
        return 2;
    }
    *pixels_length = PNG_IMAGE_SIZE(image);
    *width = image.width;
    *height = image.height;
    return png_image_finish_read(&image, NULL, pixels, 0, NULL) ? 0 : 1;
}
"""
LIMIT = 64 << 20  # bytes of an image


def compile_decoder(folder: Path) -> Path:
    """Make a library of the C above."""
    library = folder / "libdecoder.so"
    command = ["cc", "-O2", "-shared", "-fPIC", "-xc", "-", "-o", str(library), "-lpng"]
    subprocess.run(command, input=DECODER, text=True, check=True)
    return library


def gradient(width: int, height: int) -> bytes:
    """Make a PNG: red to the right, green downwards."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    rows = b"".join(
        b"\0" + b"".join(bytes((x % 256, y % 256, 0)) for x in range(width)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def main() -> None:
    """Decode an image, and one that is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="sandcrust-pipe", help="see `isobench list`")
    parser.add_argument("file", nargs="?", type=Path, help="a PNG; if not given, one is made")
    arguments = parser.parse_args()
    image = arguments.file.read_bytes() if arguments.file else gradient(320, 200)
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox(compile_decoder(Path(folder)), backend=arguments.backend) as png,
    ):
        decode = png.function(
            "int decode(const void *file, size_t length, unsigned char *pixels,"
            " size_t *pixels_length, unsigned *width, unsigned *height)",
            file=In(length="length"),
            pixels=Out(capacity=LIMIT, length="pixels_length"),
            width=Out(),
            height=Out(),
            returns=Status(ok=0),
        )
        decoded = decode(image)
        print(f"{decoded.width} × {decoded.height}, {len(decoded.pixels)} bytes")
        print(f"last pixel: {tuple(decoded.pixels[-4:])}")
        try:
            decode(image[: len(image) // 2])
        except ForeignError as error:
            print(error)


if __name__ == "__main__":
    main()
