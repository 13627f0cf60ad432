import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from limbeck import graph, parts
from limbeck.artifact import Artifact, Column, Export
from limbeck.encoder import Encoder
from limbeck.encoders.history import History
from limbeck.errors import ParityRefused, UserError
from limbeck.model import Model
from limbeck.parity import Bench, Proof
from limbeck.report import Report
from limbeck.types import Axis, Batch, Key, Lists
from limbeck.verbs.export import About, export

torch.set_num_threads(1)
WORDS = tuple(f"word{i}" for i in range(800))


class Pool(nn.Module):
    def __init__(self, words):
        super().__init__()
        self.table, self.out = nn.Embedding(words, 16), nn.Linear(16, 3)
        self.empty = 1.0

    def forward(self, words):
        there = (words > 0).unsqueeze(2).float()
        return {"logits": self.out((self.table(words) * there).sum(1) / there.sum(1).clamp(min=self.empty))}


@dataclasses.dataclass(frozen=True)
class Probe:
    kinds = {"logits": "logits"}  # noqa: RUF012

    def module(self, encoder, outputs):
        return Pool(len(encoder["words"]))


@pytest.fixture(autouse=True)
def probe(monkeypatch):
    real = parts.get
    monkeypatch.setattr(parts, "get", lambda folder, name: Probe if name == "probe" else real(folder, name))


def built():
    torch.manual_seed(1)
    encoder = Encoder([History("words", WORDS, length=12)])
    return Model("probe", {}, encoder, Probe().module(encoder, 3).train(), 3)


def rows(count, seed):
    generator = np.random.default_rng(seed)
    lists = [list(generator.choice(WORDS, generator.integers(1, 13))) for _ in range(count)]
    return Batch({"words": Lists.of(lists)}, Key("s", np.arange(count), np.zeros(count, np.int64)))


def proof(model, judge=None, headline=None, **more):
    batch = rows(60, 2)
    truth = model(batch)["logits"].argmax(1)
    judge = judge or (lambda predictor: float((predictor(batch)["logits"].argmax(1) == truth).mean()))
    return Proof(model.encoder(rows(100, 3)), judge, judge(model) if headline is None else headline, **more)


