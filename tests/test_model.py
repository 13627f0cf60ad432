from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from limbeck import parts
from limbeck.errors import NoSuchName
from limbeck.model import Model
from limbeck.task import Problem
from limbeck.types import Axis, Rows

torch.set_num_threads(1)
ITEMS = ("a", "b", "c", "d")


def rows(count: int = 9) -> Rows:
    histories = [[ITEMS[(i + j) % 4] for j in range(1 + i % 3)] for i in range(count)]
    table = pa.table({"user": [f"u{i % 5}" for i in range(count)], "history": histories, "secret": [1] * count})
    return Rows(table, np.arange(count), "shop")


def problem() -> Problem:
    return Problem(rows(), rows(), rows(), Axis("item", ITEMS), ("user", "history"))


def build(seed: int = 0, name: str = "matrix_factorisation", **settings: Any) -> Model:
    settings = settings or {"width": 3}
    family = parts.make("models", name, settings)
    encoder = family.encoder(problem())
    torch.manual_seed(seed)
    return Model(name, settings, encoder, family.module(encoder, 4), 4)


def test_it_answers_arrays_of_declared_kinds_and_reads_only_what_it_says() -> None:
    model = build()
    said = model(rows().batch())
    assert model.reads == ("user", "history")
    assert said.kinds == {"scores": "scores"}
    assert isinstance(said["scores"], np.ndarray)
    assert said["scores"].dtype == np.float32
    assert said["scores"].shape == (9, 4)
    with pytest.raises(NoSuchName, match="no column 'history'"):
        model(rows().batch(["user"]))


def test_it_answers_in_eval_mode_without_gradients() -> None:
    model = build(name="sasrec", width=4, dropout=0.9)
    model.module.train()
    first, second = (model(rows().batch())["scores"] for _ in range(2))
    assert np.array_equal(first, second)
    assert "steps" not in model(rows().batch())  # said in training only


def test_half_precision_weights_answer_in_float32() -> None:
    model = build()
    model.module.bfloat16()
    assert model(rows().batch())["scores"].dtype == np.float32


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    model = build()
    model.save(tmp_path)
    again = Model.load(tmp_path)
    assert again.fingerprint == model.fingerprint
    assert (again.family, again.settings, again.outputs) == (model.family, model.settings, 4)
    assert np.array_equal(again(rows().batch())["scores"], model(rows().batch())["scores"])
    assert not list(tmp_path.rglob("*.pkl")) + list(tmp_path.rglob("*.pt"))


def test_weights_of_another_shape_are_not_loaded(tmp_path: Path) -> None:
    build(width=3).save(tmp_path)
    text = (tmp_path / "model.json").read_text().replace('"width": 3', '"width": 5')
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(RuntimeError, match="size mismatch"):
        Model.load(tmp_path)


def test_the_fingerprint_is_of_settings_encoder_and_every_weight() -> None:
    model = build()
    assert build().fingerprint == model.fingerprint
    others = [build(seed=1), build(width=4), build(width=3, dropout=0.5)]
    for name, value in model.module.state_dict().items():
        changed = build()
        state = changed.module.state_dict()
        state[name] = value.clone()
        state[name].view(-1)[-1] += 1e-6
        changed.module.load_state_dict(state)
        others.append(changed)
    assert len({model.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1


def test_the_fingerprint_takes_every_type_of_number() -> None:
    model = build()
    module = nn.Module()
    for name, dtype in (("a", torch.bfloat16), ("b", torch.int64), ("c", torch.bool), ("d", torch.float16)):
        module.register_buffer(name, torch.zeros((), dtype=dtype))
    plain = model.having(module).fingerprint
    module.get_buffer("c").fill_(True)
    assert model.having(module).fingerprint != plain


def test_parameters_are_counted_once_each() -> None:
    model = build(width=3)
    # 7 user and 6 item vectors, 4 biases, and the map of 2 * 3 + 1 by 3 that folds users in
    assert model.parameters == 7 * 3 + 6 * 3 + 4 + 7 * 3


def test_the_same_model_may_have_other_weights() -> None:
    first, second = build(0), build(1)
    both = first.having(second.module)
    assert both.fingerprint == second.fingerprint
    assert first.fingerprint != second.fingerprint
