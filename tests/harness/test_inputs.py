from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
import snappy

from backends import native
from harness import inputs, workloads

VECTORS = json.loads((Path(__file__).parent.parent / "data" / "pcg-vectors.json").read_text())


@pytest.mark.parametrize("length", [int(n) for n in VECTORS["sha256_of_first_n_bytes"]])
def test_random_content_is_the_artifacts_byte_for_byte(length: int) -> None:
    data = inputs.content("random", length)
    assert len(data) == length
    assert hashlib.sha256(data).hexdigest() == VECTORS["sha256_of_first_n_bytes"][str(length)]


def test_draws_are_the_artifacts() -> None:
    draws = struct.unpack("=8I", native.paper_draws(8))
    assert list(draws) == VECTORS["u32_draws"]


def test_the_papers_sizes_are_the_artifacts() -> None:
    assert [str(n) for n in workloads.PAPER_SIZES] == list(VECTORS["sha256_of_first_n_bytes"])


@pytest.mark.parametrize("length", [1, 64, 4096, 1 << 21])
def test_text_has_its_length_and_is_the_same_every_time(length: int) -> None:
    data = inputs.content("text", length)
    assert len(data) == length
    assert data == inputs.content("text", length)
    assert data.isascii()


@pytest.mark.parametrize("length", [1 << 15, 1 << 18, 1 << 21])
def test_text_compresses_about_two_to_one_and_random_does_not(length: int) -> None:
    text, random = inputs.content("text", length), inputs.content("random", length)
    assert 1.7 < length / len(snappy.compress(text)) < 2.3
    assert length / len(snappy.compress(random)) <= 1


def test_an_unknown_content_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="random, text"):
        inputs.content("images", 1)
