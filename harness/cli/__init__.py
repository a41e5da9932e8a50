"""The console command `isobench`: one file a command."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from backends.command import as_typed, typed
from backends.names import unknown

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
    "attack": "attack",
    "soak": "soak",
    "audit": "audit",
    "gadgets": "gadgets",
    "doctor": "doctor",
}


class _Commands(click.Group):
    """Loads a command when it is asked for, so that --help does not load pandas."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run as it was typed: usage and hints can be pasted."""
        return super().main(
            *args, **{"prog_name": typed(), "complete_var": "_ISOBENCH_COMPLETE"} | options
        )

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for; Ctrl-C ends it quietly, and so does a full disk."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            ctx.exit(130)
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is left of the output
            click.echo(f"cannot write the output: {error.strerror}", err=True)
            ctx.exit(2)
        return result

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that was asked for; say which was meant if there is none."""
        if args[0] not in _COMMANDS:
            ctx.fail(unknown("command", args[0], list(_COMMANDS)))
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"harness.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = module.command
        command.help, command.epilog = as_typed(command.help or ""), as_typed(command.epilog or "")
        return command


@click.command(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=as_typed("Start with `isobench doctor`, then `isobench run`."),
)
@click.version_option(package_name="isobench", prog_name="isobench")
def main() -> None:
    """Measure what it costs to wall off native code that is not trusted."""


def bad_input(error: Exception | str) -> NoReturn:
    """End with exit code 2 and a message of one line: what, which value, what to do."""
    raise click.UsageError(as_typed(str(error)))


def cannot_write(error: OSError, folder: object, option: str) -> NoReturn:
    """End with exit code 2 because a folder that the user chose cannot be written."""
    bad_input(
        f"cannot write {error.filename or folder}: {error.strerror or error}; choose a folder that "
        f"can be written, with {option}"
    )


def failed(error: Exception | str) -> NoReturn:
    """End with exit code 1 and a message of one line."""
    raise click.ClickException(as_typed(str(error)))