ABOUT = About(
    "classify_text",
    Axis("label", ("a", "b", "c")),
    (Column("words", "text", "text", many=True), Column("price", "privileged", "number")),
    Report(task="classify_text", verdict="It helped."),
    "task: classify_text\n",
    {"rows": "f" * 32},
    {"data": "made up", "licence": "none", "limits": "for tests"},
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        real = parts.get
        patch.setattr(parts, "get", lambda folder, name: Probe if name == "probe" else real(folder, name))
        model = built()
        folder = tmp_path_factory.mktemp("run") / "artifact" / "probe"
        return model, export(model, folder, proof=proof(model), about=ABOUT)


@pytest.fixture
def quick(monkeypatch, done):
    """The same export without torch's exporter, which takes a second and was tested once."""
    whole = (done[1].path / "model.onnx").read_bytes()
    monkeypatch.setattr(graph, "to_onnx", lambda *_, **__: whole)


def test_the_folder_holds_what_the_contract_promises(done):
    _, exported = done
    assert sorted(path.name for path in exported.path.iterdir()) == [
        "axis.json",
        "card.md",
        "contract.json",
        "encoder",
        "fingerprints.json",
        "golden.json",
        "manifest.json",
        "model.int8.onnx",
        "model.onnx",
        "recipe.yaml",
        "report.json",
    ]
    assert [path.name for path in exported.path.parent.iterdir()] == ["probe"]
    artifact = Artifact.open(exported.path)
    assert artifact.contract.columns == ABOUT.columns[:1]
    assert artifact.contract.inputs[0].shape == (-1, -1)
    assert artifact.contract.precisions == ("fp32", "int8")
    assert Report.load(exported.path).artifacts[0].parity["headline"] == 1.0


def test_the_artifact_answers_as_the_model(done):
    model, exported = done
    artifact, batch = Artifact.open(exported.path), rows(41, 9)
    wanted = model(batch)["logits"]
    np.testing.assert_allclose(artifact.predictor("fp32")(batch)["logits"], wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(artifact.predictor("int8")(batch)["logits"] - wanted).max() < 0.1 * wanted.std()
    assert artifact.check_golden("fp32") == artifact.check_golden("int8") == 0


def test_parity_tells_the_figures_of_every_file(done):
    _, exported = done
    whole, small = exported.parity["fp32"], exported.parity["int8"]
    assert (whole.headline, whole.student_headline, whole.difference) == (1.0, 1.0, 0.0)
    assert whole.agreement_top1 == 1.0
    assert whole.max_abs < 1e-5 < small.max_abs
    assert small.bytes < whole.bytes / 2
    assert whole.bytes == (exported.path / "model.onnx").stat().st_size
    assert small.way in ("dynamic", "static")


def test_no_training_row_is_in_the_golden_requests(done):
    model, exported = done
    known = model.encoder(rows(100, 3))["words"]
    golden = json.loads((exported.path / "golden.json").read_text())
    for request in golden["requests"]:
        for row in np.array(request["inputs"]["words"]["data"]).reshape(request["inputs"]["words"]["shape"]):
            there = row[row > 0]
            same = [(line[line > 0].size == there.size and (line[: there.size] == there).all()) for line in known]
            assert there.size == 1 or not any(same)


def test_exporting_leaves_the_model_as_it_was(done):
    model, _ = done
    assert model.fingerprint == built().fingerprint


@pytest.mark.usefixtures("quick")
def test_exporting_again_replaces_the_folder_and_nothing_else(tmp_path, done):
    model, exported = done
    folder = tmp_path / "probe"
    first = export(model, folder, proof=proof(model), about=ABOUT)
    assert Artifact.open(first.path).files == Artifact.open(exported.path).files
    export(model, folder, proof=proof(model), about=ABOUT, settings=Export(("fp32",)))
    assert Artifact.open(folder).contract.precisions == ("fp32",)
    assert [path.name for path in tmp_path.iterdir()] == ["probe"]
    stranger = tmp_path / "holiday"
    stranger.mkdir()
    (stranger / "beach.txt").write_text("sand")
    with pytest.raises(UserError, match="no artifact"):
        export(model, stranger, proof=proof(model), about=ABOUT)
    assert (stranger / "beach.txt").read_text() == "sand"


@pytest.mark.usefixtures("quick")
def test_int8_that_loses_too_much_is_left_out_or_refused(tmp_path, done):
    model, _ = done

    def coarse(predictor):
        return 0.8 if np.abs(predictor(rows(5, 4))["logits"] - model(rows(5, 4))["logits"]).max() < 1e-5 else 0.7

    exported = export(model, tmp_path / "a", proof=proof(model, coarse), about=ABOUT)
    assert Artifact.open(exported.path).contract.precisions == ("fp32",)
    assert not (exported.path / "model.int8.onnx").exists()
    assert "judges 0.7000, the student 0.8000: it loses 12.50%" in exported.parity["int8"].refused
    assert exported.parity["int8"].refused in (exported.path / "card.md").read_text()
    with pytest.raises(ParityRefused, match=r"12\.50%"):
        export(model, tmp_path / "b", proof=proof(model, coarse), about=ABOUT, settings=Export(required=True))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    lenient = Export(allowed_loss=0.2, required=True)
    assert export(model, tmp_path / "c", proof=proof(model, coarse), about=ABOUT, settings=lenient).parity["int8"]


def test_a_loss_is_measured_in_the_headlines_direction():
    up, down = (Proof({}, lambda _: 0.0, 0.5, higher_is_better) for higher_is_better in (True, False))
    assert up.lost(0.45) == pytest.approx(0.1) == down.lost(0.55)
    assert up.lost(0.55) == pytest.approx(-0.1) == down.lost(0.45)
    assert up.lost(float("nan")) == float("inf")


@pytest.mark.usefixtures("quick")
def test_a_file_that_answers_or_judges_otherwise_is_refused_with_the_figure(tmp_path, done):
    model, _ = done
    with pytest.raises(ParityRefused, match=r"judges 1\.0000, the student 0\.9900"):
        export(model, tmp_path / "a", proof=proof(model, headline=0.99), about=ABOUT)
    with torch.no_grad():
        other = built()
        other.module.table.weight[5] += 0.01
    with pytest.raises(ParityRefused, match="differ from the student's by"):
        export(other, tmp_path / "a", proof=proof(other), about=ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_says_nan_to_an_empty_row_is_refused(done):
    _, exported = done
    model = built()
    model.module.empty = 0.0
    bench = Bench(model, model.encoder, ABOUT.columns, proof(model))
    with pytest.raises(ParityRefused, match="NaN to a row of empty columns"):
        bench.hold(bench.candidate((exported.path / "model.onnx").read_bytes()))


def test_impossible_settings_are_refused():
    with pytest.raises(UserError, match="allowed_loss is 2"):
        Export(allowed_loss=2)
    with pytest.raises(UserError, match="must hold fp32"):
        Export(("int8",))


def test_a_column_nobody_described_is_named(tmp_path, done):
    model, _ = done
    with pytest.raises(UserError, match="reads 'words', of which"):
        export(model, tmp_path / "a", proof=proof(model), about=dataclasses.replace(ABOUT, columns=()))
