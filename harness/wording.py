"""How numbers are said in messages."""

from __future__ import annotations


def number(count: int, noun: str) -> str:
    """Say how many there are of what a regular noun names: `1 cell`, `2 processes`."""
    plural = noun if count == 1 else f"{noun}{'es' if noun.endswith('s') else 's'}"
    return f"{count} {plural}"


def duration(seconds: float) -> str:
    """Say a duration as a person would."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
