import pytest

from limbeck import parts
from limbeck.data.csv import Csv
from limbeck.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def _rows(tmp_path, text, name="a.csv", **settings):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Csv(name, **settings).read(tmp_path).rows


def test_columns_get_the_types_their_values_have(tmp_path):
    rows = _rows(
        tmp_path, 'user,rating,said\nu1,4.5,"one, two\nthree"\nu2,3,""\n', roles={"user": "user", "text": "said"}
    )
    assert rows.column("user") == ["u1", "u2"]
    assert rows.column("rating").tolist() == [4.5, 3.0]
    assert rows.column("said") == ["one, two\nthree", ""]
    assert rows.id.tolist() == [0, 1]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    assert _rows(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n").names == ("a", "b")


def test_the_delimiter_is_a_tab_for_tsv_and_may_be_named(tmp_path):
    assert _rows(tmp_path, "a\tb\n1\t2\n", "a.tsv").names == ("a", "b")
    assert _rows(tmp_path, "a;b\n1;2\n", delimiter=";").names == ("a", "b")
    with pytest.raises(UserError, match="one character"):
        _rows(tmp_path, "a,b\n1,2\n", delimiter="::")


def test_another_encoding_reads_the_same_rows_but_is_another_source(tmp_path):
    text = "text\n价格很好\n"
    plain = _rows(tmp_path, text)
    coded = _rows(tmp_path, text.encode("gb18030"), "b.csv", encoding="gb18030")
    assert coded.column("text") == plain.column("text") == ["价格很好"]
    assert coded.source != plain.source


def test_a_named_type_keeps_leading_zeros(tmp_path):
    assert _rows(tmp_path, "code\n007\n").column("code").tolist() == [7]
    assert _rows(tmp_path, "code\n007\n", types={"code": "string"}).column("code") == ["007"]
    with pytest.raises(UserError, match="'text', which is no Arrow type"):
        _rows(tmp_path, "code\n008\n", types={"code": "text"})


def test_a_ragged_row_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.csv .*Row #3: Expected 2 columns, got 3"):
        _rows(tmp_path, "a,b\n1,2\n1,2,3\n")


def test_what_is_not_utf8_is_named_by_byte_and_line(tmp_path):
    with pytest.raises(UserError, match=r"byte 8 \(line 3\) is not utf-8"):
        _rows(tmp_path, b"a,b\n1,2\n\xe9,2\n")


def test_names_without_rows_and_names_twice_are_refused(tmp_path):
    with pytest.raises(UserError, match="no rows"):
        _rows(tmp_path, "a,b\n")
    with pytest.raises(UserError, match="'a' more than once"):
        _rows(tmp_path, "a,b,a\n1,2,3\n")


def test_an_empty_measurement_is_named_and_an_empty_class_or_text_is_fine(tmp_path):
    with pytest.raises(UserError, match=r"1 of 2 rows have no label.* id 1"):
        _rows(tmp_path, "text,label\na,0.5\nb,\n", roles={"label": "label"})
    for label in ("great", "1"):
        rows = _rows(tmp_path, f"text,label\na,{label}\nb,\n", roles={"label": "label"})
        assert rows.missing("label").tolist() == [False, True]
    assert len(_rows(tmp_path, "text,label\n,great\nb,poor\n", roles={"label": "label", "text": "text"})) == 2


def test_rows_are_converted_once_and_the_source_follows_the_bytes(tmp_path):
    first = _rows(tmp_path, "a\n1\n")
    (kept,) = (tmp_path / "cache" / "rows").iterdir()
    made = kept.stat().st_mtime_ns
    again = _rows(tmp_path, "a\n1\n", "renamed.csv")
    assert again.source == first.source
    assert kept.stat().st_mtime_ns == made
    assert _rows(tmp_path, "a\n2\n").source != first.source


def test_a_damaged_conversion_is_said_so(tmp_path):
    _rows(tmp_path, "a\n1\n")
    (kept,) = (tmp_path / "cache" / "rows").iterdir()
    kept.write_bytes(kept.read_bytes()[:40])
    with pytest.raises(UserError, match=r"damaged.*delete that file"):
        _rows(tmp_path, "a\n1\n")


def test_a_refused_file_leaves_nothing_in_the_cache(tmp_path):
    with pytest.raises(UserError):
        _rows(tmp_path, "a,b\n")
    assert list((tmp_path / "cache" / "rows").iterdir()) == []


def test_a_recipe_makes_it_by_name(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    made = parts.make("data", "csv", {"path": "a.csv", "roles": {"user": "x", "privileged": ["y"]}})
    assert made.read(tmp_path).rows.roles == {"user": "x", "privileged": ("y",)}
