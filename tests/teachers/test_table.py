import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import UnknownKey, UserError
from limbeck.task import Problem
from limbeck.teachers.table import Table
from limbeck.testing import check_teacher
from limbeck.types import Axis, Batch, Key, Rows

LABELS = Axis("label", ("bad", "good"))
ITEMS = Axis("item", ("i0", "i1", "i2", "i3"))


def rows(ids, **columns):
    columns = columns or {"review": [f"r{i}" for i in ids]}
    return Rows(pa.table(columns), np.array(ids, np.int64), "shop")


def problem(axis=LABELS, users=None):
    if users:
        parts = [rows([i], user=[u]) for i, u in enumerate(users)]
        return Problem(parts[0], parts[1], parts[2], axis, ("user",))
    return Problem(rows([10, 11, 12]), rows([20, 21]), rows([30]), axis, ("review",))


def wide(folder, drop=(), **more):
    ids = [i for i in (30, 21, 20, 12, 11, 10, 99) if i not in drop]
    good = np.array([i / 100 for i in ids])
    columns = {"id": ids, "review": [f"r{i}" for i in ids], "bad": 1 - good, "good": good, **more}
    pa.parquet.write_table(pa.table(columns), folder / "scores.parquet")
    return "scores.parquet"


@pytest.mark.parametrize("by", [(), "review", ("review",)])
def test_knowledge_is_found_by_key_whatever_the_order_of_the_file(tmp_path, by):
    teacher = Table(wide(tmp_path), by=by, kind="probabilities").open(problem(), tmp_path)
    said = teacher(problem().train.batch(teacher.reads))
    assert np.allclose(said["logits"], np.log([[0.9, 0.1], [0.89, 0.11], [0.88, 0.12]]))
    assert said.kinds == {"logits": "logits"}
    assert teacher.reads == (("review",) if by else ())
    check_teacher(teacher, problem().train)


def test_one_column_tells_both_classes(tmp_path):
    both = Table(wide(tmp_path), kind="probabilities").open(problem(), tmp_path)
    good = Table("scores.parquet", column="good", kind="probabilities").open(problem(), tmp_path)
    bad = Table("scores.parquet", columns={"bad": "bad"}, kind="probabilities").open(problem(), tmp_path)
    margin = Table("scores.parquet", column="good", kind="logits").open(problem(), tmp_path)
    batch = problem().train.batch([])
    assert np.allclose(good(batch)["logits"], both(batch)["logits"])
    assert np.allclose(bad(batch)["logits"], both(batch)["logits"])
    assert np.allclose(margin(batch)["logits"], [[0, 0.10], [0, 0.11], [0, 0.12]])


def test_one_column_without_a_kind_is_asked_about(tmp_path):
    with pytest.raises(UserError, match="set kind to 'probabilities' or 'logits'"):
        Table(wide(tmp_path), column="good").open(problem(), tmp_path)


def test_probabilities_without_a_kind_are_asked_about(tmp_path):
    with pytest.raises(UserError, match="look like probabilities"):
        Table(wide(tmp_path)).open(problem(), tmp_path)


def test_clipping_is_counted_and_noted(tmp_path):
    certain = [1.0, 0.5, 0.0, 1.0, 0.25, 0.0, 0.5]
    name = wide(tmp_path, good=certain, bad=[1 - p for p in certain])
    teacher = Table(name, kind="probabilities", clip=1e-4).open(problem(), tmp_path)
    said = teacher(problem().train.batch([]))  # ids 10, 11, 12 hold 0, .25 and 1
    assert said["logits"][0].tolist() == pytest.approx(np.log([1 - 1e-4, 1e-4]), rel=1e-6)
    assert len(said.notes) == 1
    assert "4 of 6 probabilities were clipped to [0.0001, 1 - 0.0001]" in said.notes[0]


