from __future__ import annotations

import dataclasses
import itertools
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from backends import none, registry
from harness.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def install(**offers: object) -> None:
        entries = [EntryPoint("none", "backends.none:BACKENDS", registry.GROUP)]
        for name, offer in offers.items():
            monkeypatch.setattr(none, name, offer, raising=False)
            entries.append(EntryPoint(name, f"backends.none:{name}", registry.GROUP))
        # Not the project's own, whatever the module: `value` is what says so.
        monkeypatch.setattr(registry, "_is_ours", lambda entry: entry.name == "none")
        monkeypatch.setattr(registry, "entry_points", lambda group: entries)
        registry._load.cache_clear()

    yield install
    registry._load.cache_clear()


def backend(name: str, kind: str = "wall") -> none.NoIsolation:
    return none.NoIsolation(name=name, summary="A test.", mechanism="none", kind=kind)


def test_third_parties_backends_are_found(installed: Callable[..., None]) -> None:
    installed(one=backend("mine"), several=(backend("his"), backend("hers")))
    names = [b.name for b in registry.all_backends()]
    assert names == ["none", "none-default-malloc", "hers", "his", "mine"]
    assert registry.find("mine").name == "mine"
    assert registry.broken() == []


@pytest.mark.parametrize(
    ("offer", "error"),
    [
        (7, "is not a backends.contract.Backend"),
        ([backend("none")], "'none' is taken"),
        (backend("Not A Name"), "only letters, digits, dashes"),
        (backend("mine", "fence"), "fence"),
    ],
)
def test_a_bad_offer_is_reported_and_the_rest_goes_on(
    installed: Callable[..., None], offer: object, error: str
) -> None:
    installed(bad=offer, good=backend("good"))
    assert [b.name for b in registry.all_backends()] == ["none", "none-default-malloc", "good"]
    [broken] = registry.broken()
    assert "bad" in broken.entry_point
    assert error in broken.error


class Speechless(Exception):  # noqa: N818 - what a plug-in might raise
    def __str__(self) -> str:
        raise RuntimeError("not even that")


class Unsure(none.NoIsolation):
    def availability(self):
        raise OSError("no idea")


class Vague(none.NoIsolation):
    def availability(self):
        return True


def raising(error: BaseException) -> Iterator[none.NoIsolation]:
    raise error
    yield


HOSTILE = {
    "an endless iterable": (lambda: itertools.repeat(backend("mine")), "more than 1000"),
    "an iterable that raises": (lambda: raising(ValueError("in the middle")), "in the middle"),
    "an iterable that exits": (lambda: raising(SystemExit(3)), "SystemExit: 3"),
    "an error that cannot be told": (lambda: raising(Speechless()), "Speechless"),
    "a name that is no text": (lambda: backend(7), "only letters"),
    "a name with a line break": (lambda: backend("mine\n"), "only letters"),
    "a kind that is no text": (lambda: backend("mine", []), "none of the three"),
    "a summary that is no text": (lambda: changed(summary=None), "summary is None"),
    "a mechanism that is no text": (lambda: changed(mechanism=b"x"), "mechanism is b'x'"),
    "guarantees that are none": (lambda: changed(guarantees={"heap": True}), "no Guarantees"),
    "options that are none": (lambda: changed(options=["a"]), "no Mapping"),
    "an option that is no text": (lambda: changed(options={"cpu": 1}), r"('cpu', 1)"),
    "availability that raises": (lambda: Unsure("mine", "A test.", "none"), "no idea"),
    "availability that says nothing": (lambda: Vague("mine", "A test.", "none"), "no Availability"),
}


def changed(**attributes: object) -> none.NoIsolation:
    return dataclasses.replace(backend("mine"), **attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", HOSTILE)
def test_a_plug_in_that_misbehaves_is_reported_by_the_list_and_the_rest_goes_on(
    installed: Callable[..., None], what: str
) -> None:
    make, error = HOSTILE[what]
    installed(bad=make(), good=backend("good"))
    for options in ([], ["--json"]):
        listed = CliRunner().invoke(main, ["list", *options])
        assert listed.exit_code == 0, listed.output
        assert "good" in listed.stdout
        assert "warning: backend bad" in listed.stderr
        assert error in listed.stderr


@pytest.mark.parametrize("text", ["no equals sign", "[isobench.backends]\nno equals sign"])
def test_a_package_with_malformed_entry_points_is_reported_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    metadata = tmp_path / "spoiler-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: spoiler\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"{text}\n")
    names = [b.name for b in registry.all_backends()]
    monkeypatch.syspath_prepend(tmp_path)
    registry._load.cache_clear()
    try:
        assert [b.name for b in registry.all_backends()] == names
        assert all("spoiler" in broken.entry_point for broken in registry.broken())
        assert len(registry.broken()) == text.startswith("[")
    finally:
        registry._load.cache_clear()


def test_a_package_that_cannot_be_imported_is_reported(
    installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()
    entries = [EntryPoint("gone", "no_such_module:BACKEND", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)
    registry._load.cache_clear()
    assert registry.all_backends() == []
    assert "no_such_module" in registry.broken()[0].error


def test_an_unknown_name_is_an_error_that_says_where_the_known_ones_are() -> None:
    with pytest.raises(LookupError, match=r"no backend 'mkp'; .* `isobench list`"):
        registry.find("mkp")
