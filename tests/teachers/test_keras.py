"""A Keras model on the torch backend: what it says is what its own layers, written out in NumPy, say."""

import io
import json
import os
import zipfile

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.picture_input import PictureInput
from limbeck.task import Problem
from limbeck.teachers.keras import Keras
from limbeck.testing import check_teacher
from limbeck.types import Axis, Rows

os.environ["KERAS_BACKEND"] = "torch"
keras = pytest.importorskip("keras")

N = 12
RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (N, 8, 6, 3), dtype=np.uint8)
X = RANDOM.normal(size=(N, 2)).astype(np.float32)


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def problem(axis=None):
    columns = {"price": X[:, 0], "age": X[:, 1], "photo": pa.array([png(p) for p in PIXELS], pa.binary())}
    rows = Rows(pa.table(columns), np.arange(N), "shop")
    return Problem(rows, rows, rows, axis or Axis("label", ("bag", "cup", "shoe")), tuple(columns))


def pictured(folder, size=(8, 6), activation=None):
    """A pooled picture through one layer."""
    keras.utils.set_random_seed(0)
    shown = keras.Input((*size, 3), name="shown")
    made = keras.layers.Dense(3, activation=activation)(keras.layers.GlobalAveragePooling2D()(shown))
    model = keras.Model(shown, made)
    model.save(folder / "m.keras")
    return [np.asarray(weight) for weight in model.get_weights()]


def tabular(folder, outputs=3):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,), name="x"), keras.layers.Dense(outputs)])
    model.save(folder / "m.keras")
    return [np.asarray(weight) for weight in model.get_weights()]


@pytest.mark.parametrize(
    ("given", "by_hand"),
    [
        ({}, lambda p: p / 255),
        ({"raw": True}, lambda p: p),
        ({"mean": (0.5, 0.4, 0.3), "deviation": (0.5,)}, lambda p: (p / 255 - [0.5, 0.4, 0.3]) / 0.5),
    ],
)
def test_pictures_reach_it_as_it_was_taught(given, by_hand, tmp_path) -> None:
    weight, bias = pictured(tmp_path)
    settings = {"inputs": {"shown": "photo"}, "kind": "logits", "picture": PictureInput(**given), "rows_per_run": 5}
    teacher = Keras("m.keras", **settings).open(problem(), tmp_path)
    check_teacher(teacher, problem().train)
    said = teacher(problem().train.batch())["logits"]
    np.testing.assert_allclose(said, by_hand(PIXELS).mean((1, 2)) @ weight + bias, rtol=1e-4, atol=1e-4)


def test_probabilities_become_logits_in_the_tasks_order(tmp_path) -> None:
    weight, bias = pictured(tmp_path, activation="softmax")
    settings = {"inputs": {"shown": "photo"}, "kind": "probabilities", "classes": ("shoe", "bag", "cup")}
    said = Keras("m.keras", **settings).open(problem(), tmp_path)(problem().train.batch())["logits"]
    logits = (PIXELS / 255).mean((1, 2)) @ weight + bias
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(said, expected[:, [1, 2, 0]], atol=1e-5)


def test_columns_of_numbers_fill_one_input(tmp_path) -> None:
    weight, bias = tabular(tmp_path)
    teacher = Keras("m.keras", features=("price", "age"), kind="logits").open(problem(), tmp_path)
    check_teacher(teacher, problem().train)
    assert teacher.reads == ("price", "age")
    np.testing.assert_allclose(teacher(problem().train.batch())["logits"], X @ weight + bias, atol=1e-6)


def test_another_normalisation_is_another_teacher(tmp_path) -> None:
    pictured(tmp_path)
    told = {
        Keras("m.keras", inputs={"shown": "photo"}, kind="logits", picture=PictureInput(raw=raw))
        .open(problem(), tmp_path)
        .fingerprint
        for raw in (False, True, False)
    }
    assert len(told) == 2


def open_size_and(folder, **given):
    pictured(folder, size=(None, None))
    picture = PictureInput(**given)
    return Keras("m.keras", inputs={"shown": "photo"}, kind="logits", picture=picture).open(problem(), folder)


def test_an_open_size_must_be_given(tmp_path) -> None:
    with pytest.raises(UserError, match="leaves the size of pictures open"):
        open_size_and(tmp_path)
    assert open_size_and(tmp_path, size=(4, 4))(problem().train.batch())["logits"].shape == (N, 3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inputs": {"x": "photo"}}, r"pictures fill \?x3xHxW"),
        ({"features": ("price", "age"), "inputs": {"x": "price"}}, "'inputs' must not be given beside it"),
        ({"features": ("price", "cost")}, "no column 'cost'"),
        ({"inputs": {"y": "price"}}, "its inputs are 'x'"),
        ({"features": ("price", "age"), "rows_per_run": 0}, "rows_per_run is 0"),
    ],
)
def test_what_does_not_fit_is_refused(settings, said, tmp_path) -> None:
    tabular(tmp_path)
    with pytest.raises(UserError, match=said):
        Keras("m.keras", kind="logits", **settings).open(problem(), tmp_path)


def test_another_number_of_classes_is_refused(tmp_path) -> None:
    tabular(tmp_path, outputs=4)
    with pytest.raises(UserError, match="axis 1 of the answer is 4, not 3"):
        Keras("m.keras", features=("price", "age"), kind="logits").open(problem(), tmp_path)


def test_code_inside_the_file_is_never_run(tmp_path) -> None:
    shown = keras.Input((2,), name="x")
    keras.Model(shown, keras.layers.Dense(3)(keras.layers.Lambda(lambda x: x * 2)(shown))).save(tmp_path / "m.keras")
    with pytest.raises(UserError, match=r"cannot be loaded: .*Lambda"):
        Keras("m.keras", features=("price", "age"), kind="logits").open(problem(), tmp_path)


def test_a_file_of_another_kind_or_cut_short_is_refused(tmp_path) -> None:
    (tmp_path / "m.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match="is no file of Keras 3"):
        Keras("m.keras").open(problem(), tmp_path)
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("config.json", json.dumps({"class_name": "Nothing"}))
    with pytest.raises(UserError, match="cannot be loaded"):
        Keras("m.keras").open(problem(), tmp_path)


def test_another_backend_in_the_process_is_refused(tmp_path, monkeypatch) -> None:
    tabular(tmp_path)
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match="Keras runs on jax in this process; set KERAS_BACKEND=torch"):
        Keras("m.keras", features=("price", "age"), kind="logits").open(problem(), tmp_path)
