from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import registry
from backends.names import unknown

BACKENDS = [backend.name for backend in registry.all_backends()]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("mkp", "mpk"),
        ("MPK", "mpk"),
        ("sandcrust-pip", "sandcrust-pipe"),
        ("sandcrust", "sandcrust-pipe"),
        ("abomination", "mpk-abomonation-v1"),
    ],
)
def test_a_misspelt_backend_is_told_which_was_meant(name: str, meant: str) -> None:
    with pytest.raises(LookupError, match=f"no backend '{name}'; did you mean .*{meant}"):
        registry.find(name)


@given(st.text(max_size=40))
def test_a_message_about_a_backend_fits_two_lines_and_says_where_all_are(name: str) -> None:
    message = unknown("backend", name, BACKENDS, listed_by="isobench list")
    assert message.endswith(f"`isobench list` shows all {len(BACKENDS)}")
    assert len(message) < 160 + len(repr(name))


@given(st.lists(st.from_regex("[a-z]{2,6}(-[a-z]{2,6})?", fullmatch=True), min_size=1))
def test_names_that_no_command_lists_are_in_the_message(known: list[str]) -> None:
    message = unknown("workload", "?", known)
    assert message == f"no workload '?'; there are: {', '.join(known)}"
