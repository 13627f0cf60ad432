import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from limbeck.data.csv import Csv
from limbeck.data.jsonl import Jsonl
from limbeck.data.parquet import Parquet
from limbeck.errors import UserError
from limbeck.table import check_labels, check_roles, check_text, find_file, reader_for, source_of
from limbeck.types import Rows


def test_a_file_is_read_by_the_reader_of_its_ending():
    named = {"a.csv": "csv", "a.tsv": "csv", "A.PARQUET": "parquet", "x.y.jsonl": "jsonl", "a.arrow": "arrow"}
    assert {path: reader_for(path) for path in named} == named
    assert reader_for("/data/ml-100k.inter") == "recbole"


def test_an_ending_no_reader_knows_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"rows\.xlsx.*\.csv.*\.parquet"):
        reader_for("rows.xlsx")


def test_a_relative_path_counts_from_the_recipe_and_an_absolute_one_is_taken_as_it_is(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "a.csv").write_text("x")
    (tmp_path / "b.csv").write_text("x")
    assert find_file("a.csv", tmp_path / "recipes") == (tmp_path / "recipes" / "a.csv").resolve()
    assert find_file(str(tmp_path / "b.csv"), tmp_path / "recipes") == (tmp_path / "b.csv").resolve()


def test_a_recipe_may_not_name_files_outside_its_folder(tmp_path):
    base = tmp_path / "recipes"
    base.mkdir()
    (tmp_path / "secret.csv").write_text("x")
    (base / "link.csv").symlink_to(tmp_path / "secret.csv")
    (base / "folder").symlink_to(tmp_path)
    for path in ("../secret.csv", "link.csv", "folder/secret.csv"):
        with pytest.raises(UserError, match="leaves the recipe's folder"):
            find_file(path, base)


def test_dots_that_stay_inside_are_fine(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_text("x")
    assert find_file("sub/../a.csv", tmp_path) == (tmp_path / "a.csv").resolve()


def test_what_is_no_file_with_bytes_is_refused(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for path, said in {
        "none.csv": "no file 'none.csv'",
        "folder.csv": "is a folder",
        "empty.csv": "empty file",
        "loop.csv": "loop.csv",
        "nul\0.csv": "cannot be opened",
    }.items():
        with pytest.raises(UserError, match=said):
            find_file(path, tmp_path)


@pytest.mark.parametrize("before", ["", "a\nb\n", "é\n" * 600_000, "x" * ((1 << 20) - 1)])
def test_the_first_byte_that_is_not_text_is_named(tmp_path, before):
    head = before.encode()
    (tmp_path / "t.csv").write_bytes(head + b"ok\xff\n" + b"\xfe")
    with pytest.raises(UserError, match=rf"byte {len(head) + 2} \(line {before.count(chr(10)) + 1}\) is not utf-8"):
        check_text(tmp_path / "t.csv")


@pytest.mark.parametrize("pad", range(4))
def test_a_character_across_two_reads_is_text_and_half_of_one_at_the_end_is_not(tmp_path, pad):
    text = "x" * ((1 << 20) - pad) + "好好"
    (tmp_path / "t").write_text(text, encoding="utf-8")
    check_text(tmp_path / "t")
    (tmp_path / "t").write_bytes(text.encode()[:-1])
    with pytest.raises(UserError, match=rf"byte {len(text.encode()) - 3} \(line 1\)"):
        check_text(tmp_path / "t")


def test_another_encoding_is_read_by_its_name_and_an_unknown_one_refused(tmp_path):
    (tmp_path / "t").write_bytes("好".encode("gb18030"))
    check_text(tmp_path / "t", "gb18030")
    with pytest.raises(UserError, match="no encoding 'gb'"):
        check_text(tmp_path / "t", "gb")


def test_ids_are_positions_unless_a_column_has_the_role():
    table = pa.table({"order": pa.array([7, 3, 9], pa.int32()), "x": [1.0, 2.0, 3.0]})
    plain = source_of(table, source="s", roles={}).rows
    named = source_of(table, source="s", roles={"id": "order"}).rows
    assert plain.id.tolist() == [0, 1, 2]
    assert named.id.tolist() == [7, 3, 9]
    assert plain.id.dtype == named.id.dtype == np.int64
    assert plain.source != named.source  # an id means another row, so knowledge must not be shared


def test_ids_that_repeat_are_named():
    table = pa.table({"order": [5, 3, 5, 3, 1]})
    with pytest.raises(UserError, match="repeats 3, 5;"):
        source_of(table, source="s", roles={"id": "order"})


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array(["a", "b"]), "holds string values"),
        (pa.array([1, None]), "holds 1 empty values"),
        (pa.array([1, 2**64 - 1], pa.uint64()), "beyond 64 bits"),
    ],
)
def test_ids_that_are_not_whole_numbers_are_refused(column, said):
    with pytest.raises(UserError, match=said):
        source_of(pa.table({"order": column}), source="s", roles={"id": "order"})


