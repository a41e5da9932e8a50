from __future__ import annotations

import os

import pytest

from backends import registry
from backends.contract import Availability
from harness import inputs, pyperf_options, workloads
from harness.plan import PRESETS, Cell, PlanError, make_plan


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_measures_every_standard_backend_and_workload(preset: str) -> None:
    plan = make_plan(preset)
    standard = [b for b in registry.all_backends() if b.standard != frozenset()]
    if not PRESETS[preset].copied:  # none that only a copied content is for
        standard = [b for b in standard if b.workloads is None or b.kind == "reference"]
    available = {b.name: b.availability() for b in standard}
    here = {name for name, a in available.items() if a.available}
    there = {name for name, a in available.items() if a.emulated}
    assert {c.backend for c in plan.cells if c.provenance == "measured"} == here
    assert {c.backend for c in plan.cells} == here | there
    assert {cell.workload for cell in plan.cells} == {w.name for w in workloads.WORKLOADS}


def test_a_backend_that_is_not_standard_is_measured_when_it_is_named() -> None:
    unusual = "mpk-bincode-v1-O0"
    assert unusual not in {cell.backend for cell in make_plan("paper").cells}
    assert {cell.backend for cell in make_plan("quick", backends=[unusual]).cells} >= {unusual}


def test_a_backend_is_measured_in_its_standard_workloads_alone_unless_it_is_named() -> None:
    def measured(*named: str) -> set[str]:
        cells = make_plan("quick", backends=named).cells
        return {cell.workload for cell in cells if cell.backend == "mpk-strict"}

    assert measured() == {"switch"}
    assert measured("mpk-strict") == {cell.workload for cell in make_plan("quick").cells}


def test_codecs_are_measured_on_the_contents_of_the_preset_or_of_the_user() -> None:
    def contents(**named: list[str]) -> set[str]:
        cells = make_plan("quick", workload_names=["snappy-compress"], **named).cells
        return {cell.content for cell in cells if cell.backend == "mpk-bincode-v1"}

    assert contents() == {"random"}
    assert contents(contents=["text"]) == {"text"}


def test_the_papers_preset_has_all_sizes_of_the_paper_and_both_contents() -> None:
    plan = make_plan("paper")
    snappy = [cell for cell in plan.cells if cell.workload.startswith("snappy")]
    sized = {(cell.content, cell.size) for cell in snappy}
    sizes = {1, 8, 64, 256, 512, 1024, 4096, 1 << 14, 1 << 15, 1 << 16, 1 << 18, 1 << 21}
    assert sized == {(content, size) for content in ("random", "text") for size in sizes}


def test_presets_keep_their_promised_times() -> None:
    assert make_plan("smoke", emulate=False).total_seconds() < 75
    assert make_plan("smoke").total_seconds() < 105
    assert make_plan("quick", emulate=False).total_seconds() < 8.5 * 60
    assert make_plan("quick").total_seconds() < 15 * 60


def test_names_of_cells_are_unique() -> None:
    cells = make_plan("paper").cells + make_plan("paper", level="python").cells
    names = [cell.name for cell in cells if cell.backend != "none" or cell.level]
    assert len(set(names)) == len(set(cells))


def test_what_is_asked_for_narrows_the_preset() -> None:
    plan = make_plan(
        "quick",
        backends=["none", "none"],
        workload_names=["snappy-compress"],
        contents=["text"],
        sizes=[7, 7],
        level="python",
    )
    assert plan.cells == (
        Cell(backend="none", workload="snappy-compress", content="text", size=7, level="python"),
    )


def test_contents_that_are_no_choice_of_the_user_have_one_size_each() -> None:
    cells = make_plan("quick", backends=["none"], emulate=False).cells
    images = [(cell.content, cell.size) for cell in cells if cell.workload == "png-decode"]
    assert images == [(name, len(inputs.image(name).file)) for name in inputs.PAPER_IMAGES]
    pairs = {(cell.content, cell.size) for cell in cells if cell.workload == "malloc"}
    assert pairs == {("pairs", 2000), ("live-1000", 84_000)}


def test_contents_narrow_workloads_to_those_that_have_them() -> None:
    plan = make_plan("quick", backends=["none"], contents=["text", "matplotlib-logo"], sizes=[7])
    assert {(c.workload, c.content) for c in plan.cells if c.provenance == "measured"} == {
        ("switch", ""),
        ("snappy-compress", "text"),
        ("snappy-uncompress", "text"),
        ("png-decode", "matplotlib-logo"),
    }


