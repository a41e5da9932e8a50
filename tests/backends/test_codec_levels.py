"""Codecs as compiled: they cost what their names say, and need nothing that a domain lacks."""

from __future__ import annotations

import functools
import re
import shutil

import pytest

from c_programs import build, run

pytestmark = pytest.mark.timeout(600)  # the first test waits for the build

SHORT, LONG = 1 << 16, 1 << 18  # bytes
MEMORY = 0.7  # instructions a byte, at most, to make the vector's content and to copy it once


@functools.cache
def instructions(codec: str, operation: str, length: int) -> int:
    """Count what the whole of tests/native/codec_cost.c takes."""
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind; on Debian and Ubuntu: sudo apt-get install valgrind")
    program = build("plain") / "tests" / "codec_cost"
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = run(*tool, program, codec, operation, str(length))
    assert done.returncode == 0, done.stdout
    return int(re.findall(r"Collected : (\d+)", done.stdout)[-1])


def per_byte(codec: str, operation: str) -> float:
    """Instructions for each byte of a byte vector, with those that make it."""
    more = instructions(codec, operation, LONG) - instructions(codec, operation, SHORT)
    return more / (LONG - SHORT)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_abomonation_v2_copies_a_byte_vector_once_and_decodes_it_in_place(level: int) -> None:
    codec = f"abomonation-v2-O{level}"
    assert per_byte(codec, "encode") < MEMORY
    decoding = instructions(codec, "both", LONG) - instructions(codec, "encode", LONG)
    assert 0 < decoding < 1000


@pytest.mark.parametrize("level", [1, 2, 3])
def test_the_optimiser_sees_through_the_visits_of_abomonation_v1(level: int) -> None:
    v1, v2 = (instructions(f"abomonation-{v}-O{level}", "both", LONG) for v in ("v1", "v2"))
    assert abs(v1 - v2) < 1000


def test_without_the_optimiser_abomonation_v1_visits_each_byte_both_ways() -> None:
    encode, both = (per_byte("abomonation-v1-O0", operation) for operation in ("encode", "both"))
    assert encode > MEMORY + 8
    assert both - encode > 8


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_bincode_encodes_each_byte_by_itself(level: int) -> None:
    for version in ("v1", "v2"):
        assert 10 < per_byte(f"bincode-{version}-O{level}", "encode") < 60


def test_bincode_v1_decodes_each_byte_by_itself_and_v2_borrows() -> None:
    assert per_byte("bincode-v1", "both") - per_byte("bincode-v1", "encode") > 10
    assert per_byte("bincode-v2", "both") - per_byte("bincode-v2", "encode") < 0.01


@pytest.mark.parametrize("family", ["bincode-v1", "bincode-v2", "abomonation-v1"])
def test_the_level_of_a_name_is_the_level_of_the_code(family: str) -> None:
    costs = [instructions(f"{family}-O{level}", "both", LONG) for level in range(4)]
    assert costs[0] > 1.5 * max(costs[1:])
    assert len(set(costs)) == 4


def test_codecs_call_nothing_but_memcpy_and_reach_nothing_thread_local() -> None:
    objects = sorted(build("plain").glob("CMakeFiles/codec_O?.dir/codec/*.o"))
    assert len(objects) == 4 * 3
    for compiled in [*objects, build("plain") / "CMakeFiles/codec.dir/codec/utf8.c.o"]:
        undefined = set(re.findall(r"\bU (\w+)", run("nm", compiled).stdout))
        ours = {"codec_is_utf8", "codec_u8_type", "_GLOBAL_OFFSET_TABLE_"}
        ours |= {f"codec_bincode_decode_O{level}" for level in range(4)}
        assert undefined - ours <= {"memcpy"}
        assert not re.search(r"%fs:|tpidr_el0", run("objdump", "-d", compiled).stdout)
