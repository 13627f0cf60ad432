import io
import sys

import pytest

from limbeck.progress import Teller


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(teller: Teller) -> None:
    teller.say("half [done] of a long line " + "x" * 200)
    with teller.bar("labelling", 10, "rows") as advance:
        for _ in range(10):
            advance(1, "almost")


def test_a_quiet_teller_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    told(Teller())
    assert capsys.readouterr() == ("", "")


def test_where_the_output_is_no_terminal_there_are_lines_and_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    told(Teller(quiet=False))
    out, err = capsys.readouterr()
    assert out == ""  # which is for results
    assert err == "half [done] of a long line " + "x" * 200 + "\n"


def test_a_terminal_gets_a_bar_with_count_and_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    told(Teller(quiet=False))
    said = terminal.getvalue()
    assert "labelling" in said
    assert "10/10" in said
    assert "rows/s" in said


def test_an_error_inside_a_bar_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())

    def interrupted() -> None:
        with Teller(quiet=False).bar("labelling", 3) as advance:
            advance(1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
