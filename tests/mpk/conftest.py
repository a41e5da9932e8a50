"""Tests that need protection keys: collected where the CPU has them.

Elsewhere tests/test_protection_keys.py runs them in the emulated machine.
"""

from __future__ import annotations

from backends import registry

collect_ignore_glob = []
if not registry.find("mpk").availability().available:
    collect_ignore_glob = ["test_*.py"]