@pytest.mark.parametrize("name", ["scores.csv", "scores.arrow"])
def test_other_formats_answer_as_parquet_does(tmp_path, name):
    wanted = Table(wide(tmp_path), by="review", kind="probabilities").open(problem(), tmp_path)
    table = pa.parquet.read_table(tmp_path / "scores.parquet")
    if name.endswith("csv"):
        pa.csv.write_csv(table, tmp_path / name)
    else:
        with pa.ipc.new_file(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
    found = Table(name, by="review", kind="probabilities").open(problem(), tmp_path)
    batch = problem().train.batch(["review"])
    assert np.array_equal(found(batch)["logits"], wanted(batch)["logits"])
    assert found.fingerprint != wanted.fingerprint


def test_keys_in_a_csv_stay_text(tmp_path):
    (tmp_path / "s.csv").write_text("review,good\n007,0.5\n7,0.25\n", encoding="utf-8")
    two = rows([1, 2], review=["007", "7"])
    asked = Problem(two, two, two, LABELS, ("review",))
    teacher = Table("s.csv", by="review", column="good", kind="logits").open(asked, tmp_path)
    assert teacher(two.batch())["logits"][:, 1].tolist() == [0.5, 0.25]


def test_several_columns_make_one_key_without_running_together(tmp_path):
    pa.parquet.write_table(pa.table({"a": ["x", "xy"], "b": ["yz", "z"], "good": [1.0, 2.0]}), tmp_path / "s.parquet")
    two = rows([1, 2], a=["xy", "x"], b=["z", "yz"])
    asked = Problem(two, two, two, LABELS, ("a",))
    teacher = Table("s.parquet", by=("a", "b"), column="good", kind="logits").open(asked, tmp_path)
    assert teacher(two.batch())["logits"][:, 1].tolist() == [2.0, 1.0]


def test_a_row_the_table_lacks_is_named(tmp_path):
    with pytest.raises(UnknownKey, match=r"lacks 1 of 2 rows, by id: 21"):
        Table(wide(tmp_path, drop=[21]), kind="probabilities").open(problem(), tmp_path)
    with pytest.raises(UnknownKey, match=r"lacks 1 of 2 rows, by review: 'r21'"):
        Table(wide(tmp_path, drop=[21]), by="review", kind="probabilities").open(problem(), tmp_path)


def test_ids_of_another_source_and_augmented_views_are_unknown(tmp_path):
    teacher = Table(wide(tmp_path), kind="probabilities").open(problem(), tmp_path)
    id = np.array([10], np.int64)
    with pytest.raises(UnknownKey, match="source shop, not of elsewhere"):
        teacher(Batch({}, Key("elsewhere", id, id * 0)))
    with pytest.raises(UnknownKey, match="no augmented views"):
        teacher(Batch({}, Key("shop", id, id * 0 + 1)))


def test_ids_of_several_sources_are_refused(tmp_path):
    other = Rows(pa.table({"review": ["r30"]}), np.array([30]), "elsewhere")
    asked = Problem(problem().train, problem().validation, other, LABELS, ("review",))
    with pytest.raises(UserError, match="ids of 2 sources would be mixed up"):
        Table(wide(tmp_path), kind="probabilities").open(asked, tmp_path)


def test_keys_told_twice_are_refused(tmp_path):
    wide(tmp_path)
    table = pa.parquet.read_table(tmp_path / "scores.parquet")
    pa.parquet.write_table(pa.concat_tables([table, table.slice(3, 1)]), tmp_path / "scores.parquet")
    with pytest.raises(UserError, match="1 keys are told twice: 12"):
        Table("scores.parquet", kind="probabilities").open(problem(), tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, None])
