"""`python -m harness` is `isobench`."""

from harness.cli import main

main()
