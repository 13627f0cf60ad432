import json

import pytest

from limbeck.data.jsonl import Jsonl
from limbeck.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def _rows(tmp_path, text, **settings):
    (tmp_path / "a.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Jsonl("a.jsonl", **settings).read(tmp_path).rows


def test_every_line_is_a_row_and_a_name_it_lacks_is_empty(tmp_path):
    rows = _rows(tmp_path, '{"text": "a\\nb", "n": 1}\n{"text": "好", "n": 2.5, "tags": ["x"]}\n')
    assert rows.column("text") == ["a\nb", "好"]
    assert rows.column("n").tolist() == [1.0, 2.5]
    assert rows.table.column("tags").to_pylist() == [None, ["x"]]


def test_a_long_line_is_read(tmp_path):
    long = "x" * 3_000_000
    assert _rows(tmp_path, "".join(json.dumps({"text": long}) + "\n" for _ in range(2))).column("text") == [long, long]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"a": 1', "line 3 is not JSON"),
        ("nonsense", "line 3 is not JSON"),
        ("[1]", "line 3 is not a JSON object"),
        ('{"a": "one"}', "'a' is a string in line 3 but a number in line 1"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, said):
    with pytest.raises(UserError, match=said):
        _rows(tmp_path, f'{{"a": 1}}\n{{"a": null}}\n{line}\n{{"a": 4}}\n')


def test_what_is_not_utf8_is_named_by_byte_and_line(tmp_path):
    with pytest.raises(UserError, match=r"byte 16 \(line 2\)"):
        _rows(tmp_path, b'{"a":"x"}\n{"a":"\xe9"}\n')


def test_a_name_twice_in_a_line_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"a\.jsonl"):
        _rows(tmp_path, '{"a": 1, "a": 2}\n')


def test_a_measurement_that_a_line_lacks_is_named_and_a_class_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"1 of 2 rows have no label.* id 1"):
        _rows(tmp_path, '{"a": 0.5, "b": 1}\n{"b": 2}\n', roles={"label": "a"})
    assert _rows(tmp_path, '{"a": 1, "b": 1}\n{"b": 2}\n', roles={"label": "a"}).missing("a").tolist() == [False, True]
