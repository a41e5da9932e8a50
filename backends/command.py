"""How the project's command is typed here, for messages that say what to do."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

_NAME = "isobench"

# The name where it is a command, with an argument; not the end of a path, nor a name in prose.
_MENTION = re.compile(rf"(?<![\w./-]){_NAME}(?= [a-z-])")


def typed() -> str:
    """Name the command of this Python's environment such that the shell finds it from here."""
    script = Path(sysconfig.get_path("scripts"), _NAME)
    if not script.is_file():
        return f"{shlex.quote(sys.executable)} -m harness"
    on_path = shutil.which(_NAME)
    if on_path is not None and script.samefile(on_path):
        return _NAME
    relative = os.path.relpath(script)
    if os.sep not in relative:
        relative = os.path.join(os.curdir, relative)  # noqa: PTH118 - pathlib drops the dot
    return shlex.quote(min(str(script), relative, key=len))


def as_typed(text: str) -> str:
    """Replace the command in a message, `isobench run` say, by what can be pasted.

    Messages that are stored keep the bare name: where this environment lies is nobody's business.
    """
    name = typed()
    return _MENTION.sub(lambda _: name, text)
