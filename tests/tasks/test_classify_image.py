import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from limbeck import classes
from limbeck.artifact import Artifact
from limbeck.bind import taught_rows
from limbeck.data.pictures import Pictures
from limbeck.errors import UserError
from limbeck.picture import look
from limbeck.recipe import parse
from limbeck.run import run
from limbeck.task import Source
from limbeck.tasks import classify_image
from limbeck.tasks.classify_image import TASK
from limbeck.types import Rows


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def png(value, form="png"):
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value // 2, 0)).save(file, form)
    return file.getvalue()


def prepare(pictures, labels, part, source="here", **options):
    table = pa.table({"photo": pa.array(pictures, pa.binary()), "kind": pa.array(labels, pa.string())})
    rows = Rows(table, np.arange(len(pictures)), source, {"picture": "photo", "label": "kind"})
    return TASK.prepare(Source(rows), np.array(part), {**TASK.options, **options})


PICTURES = [png(i) for i in range(12)]
LABELS = ["bag", "shoe"] * 6
PART = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_rows_keep_their_part_and_the_student_reads_the_picture_alone() -> None:
    problem = prepare(PICTURES, LABELS, PART)
    assert [problem.train.id.tolist(), problem.validation.id.tolist(), problem.test.id.tolist()] == [
        [0, 1, 2, 3, 4, 5],
        [6, 7, 8],
        [9, 10, 11],
    ]
    assert problem.reads == ("photo",)
    assert TASK.headline == "accuracy"


def test_of_many_labels_few_may_be_kept_and_each_kind_keeps_its_share() -> None:
    labels = ["bag", "shoe", "shoe"] * 20
    pictures = [png(4 * i) for i in range(60)]
    part = [0] * 48 + [1] * 6 + [2] * 6
    problem = prepare(pictures, labels, part, labelled=12)
    kept = np.array(labels)[problem.train.id].tolist()
    assert (kept.count("bag"), kept.count("shoe")) == (4, 8)
    assert sorted([*problem.train.id, *problem.unlabelled.id]) == list(range(48))
    # Nobody who learns from the unlabelled rows may read what was hidden.
    taught = taught_rows(problem)
    assert (TASK.targets(taught, problem)["label"] >= 0).sum() == 12
    assert set(classes.labels(problem.unlabelled)) == {""}
    assert (problem.facts["labels_hidden"], problem.facts["unlabelled"]) == (36, 36)
    assert len(problem.validation) == len(problem.test) == 6
    fewer = prepare(pictures, labels, part, labelled=6)
    assert set(fewer.train.id) < set(problem.train.id)


@pytest.mark.parametrize("labelled", [0, 49, 2.5, True])
def test_a_number_of_labels_that_cannot_be_kept_is_refused(labelled) -> None:
    with pytest.raises(UserError, match=f"labelled is {labelled}"):
        prepare([png(4 * i) for i in range(60)], ["bag", "shoe"] * 30, [0] * 48 + [1] * 6 + [2] * 6, labelled=labelled)


def test_the_same_pixels_in_another_format_are_a_duplicate() -> None:
    problem = prepare([*PICTURES, png(1, "bmp")], [*LABELS, "shoe"], [*PART, 2])
    assert problem.test.id.tolist() == [9, 10, 11]
    assert problem.facts["duplicates_dropped"] == 1
    kept = prepare([*PICTURES, png(1, "bmp")], [*LABELS, "shoe"], [*PART, 2], deduplicate=False)
    assert kept.test.id.tolist() == [9, 10, 11, 12]


def test_unreadable_pictures_are_refused_in_one_list_or_skipped_and_counted() -> None:
    bad = [*PICTURES, b"", b"text", png(3)[:-30]]
    with pytest.raises(UserError, match=r"3 of 15 .*id 12: it is empty.*id 13: it is no picture.*id 14: .*not whole"):
        prepare(bad, ["bag"] * 3 + LABELS, [0] * 3 + PART, source="bad")
    problem = prepare(bad, [*LABELS, "bag", "bag", "bag"], [*PART, 0, 0, 0], source="bad", unreadable="skip")
    assert problem.facts["unreadable_pictures_dropped"] == 3
    assert len(problem.train) == 6
    with pytest.raises(UserError, match="'refuse' or 'skip'"):
        prepare(PICTURES, LABELS, PART, unreadable="ignore")


