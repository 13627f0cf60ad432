import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from limbeck.encoder import Encoder
from limbeck.encoders.columns import Columns, as_read, kinds_of
from limbeck.errors import UserError
from limbeck.types import Array, Lists, Rows

COUNT = 60
RNG = np.random.default_rng(0)
AGE = RNG.normal(40, 12, COUNT)
USER = RNG.integers(0, 6, COUNT)
TAGS = [[f"t{i}" for i in range(n % 4)] for n in range(COUNT)]
NOTES = [f"a long enough note about {'tea' if n % 2 else 'coffee'} and cup number {n}" for n in range(COUNT)]
WHEN = [datetime(2024, 1 + n % 12, 1 + n % 28, n % 24) for n in range(COUNT)]


def rows(**columns: Any) -> Rows:
    table = pa.table(columns)
    return Rows(table, np.arange(table.num_rows), "here", {"user": "user"} if "user" in columns else {})


def whole() -> Rows:
    past = [[str(i % 8) for i in range(n % 3)] for n in range(COUNT)]
    return rows(user=USER, age=AGE, tags=TAGS, note=NOTES, when=WHEN, past=past, on=[n % 2 > 0 for n in range(COUNT)])


def fitted(of: Rows, **said: Any) -> Columns:
    return Columns.fit(of, of.names, said)


def asked(columns: Columns, **raw: Any) -> dict[str, Array]:
    return columns(raw)


