"""Hostile foreign functions against every wall: what each does to its caller, as observed.

An attack runs in a *host*, a process of its own that opens a sandbox and calls one hostile function
in it (`host.py`). The host is full of *canaries*, things that no foreign function may change or
tell (`canaries.py`). A *supervisor* outside decides what happened (`supervisor.py`). The attacks
are listed in `catalogue.py`, their code is in native/attack; `matrix.py` runs all of them against
all walls, here and in the emulated machine.
"""
