"""Ctrl-C and SIGTERM, at any moment and however often, end in one line and never in a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

WORDS = {
    signal.SIGINT: "limbeck: interrupted; the same command goes on from here\n",
    signal.SIGTERM: "limbeck: terminated; the same command goes on from here\n",
}
TRY = "def work(*_):\n    try:\n        hit()\n    {}\n        {}\n"
START = "import os, signal, sys; from limbeck.cli import main; sys.argv = ['limbeck', 'data', 'list']\n"
HIT = "def hit(*_):\n    os.kill(os.getpid(), signal.{})\n"
READ = "import limbeck.fetch; limbeck.fetch.list_packs = work\n"
GO = "raise SystemExit(main())"


def ran(*code: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    # Whoever runs the tests in the background has told their children to ignore Ctrl-C.
    hearing = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [*before, sys.executable, "-c", "".join(code if before else (hearing, *code))]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_work_be_tidied_up_and_says_how_to_go_on(number: signal.Signals, code: int) -> None:
    done = ran(START, HIT.format(number.name), TRY.format("finally:", "print('tidy')"), READ, GO)
    assert (done.returncode, done.stdout, done.stderr) == (code, "tidy\n", WORDS[number])


@pytest.mark.parametrize(
    "work",
    [
        TRY.format("finally:", "hit(); hit(); print('never')"),
        "class Lost:\n    __del__ = hit\ndef work(*_):\n    Lost()\n    print('never')\n",
        TRY.format("except KeyboardInterrupt:", "raise ImportError('half of it')"),
        "from limbeck.errors import UserError\n"
        + TRY.format("except KeyboardInterrupt:", "raise UserError('half a file')"),
    ],
    ids=["pressed three times", "in a finalizer", "turned into a fault", "turned into a mistake"],
)
def test_a_signal_never_ends_in_a_traceback(work: str) -> None:
    done = ran(START, HIT.format("SIGINT"), work, READ, GO)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", WORDS[signal.SIGINT])


@pytest.mark.parametrize("module", ["signal", "traceback", "typer", "limbeck.cli.app", "limbeck.fetch"])
def test_a_signal_while_modules_are_loaded_ends_in_words(module: str) -> None:
    """Whatever is imported after the first line of the command, some of which turns what interrupts it into errors."""
    finder = (
        "class Finder:\n    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n            sys.meta_path.remove(self)\n            hit()\n"
        f"sys.modules.pop({module!r}, None)\nsys.meta_path.insert(0, Finder())\n"
    )
    done = ran(START, HIT.format("SIGINT"), finder, GO)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", WORDS[signal.SIGINT])


def test_a_signal_after_the_work_changes_nothing_of_its_outcome() -> None:
    done = ran(START, HIT.format("SIGINT"), "sys.argv[1:] = ['--version']\n", "code = main(); hit(); print('never')")
    assert (done.returncode, done.stderr) == (0, "")


def test_who_runs_a_command_deaf_to_signals_is_obeyed() -> None:
    deaf = "trap '' INT TERM; exec \"$@\""
    work = "def work(*_):\n    hit(); os.kill(os.getpid(), signal.SIGTERM); raise SystemExit(7)\n"
    done = ran(START, HIT.format("SIGINT"), work, READ, GO, before=("bash", "-c", deaf, "bash"))
    assert (done.returncode, done.stderr) == (7, "")
