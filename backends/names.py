"""What to say of a name that is none of those there are."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


_SHOWN = 4  # suggestions that can be read at a glance


def unknown(kind: str, name: str, known: Sequence[str], *, listed_by: str = "") -> str:
    """Say that there is no such name, and which one may have been meant.

    Args:
        kind: What it should be the name of: `backend`.
        name: What was given.
        known: The names there are.
        listed_by: A command that lists them, where they are too many for a message.
    """
    meant = name.lower()
    # A part of a name is meant as well as the whole: `sandcrust` of `sandcrust-pipe`.
    close = difflib.get_close_matches(meant, known) or [
        each for each in known if difflib.get_close_matches(meant, each.split("-"))
    ]
    hint = f"did you mean {' or '.join(close[:_SHOWN])}?" if close else ""
    if listed_by:
        hint += f"{' ' if hint else ''}`{listed_by}` shows all {len(known)}"
    elif not hint:
        hint = f"there are: {', '.join(known)}"
    return f"no {kind} {name!r}; {hint}"
