import csv
import io
import json
import re
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from limbeck import parts
from limbeck.artifact import Artifact, Column, Export
from limbeck.cli import main
from limbeck.encoder import Encoder
from limbeck.encoders.history import History
from limbeck.encoders.picture import Picture
from limbeck.encoders.vocabulary import Vocabulary
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.parity import Proof
from limbeck.report import Report
from limbeck.types import Axis, Batch, Key, Lists
from limbeck.verbs import predict as verb
from limbeck.verbs.export import About, export
from limbeck.verbs.predict import Predict, predict

torch.set_num_threads(1)
ITEMS = tuple(f"0{i}" for i in range(300))  # text that would lose its zero as a number
USERS = tuple(f"u{i}" for i in range(50))


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    torch.manual_seed(0)
    encoder = Encoder([Vocabulary("user", USERS), History("history", ITEMS, length=20)])
    family = parts.make("models", "matrix_factorisation", {"width": 8})
    model = Model("matrix_factorisation", {"width": 8}, encoder, family.module(encoder, len(ITEMS)), len(ITEMS))
    some = Batch(
        {"user": list(USERS), "history": Lists.of([ITEMS[i : i + 1 + i % 9] for i in range(50)])},
        Key("s", np.arange(50), np.zeros(50, np.int64)),
    )
    columns = (Column("user", "user", "text"), Column("history", "", "text", many=True))
    about = About("recommend", Axis("item", ITEMS), columns, Report(task="recommend"), "")
    folder = tmp_path_factory.mktemp("run") / "small"
    proof = Proof(encoder(some), lambda predictor: float(len(predictor(some))), 1.0)
    export(model, folder, proof=proof, about=about, settings=Export(("fp32",)))
    return Artifact.open(folder)


def made(count):
    generator = np.random.default_rng(1)
    users = generator.choice([*USERS, "stranger"], count).tolist()
    lists = [generator.choice(ITEMS, generator.integers(0, 9)).tolist() for _ in range(count)]
    return users, lists


def write(folder, ending, users, lists):
    path = folder / f"rows.{ending}"
    if ending == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["price", "history", "user"])
            writer.writerows(
                [1.5, (" " if i % 2 else "|").join(seen), u]
                for i, (u, seen) in enumerate(zip(users, lists, strict=True))
            )
    elif ending == "parquet":
        pa.parquet.write_table(pa.table({"user": users, "history": lists, "price": [1] * len(users)}), path)
    else:
        lines = [json.dumps({"x": {"y": 1}, "history": h, "user": u}) for u, h in zip(users, lists, strict=True)]
        path.write_text("\n".join(lines))
    return path


def naive(artifact, users, lists, top):
    """One row at a time, without files."""
    answer, predictor = parts.get("tasks", "recommend").answer, artifact.predictor()
    for row, (user, seen) in enumerate(zip(users, lists, strict=True)):
        one = Batch({"user": [user], "history": Lists.of([seen])}, Key("s", np.array([row]), np.array([0])))
        yield {"row": row, **answer(predictor(one), artifact.axis, one, top)[0]}


def close(said, wanted):
    assert len(said) == len(wanted)
    for one, other in zip(said, wanted, strict=True):
        assert one["row"] == other["row"]
        assert [i["item"] for i in one["items"]] == [i["item"] for i in other["items"]]
        # ONNX Runtime sums in another order for another number of rows.
        np.testing.assert_allclose(
            [i["score"] for i in one["items"]], [i["score"] for i in other["items"]], rtol=1e-4, atol=2e-6
        )


