import json

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from limbeck import artifact
from limbeck.encoder import Encoder
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import StoreDamaged, UserError
from limbeck.task import Problem
from limbeck.teachers.artifact import Artifact
from limbeck.testing import check_teacher
from limbeck.types import Axis, Rows

WORDS = ("cup", "shoe")
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)  # padding, unknown, cup, shoe
LABELS = Axis("label", ("a", "b", "c"))


def problem(axis=LABELS, column="word"):
    rows = Rows(pa.table({column: ["cup", "shoe", "new", "cup"]}), np.arange(4), "shop")
    return Problem(rows, rows, rows, axis, (column,))


def write(folder):
    """A student that looks a row's word up in a table."""
    node = helper.make_node("Gather", ["table", "word"], ["logits"])
    given = [helper.make_tensor_value_info("word", TensorProto.INT64, ["rows"])]
    said = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])]
    graph = helper.make_graph([node], "g", given, said, [numpy_helper.from_array(TABLE, "table")])
    Encoder([Vocabulary("word", WORDS)]).save(folder / "encoder")
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    slots = [artifact.Slot("word", "int64", (-1,))], [artifact.Slot("logits", "float32", (-1, 3), "logits")]
    columns = (artifact.Column("word", "", "text"),)
    artifact.Contract("classify", columns, tuple(slots[0]), tuple(slots[1]), ("fp32",), "fp32", "0").save(folder)
    axis = {"name": LABELS.name, "values": LABELS.values, "titles": ()}
    (folder / "axis.json").write_text(json.dumps(axis), encoding="utf-8")
    artifact.seal(folder)


def test_a_student_is_the_next_teacher(tmp_path):
    (tmp_path / "student").mkdir()
    write(tmp_path / "student")
    teacher = Artifact("student").open(problem(), tmp_path)
    assert np.array_equal(teacher(problem().test.batch())["logits"], TABLE[[2, 3, 1, 2]])
    check_teacher(teacher, problem().test)


def test_an_artifact_outside_the_recipes_folder_is_named_by_an_absolute_path(tmp_path):
    inner = tmp_path / "recipes"
    for folder in (inner, tmp_path / "student"):
        folder.mkdir()
    write(tmp_path / "student")
    (inner / "link").symlink_to(tmp_path / "student")
    for path in ("../student", "link"):
        with pytest.raises(UserError, match=f"'{path}' leaves the recipe's folder; put it inside or give an absolute"):
            Artifact(path).open(problem(), inner)
    assert Artifact(str(tmp_path / "student")).find(inner) == tmp_path / "student"


def test_what_does_not_fit_is_said_at_once(tmp_path):
    write(tmp_path)
    turned = Axis("label", ("b", "a", "c"))
    with pytest.raises(UserError, match="not the same in the same order"):
        Artifact(".").open(problem(turned), tmp_path)
    with pytest.raises(UserError, match="the rows have no column 'word'; there are: text"):
        Artifact(".").open(problem(column="text"), tmp_path)
    with pytest.raises(UserError, match="has no int8 file"):
        Artifact(".", precision="int8").open(problem(), tmp_path)
    with pytest.raises(UserError, match="there is no artifact in 'elsewhere'"):
        Artifact("elsewhere").open(problem(), tmp_path)
    (tmp_path / "axis.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreDamaged):
        Artifact(".").open(problem(), tmp_path)
