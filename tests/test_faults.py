"""Killed at any moment, run again: the same weights and the same store, bit for bit. And a disk that fills up."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from limbeck.cache import cache_folder
from limbeck.shard import read_keys
from limbeck.store import Store
from limbeck.upkeep import verify

KILLS = int(os.environ.get("LIMBECK_KILLS", "50"))
"""A fifth on the demo's own recipe, which takes long to come to its last steps; the others on a small text one."""

RECIPES = Path(__file__).parents[1] / "recipes"

TEXT = """
task: classify_text
data: {path: reviews.csv, roles: {text: text, label: label}}
protocols: [{name: random, split: {kind: random, shares: [6, 2, 2], stratify: true}}]
teacher:
  allow_weak: true
  model: text_convolution
  vocabulary: 400
  width: 32
  channels: 16
  length: 32
  training: {epochs: 6}
students: [{model: bag_of_embeddings, name: bag, vocabulary: 400, width: 8, length: 32}]
objective: [{loss: hard, weight: 0.5}, {loss: kl, weight: 0.5, temperature: 2.0}]
training: {epochs: 12, batch_size: 32, learning_rate: 0.01, checkpoint_seconds: 0, ema: 0.9, accumulate: 2}
seeds: [0, 1]
"""

STEPS = {
    "teacher": "cache/teachers/.tmp.*",
    "label": "cache/stores/*/shards",
    "checkpoint": "out/steps/students-unfinished/*/0*",
    "student": "out/steps/students/.tmp.*/weights.safetensors",
    "judge": "out/steps/judged/.tmp.*",
    "export": "out/artifact/*.tmp.*",
    "seal": "out/steps/left/.tmp.*",
    "report": "out/report.json",
}
"""What lies on the disk once a step is under way."""


def reviews(file: Path) -> None:
    draw = random.Random(0)
    good, bad = ("lovely", "fresh", "tasty", "great"), ("stale", "broken", "awful", "late")
    plain = [f"word{i}" for i in range(60)]
    rows = []
    for i in range(900):
        label = "good" if draw.random() < 0.5 else "bad"
        mood = good if (label == "good") == (draw.random() < 0.85) else bad
        words = [*draw.choices(plain, k=draw.randint(4, 20)), *draw.choices(mood, k=2), f"n{i}"]
        draw.shuffle(words)
        rows.append((" ".join(words), label))
    csv.write_csv(pa.table({"text": [r[0] for r in rows], "label": [r[1] for r in rows]}), file)


def _keys(store: Store) -> tuple[np.ndarray, np.ndarray]:
    keys = [read_keys(store.folder / "shards", record) for record in store.records.values()]
    return np.concatenate([id for id, _ in keys]), np.concatenate([view for _, view in keys])


