"""Figures and tables that are made again are whole, the old or the new, whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up_matrices import whole_matrix
from made_up_runs import make_row, make_run
from matplotlib.figure import Figure

from harness import figures, tables
from harness.attacks import report

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = make_run([make_row("none", 2.0), make_row("sandcrust-pipe", 4000.0)])


def half_a_figure(_: Figure, path: Path, **__: object) -> None:
    Path(path).write_bytes(b"half")
    raise KeyboardInterrupt


def half_a_text(path: Path, _: str, **__: object) -> None:
    path.write_bytes(b"half")
    raise KeyboardInterrupt


def draw(folder: Path) -> None:
    figures.draw_all(RUN, folder)


def tabulate(folder: Path) -> None:
    tables.write_all(RUN, folder)


def show_matrix(folder: Path) -> None:
    report.write_all(whole_matrix(), None, folder)


@pytest.mark.parametrize(
    ("make", "kind", "method", "half"),
    [
        (draw, Figure, "savefig", half_a_figure),
        (show_matrix, Figure, "savefig", half_a_figure),
        (tabulate, Path, "write_text", half_a_text),
        (show_matrix, Path, "write_text", half_a_text),
    ],
)
def test_what_was_there_stays_until_the_new_is_whole(  # noqa: PLR0913, PLR0917 - and fixtures
    make: Callable[[Path], None],
    kind: type,
    method: str,
    half: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before
    with monkeypatch.context() as patch:
        patch.setattr(kind, method, half)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
