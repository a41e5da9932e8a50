from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from legible import assert_legible, prose, texts
from made_up_matrices import HERE, attack, make_matrix, verdict, whole_matrix
from made_up_runs import EMULATED, make_row, make_run
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_rgb

from harness.attacks import cost, grid, model
from harness.attacks.model import GROUPS, Matrix, Outcome
from harness.figures import attack_cells, attack_matrix, style

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

_IN_THE_LEGEND = Counter([*grid.LETTERS.values(), grid.REFUTED])


def costs() -> cost.Costs:
    rows = [make_row("none", 1.5), make_row("sandcrust-pipe", 2000)]
    return cost.of(make_run([*rows, make_row("mpk", 89, **EMULATED)]))


def marks(figure: Figure) -> Counter[str]:
    """Count the marks in cells, without the legend's."""
    drawn: Counter[str] = Counter()
    for shapes in figure.findobj(PathCollection):
        drawn[str(shapes.get_label())] += len(shapes.get_offsets())
    return drawn - _IN_THE_LEGEND


def fills(figure: Figure) -> list[tuple[float, ...]]:
    """List the colours of the cells."""
    largest = max(figure.findobj(PolyCollection), key=lambda cells: len(cells.get_paths()))
    return [tuple(colour[:3]) for colour in largest.get_facecolor()]


def every_outcome(**other: list[str]) -> Matrix:
    attacks = [attack(outcome, row=f"ends {outcome}") for outcome in Outcome]
    return make_matrix(attacks, [verdict("wall", o, o, **other) for o in Outcome])


def luminance(colour: tuple[float, ...]) -> float:
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_outcome_has_a_colour_and_a_letter_of_its_own() -> None:
    figure = attack_matrix.draw(every_outcome())
    assert marks(figure) == Counter(grid.LETTERS.values())
    assert len(set(fills(figure))) == len(Outcome)
    assert_legible(figure)


def test_letters_stand_out_against_what_is_under_them() -> None:
    for colour in fills(attack_matrix.draw(every_outcome())):
        contrast = (luminance(colour) + 0.05) / 0.05
        assert contrast > 4.5  # WCAG 2, level AA


def test_harm_and_each_kind_of_holding_get_darker_as_they_get_worse() -> None:
    colours = dict(zip(Outcome, fills(attack_matrix.draw(every_outcome())), strict=True))
    held = [Outcome.HARMLESS, Outcome.RECOVERED, Outcome.REFUSED, Outcome.CONTAINED]
    harm = [Outcome.DISCLOSED, Outcome.HUNG, Outcome.HOST_DIED, Outcome.ESCAPED]
    for outcomes in (held, harm):
        light = [luminance(colours[outcome]) for outcome in outcomes]
        assert light == sorted(light, reverse=True)


def test_a_refuted_claim_is_black_with_a_mark_of_its_own() -> None:
    figure = attack_matrix.draw(every_outcome(refuted=["heap"]))
    assert set(fills(figure)) == {to_rgb("black")}
    assert marks(figure) == Counter(f"{letter}!" for letter in grid.LETTERS.values())


def test_all_groups_rows_walls_and_machines_are_there() -> None:
    matrix = whole_matrix()
    figure = attack_matrix.draw(matrix, costs())
    shown = texts(figure)
    for group in GROUPS:
        assert group in shown
    for one in matrix.attacks:
        assert one.row in " ".join(shown)
    for wall in matrix.guarantees:
        assert shown.count(wall) == 1
    assert shown.count("emulated 6.1") == 10
    for wall, machine in (("mpk-view", "emulated 6.1"), ("none", "here")):
        assert any(v.backend == wall and v.machine == machine for v in matrix.verdicts)
    cells = grid.lay_out(matrix).cells
    assert marks(figure) == Counter(cell.mark for cell in cells.values())
    assert_legible(figure)


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_legible_on_a_page_with_all_that_explains_it(group: str) -> None:
    matrix = whole_matrix(2)
    figure = attack_matrix.draw(matrix, costs(), group)
    width, height = figure.get_size_inches()
    assert width == style.PAGE
    assert height < 9.5
    text = prose(figure)
    rows = {one.name for one in matrix.attacks if one.group == group}
    used = {v.outcome for v in matrix.verdicts if v.attack in rows}
    for outcome, words in grid.WORDS.items():
        assert (words in text) == (outcome in used)
    for words in (grid.REFUTED_WORDS, grid.MEANS_WORDS, grid.ADMITTED_WORDS):
        assert words in text
    assert "Machine emulated 6.12: Linux 6.12.9-amd64" in text
    assert "Not attacked: page-table (tables/attacks-absent)." in text
    assert_legible(figure)


def test_a_group_of_many_rows_is_split_evenly_over_pages() -> None:
    rows = [attack(f"a-{n}", row=f"row {n} of the many") for n in range(65)]
    matrix = make_matrix(rows, [verdict("mpk", one.name) for one in rows])
    (all_rows,) = grid.lay_out(matrix).groups.values()
    assert [len(part) for part in attack_matrix.parts(all_rows)] == [21, 22, 22]
    figures = [attack_matrix.draw(matrix, None, "memory", part) for part in range(3)]
    assert sum((marks(figure) for figure in figures), Counter()) == Counter({"E": 65})
    assert "memory, 3 of 3" in prose(figures[2])
    assert "row 64 of the many" in texts(figures[2])


