"""What the notebooks use: the run that they read, how they show things, how they are executed.

Each notebook is a pair: `NAME.py`, text that is edited and reviewed, and `NAME.ipynb`, which is
made from it and keeps the outputs. `make notebooks` executes all.

IPython, jupytext and nbclient come with the project's extra `test`.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import results, tables

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matplotlib.figure import Figure

    from harness.results import Run

#: The environment variable that names the run; a relative one starts at the notebook's folder.
VARIABLE = "ISOBENCH_RUN"

_DEFAULT = "../results/reference"
_DPI = 100
_TIME_LIMIT = 120  # seconds a cell


def run() -> Run:
    """Read the run that `ISOBENCH_RUN` names, by default the reference run.

    Raises:
        StorageError: It is not a run.
    """
    return results.load(Path(os.environ.get(VARIABLE) or _DEFAULT))


def show_figures(figures: Iterable[Figure], otherwise: str) -> None:
    """Show figures; where there are none, say so."""
    from IPython.display import Image, display

    shown = False
    for figure in figures:
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=_DPI)
        display(Image(picture.getvalue()))  # type: ignore[no-untyped-call] # IPython
        shown = True
    if not shown:
        _say(otherwise)


def show_tables(made: Iterable[tables.Table | None], otherwise: str) -> None:
    """Show tables; where there are none, say so."""
    from IPython.display import Markdown, display

    shown = False
    for table in made:
        if table is not None:
            display(Markdown(tables.markdown(table)))  # type: ignore[no-untyped-call] # IPython
            shown = True
    if not shown:
        _say(otherwise)


def _say(what: str) -> None:
    from IPython.display import Markdown, display

    display(Markdown(f"*Not in this run: {what}*"))  # type: ignore[no-untyped-call] # IPython


def execute(text: Path) -> Any:
    """Execute a notebook from its text.

    Args:
        text: `NAME.py`; the notebook runs in its folder.

    Returns:
        The notebook with outputs, an `nbformat.NotebookNode`.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised an exception.
    """
    import jupytext
    from nbclient import NotebookClient

    notebook = jupytext.read(text)
    # Names by place: the same text gives the same file.
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    NotebookClient(
        notebook,
        timeout=_TIME_LIMIT,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],  # a kernel warns that it listens on this host
        record_timing=False,
        resources={"metadata": {"path": str(text.parent)}},
    ).execute()
    # What remains is the same on every machine.
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3", "language": "python", "name": "python3",
    }  # fmt: skip
    notebook.metadata.pop("language_info", None)
    return notebook


def main(folder: Path) -> None:
    """Execute every notebook of a folder and write it beside its text."""
    import nbformat

    for text in sorted(folder.glob("*.py")):
        path = text.with_suffix(".ipynb")
        nbformat.write(execute(text), path)  # type: ignore[no-untyped-call]
        print(path)  # noqa: T201 - what a command of the Makefile shows


if __name__ == "__main__":
    main(Path(sys.argv[1]))
