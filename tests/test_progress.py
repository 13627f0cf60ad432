import io
import sys
import time

import numpy as np
import pytest

from limbeck.progress import Heard, Teller
from limbeck.types import Batch, Key, Signals


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


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr(sys, "stderr", made)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return made


def test_work_within_work_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    said = terminal(monkeypatch)
    teller = Teller(quiet=False)
    with teller.bar("exporting") as outer:
        with teller.bar("judging", 7) as inner:
            inner(7)
            assert teller.shown is not None
            teller.shown.refresh()
        outer(3)
        assert len(teller.shown.tasks) == 1
    assert teller.shown is None
    assert "exporting" in said.getvalue()
    assert "7/7" in said.getvalue()


def test_a_bar_that_is_overrun_goes_round_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch)
    teller = Teller(quiet=False)
    with teller.bar("judging", 10) as advance:
        advance(10)
        assert teller.shown is not None
        assert teller.shown.tasks[0].total == 10
        advance(5)
        assert (teller.shown.tasks[0].total, teller.shown.tasks[0].completed) == (20, 15)


def test_nothing_is_drawn_while_something_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    said = terminal(monkeypatch)
    teller = Teller(quiet=False)
    with teller.bar("exporting", 5) as advance:
        with teller.hushed():
            before = said.tell()
            time.sleep(0.3)
            assert said.tell() == before
        assert teller.shown is not None
        advance(5)
        teller.shown.refresh()
    assert "5/5" in said.getvalue()


def test_a_predictor_that_is_heard_answers_as_itself_and_moves_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Constant:
        reads, fingerprint = ("a",), "constant"

        def __call__(self, batch: Batch) -> Signals:
            return Signals({"scores": np.zeros(len(batch.key))}, {"scores": "scores"})

    terminal(monkeypatch)
    batch = Batch({"a": ["x", "y"]}, Key("s", np.arange(2), np.zeros(2, np.int64)))
    with Teller(quiet=False).bar("judging", 4) as advance:
        heard = Heard(Constant(), advance)
        assert (heard.reads, heard.fingerprint) == (("a",), "constant")
        assert len(heard(batch)["scores"]) == 2
        assert advance.done == 2
