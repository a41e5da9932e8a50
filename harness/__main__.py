"""`python -m harness` is `isobench`, which starts here as well."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command. Ctrl-C ends it quietly, also while it is being loaded."""
    try:
        from harness.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
