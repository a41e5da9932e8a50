from __future__ import annotations

import math

import pytest
from made_up_runs import EMULATED, make_row, make_run

from harness import comparison, literature, results


def test_every_figure_has_a_unit_and_says_where_it_is_from() -> None:
    figures = literature.figures()
    assert (figures["source"].str.len() > 10).all()
    assert set(figures["unit"]) == {"instructions", "ratio to none"}
    assert (figures["value"] > 0).all()
    key = ["workload", "content", "size", "system", "codec"]
    assert not figures.duplicated(key).any()


def test_figures_are_those_of_the_artifact() -> None:
    at = {"content": "random", "size": 65536}
    assert literature.value("snappy-compress", "sdrad-ffi", codec="abomonation-v1", **at) == 43245
    assert literature.value("snappy-compress", "none", **at) == 14448
    assert literature.value("switch", "sdrad-ffi") == 297
    assert literature.value("malloc", "sdrad", content="pairs") == 521
    assert math.isnan(literature.value("switch", "no-such-system"))


def test_quoted_rows_have_the_columns_of_the_tidy_table_and_no_spread() -> None:
    rows = literature.counts(["switch", "snappy-compress"])
    assert set(results.COLUMNS) <= set(rows.columns)
    assert set(rows["provenance"]) == {"literature"}
    assert rows[["std", "low", "high"]].isna().all(axis=None)
    assert rows["backend"].str.endswith("(quoted)").all()
    assert not (rows["backend"] == comparison.BASELINE).any()


def test_pkru_safe_is_the_papers_factor_times_the_runs_own_baseline_in_time() -> None:
    rows = [make_row("none", 2.0), make_row("none", 18, **EMULATED)]
    (row,) = literature.pkru_safe(make_run(rows).table).to_dict("records")
    assert row["mean"] == pytest.approx(17.1)
    assert (row["unit"], row["provenance"], row["mechanism"]) == ("ns", "literature", "pkru-safe")
    assert "(quoted)" in row["backend"]


def test_without_a_baseline_in_time_nothing_is_extrapolated() -> None:
    table = make_run([make_row("none", 18, **EMULATED), make_row("mpk", 9)]).table
    assert literature.pkru_safe(table).empty


def test_a_row_is_put_beside_the_artifacts_count_of_the_same_work_only() -> None:
    emulated = {"mechanism": "mpk", **EMULATED}
    of_size = {"workload": "snappy-compress", "content": "random", "size": 64}
    count = literature.counterpart
    assert count(make_row("mpk-bincode-v2", 1, **emulated, **of_size)) == 8087
    assert count(make_row("none", 1, **EMULATED, **of_size)) == 1490
    assert count(make_row("mpk", 1, **emulated)) == 297
    no = [
        make_row("mpk-bincode-v2", 1, mechanism="mpk", **of_size),  # in time
        make_row("mpk", 1, **emulated, **of_size),  # the artifact has no such wall
        make_row("mpk-bincode-v2", 1, **emulated, **(of_size | {"content": "text"})),
        make_row("mpk-bincode-v2", 1, **emulated, **(of_size | {"size": 65})),
        make_row("acme", 1, **EMULATED),
    ]
    assert all(math.isnan(count(row)) for row in no)


def test_a_ratio_of_the_artifact_is_to_its_own_baseline() -> None:
    row = make_row("sandcrust-pipe", 1, workload="png-decode", content="rgb-701x599", size=7)
    assert literature.counterpart_ratio(row) == pytest.approx(117789528 / 27726272)
