from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import limbeck
from limbeck.cli import app, main
from limbeck.errors import Diverged, GateRefused, LimbeckError, ParityRefused, UserError

HEAVY = ("torch", "numpy", "pyarrow", "onnxruntime", "yaml", "httpx")


def raising(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> None:
    """Let the list of packs fail, as any command might."""

    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr("limbeck.fetch.list_packs", fail)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_comes_within_half_a_second_of_processor_time() -> None:
    def spent() -> float:
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime

    taken = []
    for _ in range(3):
        before = spent()
        done = python("-c", "from limbeck.cli import main; raise SystemExit(main(['--help']))")
        taken.append(spent() - before)
        assert done.returncode == 0
        assert "run" in done.stdout
    assert min(taken) < 0.5


def test_help_and_the_package_load_nothing_heavy() -> None:
    code = (
        "import sys, limbeck; from limbeck.cli import main; main(['--help']); main(['store', '--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = python("-c", code)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (UserError("a"), 2), (GateRefused("a"), 3), (ParityRefused("a"), 4), (Diverged("a"), 5), (LimbeckError("a"), 1),
        (KeyboardInterrupt(), 130), (PermissionError(13, "denied", "a"), 2),
    ],
)  # fmt: skip
def test_every_fault_has_its_exit_code_and_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: BaseException, code: int
) -> None:
    raising(monkeypatch, fault)
    assert main(["data", "list"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("limbeck: ")
    assert err.count("\n") == 1
    assert isinstance(fault, KeyboardInterrupt) == ("goes on from here" in err)


def test_a_fault_of_ours_keeps_its_traceback_in_a_file(tmp_path: Path) -> None:
    code = (
        "import sys, limbeck.fetch; from limbeck.cli import main; sys.argv = ['limbeck', 'data', 'list'];"
        "limbeck.fetch.list_packs = lambda: 1 / 0; raise SystemExit(main())"
    )
    done = python("-c", code, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    (kept,) = tmp_path.glob("limbeck-*.txt")
    assert str(kept) in done.stderr
    assert "ZeroDivisionError" in kept.read_text()
    loud = python("-c", code, LIMBECK_DEBUG="1", TMPDIR=str(tmp_path))
    assert loud.returncode == 1
    assert "Traceback" in loud.stderr


def test_no_error_names_a_half_written_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, PermissionError(13, "Permission denied", "there/answers.jsonl.tmp.77.aa12"))
    assert main(["data", "list"]) == 2
    assert capsys.readouterr().err == "limbeck: there/answers.jsonl: Permission denied\n"


def test_a_closed_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -c \"from limbeck.cli import main; raise SystemExit(main(['list']))\" | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["runn"], ["run"], ["run", "a.yaml", "--nope"], ["store"], ["predict", "a"]])
def test_a_command_that_is_typed_wrong_says_where_help_is(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    assert "--help" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == limbeck.__version__


def test_every_command_speaks_json() -> None:
    commands = [*app.app.registered_commands]
    for group in app.app.registered_groups:
        assert group.typer_instance is not None
        commands += group.typer_instance.registered_commands
    for command in commands:
        assert command.callback is not None
        assert "json" in command.callback.__annotations__, command.callback.__name__


def test_lists_hold_every_part_with_a_line_about_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "losses", "--json"]) == 0
    found = {one["name"]: one["about"] for one in json.loads(capsys.readouterr().out)}
    folder = Path(limbeck.__path__[0], "losses")
    assert set(found) >= {path.stem for path in folder.glob("*.py") if path.stem != "__init__"}
    assert all(found.values())
    assert main(["list", "lossses"]) == 2


def test_packs_are_listed_with_their_licences(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list", "--json"]) == 0
    packs = {pack["name"]: pack for pack in json.loads(capsys.readouterr().out)}
    assert packs["ml-100k"]["licence"].startswith("GroupLens")
    assert main(["data", "get", "ml-100kk"]) == 2
    assert "ml_100k" in capsys.readouterr().err
