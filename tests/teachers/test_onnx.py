import io

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from skl2onnx import convert_sklearn, to_onnx
from skl2onnx.common.data_types import StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from limbeck.errors import UserError
from limbeck.picture_input import PictureInput
from limbeck.task import Problem
from limbeck.teachers.onnx import Onnx
from limbeck.testing import check_teacher
from limbeck.types import Axis, Rows

N = 60
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(N, 2)).astype(np.float32)
TITLES = [" ".join(RANDOM.choice(["red", "blue", "shoe", "cup"], 3)) for _ in range(N)]
BASKETS = [list(range(1, 1 + i % 4)) for i in range(N)]


def problem(axis=None):
    columns = {"price": X[:, 0], "stock": np.arange(N), "age": X[:, 1], "title": TITLES, "basket": BASKETS}
    rows = Rows(pa.table({**columns, "picture": [[float(i)] * 4 for i in range(N)]}), np.arange(N), "shop")
    return Problem(rows, rows, rows, axis or Axis("label", ("no", "yes")), tuple(columns))


def encoded(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def softmax(logits):
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def graph(folder, nodes, inputs, outputs, weights=(), name="m.onnx"):
    def told(tensors):
        return [helper.make_tensor_value_info(n, t, s) for n, t, s in tensors]

    held = [numpy_helper.from_array(value, key) for key, value in weights]
    made = helper.make_graph(nodes, "g", told(inputs), told(outputs), held)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / name)
    return model


def doubled(folder, datatype, shape, width=2):
    """Says the sum of its input over all but the rows, as many times as there are classes."""
    axes = np.array(range(1, len(shape)), np.int64)
    weights = [("axes", axes), ("ones", np.ones((1, width), np.float32))]
    return graph(
        folder,
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["f", "axes"], ["s"], keepdims=1, noop_with_empty_axes=1),
            helper.make_node("Reshape", ["s", "flat"], ["r"]),
            helper.make_node("Mul", ["r", "ones"], ["y"]),
        ],
        [("x", datatype, shape)],
        [("y", TensorProto.FLOAT, [None, width])],
        [*weights, ("flat", np.array([-1, 1], np.int64))],
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_a_scikit_learn_classifier_has_its_own_probabilities(tmp_path, classes):
    labels = np.digitize(X[:, 0] + X[:, 1], np.linspace(-0.5, 0.5, classes - 1))
    model = LogisticRegression().fit(X, labels)
    exported = to_onnx(model, X[:1], options={"zipmap": False})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    asked = problem(Axis("label", tuple("abc"[:classes])))
    teacher = Onnx("m.onnx", features=("price", "age"), kind="probabilities", rows_per_run=7).open(asked, tmp_path)
    said = teacher(asked.test.batch())
    assert np.allclose(softmax(said["logits"]), model.predict_proba(X), atol=1e-5)
    assert teacher.reads == ("price", "age")
    check_teacher(teacher, asked.test.slice(0, 9))


def test_a_pipeline_over_text_reads_the_column_of_its_inputs_name(tmp_path):
    model = make_pipeline(TfidfVectorizer(token_pattern="[a-z]+", lowercase=False), LogisticRegression())
    model.fit(TITLES, ["red" in title for title in TITLES])
    taken = [("title", StringTensorType([None, 1]))]
    exported = convert_sklearn(model, initial_types=taken, options={"zipmap": False})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    teacher = Onnx("m.onnx", kind="probabilities").open(problem(), tmp_path)
    assert teacher.reads == ("title",)
    said = teacher(problem().test.batch(teacher.reads))
    assert np.allclose(softmax(said["logits"]), model.predict_proba(TITLES), atol=1e-5)


def test_several_inputs_are_filled_each_by_its_own_column(tmp_path):
    node = helper.make_node("Concat", ["left", "right"], ["y"], axis=1)
    inputs = [(name, TensorProto.FLOAT, [None, 1]) for name in ("left", "right")]
    graph(tmp_path, [node], inputs, [("y", TensorProto.FLOAT, [None, 2])])
    teacher = Onnx("m.onnx", inputs={"right": "price", "left": "age"}).open(problem(), tmp_path)
    assert np.array_equal(teacher(problem().test.batch())["logits"], X[:, ::-1])


def test_an_answer_that_has_not_one_entry_a_row_is_refused(tmp_path):
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)
    graph(tmp_path, [node], [("x", TensorProto.FLOAT, [None, 1])], [("y", TensorProto.FLOAT, [1, 1])])
    with pytest.raises(UserError, match=r"answered \(1, 1\) numbers to 2 rows"):
        Onnx("m.onnx", inputs={"x": "age"}, kind="logits").open(problem(), tmp_path)