def test_pictures_of_a_folder_that_cannot_be_read_are_named_by_their_files(tmp_path) -> None:
    for i, data in enumerate([*PICTURES, b"text"]):
        file = tmp_path / "shop" / LABELS[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    source = Pictures("shop/").read(tmp_path)
    with pytest.raises(UserError, match=r"1 of 13 pictures cannot be read \(\"?'?bag/12.png: it is no picture"):
        TASK.prepare(source, np.array([*PART, 0]), TASK.options)


def test_pictures_are_looked_at_once_and_found_by_id(monkeypatch) -> None:
    bad = [*PICTURES, b"text"]
    table = pa.table({"a/photo": pa.array(bad, pa.binary())})
    rows = Rows(table, np.arange(13), "album", {"picture": "a/photo"})
    skip = {"unreadable": "skip"}
    first = TASK.same(rows.take(np.array([3, 12])), skip).to_pylist()
    assert first[1] is None
    looked = []
    monkeypatch.setattr(classify_image, "look", lambda column: looked.append(len(column)) or look(column))
    whole = TASK.same(rows, skip).to_pylist()
    assert looked == [11]
    assert [whole[3], whole[12]] == first
    assert len(set(whole)) == 13
    assert TASK.same(rows.take(np.arange(13)[::-1]), skip).to_pylist() == whole[::-1]
    assert looked == [11]


def test_a_column_of_paths_is_no_column_of_pictures() -> None:
    table = pa.table({"photo": ["a.png"] * 12, "kind": LABELS})
    rows = Rows(table, np.arange(12), "here", {"picture": "photo", "label": "kind"})
    with pytest.raises(UserError, match="holds no encoded pictures"):
        TASK.prepare(Source(rows), np.array(PART), dict(TASK.options))


@pytest.mark.slow
def test_a_folder_of_pictures_becomes_an_artifact_and_a_report_with_pictures(tmp_path) -> None:
    random = np.random.default_rng(0)
    for i in range(240):
        pixels = random.integers(0, 150, (12, 12), dtype=np.uint8)
        pixels[:6] += np.uint8(100 * (i % 2))
        file = tmp_path / "goods" / ("high", "low")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    recipe, _ = parse(
        "task: classify_image\ndata: {path: goods/}\n"
        "protocols: [{name: random, split: {kind: random, stratify: true, shares: [6, 2, 2]}, splits: [0]}]\n"
        "teacher: {model: residual_network, widths: [8, 16], blocks: 1, allow_weak: true,"
        " training: {epochs: 4, batch_size: 16}}\n"
        "students: [{model: picture_convolution, name: small, widths: [4, 8]}]\n"
        "objective: [{loss: hard, weight: 0.5}, {loss: kl, weight: 0.5, temperature: 2.0}]\n"
        "training: {epochs: 8, batch_size: 16, learning_rate: 0.02}\nseeds: [0]\n"
    )
    report = run(recipe, base=tmp_path, out=tmp_path / "out")
    student = next(row for row in report.protocols[0].rows if row.role == "student" and row.precision == "fp32")
    assert student.metrics["accuracy"].mean > 0.9
    artifact = Artifact.open(tmp_path / "out" / "artifact" / "small")
    assert artifact.check_golden("fp32") < 1e-3
    rows = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert rows[0]["row"]["picture"].startswith("data:image/png;base64,")
    inside = [file.read_bytes() for file in artifact.folder.rglob("*") if file.is_file()]
    one = (tmp_path / "goods" / "high" / "0.png").read_bytes()
    assert not any(one in data or b"data:image/png" in data for data in inside)
