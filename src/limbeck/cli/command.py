"""One command: every error ends here, as one plain message and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import cast

from limbeck.atomic import MARK
from limbeck.cli import interrupt
from limbeck.errors import LimbeckError, MissingExtra

USERS = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
USERS |= {errno.ENAMETOOLONG, errno.ENOENT, errno.EDQUOT}
"""Errors of the disk that whoever typed the command can mend."""


def obey(arguments: Sequence[str] | None) -> int:
    """Run one command; the exit code, as `main` tells of it."""
    import typer
    from typer.main import get_command

    from limbeck.cli.app import app

    # Click's UsageError; newer Typers carry a Click of their own.
    usage = cast("type[typer.BadParameter]", typer.BadParameter.__bases__[0])
    if arguments is None:
        sys.excepthook = _fault
    command = get_command(app)
    interrupt.begin()
    try:
        if "_LIMBECK_COMPLETE" in os.environ:
            command.main(prog_name="limbeck")
        with command.make_context("limbeck", list(sys.argv[1:] if arguments is None else arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as left:
        return left.exit_code
    except usage as wrong:
        where = wrong.ctx.command_path if wrong.ctx else "limbeck"
        return _say(f"{wrong.format_message()} See: {where} --help", 2)
    except LimbeckError as wrong:
        return _say(str(wrong), wrong.exit_code)
    except ModuleNotFoundError as missing:
        from limbeck.parts import EXTRAS

        extra = EXTRAS.get((missing.name or "").split(".")[0])
        if extra is None:
            raise
        return _say(str(MissingExtra(extra, "this command")), MissingExtra.exit_code)
    except BrokenPipeError:
        # Whoever read the answers has enough of them; Python's own flush at the end must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as wrong:
        if wrong.errno not in USERS:
            raise
        return _say(f"{_place(wrong)}: {wrong.strerror}", 2)
    except typer.Abort:
        raise KeyboardInterrupt from None
    return 0


def _place(wrong: OSError) -> str:
    """What could not be read or written, by the name it would have had in the end."""
    name = "" if wrong.filename is None else os.fsdecode(wrong.filename)
    return name.partition(MARK)[0].rstrip("/") or "the disk"


def _say(message: str, code: int) -> int:
    stop = interrupt.heard()
    if stop is not None:  # what fails after that fails of it
        return interrupt.tell(stop)
    print(f"limbeck: {message}", file=sys.stderr)
    return code


def _fault(kind: type[BaseException], fault: BaseException, trace: TracebackType | None) -> None:
    """Say a fault of ours in one line, and keep its traceback where it can be sent from."""
    stop = interrupt.heard()
    if stop is not None:  # an import that was interrupted may end in any error
        interrupt.leave(stop)
    text = "".join(traceback.format_exception(kind, fault, trace))
    if os.environ.get("LIMBECK_DEBUG"):
        print(text, file=sys.stderr, end="")
        return
    handle, path = tempfile.mkstemp(prefix="limbeck-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    said = f"a fault of ours: {kind.__name__}: {fault}; its traceback is in {path} (LIMBECK_DEBUG=1 prints it)"
    print(f"limbeck: {said}", file=sys.stderr)