def test_what_a_column_is_follows_from_its_type_and_its_role() -> None:
    kinds = {name: how["kind"] for name, how in kinds_of(whole(), whole().names, {}).items()}
    wanted = {"user": "category", "age": "number", "tags": "many", "note": "text", "when": "time", "on": "category"}
    assert kinds == {**wanted, "past": "many"}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"nobody": "number"}, "which the rows do not have"),
        ({"age": "colour"}, "there are: category, number"),
        ({"age": {"kind": "number", "length": 3}}, "has no setting 'length'"),
        ({"past": "history"}, "must say of which column"),
        ({"past": {"kind": "history", "of": "age"}}, "no category that is read"),
        ({"age": "many"}, "holds one value a row"),
        ({"tags": "number"}, "holds a list a row"),
        ({"user": {"kind": "category", "buckets": 0}}, "1 or more"),
        ({"note": "number"}, "holds text"),
    ],
)
def test_what_a_recipe_says_wrongly_is_refused_in_words(said: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Columns.fit(whole(), whole().names, said)


def test_pictures_are_no_column_of_a_table() -> None:
    with pytest.raises(UserError, match="leave it out"):
        fitted(rows(picture=[b"a", b"b"]))


def test_ids_and_numbers_are_those_of_scikit_learn() -> None:
    of = rows(user=USER, age=AGE)
    columns = fitted(of)
    said = columns(of.batch())
    np.testing.assert_allclose(said["numbers"][:, 0], StandardScaler().fit_transform(AGE[:, None])[:, 0], rtol=1e-5)
    place = columns.place("user")
    hot = said["ids"] == np.arange(place.ids.start, place.ids.stop)
    names = [name.removeprefix("user=") for name in columns.id_names[place.ids]][1:]
    wanted = OneHotEncoder(categories=[names], sparse_output=False).fit_transform(USER.astype(str)[:, None])
    np.testing.assert_array_equal(hot[:, 1:], wanted)
    assert not hot[:, 0].any()


def test_the_commonest_value_comes_first_and_rare_ones_are_unknown() -> None:
    columns = fitted(rows(shop=["b", "a", "a", "b", "a", "once"]))
    assert columns.id_names == ("nothing", "shop is unknown", "shop=a", "shop=b")
    said = asked(columns, shop=["a", "b", "once", "never", ""])["ids"][:, 0]
    assert said.tolist() == [2, 3, 1, 1, 1]


def test_a_set_weighs_one_and_a_history_shares_its_columns_values() -> None:
    of = whole()
    columns = fitted(of, past={"kind": "history", "of": "user", "length": 2}, tags={"kind": "many", "length": 2})
    said = columns(of.batch())
    tags, past = columns.place("tags"), columns.place("past")
    sums = said["weights"][:, tags.slots].sum(1)
    np.testing.assert_allclose(sums, [float(n % 4 > 0) for n in range(COUNT)])
    # Three tags, of which the last two are kept.
    assert [columns.id_names[i] for i in said["ids"][3, tags.slots]] == ["tags=t1", "tags=t2"]
    assert past.field.of == "user"
    assert past.ids.stop - past.ids.start == columns.place("user").ids.stop - columns.place("user").ids.start
    assert columns.number_names[past.numbers.start] == "past length"
    np.testing.assert_allclose(said["numbers"][:, past.numbers.start], np.log1p([n % 3 for n in range(COUNT)]))


def test_text_is_weighed_as_scikit_learn_does() -> None:
    of = rows(note=NOTES)
    columns = fitted(of, note={"kind": "text", "length": 64})
    said = columns(of.batch())
    peer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    wanted = peer.fit_transform(NOTES).toarray()
    found = np.zeros_like(wanted)
    order = [peer.vocabulary_[name.removeprefix("note=")] for name in columns.id_names[2:]]
    row, slot = np.nonzero(said["ids"])
    found[row, np.array(order)[said["ids"][row, slot] - 2]] = said["weights"][row, slot]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_moment_is_its_hour_weekday_and_month() -> None:
    of = rows(when=WHEN)
    columns = fitted(of)
    said = columns(of.batch())["ids"]
    names = [[columns.id_names[i] for i in row] for row in said]
    days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert names == [
        [f"when=hour {w.hour}", f"when=weekday {days[w.weekday()]}", f"when=month {w.month}"] for w in WHEN
    ]
    early = fitted(rows(when=np.array([-1.0, 1e30, np.nan])), when={"kind": "time", "unit": "s"})
    said = asked(early, when=np.array([-1.0, 1e30, np.nan]))["ids"]
    assert [early.id_names[i] for i in said[0]] == ["when=hour 23", "when=weekday Wed", "when=month 12"]
    assert not said[1:].any()


def test_odd_numbers_are_drawn_into_the_range_of_training_rows() -> None:
    columns = fitted(rows(x=np.array([0.0, 10.0, np.inf, 1e300, -0.0, np.nan])))
    assert columns.number_names == ("x", "x is missing")
    said = asked(columns, x=np.array([10.0, np.inf, 1e300, 5e9, 0.0, -0.0, -np.inf, -1e300, np.nan]))["numbers"]
    assert np.isfinite(said).all()
    assert len(set(said[:4, 0].tolist())) == 1
    assert len(set(said[4:8, 0].tolist())) == 1
    assert not np.signbit(asked(columns.flattened(standard=False), x=np.array([-0.0]))["features"]).any()
    assert said[8].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("values", [pa.nulls(5), pa.array([3.0] * 5), pa.array([None] * 5, pa.float64())])
def test_a_constant_or_empty_column_says_nothing_and_breaks_nothing(values: pa.Array) -> None:
    of = rows(x=values, c=["a"] * 5)
    of = Rows(as_read(of.table, kinds_of(of, of.names, {})), of.id, of.source)
    said = fitted(of)(of.batch())
    assert np.isfinite(said["numbers"]).all()
    assert len(np.unique(said["numbers"], axis=0)) == 1


def test_hashing_needs_no_vocabulary_and_is_the_same_for_numbers_and_text() -> None:
    columns = fitted(rows(user=USER), user={"kind": "category", "buckets": 4})
    assert columns.size == 1 + 1 + 4
    whole_, text = (asked(columns, user=raw)["ids"] for raw in (np.arange(99), [str(i) for i in range(99)]))
    assert (whole_ == text).all()
    assert set(np.unique(whole_)) == {2, 3, 4, 5}


def test_the_design_matrix_is_named_column_by_column() -> None:
    of = whole()
    flat = fitted(of, past={"kind": "history", "of": "user"}).flattened(one_hot=3, standard=False)
    said = flat(of.batch())["features"]
    assert said.shape == (COUNT, len(flat.names))
    assert said.dtype == np.float32
    by_name = dict(zip(flat.names, said.T, strict=True))
    np.testing.assert_allclose(by_name["age"], AGE, rtol=1e-6)
    np.testing.assert_array_equal(by_name["tags=t0"], [float("t0" in tags) for tags in TAGS])
    counts = np.bincount(USER)
    common = np.argsort(-counts, kind="stable")[0]
    np.testing.assert_array_equal(by_name[f"user={common}"], common == USER)
    assert len([name for name in flat.names if name.startswith("user=")]) == 3
    np.testing.assert_allclose(by_name["user is how common"], np.log1p(counts[USER]), rtol=1e-6)
    hot = sum(by_name[name] for name in flat.names if name.startswith("user=")) + by_name["user is another"]
    np.testing.assert_array_equal(hot, np.ones(COUNT))


def test_what_may_be_empty_later_is_read_so_that_it_may() -> None:
    table = pa.table({"a": [1, 2, None], "b": pa.array([1, None, 3]), "c": ["x", "y", None]})
    read = as_read(table, {"a": {"kind": "number"}, "b": {"kind": "category"}, "c": {"kind": "category"}})
    assert [str(field.type) for field in read.schema] == ["double", "string", "string"]
    with pytest.raises(UserError, match="cannot be read as a number"):
        as_read(table, {"c": {"kind": "number"}})


@pytest.mark.parametrize("form", ["ids", "flat"])
def test_it_comes_back_from_disk(form: str, tmp_path: Path) -> None:
    of = whole()
    columns = fitted(of, past={"kind": "history", "of": "user"})
    encoder = Encoder([columns if form == "ids" else columns.flattened(one_hot=5)])
    encoder.save(tmp_path)
    json.loads((tmp_path / "encoder.json").read_text())
    again = Encoder.load(tmp_path)
    assert again.fingerprint == encoder.fingerprint
    assert again.reads == of.names
    before, after = encoder.rows(of), again.rows(of)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_an_empty_list_is_no_value_and_no_rows_are_no_rows() -> None:
    columns = fitted(rows(tags=TAGS))
    said = asked(columns, tags=Lists.of([[], ["never", "t1"]]))
    assert said["ids"][0].tolist() == [0, 0, 0]
    assert [columns.id_names[i] for i in said["ids"][1]] == ["tags is unknown", "tags=t1", "nothing"]
    assert asked(columns, tags=Lists.of([]))["ids"].shape == (0, 3)
