from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_matrices import ALL, MUCH, NOTHING, attack, make_matrix, verdict, whole_matrix
from made_up_runs import EMULATED, make_row, make_run

from backends.contract import Guarantees
from harness.attacks import claims, cost, grid, model
from harness.attacks.model import Outcome
from harness.storage import StorageError

OUTCOMES = st.lists(st.sampled_from(list(Outcome)), min_size=1, max_size=6)


# ---- the file ----


def test_a_matrix_is_read_as_it_was_written(tmp_path: Path) -> None:
    matrix = whole_matrix()
    model.save(matrix, tmp_path)
    assert model.load(tmp_path) == matrix


@pytest.mark.parametrize("length", [0, 1, 50, 5000])
def test_a_truncated_file_is_a_storage_error(tmp_path: Path, length: int) -> None:
    path = model.save(whole_matrix(), tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StorageError, match="truncated or not a matrix"):
        model.load(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": 1}', b"\x80abc",
        # A run's record.
        b'{"id": "r", "plan": {}, "host": {}, "format": 1}',
    ],
)  # fmt: skip
def test_a_foreign_file_is_a_storage_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / model.ATTACKS_FILE).write_bytes(content)
    with pytest.raises(StorageError, match="not a matrix of attacks"):
        model.load(tmp_path)


def test_an_outcome_that_is_not_known_is_a_storage_error(tmp_path: Path) -> None:
    path = model.save(make_matrix([attack()], [verdict()]), tmp_path)
    path.write_text(path.read_text().replace('"escaped"', '"vanished"'))
    with pytest.raises(StorageError, match="vanished"):
        model.load(tmp_path)


@pytest.mark.parametrize("version", [1, model.FORMAT + 1])
def test_a_file_of_another_version_is_a_storage_error_that_says_so(
    tmp_path: Path, version: int
) -> None:
    data = json.loads(msgspec.json.encode(whole_matrix()))
    (tmp_path / model.ATTACKS_FILE).write_text(json.dumps(data | {"format": version}))
    with pytest.raises(StorageError, match=f"has format {version}"):
        model.load(tmp_path)


def test_a_folder_without_a_matrix_is_a_storage_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="has no attacks.json"):
        model.load(tmp_path)
    (tmp_path / model.ATTACKS_FILE).mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        model.load(tmp_path)


# ---- how far claims reach ----


@pytest.mark.parametrize(
    ("means", "syscalls", "strict", "within"),
    [
        ("memory", False, False, True),
        ("system call", False, True, False),
        ("system call", True, False, True),
        ("own WRPKRU", True, False, False),
        ("own WRPKRU", False, True, True),
        ("runtime's WRPKRU", False, True, False),
        ("runtime's WRPKRU", True, False, True),
        ("libc's WRPKRU", True, True, False),
    ],
)
def test_claims_reach_as_far_as_system_calls_and_strictness_are_claimed(
    means: model.Means, syscalls: bool, strict: bool, within: bool
) -> None:
    wall = Guarantees(heap=True, syscalls=syscalls, strict=strict)
    assert model.within_claims(dataclasses.asdict(wall), means) == within
    harms = [model.Harm("heap", "heap"), model.Harm("secret", "secrets")]
    found = model.refuted(wall, attack(means=means), harms)
    assert set(found) - {"strict"} == ({"heap"} if within else set())
    assert ("strict" in found) == (means == "own WRPKRU" and strict)


# ---- rows, columns, cells ----


@given(OUTCOMES)
def test_a_cell_is_the_worst_of_its_rows_attacks_and_what_cannot_be_tried_is_apart(
    outcomes: list[Outcome],
) -> None:
    attacks = [attack(f"a-{n}", row="all") for n in range(len(outcomes))]
    verdicts = [verdict("mpk", a.name, o) for a, o in zip(attacks, outcomes, strict=True)]
    laid = grid.lay_out(make_matrix(attacks, verdicts))
    (cell,) = laid.cells.values()
    tried = [outcome for outcome in outcomes if outcome is not Outcome.UNAVAILABLE]
    order = ["harmless", "recovered", "refused", "contained", "disclosed", "hung",
             "host-died", "escaped"]  # fmt: skip
    worst = max(tried, key=order.index, default=Outcome.UNAVAILABLE)
    assert cell.outcome is worst