def test_rewind_is_measured_where_recovery_is_claimed_and_elsewhere_there_is_a_reason() -> None:
    plan = make_plan("smoke", workload_names=["rewind"])
    claims = {b.name: b.guarantees.recovery for b in registry.all_backends()}
    assert all(claims[cell.backend] for cell in plan.cells)
    assert "sandcrust-fork" in {cell.backend for cell in plan.cells}
    missing = {u.backend: u for u in plan.unavailable if u.workload}
    assert {"none", "none-default-malloc"} <= set(missing)
    assert "pipe-floor" not in missing  # which runs no function anyway
    assert "no recovery" in missing["none"].reason
    assert missing["none"].workload == "rewind"
    assert not any(u.workload for u in make_plan("smoke", workload_names=["malloc"]).unavailable)


def test_a_reference_is_measured_only_on_what_it_can_run() -> None:
    cells = make_plan("quick", backends=["pipe-floor"]).cells
    assert {cell.workload for cell in cells} == {"switch"}


def test_an_unavailable_backend_is_listed_with_reason_and_remedy() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        plan = make_plan("smoke")
    finally:
        os.sched_setaffinity(0, before)
    unavailable = {u.backend: u for u in plan.unavailable}
    assert "2 CPUs" in unavailable["sandcrust-pipe-other-core"].reason
    assert unavailable["sandcrust-pipe-other-core"].remedy
    assert "sandcrust-pipe-other-core" not in {cell.backend for cell in plan.cells}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "huge"}, "no preset 'huge'"),
        ({"preset": "smoke", "backends": ["mkp"]}, "no backend 'mkp'; did you mean mpk?"),
        ({"preset": "smoke", "workload_names": ["gzip"]}, "no workload 'gzip'"),
        ({"preset": "smoke", "contents": ["images"]}, "no content 'images'"),
        (
            {"preset": "smoke", "workload_names": ["switch"], "contents": ["text"]},
            "no content 'text' of switch; it takes none",
        ),
        (
            {"preset": "smoke", "workload_names": ["png-decode"], "contents": ["text"]},
            "no content 'text' of png-decode; there are: palette-256x256",
        ),
        (
            {
                "preset": "smoke",
                "workload_names": ["png-decode", "snappy-compress"],
                "contents": ["text"],
            },
            "no content is named for png-decode; there are: palette-256x256",
        ),
        (
            {"preset": "smoke", "workload_names": ["switch", "malloc"], "sizes": [64]},
            "size 64: .*snappy-compress, snappy-uncompress",
        ),
        (
            {"preset": "smoke", "workload_names": ["rewind"], "backends": ["none"]},
            "nothing to measure.*none: .*no recovery",
        ),
        ({"preset": "smoke", "sizes": [0]}, "size 0"),
        (
            {"preset": "smoke", "contents": ["pairs"], "sizes": [64]},
            "size 64: the contents pairs have their own; for: snappy-compress, snappy-uncompress",
        ),
        (
            {"preset": "smoke", "backends": ["none", "pipe-floor"], "workload_names": ["malloc"]},
            "backend pipe-floor: nothing of what was chosen",
        ),
        ({"preset": "smoke", "emulate": True, "level": "python"}, "--level python"),
        (
            {"preset": "smoke", "backends": ["pipe-floor"], "emulate": True},
            "--emulate: no chosen backend can be counted",
        ),
        ({"preset": "smoke", "pyperf": ["--frobnicate"]}, "frobnicate"),
        ({"preset": "smoke", "pyperf": ["--processes", "many"]}, "many"),
        ({"preset": "smoke", "pyperf": ["-o", "x.json"]}, "--output is given by the harness"),
        (
            {"preset": "smoke", "backends": ["pipe-floor"], "workload_names": ["snappy-compress"]},
            "nothing to measure",
        ),
    ],
)
def test_a_plan_that_makes_no_sense_says_why(arguments: dict, message: str) -> None:
    preset = arguments.pop("preset")
    with pytest.raises(PlanError, match=message):
        make_plan(preset, **arguments)


def test_options_of_pyperf_come_after_the_presets_and_win() -> None:
    plan = make_plan("smoke", pyperf=["--processes=9"])
    assert pyperf_options.parse(plan.pyperf).processes == 9
    assert make_plan("smoke", pyperf=["--rigorous"]).total_seconds() > plan.total_seconds()


def test_options_of_pyperf_are_refused_where_nothing_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = Availability.no("no protection keys", "emulate them", emulated=True)
    monkeypatch.setattr(type(registry.find("mpk")), "availability", lambda _: counted)
    there = {"backends": ["mpk"], "workload_names": ["switch"], "modelled": False}
    assert {cell.provenance for cell in make_plan("smoke", **there).cells} == {"emulated"}
    with pytest.raises(PlanError, match=r"options of pyperf \(--rigorous\): .*emulated machine"):
        make_plan("smoke", **there, pyperf=["--rigorous"])
