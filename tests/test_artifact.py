import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper

from limbeck.artifact import Artifact, Column, Contract, Slot, golden, seal, verify, write_json
from limbeck.encoder import Encoder
from limbeck.encoders.history import History
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import ParityRefused, StoreDamaged, UserError
from limbeck.types import Batch, Key, Lists, Predictor, Rows

ITEMS = ("a", "b", "c")
USERS = ("ann", "bob")
RNG = np.random.default_rng(5)
USER, ITEM = (RNG.normal(size=(n, 3)).astype(np.float32) for n in (4, 5))


def model(user=USER):
    nodes = [
        helper.make_node("Gather", ["users", "user"], ["u"]),
        helper.make_node("Gather", ["items", "history"], ["h"]),
        helper.make_node("ReduceSum", ["h", "axes"], ["s"], keepdims=0),
        helper.make_node("Add", ["u", "s"], ["scores"]),
    ]
    weights = {"users": user, "items": ITEM, "axes": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("user", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", "length"]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    said = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(said)
    return said.SerializeToString()


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "probe"
    encoder = Encoder([Vocabulary("user", USERS), History("history", ITEMS, length=4)])
    encoder.save(folder / "encoder")
    (folder / "model.onnx").write_bytes(model())
    columns = (Column("user", "user", "text"), Column("history", "", "text", many=True))
    inputs = (Slot("user", "int64", (-1,)), Slot("history", "int64", (-1, -1)))
    outputs = (Slot("scores", "float32", (-1, 3), "scores"),)
    Contract("recommend", columns, inputs, outputs, ("fp32",), "fp32", "0").save(folder)
    write_json(folder / "axis.json", {"name": "item", "values": ITEMS, "titles": ()})
    seal(folder)
    predictor = Artifact.open(folder).predictor()
    requests = [{"user": np.array([1, 3]), "history": np.array([[2, 3, 0], [1, 0, 0]])}]
    write_json(folder / "golden.json", golden(requests, {"fp32": predictor}))
    seal(folder)
    return folder


def batch(users=("ann", "nobody", "bob"), histories=(["a", "c"], [], ["zzz"])):
    columns = {"user": list(users), "history": Lists.of(histories), "secret": np.arange(len(users))}
    return Batch(columns, Key("here", np.arange(len(users)), np.zeros(len(users), np.int64)))


def files(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def test_an_artifact_answers_as_the_arithmetic_says(folder):
    predictor = Artifact.open(folder).predictor()
    said = predictor(batch())
    rows = [(2, (2, 4)), (1, (0, 0)), (3, (1, 0))]  # by hand: ids of the users and of the padded histories
    wanted = np.stack([USER[user] + ITEM[list(history)].sum(0) for user, history in rows])
    np.testing.assert_allclose(said["scores"], wanted, rtol=1e-6)
    assert said.kinds == {"scores": "scores"}
    assert isinstance(predictor, Predictor)
    assert predictor.reads == ("user", "history")


def test_columns_beyond_the_contract_are_not_seen_and_missing_ones_are_named(folder):
    predictor = Artifact.open(folder).predictor()
    lean = batch().only(("user", "history"))
    np.testing.assert_array_equal(predictor(batch())["scores"], predictor(lean)["scores"])
    with pytest.raises(UserError, match="no column 'history'"):
        predictor(batch().only(("user",)))


def test_every_flipped_byte_of_every_file_is_found(folder):
    for path in files(folder):
        whole = path.read_bytes()
        for place in np.unique(np.linspace(0, len(whole) - 1, 40).astype(int)):
            for bit in (1, 32):
                path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
                with pytest.raises(StoreDamaged):
                    Artifact.open(folder)
        path.write_bytes(whole)
    assert Artifact.open(folder).contract.task == "recommend"


def test_missing_added_truncated_and_swapped_files_are_named(folder):
    (folder / "extra.txt").write_text("x")
    with pytest.raises(StoreDamaged, match=r"'extra.txt' is not in the manifest"):
        verify(folder)
    (folder / "extra.txt").unlink()
    one, other = (folder / name for name in ("axis.json", "contract.json"))
    held = one.read_bytes(), other.read_bytes()
    one.write_bytes(held[1])
    other.write_bytes(held[0])
    with pytest.raises(StoreDamaged, match=r"'axis.json' changed; 'contract.json' changed"):
        verify(folder)
    one.write_bytes(held[0])
    other.unlink()
    with pytest.raises(StoreDamaged, match=r"'contract.json' is missing"):
        verify(folder)


def test_a_link_is_refused_wherever_it_leads(folder, tmp_path):
    outside = tmp_path / "axis.json"
    (folder / "axis.json").rename(outside)
    (folder / "axis.json").symlink_to(outside)
    with pytest.raises(StoreDamaged, match=r"'axis.json' is a link"):
        Artifact.open(folder)


def test_a_manifest_cannot_name_a_file_outside_the_folder(folder, tmp_path):
    (tmp_path / "outside").write_bytes(b"x")
    said = json.loads((folder / "manifest.json").read_text())
    said["files"]["../outside"] = {"sha256": hashlib.sha256(b"x").hexdigest(), "bytes": 1}
    (folder / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(StoreDamaged, match=r"'\.\./outside' is missing"):
        Artifact.open(folder)


def test_a_folder_without_a_manifest_is_the_users_mistake(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="is no artifact") as raised:
            Artifact.open(place)
        assert not isinstance(raised.value, StoreDamaged)


def test_a_model_changed_after_opening_is_not_loaded(folder):
    artifact = Artifact.open(folder)
    (folder / "model.onnx").write_bytes(model(USER + 1))
    with pytest.raises(StoreDamaged, match="changed since the folder was opened"):
        artifact.predictor()


def test_another_precision_or_schema_is_refused_with_words(folder):
    with pytest.raises(UserError, match=r"no int8 file; there are: fp32"):
        Artifact.open(folder).predictor("int8")
    said = json.loads((folder / "contract.json").read_text())
    write_json(folder / "contract.json", said | {"schema": 2})
    seal(folder)
    with pytest.raises(UserError, match="schema 2, this version reads 1"):
        Artifact.open(folder)


def test_golden_requests_tell_another_model_from_this_one(folder):
    assert Artifact.open(folder).check_golden() <= 1e-6
    (folder / "model.onnx").write_bytes(model(USER * 1.01))
    seal(folder)
    with pytest.raises(ParityRefused, match="golden request 0"):
        Artifact.open(folder).check_golden()


def test_a_fingerprint_changes_with_any_file_and_with_nothing_else(folder):
    first = Artifact.open(folder)
    assert first.predictor().fingerprint == Artifact.open(folder).predictor().fingerprint
    (folder / "card.md").write_text("more")
    seal(folder)
    assert Artifact.open(folder).predictor().fingerprint != first.predictor().fingerprint


def test_a_contract_is_read_as_it_was_written(folder):
    contract = Artifact.open(folder).contract
    contract.save(folder)
    assert Contract.load(folder) == contract
    assert contract.reads == ("user", "history")


def test_columns_get_their_types_and_roles_from_the_rows():
    table = pa.table(
        {
            "who": pa.array(["a"]).dictionary_encode(),
            "when": pa.array([0], pa.timestamp("us")),
            "price": pa.array([1.5], pa.float32()),
            "n": pa.array([1], pa.int8()),
            "new": pa.array([True]),
            "seen": pa.array([["x"]]),
            "gaps": pa.array([[1]], pa.large_list(pa.int32())),
        }
    )
    rows = Rows(table, np.arange(1), "s", {"user": "who", "privileged": ("price", "n")})
    assert Column.of(rows, ("who", "when", "price", "n", "new", "seen", "gaps")) == (
        Column("who", "user", "text"),
        Column("when", "", "time"),
        Column("price", "privileged", "number"),
        Column("n", "privileged", "integer"),
        Column("new", "", "boolean"),
        Column("seen", "", "text", many=True),
        Column("gaps", "", "integer", many=True),
    )


def test_answering_needs_no_torch():
    code = """
import sys
import limbeck.artifact, limbeck.made_up, limbeck.measure, limbeck.verbs.predict
sys.exit("torch" in sys.modules or "onnxruntime" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parent).returncode == 0