def test_a_role_names_a_column_that_exists():
    table = pa.table({"a": [1], "b": [2]})
    with pytest.raises(UserError, match=r"'x' \(user\), 'y' \(privileged\); there are: a, b"):
        source_of(table, source="s", roles={"user": "x", "item": "a", "privileged": ["b", "y"]})


def test_only_privileged_takes_several_columns():
    table = pa.table({"a": [1], "b": [2]})
    assert source_of(table, source="s", roles={"privileged": ["a", "b"]}).rows.roles == {"privileged": ("a", "b")}
    assert source_of(table, source="s", roles={"privileged": "a"}).rows.roles == {"privileged": ("a",)}
    with pytest.raises(UserError, match="'user' names 2 columns"):
        source_of(table, source="s", roles={"user": ["a", "b"]})


@pytest.mark.parametrize("role", ["user", "item", "time", "weight"])
@pytest.mark.parametrize(
    "column",
    [
        pa.array([1.0, None, 3.0, float("nan")]),
        pa.array(["a", "", "b", None]),
        pa.array(["a", "", "b", None]).dictionary_encode(),
        pa.array(["a", "", "b", None], pa.large_string()),
    ],
)
def test_values_that_must_be_there_are_counted_and_named(role, column):
    rows = Rows(pa.table({"c": column}), np.array([10, 11, 12, 13]), "s", {role: "c"})
    with pytest.raises(UserError, match=rf"2 of 4 rows have no {role}: column 'c' .* id 11, 13;"):
        check_roles(rows)


def test_many_offenders_are_cut_short():
    rows = Rows(pa.table({"c": pa.array([None] * 9, pa.int64())}), np.arange(9), "s", {"item": "c"})
    with pytest.raises(UserError, match=r"9 of 9 .* id 0, 1, 2, 3, 4 and 4 more;"):
        check_roles(rows)


@pytest.mark.parametrize("column", [[0.0, None, 1.0], [0.0, float("nan"), 1.0]])
def test_a_measured_label_that_is_missing_is_refused_at_once(column):
    rows = Rows(pa.table({"c": column}), np.arange(3), "s", {"label": "c"})
    with pytest.raises(UserError, match=r"1 of 3 rows have no label: .* at id 1; .* are text or whole numbers"):
        check_roles(rows)


@pytest.mark.parametrize("column", [["a", "", "b"], ["a", None, "b"], [1, None, 2], [True, None, False]])
def test_a_class_that_is_missing_is_for_the_task_to_judge(column):
    rows = Rows(pa.table({"c": column}), np.arange(3), "s", {"label": "c"})
    check_roles(rows)
    with pytest.raises(UserError, match=r"1 of 3 rows have no label: column 'c' .* id 1; .* nobody can learn from"):
        check_labels(rows)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_label_of_text_that_says_it_is_missing_is_none_in_every_format(ending, tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    table = pa.table({"c": ["good", "NaN", "nan", " ", "", "null", "NULL", None, "none", "NA"], "n": range(10)})
    if ending == "csv":
        pa.csv.write_csv(table, tmp_path / "a.csv")
    elif ending == "parquet":
        pa.parquet.write_table(table, tmp_path / "a.parquet")
    else:
        (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    part = {"csv": Csv, "jsonl": Jsonl, "parquet": Parquet}[ending]
    rows = part(f"a.{ending}", {"label": "c"}).read(tmp_path).rows
    assert rows.missing("c").tolist() == [False, *[True] * 7, False, False], "none and NA may be classes"
    with pytest.raises(UserError, match=r"7 of 10 rows have no label: column 'c' is empty, null or NaN at id 1, 2, 3"):
        check_labels(rows)
    bare = part(f"a.{ending}", {"text": "c"}).read(tmp_path).rows
    assert bare.column("c")[:3] == ["good", "NaN", "nan"], "of labels only"


def test_labels_with_a_dictionary_are_read_as_text():
    labels = pa.array(["good", "nan", "good"]).dictionary_encode()
    assert source_of(pa.table({"c": labels}), source="s", roles={"label": "c"}).rows.missing("c").tolist() == [
        False, True, False,
    ]  # fmt: skip


def test_text_must_be_strings_and_may_be_empty():
    for column in (pa.array(["a", "", None]), pa.array(["a", "b", "a"]).dictionary_encode()):
        check_roles(Rows(pa.table({"c": column}), np.arange(3), "s", {"text": "c"}))
    with pytest.raises(UserError, match="'c' has the role 'text' and holds int64"):
        check_roles(Rows(pa.table({"c": [1, 2]}), np.arange(2), "s", {"text": "c"}))