def test_a_page_has_room_for_as_many_rows_as_are_put_on_it() -> None:
    rows = [attack(f"a-{n}", row=f"row {n}") for n in range(attack_matrix._ROWS)]
    whole = whole_matrix()
    walls = {(v.backend, v.machine) for v in whole.verdicts}
    verdicts = [verdict(wall, one.name, machine=machine) for wall, machine in walls for one in rows]
    matrix = make_matrix(rows, verdicts, machines=whole.machines)
    assert attack_matrix.draw(matrix, costs(), "memory").get_size_inches()[1] < 9.5


def test_the_summary_has_the_worst_of_each_group_and_how_many_rows_came_to_it() -> None:
    attacks = [attack("one"), attack("two"), attack("three"), attack("four", group="environment")]
    ends = (Outcome.ESCAPED, Outcome.ESCAPED, Outcome.RECOVERED, Outcome.CONTAINED)
    verdicts = [verdict("wall", a.name, end) for a, end in zip(attacks, ends, strict=True)]
    figure = attack_matrix.draw_summary(make_matrix(attacks, verdicts))
    assert marks(figure) == Counter({"E": 1, "2": 1, "c": 1, "1": 1})
    assert {"memory", "3 rows", "environment", "1 row"} <= set(texts(figure))
    # One claim refuted is worse than any harm that none excludes.
    verdicts[2] = verdict("wall", "three", Outcome.HOST_DIED, refuted=["recovery"])
    figure = attack_matrix.draw_summary(make_matrix(attacks, verdicts))
    assert marks(figure) == Counter({"X!": 1, "1": 2, "c": 1})
    assert_legible(attack_matrix.draw_summary(whole_matrix(), costs()))


def test_cost_stands_over_each_wall_once_and_a_dash_where_it_is_not_known() -> None:
    figure = attack_matrix.draw(whole_matrix(), costs(), "benign")
    shown = texts(figure)
    assert [shown.count(text) for text in ("1.5 ns", "2.0 µs", "89.0")] == [1, 1, 1]
    walls = len(whole_matrix().guarantees)
    assert shown.count("–") == 2 * walls - 3
    assert all(source in prose(figure) for source in costs().sources())
    bare = prose(attack_matrix.draw(whole_matrix(), None, "benign"))
    assert "empty call" not in bare
    assert "–" not in bare


def test_means_stand_beside_each_row_and_what_proves_nothing_is_marked() -> None:
    means = get_args(model.Means)
    attacks = [attack(name, means=by) for name, by in zip("abcde", means, strict=True)]
    verdicts = [verdict("none", one.name, Outcome.HARMLESS) for one in attacks[1:]]
    figure = attack_matrix.draw(make_matrix(attacks, [verdict("none", "a"), *verdicts]))
    shown = texts(figure)
    assert {"a", "b *", "c *", "d *", "e *", "M", "S", "W", "R", "L"} <= set(shown)
    assert grid.NO_CONTROL_WORDS in prose(figure)


def test_an_empty_matrix_gives_figures_that_say_so(tmp_path: Path) -> None:
    for matrix in (make_matrix(), make_matrix([attack()]), make_matrix(complete=False)):
        for figure in (attack_matrix.draw(matrix), attack_matrix.draw_summary(matrix, costs())):
            assert "No attack was tried." in prose(figure)
            assert_legible(figure)
    paths = attack_matrix.draw_all(make_matrix(machines=[]), None, tmp_path)
    assert {path.stem for path in paths} == {"attacks-summary", "attacks-all"}


def test_one_wall_has_a_figure_of_a_columns_width() -> None:
    figure = attack_matrix.draw(make_matrix([attack()], [verdict("none")]), costs())
    assert figure.get_size_inches()[0] == style.COLUMN
    assert marks(figure) == Counter("E")
    assert_legible(figure)


def test_what_has_not_run_is_blank_and_said() -> None:
    matrix = make_matrix([attack("a"), attack("b")], [verdict("mpk", "a")], complete=False)
    figure = attack_matrix.draw(matrix)
    assert marks(figure) == Counter("E")
    assert "Not complete" in prose(figure)


# Each example is a drawing of seconds: a failing one is not made smaller.
@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.lists(st.from_regex(r"[a-z]{1,12}(-[a-z0-9]{1,12}){0,3}", fullmatch=True),
             min_size=1, max_size=30, unique=True),
    st.integers(1, 3),
)  # fmt: skip
def test_walls_of_any_names_and_number_are_legible(names: list[str], machines: int) -> None:
    row = "a row that has a very long name, longer than there is room for beside the cells"
    verdicts = [
        verdict(name, machine=f"machine {number}") for name in names for number in range(machines)
    ]
    matrix = make_matrix([attack(row=row)], verdicts, machines=[HERE])
    for figure in (attack_matrix.draw(matrix, costs()), attack_matrix.draw_summary(matrix)):
        assert_legible(figure)


def test_the_widest_mark_fits_the_narrowest_cell() -> None:
    for text in (*(f"{letter}!" for letter in grid.LETTERS.values()), "99"):
        box = attack_cells._shape(text, "bold").get_extents()
        assert box.width / 72 < attack_cells.LEAST
        assert abs(box.x0 + box.x1) < 0.01


def test_figures_are_written_in_three_formats_by_group(tmp_path: Path) -> None:
    matrix = make_matrix(
        [attack("a"), attack("b", group="control flow"), attack("c", group="né/../w")],
        [verdict("none", name) for name in "abc"],
    )
    paths = attack_matrix.draw_all(matrix, None, tmp_path)
    names = ["attacks-summary", "attacks-all", "attacks-memory", "attacks-control-flow"]
    assert [path.name for path in paths] == [
        f"{name}.{suffix}" for name in [*names, "attacks-n-w"] for suffix in ("png", "svg", "pdf")
    ]
    assert all(path.parent == tmp_path and path.stat().st_size for path in paths)
