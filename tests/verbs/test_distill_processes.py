"""Teaching in several processes, and what trackers are told: slow, for both start much machinery."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.verbs.distill import Watch, distill

SCRIPT = """
import sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import save_file
from torch import nn
from limbeck.loader import TableLoader
from limbeck.losses.cross_entropy import CrossEntropy
from limbeck.losses.fit_net import FitNet
from limbeck.losses.kl import Kl
from limbeck.objective import Objective
from limbeck.recipe import Training
from limbeck.verbs.distill import Watch, distill
from limbeck.weight import SampleWeight

torch.set_num_threads(1)
accumulate, poison, uneven = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "uneven"
random = np.random.default_rng(0)
x = random.normal(size=(33, 4)).astype(np.float32)
label = (x[:, 0] > 0).astype(np.int64)
columns = {"label": label}
if uneven:
    columns["label"] = np.where(random.random(33) < 0.6, -1, label)
    columns["weight"] = random.random(33).astype(np.float32)
    columns["mask"] = np.arange(3) < random.integers(0, 4, size=(33, 1))


class Scaled(CrossEntropy):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, student, teacher, batch):
        loss = super().forward({"logits": student["logits"] * self.scale}, teacher, batch)
        return loss * float("nan") if (batch["id"] == poison).any() else loss


class Stepped(nn.Module):
    def __init__(self):
        super().__init__()
        self.row, self.steps = nn.Linear(4, 2), nn.Linear(4, 6)

    def forward(self, x):
        return {"logits": self.row(x), "steps": self.steps(x).unflatten(1, (3, 2))}


torch.manual_seed(0)
student, teacher = Stepped() if uneven else nn.Linear(4, 2), Stepped() if uneven else None
terms, by = [("hard", Scaled(), 1.0)], [None]
if uneven:
    terms += [("kl", Kl(), "learned"), ("steps", Kl(signal="steps"), 0.5)]
    terms += [("hidden", FitNet(student="row", teacher="steps"), 0.2), ("average", Kl(), 0.3), ("peers", Kl(), 0.3)]
    by += [SampleWeight("correctness"), None, None, None, None]
sources = ["teacher"] * 4 + ["average", "peers"] if uneven else []
objective = Objective(terms, sample_weights=by, sources=sources)
peers = [Stepped()] if uneven else []
ema = 0.9 if uneven else None
training = Training(ema=ema, epochs=3, batch_size=8, accumulate=accumulate, learning_rate=0.05, clip=1.0, device="cpu")
loader = TableLoader({"input": x, **columns}, np.arange(33), batch_size=8, seed=4)
loader.tensors["x"] = loader.tensors.pop("input")
validate = lambda kept: float((kept.row if uneven else kept)(torch.from_numpy(x)).detach().std())
watch = Watch(validate=validate, folder=Path(sys.argv[1]).parent / "c")
taught = distill(student, loader, teacher=teacher, objective=objective, training=training, watch=watch, peers=peers)
curves = {name: torch.tensor(values) for name, values in taught.terms.items() if "norm" not in name}
said = {**student.state_dict(), **objective.state_dict(), **curves}
said |= {f"peer.{k}": v for peer in peers for k, v in peer.state_dict().items()}
import torch.distributed as d
if not d.is_initialized() or d.get_rank() == 0:
    save_file({k: v.contiguous() for k, v in said.items()}, sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("poison", "rows"),
    [(-1, "even"), (7, "even"), (-1, "uneven")],
    ids=["sound", "one process meets a NaN", "labels, weights and steps are uneven"],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_learn_what_one_learns(tmp_path: Path, accumulate: int, poison: int, rows: str) -> None:
    """33 rows in batches of 8: the last batch has one row for two processes."""
    (tmp_path / "script.py").write_text(SCRIPT)
    found = []
    for processes in (1, 2):
        place = tmp_path / f"{processes}" / "weights.safetensors"
        place.parent.mkdir()
        launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1", "--mixed_precision", "no"]
        launch += ["--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"]
        launch += ["--num_processes", str(processes)]
        arguments = [str(tmp_path / "script.py"), str(place), str(accumulate), str(poison), rows]
        command = [sys.executable, *launch, *arguments]
        ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
        assert ran.returncode == 0, ran.stderr[-3000:]
        found.append(load_file(place))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_curves_also_go_to_trackers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    training = Training(epochs=3, track=("tensorboard", "mlflow"), device="cpu")
    watch = Watch(validate=lambda student: 0.25, folder=tmp_path / "run" / "steps", name="student mf 16")
    loader = [(torch.randn(8, 4), torch.arange(8) % 2) for _ in range(3)]
    objective = Objective([("hard", CrossEntropy(), 1.0)])
    taught = distill(torch.nn.Linear(4, 2), loader, objective=objective, training=training, watch=watch)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (place,) = {path.parent for path in (tmp_path / "run" / "track").rglob("events.out.tfevents.*")}
    events = EventAccumulator(str(place))
    events.Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(taught.terms["loss"], rel=1e-5)
    assert [e.value for e in events.Scalars("validation")] == [0.25] * 3
    (curve,) = (tmp_path / "mlruns").rglob("metrics/loss")
    logged = [float(line.split()[1]) for line in curve.read_text().splitlines()]
    assert logged == pytest.approx(taught.terms["loss"], rel=1e-5)