def test_dictionaries_are_refused_with_the_way_to_export(tmp_path):
    exported = to_onnx(LogisticRegression().fit(X, X[:, 0] > 0), X[:1], options={"zipmap": True})
    (tmp_path / "m.onnx").write_bytes(exported.SerializeToString())
    with pytest.raises(UserError, match=r"options=\{'zipmap': False\}"):
        Onnx("m.onnx", features=("price", "age")).open(problem(), tmp_path)


@pytest.mark.parametrize(
    ("column", "datatype", "shape", "wanted"),
    [
        ("stock", TensorProto.INT64, [None, 1], np.arange(N)),
        ("stock", TensorProto.INT32, [None], np.arange(N)),
        ("age", TensorProto.DOUBLE, ["rows", 1], X[:, 1]),
        ("basket", TensorProto.INT64, [None, None], [sum(b) for b in BASKETS]),
        ("basket", TensorProto.INT64, [None, 5], [sum(b) for b in BASKETS]),
        ("picture", TensorProto.FLOAT, [None, 1, 2, 2], np.arange(N) * 4.0),
        ("age", TensorProto.FLOAT, [1, 1], X[:, 1]),
    ],
)
def test_columns_fill_inputs_of_every_type_and_shape(tmp_path, column, datatype, shape, wanted):
    doubled(tmp_path, datatype, shape)
    teacher = Onnx("m.onnx", inputs={"x": column}, rows_per_run=16, kind="logits").open(problem(), tmp_path)
    assert np.allclose(teacher(problem().test.batch())["logits"], np.array([wanted, wanted]).T, atol=1e-6)
    assert teacher(problem().test.slice(0, 0).batch())["logits"].shape == (0, 2)


@pytest.mark.parametrize(
    ("column", "datatype", "shape", "words"),
    [
        ("title", TensorProto.FLOAT, [None, 1], "the column holds text, the input takes float32"),
        ("age", TensorProto.INT64, [None, 1], "holds numbers that int64 cannot"),
        ("basket", TensorProto.INT64, [None, 2], r"has \d values, the shape \?x2 takes 2"),
        ("basket", TensorProto.INT64, [None], "a list a row does not fit"),
        ("picture", TensorProto.FLOAT, [None, 1, 1, 2], "has 4 values"),
        ("stock", TensorProto.INT64, [None, 3], "one value a row does not fill the shape"),
        ("age", TensorProto.FLOAT, [4, 1], "takes exactly 4 rows a run"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_words(tmp_path, column, datatype, shape, words):
    doubled(tmp_path, datatype, shape)
    teacher = Onnx("m.onnx", inputs={"x": column}, kind="logits")
    with pytest.raises(UserError, match=words):
        teacher.open(problem(), tmp_path)(problem().test.batch())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"inputs": {"z": "age"}}, "its inputs are 'x', 'inputs' names 'z'"),
        ({"inputs": {}}, "the rows have no column 'x'"),
        ({"inputs": {"x": "sku"}}, "the rows have no column 'sku'"),
        ({"output": "z"}, "no output 'z' of floats; there are: 'y'"),
        ({"classes": ("yes", "maybe")}, "unknown to the task: 'maybe'; missing: 'no'"),
        ({"features": ("age",)}, "'inputs' must not be given beside it"),
        ({"path": "none.onnx"}, "no file 'none.onnx'"),
        ({"rows_per_run": 0}, "rows_per_run is 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_words(tmp_path, settings, words):
    doubled(tmp_path, TensorProto.FLOAT, [None, 1])
    with pytest.raises(UserError, match=words):
        Onnx(**{"path": "m.onnx", "inputs": {"x": "age"}, **settings}).open(problem(), tmp_path)


def test_other_widths_and_items_in_another_order(tmp_path):
    doubled(tmp_path, TensorProto.FLOAT, [None, 1], width=3)
    with pytest.raises(UserError, match="axis 1 of the answer is 3, not 2, the labels of the task"):
        Onnx("m.onnx", inputs={"x": "age"}).open(problem(), tmp_path)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    weight = [("w", np.array([[1.0, 2.0, 3.0]], np.float32))]
    graph(tmp_path, [node], [("x", TensorProto.FLOAT, [None, 1])], [("y", TensorProto.FLOAT, [None, 3])], weight)
    items = problem(Axis("item", ("a", "b", "c")))
    turned = Onnx("m.onnx", inputs={"x": "age"}, classes=("c", "a", "b")).open(items, tmp_path)
    said = turned(items.test.batch())
    assert np.allclose(said["scores"], X[:, 1:] * [2.0, 3.0, 1.0])
    assert said.kinds == {"scores": "scores"}


def test_weights_in_another_file_are_refused(tmp_path):
    model = doubled(tmp_path, TensorProto.FLOAT, [None, 1])
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    with pytest.raises(UserError, match="keeps its weights in another file"):
        Onnx("m.onnx", inputs={"x": "age"}).open(problem(), tmp_path)


def test_a_truncated_file_and_custom_operators_are_refused(tmp_path):
    model = doubled(tmp_path, TensorProto.FLOAT, [None, 1])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString()[:-20])
    with pytest.raises(UserError, match="cannot be loaded"):
        Onnx("m.onnx", inputs={"x": "age"}).open(problem(), tmp_path)
    model.graph.node[3].domain = "custom"
    model.opset_import.append(helper.make_opsetid("custom", 1))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match="custom"):
        Onnx("m.onnx", inputs={"x": "age"}).open(problem(), tmp_path)