def test_numbers_that_are_none_are_refused(tmp_path, bad):
    name = wide(tmp_path, good=[0.1, 0.2, 0.3, bad, 0.5, 0.6, 0.7])
    with pytest.raises(UserError, match="1 of 14 numbers are NaN or infinite"):
        Table(name, kind="probabilities").open(problem(), tmp_path)


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_a_truncated_file_is_refused_in_words(tmp_path, cut):
    file = tmp_path / wide(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(UserError, match=r"scores\.parquet is not whole or not \.parquet"):
        Table("scores.parquet", kind="probabilities").open(problem(), tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"path": "none.parquet"}, "no file 'none.parquet'"),
        ({"path": "scores.txt"}, "'.txt' is no known ending"),
        ({"id": "key"}, "has no column 'key'; there are: id, review, bad, good"),
        ({"by": "sku"}, "the rows have no column 'sku'"),
        ({"columns": {"bad": "bad", "fine": "good"}}, "unknown to the task: 'fine'; missing: 'good'"),
        ({"column": "good", "columns": {"bad": "bad"}}, "not both"),
        ({"columns": {"bad": "bad", "good": "review"}}, "column 'review' holds string; numbers were wanted"),
        ({"id": "good"}, "column 'good' holds double, row ids are integers"),
        ({"clip": 0.5}, "clip is 0.5"),
    ],
)
def test_what_does_not_fit_is_said_at_once(tmp_path, settings, words):
    (tmp_path / "scores.txt").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match=words):
        Table(**{"path": wide(tmp_path), "kind": "probabilities", **settings}).open(problem(), tmp_path)


def long(folder, **more):
    columns = {"user": ["b", "a", "a", "c"], "item": ["i3", "i0", "i2", "i1"], "score": [3.0, 0.5, 2.0, -1.0], **more}
    pa.parquet.write_table(pa.table(columns), folder / "s.parquet")
    return Table("s.parquet", by="user", item="item")


def test_a_long_table_ranks_the_catalogue_and_masks_missing_pairs(tmp_path):
    teacher = long(tmp_path).open(problem(ITEMS, "abc"), tmp_path)
    said = teacher(rows([7, 8, 9], user=["b", "a", "a"]).batch())
    none = -np.inf
    assert said["scores"].tolist() == [[none, none, none, 3.0], [0.5, none, 2.0, none], [0.5, none, 2.0, none]]
    assert said.kinds == {"scores": "scores"}
    check_teacher(teacher, rows([7, 8, 9], user=["b", "a", "a"]))


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), st.floats(-9, 9, width=32)), st.randoms())
def test_a_long_table_is_a_dictionary_of_pairs(tmp_path_factory, pairs, random):
    folder = tmp_path_factory.mktemp("long")
    told = [(u, i, s) for (u, i), s in ({(u, 0): 0.0 for u in "abc"} | pairs).items()]
    random.shuffle(told)
    teacher = long(folder, user=[t[0] for t in told], item=[f"i{t[1]}" for t in told], score=[t[2] for t in told])
    teacher = Table(**{**vars(teacher), "missing": -20.0}).open(problem(ITEMS, "abc"), folder)
    said = teacher(rows([0, 1, 2], user=["c", "a", "b"]).batch())["scores"]
    known = {(u, i): s for u, i, s in told}
    assert said.tolist() == [[np.float32(known.get((u, i), -20.0)) for i in range(4)] for u in "cab"]


def test_other_items_and_pairs_told_twice_are_refused(tmp_path):
    with pytest.raises(UserError, match="the catalogue of training lacks 1 item: 'i9'"):
        long(tmp_path, item=["i9", "i0", "i2", "i1"]).open(problem(ITEMS, "abc"), tmp_path)
    with pytest.raises(UserError, match="1 pairs of key and item are told twice"):
        long(tmp_path, item=["i3", "i0", "i0", "i1"]).open(problem(ITEMS, "abc"), tmp_path)
    with pytest.raises(UserError, match="1 scores are NaN or infinite"):
        long(tmp_path, score=[0.0, 1.0, np.nan, 2.0]).open(problem(ITEMS, "abc"), tmp_path)
    with pytest.raises(UnknownKey, match="by user: 'd'"):
        long(tmp_path).open(problem(ITEMS, "abd"), tmp_path)


def test_equal_files_and_settings_have_equal_fingerprints_and_others_not(tmp_path):
    opened = [long(tmp_path).open(problem(ITEMS, "abc"), tmp_path) for _ in range(2)]
    assert opened[0].fingerprint == opened[1].fingerprint
    other = Table("s.parquet", by="user", item="item", missing=-5.0).open(problem(ITEMS, "abc"), tmp_path)
    changed = long(tmp_path, score=[3.0, 0.5, 2.0, -2.0]).open(problem(ITEMS, "abc"), tmp_path)
    assert len({opened[0].fingerprint, other.fingerprint, changed.fingerprint}) == 3
