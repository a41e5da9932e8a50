"""Compress and uncompress with zlib behind a wall, declared by Python functions.

python examples/sandbox/zlib_roundtrip.py --backend sandcrust-pipe
"""

from __future__ import annotations

import argparse
from typing import Annotated

from backends import ForeignError, In, Out, Sandbox, Status

LIMIT = 1 << 20  # bytes that are worth uncompressing


def main() -> None:
    """Declare two functions and call them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="sandcrust-pipe", help="see `isobench list`")
    with Sandbox("libz.so.1", backend=parser.parse_args().backend) as zlib:

        @zlib.declare(
            "int compress2(unsigned char *compressed, unsigned long *compressed_length,"
            " const unsigned char *data, unsigned long length, int level)",
            # As compressBound says.
            compressed=Out(
                capacity=lambda data: len(data) + (len(data) >> 12) + (len(data) >> 14) + 13,
                length="compressed_length",
            ),
            returns=Status(ok=0),
        )
        def compress(data: Annotated[bytes, In(length="length")], level: int = 6) -> bytes:
            """Compress; levels are 0 to 9."""
            raise NotImplementedError

        @zlib.declare(
            "int uncompress(unsigned char *data, unsigned long *length,"
            " const unsigned char *compressed, unsigned long compressed_length)",
            data=Out(capacity=LIMIT, length="length"),
            returns=Status(ok=0),
        )
        def uncompress(compressed: Annotated[bytes, In(length="compressed_length")]) -> bytes:
            """Give back what was compressed, if it is not longer than LIMIT."""
            raise NotImplementedError

        version = zlib.function("const char *zlibVersion(void)")
        print(f"zlib {version().decode()}")
        text = b"The wall must not change what is behind it. " * 500
        for level in (1, 9):
            compressed = compress(text, level=level)
            print(f"level {level}: {len(text)} bytes, compressed {len(compressed)}")
            print(f"the same again: {uncompress(compressed) == text}")
        try:
            uncompress(b"this was never compressed")
        except ForeignError as error:
            print(error)


if __name__ == "__main__":
    main()
