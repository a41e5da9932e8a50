"""docs/threat-model.md says what the code says."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest

from backends import registry
from harness.attacks import catalogue, grid, model

TEXT = (Path(__file__).parents[2] / "docs" / "threat-model.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """Return the rows of the table whose heading begins so."""
    lines = TEXT[TEXT.index(f"\n{heading}") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_outcomes_have_the_letters_that_are_shown() -> None:
    said = {words: letter for letter, words, _ in rows("| | outcome |")}
    letters = {str(outcome).replace("-", " "): grid.LETTERS[outcome] for outcome in model.Outcome}
    assert said == letters


def test_means_are_those_that_there_are_and_claims_reach_as_far() -> None:
    reach = {"always": set(), "nowhere": None}
    table = rows("| means |")
    assert {means for means, _, _ in table} == set(get_args(model.Means))
    for means, _, where in table:
        needed = reach.get(where, set(re.findall("`(.*?)`", where)))
        for claims in (set(), {"syscalls"}, {"strict"}, {"syscalls", "strict"}):
            within = model.within_claims(dict.fromkeys(claims, True), means)
            assert within == (needed is not None and needed <= claims)


@pytest.mark.parametrize("row", rows("| | heap, stack"))
def test_walls_claim_what_their_row_says(row: list[str]) -> None:
    heading = TEXT[TEXT.index("\n| | heap, stack") :].split("\n")[1]
    columns = [cell.strip().replace(" ", "_").split(",_") for cell in heading.split("|")[2:-1]]
    names = re.findall("`(.*?)`", row[0])
    names += ["mpk-bincode-v1", "mpk-abomonation-v2"] if "`mpk-` with a codec" in row[0] else []
    names = [wall for name in names for wall in _walls(name)]
    known = {backend.name: backend for backend in registry.all_backends()}
    for name in set(names) & set(known):
        claims = asdict(known[name].guarantees)
        for claim, cell in zip(columns, row[1:], strict=True):
            assert {claims[one] for one in claim} == {cell == "yes"}, (name, claim)


def _walls(name: str) -> list[str]:
    ways = ("pipe", "fork")
    return [name.replace("…", way) for way in ways] if "…" in name else [name.rstrip("-")]


def test_attacks_that_are_named_are_in_the_catalogue() -> None:
    listed = {entry.attack.row for entry in catalogue.entries()}
    for _, named, *_ in rows("| kind |"):
        for name in re.findall("`(.*?)`", named):
            start = name.rstrip("…")
            # Attacks on protection keys are for x86 only.
            found = any(row.startswith(start) for row in listed)
            assert found or not catalogue._X86, name