@pytest.mark.parametrize("ending", ["csv", "jsonl", "ndjson", "parquet"])
@pytest.mark.parametrize("answers", ["jsonl", "parquet"])
def test_every_format_gives_the_answers_of_a_row_at_a_time(artifact, tmp_path, ending, answers):
    users, lists = made(41)
    out = tmp_path / "deep" / f"answers.{answers}"
    source = write(tmp_path, ending, users, lists)
    done = predict(artifact, source, out, settings=Predict(top=3, batch=7))
    table = pa.parquet.read_table(out).to_pylist() if answers == "parquet" else None
    said = table or [json.loads(line) for line in out.read_text().splitlines()]
    close(said, list(naive(artifact, users, lists, 3)))
    assert (done.rows, done.out) == (41, out)
    assert done.rate == pytest.approx(41 / done.seconds)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_answers_without_a_place_are_printed(artifact, tmp_path, capsys):
    users, lists = made(5)
    predict(artifact, write(tmp_path, "csv", users, lists), settings=Predict(top=2))
    close([json.loads(line) for line in capsys.readouterr().out.splitlines()], list(naive(artifact, users, lists, 2)))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_missing_column_is_named_before_any_work(artifact, tmp_path, ending):
    source = write(tmp_path, ending, *made(3))
    if ending == "jsonl":
        source.write_text(source.read_text().replace('"user"', '"usr"'))
    elif ending == "csv":
        source.write_text(source.read_text().replace("user", "usr"))
    else:
        pa.parquet.write_table(pa.table({"usr": ["a"], "history": [["b"]]}), source)
    out = tmp_path / "answers.jsonl"
    with pytest.raises(UserError, match=r"has no column 'user'; it has: .*usr"):
        predict(artifact, source, out)
    assert not out.exists()


def test_a_value_of_another_type_is_told_and_leaves_no_half_file(artifact, tmp_path):
    source = tmp_path / "rows.jsonl"
    lines = ['{"user": "u1", "history": ["01"]}'] * 3000 + ['{"user": "u1", "history": 7}']
    source.write_text("\n".join(lines))
    with pytest.raises(UserError, match="history"):
        predict(artifact, source, tmp_path / "answers.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_an_empty_file_has_no_answers(artifact, tmp_path, ending):
    source = tmp_path / f"rows.{ending}"
    source.write_text("history,user\n" if ending == "csv" else "")
    for out in (tmp_path / "a.jsonl", tmp_path / "a.parquet"):
        assert predict(artifact, source, out).rows == 0
        assert out.exists()


def test_unknown_files_endings_and_settings_are_refused(artifact, tmp_path):
    source = write(tmp_path, "csv", *made(3))
    with pytest.raises(UserError, match="no file"):
        predict(artifact, tmp_path / "nowhere.csv")
    with pytest.raises(UserError, match=r"ends in '.xlsx'; answers"):
        predict(artifact, source, tmp_path / "a.xlsx")
    source = source.rename(tmp_path / "rows.txt")
    with pytest.raises(UserError, match=r"ends in '.txt'; rows are read from .csv"):
        predict(artifact, source)
    with pytest.raises(UserError, match="top is 0"):
        Predict(top=0)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "_BLOCK", 1 << 15)
    peaks = []
    for count in (4_000, 16_000):
        source = write(tmp_path, "csv", *made(count))
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        predict(artifact, source, tmp_path / "a.jsonl", settings=Predict(top=1, batch=64))
        peaks.append(tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before)
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.slow
def test_it_is_as_quick_as_a_bare_script(artifact, tmp_path):
    source, out = write(tmp_path, "csv", *made(30_000)), tmp_path / "a.jsonl"

    def bare():
        predictor, answer = artifact.predictor(), parts.get("tasks", "recommend").answer
        options = pyarrow.csv.ConvertOptions(
            include_columns=["user", "history"], column_types={"user": pa.string(), "history": pa.string()}
        )
        done = 0
        with out.open("w") as file:
            for block in pyarrow.csv.open_csv(source, convert_options=options):
                for start in range(0, block.num_rows, 512):
                    part = block.slice(start, 512).to_pydict()
                    lists = Lists.of([text.replace("|", " ").split() for text in part["history"]])
                    key = Key("s", np.arange(len(lists)), np.zeros(len(lists), np.int64))
                    batch = Batch({"user": part["user"], "history": lists}, key)
                    for one in answer(predictor(batch), artifact.axis, batch, 10):
                        file.write(json.dumps({"row": done, **one}, ensure_ascii=False) + "\n")
                        done += 1

    def seconds(work):
        start = time.process_time()  # of the processor: a busy machine slows both alike
        work()
        return time.process_time() - start

    pairs = [(seconds(bare), seconds(lambda: predict(artifact, source, out))) for _ in range(3)]
    theirs, ours = (min(one) for one in zip(*pairs, strict=True))
    assert ours < theirs / 0.8


def test_a_header_in_another_encoding_is_said_so(artifact, tmp_path):
    file = tmp_path / "gbk.csv"
    file.write_bytes("用户,history\nann,a\n".encode("gbk"))
    with pytest.raises(UserError, match=r"byte 0 \(line 1\) is not utf-8; .* else --encoding"):
        predict(artifact, file, tmp_path / "a.jsonl")


