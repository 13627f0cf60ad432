"""Ctrl-C and SIGTERM: the first ends the work tidily, the next one at once, and neither in a traceback."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


SHOW_CURSOR = "\x1b[?25h\r"
"""A bar hides it."""


class Interrupted(KeyboardInterrupt):
    """A signal was heard.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Ending:
    """How far this process is on its way out.

    Args:
        begun: whether there is anything to tidy up.
        number: of the first signal that was heard.
        code: what a signal leaves with once all is done.
    """

    begun: bool = False
    number: int | None = None
    code: int | None = None


def listen() -> None:
    """Hear signals from now on, but those that whoever started this process told it to ignore."""
    for number in NAMES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _hear)
    sys.unraisablehook = _lost


def begin() -> None:
    """From now on a signal is raised, so that work can be left tidily."""
    _Ending.begun = True


def finish(code: int) -> None:
    """Say with which exit code a signal leaves from now on, at once: nothing is left to do."""
    _Ending.code = code


def heard() -> Interrupted | None:
    """The signal that was heard, whatever became of its exception on the way."""
    return None if _Ending.number is None else Interrupted(_Ending.number)


def tell(stop: KeyboardInterrupt) -> int:
    """Say what ended the work, and that nothing is lost.

    Returns:
        The exit code, 128 and the signal's number.
    """
    print(_words(stop), end="", file=sys.stderr)
    return _code(stop)


def end(stop: KeyboardInterrupt) -> NoReturn:
    """Leave once all is tidied up, past whatever an interpreter that shuts down might still say."""
    with suppress(OSError):  # nobody reads it any more
        sys.stdout.flush()
    leave(stop)


def leave(stop: KeyboardInterrupt) -> NoReturn:
    """Leave without tidying up: what is half done lies where the same command finds it, or overwrites it."""
    if _Ending.code is None:
        for number in NAMES:
            if signal.getsignal(number) is _hear:
                signal.signal(number, signal.SIG_IGN)  # or the next would cut the message short
        with suppress(OSError):
            # Past Python's own buffer, in which the code that was interrupted may be writing just now.
            os.write(2, f"{SHOW_CURSOR if sys.stderr.isatty() else ''}{_words(stop)}".encode())
    os._exit(_code(stop) if _Ending.code is None else _Ending.code)


def _code(stop: KeyboardInterrupt) -> int:
    return 128 + (stop.number if isinstance(stop, Interrupted) else signal.SIGINT)


def _words(stop: KeyboardInterrupt) -> str:
    number = stop.number if isinstance(stop, Interrupted) else signal.SIGINT
    return f"limbeck: {NAMES[signal.Signals(number)]}; the same command goes on from here\n"


def _hear(number: int, _: FrameType | None) -> None:
    # Some modules turn what interrupts their import into errors of other kinds, so that is not raised at first.
    if _Ending.number is not None or _Ending.code is not None or not _Ending.begun:
        leave(Interrupted(_Ending.number or number))
    _Ending.number = number
    raise Interrupted(number)


def _lost(told: sys.UnraisableHookArgs) -> None:
    """A signal whose exception Python drops, as it does in a finalizer, ends the work nevertheless."""
    if issubclass(told.exc_type, KeyboardInterrupt):
        leave(heard() or KeyboardInterrupt())
    sys.__unraisablehook__(told)
