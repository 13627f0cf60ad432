import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from limbeck.errors import UserError
from limbeck.task import Source
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


def test_a_column_of_paths_is_no_column_of_pictures() -> None:
    table = pa.table({"photo": ["a.png"] * 12, "kind": LABELS})
    rows = Rows(table, np.arange(12), "here", {"picture": "photo", "label": "kind"})
    with pytest.raises(UserError, match="holds no encoded pictures"):
        TASK.prepare(Source(rows), np.array(PART), dict(TASK.options))
