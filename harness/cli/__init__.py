"""The console command `isobench`: one file a command."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing import NoReturn

# Name of the command -> its module, which is imported when the command is used.
_COMMANDS = {
    "list": "list_backends",
    "plan": "plan",
    "run": "run",
    "figures": "figures",
    "tables": "tables",
    "paper": "paper",
    "compare": "compare",
    "bounds": "bounds",
    "emulate": "emulate",
    "audit": "audit",
    "gadgets": "gadgets",
    "doctor": "doctor",
}


class _Commands(click.Group):
    """Loads a command when it is asked for, so that --help does not load pandas."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"harness.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `isobench doctor`, then `isobench run`.",
)
@click.version_option(package_name="isobench", prog_name="isobench")
def main() -> None:
    """Measure what it costs to wall off native code that is not trusted."""


def bad_input(error: Exception | str) -> NoReturn:
    """End with exit code 2 and a message of one line: what, which value, what to do."""
    raise click.UsageError(str(error))


def failed(error: Exception | str) -> NoReturn:
    """End with exit code 1 and a message of one line."""
    raise click.ClickException(str(error))
