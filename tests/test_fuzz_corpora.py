"""The corpora of the fuzz targets in Python, each input once. Those in C are C tests."""

from __future__ import annotations

import importlib
import re
import time
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"
TARGETS = ("decode", "elf", "replies", "runs")


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_the_corpus_breaks_its_target_or_takes_long(name: str) -> None:
    check = importlib.import_module(f"fuzz.{name}").check
    inputs = sorted((FUZZ / "corpus" / name).iterdir())
    assert len(inputs) >= 10
    for file in inputs:
        begin = time.monotonic()
        check(file.read_bytes())
        assert time.monotonic() - begin < 5, file


def test_every_target_is_fuzzed_and_the_corpora_are_small() -> None:
    text = (FUZZ / "Makefile").read_text()
    listed = " ".join(re.findall(r"^(?:c|python)_targets := (.*)$", text, re.MULTILINE)).split()
    folders = {folder.name for folder in (FUZZ / "corpus").iterdir() if folder.is_dir()}
    assert set(listed) == folders
    assert set(TARGETS) <= folders
    assert sum(file.stat().st_size for file in FUZZ.glob("corpus/*/*")) < 150_000