def test_a_cell_is_refuted_if_one_of_its_attacks_refutes_whatever_its_outcome() -> None:
    attacks = [attack("one", row="both"), attack("two", row="both")]
    verdicts = [
        verdict("mpk", "one", Outcome.ESCAPED),
        verdict("mpk", "two", Outcome.HOST_DIED, refuted=["recovery"]),
    ]
    (cell,) = grid.lay_out(make_matrix(attacks, verdicts)).cells.values()
    assert cell == grid.Cell(Outcome.ESCAPED, ("recovery",))
    assert cell.mark == "E!"


def test_marks_of_outcomes_differ_and_capitals_are_harm() -> None:
    assert set(grid.LETTERS) == set(grid.WORDS) == set(Outcome)
    assert len(set(grid.LETTERS.values())) == len(Outcome)
    assert {o for o in Outcome if grid.LETTERS[o].isupper()} == set(model.HARM)


def test_everything_that_attacks_work_by_has_a_letter() -> None:
    assert set(grid.MEANS) == set(get_args(model.Means))
    assert len(set(grid.MEANS.values())) == len(grid.MEANS)
    assert all(f" {letter} " in grid.MEANS_WORDS for letter in grid.MEANS.values())


def test_twins_stand_beside_each_other_and_strangers_before_protection_keys() -> None:
    walls = [
        "mpk-nosud", "acme-wall", "mpk-strict", "sandcrust-fork-hardened", "mpk", "none", "zz",
        "sandcrust-pipe-hardened", "none-default-malloc", "pkru-safe", "mpk-bincode-v1",
        "sandcrust-fork", "mpk-view", "sandcrust-pipe", "acme-wall-strict", "mpk-bincode-v1-strict",
        "sandcrust-pipe-other-core", "mpkish",
    ]  # fmt: skip
    laid = grid.lay_out(make_matrix([attack()], [verdict(wall) for wall in walls]))
    assert [column.label for column in laid.columns] == [
        "none", "none-default-malloc", "sandcrust-pipe", "sandcrust-pipe-hardened",
        "sandcrust-pipe-other-core", "sandcrust-fork", "sandcrust-fork-hardened", "acme-wall",
        "acme-wall-strict", "mpkish", "zz", "pkru-safe", "mpk", "mpk-strict", "mpk-view",
        "mpk-nosud", "mpk-bincode-v1", "mpk-bincode-v1-strict",
    ]  # fmt: skip


def test_a_column_names_its_machine_where_the_wall_is_on_several() -> None:
    labels = [column.label for column in grid.lay_out(whole_matrix()).columns]
    assert labels[:3] == ["none, here", "none, emulated 6.12", "none, emulated 6.1"]
    assert "sandcrust-pipe" in labels
    assert "mpk, emulated 6.1" in labels
    assert len(labels) == len(set(labels))


def test_groups_are_in_their_order_and_unknown_ones_come_last() -> None:
    groups = ("weather", "environment", "benign", "memory")
    matrix = make_matrix([attack(group, group=group) for group in groups])
    assert list(grid.lay_out(matrix).groups) == ["benign", "memory", "environment", "weather"]


def test_a_row_has_the_means_of_its_attacks_and_says_if_none_of_them_does_harm() -> None:
    attacks = [attack("one", row="both"), attack("two", row="both", means="system call")]
    matrix = make_matrix(attacks, [verdict(name="one"), verdict(name="two")])
    (row,) = grid.lay_out(matrix).rows
    assert (row.means, row.label) == ("MS", "both")
    matrix.verdicts[1] = verdict(name="two", outcome=Outcome.HARMLESS)
    (row,) = grid.lay_out(matrix).rows
    assert row.label == "both"
    matrix.verdicts[0] = verdict(name="one", outcome=Outcome.RECOVERED)
    (row,) = grid.lay_out(matrix).rows
    assert row.label == "both *"


def test_a_group_tallies_refuted_before_all_and_what_cannot_be_tried_last() -> None:
    outcomes = ("escaped", "harmless", "host-died", "unavailable", "harmless", "escaped")
    attacks = [attack(f"a-{n}") for n in range(len(outcomes))]
    verdicts = [
        verdict("mpk", a.name, Outcome(o), refuted=["heap"] if o == "host-died" else [])
        for a, o in zip(attacks, outcomes, strict=True)
    ]
    laid = grid.lay_out(make_matrix(attacks, verdicts))
    tally = laid.tally("memory", laid.columns[0])
    assert [f"{count}{cell.mark}" for cell, count in tally.items()] == ["1X!", "2E", "2o", "1/"]


# ---- claims against facts ----


