"""Compress with libsnappy behind a wall, and get back what was compressed.

python examples/sandbox/snappy_compress.py --backend sandcrust-pipe
"""

from __future__ import annotations

import argparse

from backends import ForeignError, In, Out, Sandbox, Status

LIMIT = 1 << 20  # bytes that are worth uncompressing


def main() -> None:
    """Declare two functions and call them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="sandcrust-pipe", help="see `isobench list`")
    with Sandbox("libsnappy.so.1", backend=parser.parse_args().backend) as snappy:
        compress = snappy.function(
            "int snappy_compress(const char *input, size_t input_length,"
            " char *compressed, size_t *compressed_length)",
            input=In(length="input_length"),
            compressed=Out(
                # As snappy_max_compressed_length says.
                capacity=lambda input: 32 + len(input) + len(input) // 6,
                length="compressed_length",
            ),
            returns=Status(ok=0),
        )
        uncompress = snappy.function(
            "int snappy_uncompress(const char *compressed, size_t compressed_length,"
            " char *uncompressed, size_t *uncompressed_length)",
            compressed=In(length="compressed_length"),
            uncompressed=Out(capacity=LIMIT, length="uncompressed_length"),
            returns=Status(ok=0),
        )
        text = b"The wall must not change what is behind it. " * 500
        compressed = compress(text)
        print(f"{len(text)} bytes, compressed {len(compressed)}")
        print(f"the same again: {uncompress(compressed) == text}")
        try:
            uncompress(b"this was never compressed")
        except ForeignError as error:
            print(error)


if __name__ == "__main__":
    main()