class Bench:
    """A recipe run in a place of its own, by the command itself."""

    def __init__(self, place: Path, recipe: Path) -> None:
        self.place, self.recipe = place, recipe
        self.cache, self.out = place / "cache", place / "out"
        self.cache.mkdir(parents=True)
        packs = cache_folder("packs")
        (self.cache / "packs").symlink_to(packs)

    def start(self) -> subprocess.Popen[bytes]:
        log = (self.place / "log").open("ab")
        environment = {**os.environ, "LIMBECK_CACHE": str(self.cache), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "limbeck", "run", str(self.recipe), "--out", str(self.out)]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def finish(self) -> None:
        code = self.start().wait()
        assert code == 0, (self.place / "log").read_text()[-2000:]

    def wipe(self) -> None:
        """Begin anew, packs kept."""
        shutil.rmtree(self.out, ignore_errors=True)
        for name in ("teachers", "baselines", "stores", "rows"):
            shutil.rmtree(self.cache / name, ignore_errors=True)

    def seen(self, pattern: str) -> set[Path]:
        return set(self.place.glob(pattern))

    def digests(self) -> dict[str, str]:
        """Weights, exported files and stores; neither seconds nor where it ran."""
        wanted = [
            *self.place.glob("out/steps/students/*/weights.safetensors"),
            *self.place.glob("cache/teachers/*/weights.safetensors"),
            *self.place.glob("out/artifact/*/*.onnx"),
            *(p for p in self.place.glob("cache/stores/*/**/*") if p.is_file() and p.name != "origins.json"),
        ]
        return {str(p.relative_to(self.place)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(wanted)}


def kill_at_random(bench: Bench, names: list[str], count: int, seed: int) -> Counter[str]:
    """Kill `count` runs: some at a random time, the others just when a step is under way."""
    draw = random.Random(seed)
    hit: Counter[str] = Counter()
    turn = 0
    while sum(hit.values()) < count:
        # Each step in turn first, as one run comes to them; then moments at random between them.
        name = names[turn % len(names)] if turn < len(names) or sum(hit.values()) % 2 else "any moment"
        before = set() if name == "any moment" else bench.seen(STEPS[name])
        process = bench.start()
        begun = time.monotonic()
        delay = draw.uniform(0.5, 9.0) if name == "any moment" else draw.uniform(0.0, 0.05)
        limit = begun + delay if name == "any moment" else begun + 300
        while process.poll() is None and time.monotonic() < limit:
            if name != "any moment" and bench.seen(STEPS[name]) - before:
                time.sleep(delay)
                break
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            hit[name] += 1
            turn += name != "any moment"
        else:
            assert process.returncode == 0, (bench.place / "log").read_text()[-2000:]
            bench.wipe()  # it got through, so there is nothing left to interrupt
    return hit


@pytest.fixture(params=["demo", "text"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "demo":
        return RECIPES / "recommend-ml-100k.yaml"
    reviews(tmp_path / "reviews.csv")
    (tmp_path / "recipe.yaml").write_text(TEXT)
    return tmp_path / "recipe.yaml"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_run_killed_at_any_moment_ends_as_if_nothing_had_happened(recipe: Path, tmp_path: Path) -> None:
    calm, killed = Bench(tmp_path / "calm", recipe), Bench(tmp_path / "killed", recipe)
    calm.finish()
    demo = recipe.parent == RECIPES
    # A training of the demo ends before its first checkpoint is due: there is no such moment to be killed at.
    names = [name for name in STEPS if not (demo and name == "checkpoint")]
    count = KILLS // 5 if demo else KILLS - KILLS // 5
    hit = kill_at_random(killed, names, count, seed=count)
    killed.finish()
    print(dict(hit))
    assert set(names) <= set(hit)
    wanted, found = calm.digests(), killed.digests()
    assert found == wanted
    assert any(name.endswith(".onnx") for name in found)
    for folder in (killed.cache / "stores").iterdir():
        assert verify(folder) == []
        store, whole = Store.open(folder), Store.open(calm.cache / "stores" / folder.name)
        assert store.complete
        # No row twice or missing: a key stored twice would count twice.
        assert len(store) == len(whole) == len(np.unique(store._index[0].rows(*_keys(store))))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small disk needs root and leave to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_ends_in_a_clear_message_and_a_run_that_goes_on(small_disk: Path, tmp_path: Path) -> None:
    reviews(tmp_path / "reviews.csv")
    (tmp_path / "recipe.yaml").write_text(TEXT)
    bench = Bench(tmp_path / "bench", tmp_path / "recipe.yaml")
    bench.out.symlink_to(small_disk / "out")
    (small_disk / "out").mkdir()
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * 300_000)
    assert bench.start().wait() == 2
    said = (bench.place / "log").read_text()
    assert "disk is full" in said
    assert "Traceback" not in said
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    bench.finish()
    calm = Bench(tmp_path / "calm", tmp_path / "recipe.yaml")
    calm.finish()
    weights = {k: v for k, v in bench.digests().items() if "students" in k}
    assert weights == {k: v for k, v in calm.digests().items() if "students" in k}
    assert weights
