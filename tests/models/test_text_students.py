"""What every student that reads text must do, whatever it is made of."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from torch.export import Dim

from limbeck import parts
from limbeck.model import Model
from limbeck.task import Problem
from limbeck.types import Axis, Batch, Key, Rows

TEXTS = [
    "good tea, really good",
    "bad coffee and bad service",
    "the tea is good",
    "the worst",
    "fine, fine",
    "不好 很好",
]
AWKWARD = ["", "good", "🙂 a\x00b", "the tea " * 3000, "x" * 100_000, "\ud800"]
STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "bag": ("bag_of_embeddings", {"vocabulary": 60, "width": 6, "hidden": 5}),
    "bag of n-grams, linear": (
        "bag_of_embeddings",
        {"vocabulary": 60, "width": 6, "hidden": 0, "ngrams": (2, 3), "buckets": 50, "length": 9},
    ),
    "convolution": ("text_convolution", {"vocabulary": 60, "width": 6, "channels": 4, "widths": (1, 2, 5)}),
    "recurrent": ("bidirectional_gru", {"vocabulary": 60, "width": 6, "hidden": 5, "length": 12, "tail": 4}),
    "characters": ("character_transformer", {"width": 8, "heads": 2, "length": 40, "stride": 3}),
    "single characters": ("character_transformer", {"width": 8, "heads": 2, "length": 40, "stride": 1}),
    "terms": ("tfidf_linear", {"minimum": 1}),
    "constant": ("majority", {}),
}


def problem() -> Problem:
    table = pa.table({"text": TEXTS * 2, "label": ["good", "bad"] * 6})
    rows = Rows(table, np.arange(12), "here", {"text": "text", "label": "label"})
    return Problem(rows, rows, rows, Axis("label", ("bad", "good")), ("text",))


def batch(texts: list[str]) -> Batch:
    return Batch({"text": texts}, Key("here", np.arange(len(texts)), np.zeros(len(texts), np.int64)))


def build(name: str, outputs: int = 2) -> Model:
    family_name, settings = STUDENTS[name]
    family = parts.make("models", family_name, settings)
    encoder = family.encoder(problem())
    torch.manual_seed(3)
    module = family.module(encoder, outputs)
    if hasattr(family, "fit"):
        label = np.eye(outputs)[np.arange(12) % outputs]
        family.fit(module, encoder(batch(TEXTS * 2)), label, None)
    return Model(family_name, settings, encoder, module.eval(), outputs)


@pytest.fixture(params=STUDENTS)
def model(request: pytest.FixtureRequest) -> Model:
    return build(request.param)


def test_awkward_texts_get_finite_logits(model: Model) -> None:
    logits = model(batch(AWKWARD))["logits"]
    assert logits.shape == (len(AWKWARD), 2)
    assert np.isfinite(logits).all()
    assert np.isfinite(model(batch(["", ""]))["logits"]).all()
    assert model.kinds == {"logits": "logits"}


@pytest.mark.parametrize("name", STUDENTS)
def test_more_classes_get_more_logits(name: str) -> None:
    assert build(name, 3)(batch(TEXTS))["logits"].shape == (len(TEXTS), 3)


def test_a_row_is_answered_alike_alone_and_among_longer_rows(model: Model) -> None:
    texts = ["good", "", "bad coffee", *TEXTS]
    together = model(batch(texts))["logits"]
    alone = np.concatenate([model(batch([text]))["logits"] for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_saved_and_loaded_students_answer_alike(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path)
    loaded = Model.load(tmp_path)
    assert loaded.fingerprint == model.fingerprint
    assert np.array_equal(loaded(batch(AWKWARD))["logits"], model(batch(AWKWARD))["logits"])


@pytest.mark.parametrize("name", STUDENTS)
def test_equal_seeds_build_equal_students(name: str) -> None:
    assert build(name).fingerprint == build(name).fingerprint


@pytest.mark.parametrize(
    "name", [n for n, (family, _) in STUDENTS.items() if family not in ("majority", "tfidf_linear")]
)
def test_every_weight_learns(name: str) -> None:
    model = build(name)
    tensors = {k: torch.from_numpy(v) for k, v in model.encoder(batch(TEXTS)).items()}
    torch.nn.functional.cross_entropy(
        model.module.train()(**tensors)["logits"], torch.tensor([1, 0, 1, 0, 1, 1])
    ).backward()
    for weight, value in model.module.named_parameters():
        assert value.grad is not None, weight
        assert value.grad.abs().sum() > 0, weight


@pytest.mark.slow
def test_the_exported_graph_says_what_the_module_says(model: Model, tmp_path: Path) -> None:
    example = {k: torch.from_numpy(v) for k, v in model.encoder(batch(TEXTS[:2])).items()}
    dynamic = {k: dict.fromkeys(range(v.ndim), Dim.DYNAMIC) for k, v in example.items()}
    program = torch.onnx.export(model.module, (), kwargs=example, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for texts in (["good"], [""], ["", ""], TEXTS[:3], AWKWARD, ["bad tea"] * 9):
        tensors = model.encoder(batch(texts))
        said = session.run(None, {i.name: tensors[i.name] for i in session.get_inputs()})[0]
        np.testing.assert_allclose(said, model(batch(texts))["logits"], atol=1e-4)
