import json
import os
import subprocess
import sys

import pytest

from limbeck import download


@pytest.mark.slow
def test_pip_tells_its_own_default_index(monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    pip = pytest.importorskip("pip._internal.models.index")
    done = subprocess.run([sys.executable, "-c", download.ASK_PIP], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[0]) == [pip.PyPI.simple_url]
