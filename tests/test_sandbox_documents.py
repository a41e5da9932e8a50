"""What documents and examples show of `backends.Sandbox` runs as it stands, under every backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import sandbox_documents

if TYPE_CHECKING:
    from pathlib import Path

    from backends.contract import Backend


@pytest.mark.parametrize("snippet", sandbox_documents.SNIPPETS)
def test_the_first_example_works_copied_into_an_empty_file(
    backend: Backend, tmp_path: Path, snippet: str
) -> None:
    sandbox_documents.check_snippet(snippet, backend, tmp_path)


def test_the_guide_runs_from_its_first_block_to_its_last(backend: Backend, tmp_path: Path) -> None:
    sandbox_documents.check_guide(backend, tmp_path)


@pytest.mark.parametrize("name", sandbox_documents.SAID)
def test_the_example_runs(backend: Backend, name: str) -> None:
    sandbox_documents.check_example(name, backend)


def test_there_are_no_other_examples() -> None:
    found = {path.stem for path in sandbox_documents.EXAMPLES.glob("*.py")}
    assert found == set(sandbox_documents.SAID)
