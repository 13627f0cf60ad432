import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from limbeck import graph

torch.set_num_threads(1)
V, D, C = 3001, 24, 5


class Recommend(nn.Module):
    def __init__(self):
        super().__init__()
        self.user, self.item = nn.Embedding(409, D), nn.Embedding(V, D)

    def forward(self, user, history):
        there = (history > 0).unsqueeze(2).float()
        mean = (self.item(history) * there).sum(1) / there.sum(1).clamp(min=1)
        return {"scores": (self.user(user) + mean) @ self.item.weight[2:].T}


class Linear(nn.Module):
    """Multi-hot histories times a square matrix, as EASE."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(401, 401) / 8)

    def forward(self, history):
        seen = torch.zeros(history.shape[0], 403).scatter(1, history % 403, 1.0)[:, 2:]
        return {"scores": seen @ self.weight}


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(V, D), nn.Linear(D, C)

    def forward(self, words):
        return {"logits": self.out(self.pool(self.table(words), (words > 0).unsqueeze(2)))}

    def pool(self, x, there):
        return (x * there).sum(1) / there.sum(1).clamp(min=1)


class Convolution(Words):
    def __init__(self):
        super().__init__()
        self.slide = nn.Conv1d(D, D, 5, padding=2)

    def pool(self, x, there):
        return torch.relu(self.slide(x.transpose(1, 2))).amax(2)


class Gru(Words):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(D, D // 2, batch_first=True, bidirectional=True)

    def pool(self, x, there):
        return super().pool(self.gru(x)[0], there)


class Attention(Words):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(D, 4, 48, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def pool(self, x, there):
        return super().pool(self.blocks(x), there)


KINDS = {one.__name__: one for one in (Recommend, Linear, Words, Convolution, Gru, Attention)}
KIND = pytest.mark.parametrize(
    "kind", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("Recommend", "Words"))) for name in KINDS]
)


def built(kind):
    torch.manual_seed(3)
    return KINDS[kind]().eval()


def asked(kind, rows, length, seed=0):
    generator = np.random.default_rng(seed)
    history = generator.integers(0, V, (rows, length))
    if kind == "Recommend":
        return {"user": generator.integers(0, 409, rows), "history": history}
    return {"history" if kind == "Linear" else "words": history}


def exported(kind):
    tensors = asked(kind, 3, 7)
    return graph.to_onnx(built(kind), tensors, free={(name, 1) for name, value in tensors.items() if value.ndim > 1})


@pytest.fixture(scope="module")
def files():
    held = {}

    def get(kind):
        if kind not in held:
            held[kind] = exported(kind)
        return held[kind]

    return get


def answers(model, tensors):
    (said,) = onnxruntime.InferenceSession(model).run(None, tensors)
    return said


def truth(kind, tensors):
    with torch.inference_mode():
        (said,) = built(kind)(**{name: torch.from_numpy(value) for name, value in tensors.items()}).values()
    return said.numpy()


@KIND
def test_a_file_answers_as_its_module_for_any_rows_and_lengths(kind, files):
    for rows, length in ((1, 1), (2, 7), (7, 41), (41, 3)):
        tensors = asked(kind, rows, length, seed=rows)
        np.testing.assert_allclose(answers(files(kind), tensors), truth(kind, tensors), rtol=1e-4, atol=1e-5)


@KIND
def test_equal_weights_make_equal_bytes_even_in_a_second_export(kind, files):
    assert exported(kind) == files(kind)


@KIND
@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_int8_keeps_the_answers_and_shrinks_the_file(kind, way, files):
    whole = files(kind)
    calibration = [asked(kind, 32, 20, seed) for seed in range(4)]
    small = graph.dynamic_int8(whole) if way == "dynamic" else graph.static_int8(whole, calibration)
    tensors = asked(kind, 64, 20, seed=99)
    wanted = truth(kind, tensors)
    # int8 has 256 steps; answers sum over D of them: far less than a tenth of what they vary by.
    assert np.abs(answers(small, tensors) - wanted).mean() < 0.1 * wanted.std()
    # A quarter, and for a table that is also the output layer a half: it is stored both ways.
    assert len(small) < (0.6 if kind == "Recommend" else 0.42) * len(whole)


@KIND
def test_no_path_of_this_machine_is_in_the_file(kind, files):
    whole = files(kind)
    for model in (whole, graph.dynamic_int8(whole), graph.static_int8(whole, [asked(kind, 8, 9)])):
        for trace in (b"site-packages", b".py", b"/tmp", b"torch/", str(graph.__file__).encode()):
            assert trace not in model
        assert onnx.load_from_string(model).producer_name == "limbeck"


def test_the_contract_tells_fixed_axes_from_free_ones(files):
    inputs, outputs = graph.slots(files("Recommend"))
    assert inputs == [("user", "int64", (-1,)), ("history", "int64", (-1, -1))]
    assert outputs == [("scores", "float32", (-1, V - 2))]

    class Wide(nn.Module):
        def forward(self, features, history):
            return {"values": features.sum(1) + history.sum(1)}

    features = np.ones((2, 12), np.float32)
    inputs, _ = graph.slots(graph.to_onnx(Wide(), {"features": features, "history": features}, free={("history", 1)}))
    assert inputs == [("features", "float32", (-1, 12)), ("history", "float32", (-1, -1))]


def test_several_outputs_keep_their_names():
    class Two(nn.Module):
        def forward(self, b, a):
            return {"z": b * 2, "y": a * 3, "x": b + a}

    one = np.array([[1.0], [2.0]], np.float32)
    session = onnxruntime.InferenceSession(graph.to_onnx(Two(), {"a": one, "b": one * 10}))
    names = [tensor.name for tensor in session.get_outputs()]
    said = dict(zip(names, session.run(None, {"a": one, "b": one * 10}), strict=True))
    np.testing.assert_array_equal(said["z"], one * 20)
    np.testing.assert_array_equal(said["y"], one * 3)
    np.testing.assert_array_equal(said["x"], one * 11)


def test_a_module_that_fixes_a_free_axis_is_refused():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(7, 2)

        def forward(self, history):
            return {"logits": self.out(history)}

    with pytest.raises(ValueError, match="7"):
        graph.to_onnx(Fixed().eval(), {"history": np.ones((3, 7), np.float32)}, free={("history", 1)})


def test_a_shared_table_is_quantised_as_an_output_layer_too(files):
    operators = [node.op_type for node in onnx.load_from_string(graph.dynamic_int8(files("Recommend"))).graph.node]
    assert "MatMulInteger" in operators
    assert not {"MatMul", "Transpose"} & set(operators)


def test_a_weight_with_two_readers_is_quantised_for_each():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.bias = nn.Embedding(C * D, D), nn.Parameter(torch.zeros(C * D))

        def forward(self, words):
            x = self.table(words).mean(1)
            x = torch.relu(nn.functional.linear(x, self.table.weight, self.bias))
            return {"logits": nn.functional.linear(x @ self.table.weight, self.table.weight, self.bias)}

    torch.manual_seed(0)
    module = Shared().eval()
    words = np.random.default_rng(0).integers(0, C * D, (32, 6))
    whole = graph.to_onnx(module, {"words": words}, free={("words", 1)})
    with torch.inference_mode():
        wanted = module(torch.from_numpy(words))["logits"].numpy()
    for small in (graph.dynamic_int8(whole), graph.static_int8(whole, [{"words": words}])):
        held = onnx.load_from_string(small).graph
        assert {weight.name for weight in held.initializer} <= {name for node in held.node for name in node.input}
        assert np.abs(answers(small, {"words": words}) - wanted).mean() < 0.05 * wanted.std()


def test_exporting_warns_of_nothing(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exported("Words")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
