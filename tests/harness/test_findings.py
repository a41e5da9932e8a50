from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_runs import emulated_row, make_row, make_run, sized, whole_run

from harness import findings, tables
from harness.findings import Finding, Interval


def decide(rows: list[dict[str, Any]]) -> list[Finding]:
    return findings.decide(make_run(rows).table)


def switch(domain: float, process: float, **other: Any) -> list[dict[str, Any]]:
    facts = {"none": 10.0, "mpk": 10 + domain, "sandcrust-pipe": 10 + process}
    rows = [make_row(name, mean, std=0.0, low=mean, high=mean) for name, mean in facts.items()]
    return [row | other for row in rows]


def snappy(walls: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    """Make rows of walls: instructions of an empty call, and a byte."""
    return [
        row
        for name, wall in walls.items()
        for row in (emulated_row(name, wall[0]), *sized(name, "snappy-compress", wall))
    ]


def test_a_whole_run_decides_all_four() -> None:
    found = findings.decide(whole_run().table)
    assert [finding.number for finding in found] == [1, 2, 3, 4]
    assert all(finding.verdict != "not decidable here" for finding in found)


def test_an_empty_run_decides_nothing_and_says_so() -> None:
    found = decide([])
    assert {finding.verdict for finding in found} == {"not decidable here"}
    assert {finding.numbers for finding in found} == {"the run has no results"}


# ---- 1: the switch ----


def test_a_switch_a_hundred_times_cheaper_confirms_the_first() -> None:
    found = decide(switch(10, 1000))[0]
    assert (found.verdict, found.provenance) == ("confirmed", "measured")
    assert "sandcrust-pipe adds 100" in found.numbers


def test_a_switch_ninety_times_cheaper_refutes_it() -> None:
    assert decide(switch(10, 900))[0].verdict == "refuted"


def other_core(process: float, **other: Any) -> dict[str, Any]:
    exact = {"std": 0.0, "low": 10 + process, "high": 10 + process}
    return make_row("sandcrust-pipe-other-core", 10 + process, **exact) | other


def test_both_placements_of_the_process_must_be_on_one_side() -> None:
    assert decide([*switch(10, 1100), other_core(9000)])[0].verdict == "confirmed"
    assert decide([*switch(10, 300), other_core(900)])[0].verdict == "refuted"


def test_placements_on_both_sides_decide_nothing_and_both_are_told() -> None:
    found = decide([*switch(10, 440), other_core(14_000)])[0]
    assert found.verdict == "not decidable here"
    assert "sandcrust-pipe adds 44 and sandcrust-pipe-other-core adds 1,400" in found.numbers
    assert "on both sides of 100" in found.numbers


def test_placements_that_differ_in_time_leave_the_decision_to_counts() -> None:
    counts = switch(10, 1780, provenance="emulated", unit="instructions")
    found = decide([*switch(10, 440), other_core(14_000), *counts])[0]
    assert (found.verdict, found.provenance) == ("confirmed", "emulated")
    assert "measured: in multiples of what mpk adds" in found.numbers
    assert "sandcrust-pipe adds 44 and sandcrust-pipe-other-core adds 1,400" in found.numbers


def test_a_placement_that_was_run_alone_decides() -> None:
    rows = [row for row in switch(10, 1) if row["backend"] != "sandcrust-pipe"]
    assert decide([*rows, other_core(9000)])[0].verdict == "confirmed"


def test_noise_around_the_threshold_leaves_it_undecided() -> None:
    rows = switch(10, 1000)
    rows[2] |= {"low": 800.0, "high": 1300.0}
    found = decide(rows)[0]
    assert found.verdict == "not decidable here"
    assert "79 to 129), on both sides of 100" in found.numbers


def test_a_domain_that_costs_nothing_measurable_divides_nothing() -> None:
    rows = switch(0.1, 1000)
    rows[1] |= {"low": 9.9, "high": 10.3}
    found = decide(rows)[0]
    assert found.verdict == "not decidable here"
    assert "lost in the noise" in found.numbers


def test_a_missing_wall_is_named() -> None:
    found = decide(switch(10, 1000)[:2])[0]
    assert found.numbers == "measured: no switch of sandcrust-pipe"


def test_a_model_too_wide_to_decide_leaves_it_to_counts_and_is_mentioned() -> None:
    found = findings.decide(whole_run().table)[0]
    assert (found.verdict, found.provenance) == ("confirmed", "emulated")
    assert "modelled" in found.numbers
    assert "on both sides of 100" in found.numbers


def test_a_modelled_domain_stands_beside_the_measured_process() -> None:
    domain = {"provenance": "modelled", "low": 15.0, "high": 18.0}
    rows = switch(10, 5000)
    found = decide([rows[0], rows[1] | domain, rows[2]])[0]
    assert (found.verdict, found.provenance) == ("confirmed", "modelled")


def test_counts_and_times_are_never_put_together() -> None:
    rows = switch(10, 1000)
    rows[1] |= {"provenance": "emulated", "unit": "instructions"}
    assert decide(rows)[0].verdict == "not decidable here"


# ---- 2: moving data ----


def test_data_that_overtake_the_switch_with_one_codec_only_confirm_the_second() -> None:
    rows = snappy({"none": (18, 0), "mpk-bincode-v1": (160, 60), "mpk-abomonation-v1": (130, 0.3)})
    assert decide(rows)[1].verdict == "confirmed"


def test_data_that_stay_below_the_switch_refute_it() -> None:
    rows = snappy({"none": (18, 0), "mpk-bincode-v1": (9000, 1), "mpk-abomonation-v1": (9000, 0.1)})
    assert decide(rows)[1].verdict == "refuted"


def test_codecs_that_cost_alike_refute_it() -> None:
    rows = snappy({"none": (18, 0), "mpk-bincode-v1": (160, 60), "mpk-bincode-v2": (160, 55)})
    assert decide(rows)[1].verdict == "refuted"


def test_one_codec_alone_decides_nothing() -> None:
    rows = snappy({"none": (18, 0), "mpk-bincode-v1": (160, 60)})
    found = decide(rows)[1]
    assert found.verdict == "not decidable here"
    assert "fewer than two codecs" in found.numbers


# ---- 3: copies ----

COPIES = {"mpk": (90.0, 0.08), "mpk-view": (90.0, 0.0)}


def test_a_fixed_cost_that_is_drowned_by_a_few_copies_confirms_the_third() -> None:
    found = decide(snappy({"none": (18, 0), "mpk-abomonation-v1": (4400, 0.3), **COPIES}))[2]
    assert found.verdict == "confirmed"
    assert "3.78 copies" in found.numbers
    assert "fixed cost" not in found.numbers


def test_a_cost_that_grows_as_fast_as_the_work_refutes_it() -> None:
    found = decide(snappy({"none": (18, 0), "mpk-abomonation-v1": (130, 0.3), **COPIES}))[2]
    assert found.verdict == "refuted"
    assert "since the fixed cost is already small beside the copies" in found.numbers


def test_the_numbers_of_the_third_are_of_the_smallest_worst_and_largest_size() -> None:
    rows = snappy({"none": (18, 0), "mpk-abomonation-v1": (4400, 0.3), **COPIES})
    worst = {"size": 4096, "workload": "snappy-compress", "backend": "mpk-abomonation-v1"}
    for row in rows:
        if all(row[key] == value for key, value in worst.items()):
            row.update(dict.fromkeys(("mean", "low", "high"), 50_000.0))
    numbers = decide(rows)[2].numbers
    assert "adds 7.09 at 1 B, 33.8 at 4 KiB (the worst), 1.51 at 2 MiB" in numbers


def test_more_than_copies_refutes_it() -> None:
    found = decide(snappy({"none": (18, 0), "mpk-abomonation-v1": (9000, 0.8), **COPIES}))[2]
    assert found.verdict == "refuted"
    assert "fixed cost" not in found.numbers


def test_without_the_cost_of_a_copy_it_is_not_decided() -> None:
    found = decide(snappy({"none": (18, 0), "mpk-abomonation-v1": (4400, 0.3)}))[2]
    assert found.verdict == "not decidable here"
    assert "no snappy-compress of mpk at 2 MiB" in found.numbers


# ---- 4: levels ----


def levels(v1: tuple[float, float], v2: tuple[float, float]) -> list[dict[str, Any]]:
    walls = {"none": (18.0, 0.0)}
    for name, (slow, fast) in (("mpk-abomonation-v1", v1), ("mpk-abomonation-v2", v2)):
        walls |= {f"{name}-O0": (200.0, slow), name: (130.0, fast)}
    return snappy(walls)


def test_a_codec_that_only_the_optimiser_makes_fast_confirms_the_fourth() -> None:
    found = decide(levels((40, 0.3), (0.31, 0.3)))[3]
    assert found.verdict == "confirmed"
    assert "at 2 MiB" in found.numbers


def test_codecs_that_gain_alike_refute_it() -> None:
    assert decide(levels((40, 0.3), (40, 0.3)))[3].verdict == "refuted"


def test_one_level_alone_decides_nothing() -> None:
    rows = [row for row in levels((40, 0.3), (1, 0.3)) if not row["backend"].endswith("-O0")]
    found = decide(rows)[3]
    assert found.verdict == "not decidable here"
    assert "mpk-abomonation-v1-O0" in found.numbers


# ---- intervals ----

_ENDS = st.lists(st.floats(1, 1e6), min_size=3, max_size=3).map(sorted)


@given(_ENDS, _ENDS, st.floats(0, 1), st.floats(0, 1))
def test_a_difference_and_a_ratio_contain_those_of_any_numbers_within(
    one: list[float], other: list[float], x: float, y: float
) -> None:
    first, second = (Interval(mid, low, high) for low, mid, high in (one, other))
    a = min(max(first.low + x * (first.high - first.low), first.low), first.high)
    b = min(max(second.low + y * (second.high - second.low), second.low), second.high)
    difference, ratio = first.minus(second), first.over(second)
    assert difference.low <= a - b <= difference.high
    assert ratio.low * (1 - 1e-12) <= a / b <= ratio.high * (1 + 1e-12)


def test_what_may_be_zero_divides_nothing() -> None:
    with pytest.raises(findings.Undecidable):
        Interval(1, 1, 1).over(Interval(1, 0, 2))


# ---- the table ----


def test_the_table_has_a_row_a_finding_with_test_numbers_and_verdict() -> None:
    table = tables.findings_table(whole_run())
    ((_, cells),) = table.parts
    assert list(cells.columns) == ["finding", "test", "numbers", "verdict"]
    assert len(cells) == 4
    assert cells["finding"].str.startswith(("1. ", "2. ", "3. ", "4. ")).all()
    assert (cells["test"].str.len() > 20).all()
    text = tables.latex(table)
    assert r"\raggedright" in text
    assert "p{0.30\\textwidth}" in text


def test_in_markdown_tests_are_notes_and_numbers_short_while_csv_keeps_them() -> None:
    rows = [*switch(10, 1234.5), make_row("sandcrust-fork", 9e5)]
    table = tables.findings_table(make_run(rows))
    text = tables.markdown(table)
    (head,) = (line for line in text.splitlines() if line.startswith("| finding"))
    assert [name.strip() for name in head.strip("|").split("|")] == [
        "finding", "numbers", "verdict",
    ]  # fmt: skip
    assert "sandcrust-pipe adds 120 " in text
    assert "- Test of 1: What sandcrust-pipe adds" in text
    assert "sandcrust-pipe adds 123" in tables.csv(table)
    assert "sandcrust-pipe adds 123" in tables.latex(table)


@given(st.floats(1, 1e6), st.integers(1, 6))
def test_rounding_is_to_half_a_unit_of_the_last_digit(value: float, digits: int) -> None:
    text = Interval(value, value, value).text(digits)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.5001 * 10 ** (1 - digits))
