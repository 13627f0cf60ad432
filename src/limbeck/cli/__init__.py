"""The command `limbeck`."""

from __future__ import annotations

# What takes time is imported within: an import that is interrupted before signals are heard ends in a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; by default those the process was given.

    Returns:
        The exit code: 0 done, 2 the user's mistake, 3 the gate refused, 4 parity refused, 5 diverged,
        130 interrupted, 143 told to end; a fault of ours leaves through `sys.excepthook`, with 1.
    """
    try:
        from limbeck.cli import interrupt

        if arguments is None:
            interrupt.listen()
        from limbeck.cli.command import obey

        code = obey(arguments)
    except KeyboardInterrupt as stop:
        from limbeck.cli import interrupt

        if arguments is None:
            interrupt.end(stop)
        code = interrupt.tell(stop)
    if arguments is None:
        interrupt.finish(code)
    return code
