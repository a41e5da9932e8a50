"""Tables as text: Markdown, LaTeX and CSV."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tabulate import tabulate

from harness import comparison

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from harness.tables.table import Table


def markdown(table: Table) -> str:
    """Write a table as Markdown."""
    lines = [f"# {table.title}", ""]
    parts = table.parts if table.markdown_parts is None else table.markdown_parts
    for heading, cells in parts:
        body = _tabulate(cells, "pipe") if len(cells) else "No result."
        lines += [f"## {heading}", "", body, ""]
    notes = [*table.markdown_notes, *table.notes]
    lines += ["- " + _MARKDOWN_SPECIAL.sub(r"\\\g<0>", note) for note in notes]
    return "\n".join([*lines, ""])


def latex(table: Table) -> str:
    r"""Write a table as LaTeX floats, to \input. Needs packages array, booktabs and graphicx."""
    lines = [r"% Needs \usepackage{array,booktabs,graphicx}."]
    for number, (heading, cells) in enumerate(table.parts):
        body = _tabulate(cells, "latex_booktabs") if len(cells) else "No result."
        body = _set_prose(body, cells, table.prose)
        lines += [
            r"\begin{table*}",
            r"\centering\footnotesize",
            rf"\caption{{{_tex(table.title)}. {_tex(heading)}.}}",
            rf"\label{{tab:{table.name}{'' if number == 0 else f'-{number + 1}'}}}",
            # Shrunk if it is wider than the text, and only then.
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            _typeset(body) + "}",
            *(_tex_notes(table) if number == 0 else ()),
            r"\end{table*}",
        ]
    return "\n".join([*lines, ""])


def csv(table: Table) -> str:
    """Write the tidy rows as CSV: numbers in the unit of the row's column `unit`, not rounded."""
    rows = table.rows.rename(columns={"size": "size_bytes"})
    return rows.to_csv(index=False, lineterminator="\n")


def _tabulate(cells: pd.DataFrame, form: str) -> str:
    align = ["left" if name in _TEXT_COLUMNS else "right" for name in cells.columns]
    return tabulate(
        cells.to_dict("list"),
        headers="keys",
        tablefmt=form,
        colalign=align,
        disable_numparse=True,
    )


def _set_prose(body: str, cells: pd.DataFrame, prose: Mapping[str, float]) -> str:
    """Give columns of sentences a width in which they break."""
    if not prose or not len(cells):
        return body
    before, rest = body.split("{tabular}{", 1)
    _, after = rest.split("}", 1)
    columns = [
        rf">{{\raggedright\arraybackslash}}p{{{prose[name]:.2f}\textwidth}}"
        if name in prose
        else "l"
        for name in cells.columns
    ]
    return f"{before}{{tabular}}{{{''.join(columns)}}}{after}"


_TEXT_COLUMNS = {
    "backend", "kind", "provenance", "quantity", "image", "content", "finding", "test", "numbers",
    "verdict", "attack", "group", "means", "summary", "without a wall", "control", "claim",
    "refuted by", "got through, not claimed", "reason", "remedy",
}  # fmt: skip
_MARKDOWN_SPECIAL = re.compile(r"[\\`*_<>|]")
_TEX_SYMBOLS = str.maketrans(
    {"µ": r"$\mu$", comparison.TIMES: r"$\times$", "–": "--", "—": "---", "…": "..."}
)
_TEX_SPECIAL = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)


def _tex_notes(table: Table) -> list[str]:
    return [r"\par\smallskip\raggedright", *(_tex(note) for note in table.notes)]


def _tex(text: str) -> str:
    """Escape what LaTeX gives a meaning to."""
    return _typeset(text.translate(_TEX_SPECIAL).replace("--", "-{}-"))


def _typeset(text: str) -> str:
    """Write symbols as LaTeX does; what its default font lacks becomes a question mark."""
    text = text.translate(_TEX_SYMBOLS)
    return "".join(c if c.isascii() or "À" <= c <= "ÿ" else "?" for c in text)