def fact(matrix: model.Matrix, backend: str, claim: str) -> claims.Fact:
    return next(f for f in claims.facts(matrix) if (f.backend, f.claim) == (backend, claim))


def test_a_claim_is_tested_by_what_does_that_harm_where_there_is_no_wall() -> None:
    attacks = [attack("heap"), attack("stack"), attack("crash"), attack("nothing")]
    verdicts = [
        verdict("none", "heap", claims=["heap"]),
        verdict("none", "stack", claims=["stack"]),
        verdict("none", "crash", Outcome.HOST_DIED),
        verdict("none", "nothing", Outcome.HARMLESS),
        *(verdict("wall", one.name, Outcome.RECOVERED) for one in attacks),
    ]
    matrix = make_matrix(attacks, verdicts, {"wall": MUCH})
    assert fact(matrix, "wall", "heap").tested == ["heap"]
    assert fact(matrix, "wall", "heap").verdict == "holds"
    assert fact(matrix, "wall", "recovery").tested == ["crash"]
    assert fact(matrix, "wall", "time_limit").verdict == "not tested"
    assert fact(matrix, "none", "heap").verdict == "no"
    assert [v.attack for v in fact(matrix, "none", "recovery").through] == ["crash"]


def test_attacks_beyond_a_claims_reach_do_not_test_it_but_what_they_do_is_told() -> None:
    attacks = [attack("call", means="system call")]
    verdicts = [verdict(wall, "call", claims=["heap"]) for wall in ("none", "process")]
    found = fact(make_matrix(attacks, verdicts, {"process": MUCH}), "process", "heap")
    assert (found.tested, found.verdict) == ([], "not tested")
    assert [v.attack for v in found.through] == ["call"]
    verdicts[1] = verdict("process", "call", claims=["heap"], refuted=["heap"])
    found = fact(make_matrix(attacks, verdicts, {"process": ALL}), "process", "heap")
    assert (found.tested, found.verdict, found.through) == (["call"], "REFUTED", [])


def test_what_could_not_be_tried_tests_nothing_and_controls_are_of_the_same_machine() -> None:
    walls = [
        verdict("wall", machine=machine, outcome=outcome)
        for machine, outcome in (("a", Outcome.UNAVAILABLE), ("b", Outcome.RECOVERED))
    ]
    on_a = verdict("none", machine="a", claims=["heap"])
    on_b = verdict("none", machine="b", outcome=Outcome.HARMLESS)
    guarantees = {"wall": MUCH}
    both = make_matrix([attack()], [*walls, on_a, on_b], guarantees)
    assert fact(both, "wall", "heap").tested == []
    # Where a machine has no control at all, that of the other has to do.
    assert fact(make_matrix([attack()], [*walls, on_a], guarantees), "wall", "heap").tested == [
        "write-heap"
    ]


def test_facts_are_of_every_wall_and_claim() -> None:
    matrix = whole_matrix(walls=("acme",))
    names = [field.name for field in dataclasses.fields(NOTHING)]
    found = {(fact.backend, fact.claim) for fact in claims.facts(matrix)}
    assert found == set(product(matrix.guarantees, names))


# ---- cost ----


def test_costs_are_of_the_empty_call_measured_here_and_counted() -> None:
    rows = [
        make_row("none", 1.5),
        make_row("none", 18, **EMULATED),
        make_row("mpk", 89, **EMULATED),
        make_row("mpk", 40, provenance="modelled"),
        make_row("mpk", 300, provenance="literature"),
        make_row("slow", 7e3, workload="malloc"),
        make_row("acme", 9e3, level="python"),
        make_row("both", 9e3, level="python"),
        make_row("both", 2e3),
    ]
    for order in (rows, rows[::-1]):
        costs = cost.of(make_run(order))
        assert costs.means["measured"] == {"none": 1.5, "acme": 9e3, "both": 2e3}
        assert costs.means["emulated"] == {"none": 18, "mpk": 89}
        assert costs.text("measured", "none") == "1.5 ns"
        assert costs.text("measured", "mpk") == "—"
        said = " ".join(costs.sources())
        assert "measured, wall clock on Some CPU @ 2 GHz; run r1" in said
        assert "emulated, retired on the emulated machine; run r1" in said
        assert "Timed from Python, the binding included: acme." in said


def test_laying_out_loads_neither_pandas_nor_matplotlib() -> None:
    code = (
        "import harness.attacks.report, harness.attacks.claims, sys; "
        "sys.exit(bool({'pandas', 'matplotlib', 'scipy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
