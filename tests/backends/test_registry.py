from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

import pytest

from backends import none, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
