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
    assert "100 times" in found.numbers


def test_a_switch_ninety_times_cheaper_refutes_it() -> None:
    assert decide(switch(10, 900))[0].verdict == "refuted"


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


def test_a_cost_that_grows_as_fast_as_the_work_refutes_it() -> None:
    found = decide(snappy({"none": (18, 0), "mpk-abomonation-v1": (130, 0.3), **COPIES}))[2]
    assert found.verdict == "refuted"


def test_more_than_copies_refutes_it() -> None:
    found = decide(snappy({"none": (18, 0), "mpk-abomonation-v1": (9000, 0.8), **COPIES}))[2]
    assert found.verdict == "refuted"


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