def test_a_csv_is_read_in_the_encoding_that_is_named(artifact, tmp_path):
    users, lists = made(7)
    wanted, file = tmp_path / "a.jsonl", tmp_path / "rows.csv"
    predict(artifact, write(tmp_path, "csv", users, lists), wanted)
    file.write_bytes("".join(f"名字,{line}\n" for line in file.read_text().splitlines()).encode("gb18030"))
    predict(artifact, file, tmp_path / "b.jsonl", settings=Predict(encoding="gb18030"))
    assert (tmp_path / "b.jsonl").read_text() == wanted.read_text()
    with pytest.raises(UserError, match=r"byte 0 \(line 1\) is not utf-8"):
        predict(artifact, file, tmp_path / "b.jsonl")
    with pytest.raises(UserError, match="no encoding 'gbk2'"):
        predict(artifact, file, tmp_path / "b.jsonl", settings=Predict(encoding="gbk2"))
    with pytest.raises(UserError, match="only a CSV has another encoding"):
        predict(artifact, write(tmp_path, "jsonl", users, lists), None, settings=Predict(encoding="gbk"))


def test_a_wrong_byte_behind_the_header_is_named(artifact, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_bytes(b"user,history\nu1,01\nu\xe9,02\n")
    with pytest.raises(UserError, match=r"byte 20 \(line 3\) is not utf-8"):
        predict(artifact, file, tmp_path / "a.jsonl")


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_known_users_need_no_histories_and_strangers_are_told_that_they_do(artifact, tmp_path, ending):
    def written(users):
        path = tmp_path / f"users.{ending}"
        if ending == "parquet":
            pa.parquet.write_table(pa.table({"user": users}), path)
        else:
            lines = ["user", *users] if ending == "csv" else [json.dumps({"user": user}) for user in users]
            path.write_text("\n".join(lines) + "\n")
        return path

    known = ["u3", "u1", "u3"]
    done = predict(artifact, written(known), tmp_path / "a.jsonl", settings=Predict(top=4, batch=2))
    said = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    close(said, list(naive(artifact, known, [[]] * 3, 4)))
    assert (done.rows, done.lacking) == (3, ("history",))
    assert predict(artifact, write(tmp_path, ending, *made(3)), tmp_path / "a.jsonl").lacking == ()
    with pytest.raises(UserError, match=r"row 3: user 'new' was not there in training.*'history' alone: add"):
        predict(artifact, written([*known, "new"]), tmp_path / "b.jsonl", settings=Predict(batch=2))
    assert not (tmp_path / "b.jsonl").exists()


def test_a_model_without_users_of_its_own_needs_their_histories(artifact, tmp_path):
    bare = replace(artifact, encoder=Encoder([History("history", ITEMS, length=20)]))
    source = tmp_path / "users.csv"
    source.write_text("user\nu1\n")
    with pytest.raises(UserError, match="no column 'history'; it has: user"):
        predict(bare, source)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_items_nobody_had_in_training_are_named_and_the_rest_is_answered(artifact, tmp_path, capsys, ending):
    users, lists = ["s", "s", "s"], [[ITEMS[3], "gone", ITEMS[4]], ["gone", "lost"], [ITEMS[5]]]
    done = predict(artifact, write(tmp_path, ending, users, lists), tmp_path / "a.jsonl", settings=Predict(batch=2))
    (unknown,) = done.unknown
    assert (unknown.values, unknown.named, unknown.rows, unknown.bare, unknown.first) == (3, ("gone", "lost"), 2, 1, 1)
    answers = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    close(answers, list(naive(artifact, users, [[ITEMS[3], "gone", ITEMS[4]], [], [ITEMS[5]]], 10)))
    assert main(["predict", str(artifact.folder), str(tmp_path / f"rows.{ending}")]) == 0
    assert "3 values of 'history' in 2 rows passed over, for training had none of them" in capsys.readouterr().err
    assert not predict(artifact, write(tmp_path, ending, users[:1], [[ITEMS[3]]]), tmp_path / "a.jsonl").unknown


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readmes_file_of_users_is_read_as_it_says(artifact, tmp_path, readme):
    text = (Path(__file__).parents[2] / readme).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```csv\n(.*?)^```", text, re.M | re.S)
    (tmp_path / "users.csv").write_text(block)
    predict(artifact, tmp_path / "users.csv", tmp_path / "a.jsonl", settings=Predict(top=2))
    users, lists = zip(*[line.split(",") for line in block.splitlines()[1:]], strict=True)
    said = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    close(said, list(naive(artifact, users, [one.split() for one in lists], 2)))


def test_an_empty_csv_is_refused(artifact, tmp_path):
    (tmp_path / "rows.csv").touch()
    with pytest.raises(UserError, match="is empty; a line with the names of its columns"):
        predict(artifact, tmp_path / "rows.csv")


@pytest.fixture(scope="module", params=["depthwise_separable", "lenet", "residual_network"])
def seer(request, tmp_path_factory):
    """An exported model of pictures, and some pictures."""
    torch.manual_seed(0)
    pictures = [_png(np.random.default_rng(i).integers(0, 256, (16, 20), dtype=np.uint8)) for i in range(40)]
    encoder = Encoder([Picture("photo", size=(16, 20), channels=1)])
    settings = {"residual_network": {"widths": (4, 8), "blocks": 1}}.get(request.param, {})
    family = parts.make("models", request.param, settings)
    model = Model(request.param, settings, encoder, family.module(encoder, 3).eval(), 3)
    some = Batch({"photo": pictures}, Key("s", np.arange(40), np.zeros(40, np.int64)))
    about = About(
        "classify_image", Axis("label", ("a", "b", "c")), (Column("photo", "picture", "picture"),), Report(task="x"), ""
    )
    folder = tmp_path_factory.mktemp("run") / "small"
    proof = Proof(encoder(some), lambda predictor: 1.0, 1.0)
    done = export(model, folder, proof=proof, about=about, settings=Export())
    assert done.parity["fp32"].refused is None
    return Artifact.open(folder), model, some


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_pictures_are_answered_by_path_or_by_bytes_as_the_model_answers_them(seer, tmp_path):
    artifact, model, some = seer
    for i, data in enumerate(some["photo"]):
        (tmp_path / f"{i}.png").write_bytes(data)
    paths = [f"{i}.png" for i in range(40)]
    (tmp_path / "rows.csv").write_text("photo\n" + "\n".join(paths) + "\n")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"photo": path}) + "\n" for path in paths))
    pa.parquet.write_table(pa.table({"photo": pa.array(some["photo"], pa.binary())}), tmp_path / "rows.parquet")
    wanted = torch.from_numpy(model(some)["logits"]).softmax(1).numpy()
    for ending in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"{ending}.jsonl"
        predict(artifact, tmp_path / f"rows.{ending}", out, settings=Predict(top=3, precision="fp32"))
        said = [json.loads(line) for line in out.read_text().splitlines()]
        for row, one in zip(wanted, said, strict=True):
            told = {each["label"]: each["probability"] for each in one["labels"]}
            np.testing.assert_allclose([told[name] for name in "abc"], row, atol=1e-4)


def test_a_picture_that_is_not_there_or_none_is_named(seer, tmp_path):
    artifact, _, some = seer
    (tmp_path / "0.png").write_bytes(some["photo"][0])
    (tmp_path / "bad.png").write_bytes(b"text")
    for path, words in (
        ("none.png", "row 1: 'photo' is 'none.png', and there is no such"),
        ("bad.png", "row 1: 'bad.png' cannot be read: it is no picture of"),
    ):
        (tmp_path / "rows.csv").write_text(f"photo\n0.png\n{path}\n")
        with pytest.raises(UserError, match=words):
            predict(artifact, tmp_path / "rows.csv", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()
    pictures = [some["photo"][0], some["photo"][0], b"text"]
    pa.parquet.write_table(pa.table({"photo": pa.array(pictures, pa.binary())}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="row 2: the picture in 'photo' cannot be read: it is no picture of"):
        predict(artifact, tmp_path / "rows.parquet", tmp_path / "out.jsonl", settings=Predict(batch=2))


def test_half_a_parquet_file_is_said_so(artifact, tmp_path):
    users, lists = made(200)
    whole = write(tmp_path, "parquet", users, lists)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError, match="is not whole or not parquet"):
        predict(artifact, whole, tmp_path / "out.jsonl")