def test_several_outputs_ask_for_a_name(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["z"])]
    outputs = [("y", TensorProto.FLOAT, [None, 2]), ("z", TensorProto.FLOAT, [None, 2])]
    graph(tmp_path, nodes, [("x", TensorProto.FLOAT, [None, 2])], outputs)
    with pytest.raises(UserError, match="2 outputs that could answer; name one under 'output': 'y', 'z'"):
        Onnx("m.onnx", features=("price", "age")).open(problem(), tmp_path)
    named = Onnx("m.onnx", features=("price", "age"), output="z").open(problem(), tmp_path)
    assert np.allclose(named(problem().test.batch())["logits"], -X)


def test_numbers_that_are_none_are_refused(tmp_path):
    node = helper.make_node("Log", ["x"], ["y"])
    graph(tmp_path, [node], [("x", TensorProto.FLOAT, [None, 2])], [("y", TensorProto.FLOAT, [None, 2])])
    with pytest.raises(UserError, match="numbers are NaN or infinite"):
        Onnx("m.onnx", features=("price", "age")).open(problem(), tmp_path)


def test_the_fingerprint_is_of_file_and_settings(tmp_path):
    doubled(tmp_path, TensorProto.FLOAT, [None, 1])

    def told(**more):
        return Onnx(**{"path": "m.onnx", "inputs": {"x": "age"}, "kind": "logits", **more}).open(problem(), tmp_path)

    first = told().fingerprint
    assert told(rows_per_run=3).fingerprint == first
    others = [told(inputs={"x": "price"}).fingerprint, told(classes=("yes", "no")).fingerprint]
    doubled(tmp_path, TensorProto.DOUBLE, [None, 1])
    assert len({first, *others, told().fingerprint}) == 4


def test_a_teacher_on_one_thread_answers_the_same(tmp_path):
    doubled(tmp_path, TensorProto.FLOAT, [None, 1])
    teacher = Onnx("m.onnx", inputs={"x": "age"}, kind="logits").open(problem(), tmp_path)
    alone = teacher.on_threads(1)
    assert alone.session.get_session_options().intra_op_num_threads == 1
    assert alone.fingerprint == teacher.fingerprint
    asked = problem().test.batch()
    assert np.array_equal(alone(asked)["logits"], teacher(asked)["logits"])
    (tmp_path / "m.onnx").write_bytes(b"another")
    with pytest.raises(UserError, match="changed since it was opened"):
        teacher.on_threads(1)


def test_a_column_of_encoded_pictures_fills_an_input_of_theirs(tmp_path) -> None:
    random = np.random.default_rng(1)
    shown = random.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
    column = pa.array([encoded(picture) for picture in shown], pa.binary())
    rows = Rows(pa.table({"photo": column}), np.arange(6), "shop")
    asked = Problem(rows, rows, rows, Axis("label", ("no", "yes")), ("photo",))
    doubled(tmp_path, TensorProto.FLOAT, [None, 3, 4, 5])
    picture = PictureInput(mean=(0.5, 0.4, 0.3), deviation=(0.2,))
    teacher = Onnx("m.onnx", inputs={"x": "photo"}, kind="logits", picture=picture).open(asked, tmp_path)
    check_teacher(teacher, rows)
    expected = ((shown / 255 - [0.5, 0.4, 0.3]) / 0.2).sum((1, 2, 3))
    np.testing.assert_allclose(teacher(rows.batch())["logits"][:, 0], expected, rtol=1e-4)
    plain = Onnx("m.onnx", inputs={"x": "photo"}, kind="logits").open(asked, tmp_path)
    assert plain.fingerprint != teacher.fingerprint
