from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from types import ModuleType

import pytest

import limbeck


def test_all_that_is_offered_is_there() -> None:
    for name in limbeck.__all__:
        assert getattr(limbeck, name) is not None
    assert set(limbeck.__all__) == set(dir(limbeck))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = limbeck.nothing  # type: ignore[attr-defined]


def test_functions_are_functions_although_modules_have_their_names() -> None:
    code = "import limbeck.run, limbeck.check, limbeck; print(limbeck.run.__name__, callable(limbeck.check))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["run", "True"]


def test_folders_of_parts_are_modules() -> None:
    assert isinstance(limbeck.losses, ModuleType)


def test_importing_loads_no_torch() -> None:
    code = "import sys, limbeck; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_version_is_that_of_the_distribution() -> None:
    assert limbeck.__version__ == version("limbeck")
