import pytest

from limbeck.data.recbole import Recbole
from limbeck.errors import UserError

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n01\t7\t3\t100\n02\t8\t4.5\t50\n"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))


def _read(tmp_path, inter=INTER, **settings):
    (tmp_path / "a.inter").write_text(inter, encoding="utf-8")
    return Recbole("a.inter", **settings).read(tmp_path)


def test_tokens_stay_strings_and_usual_names_have_usual_roles(tmp_path):
    rows = _read(tmp_path).rows
    assert rows.column("user_id") == ["01", "02"]
    assert rows.column("rating").tolist() == [3.0, 4.5]
    assert rows.roles == {"user": "user_id", "item": "item_id", "label": "rating", "time": "timestamp"}


def test_a_role_may_be_given_otherwise(tmp_path):
    assert _read(tmp_path, roles={"label": "timestamp"}).rows.roles["label"] == "timestamp"


def test_users_and_items_are_found_beside_it_and_change_the_source(tmp_path):
    alone = _read(tmp_path)
    title = 'item_id:token\ttitle:token_seq\tat:float_seq\n7\tThe "Big One\t1 2.5\n8\t\t\n'
    (tmp_path / "a.item").write_text(title)
    (tmp_path / "a.user").write_text("user_id:token\tage:token\n01\t30\n")
    both = _read(tmp_path)
    assert alone.sides == {}
    assert both.sides["user"].to_pydict() == {"user_id": ["01"], "age": ["30"]}
    item = both.sides["item"].to_pydict()
    assert item["title"] == [["The", '"Big', "One"], None]
    assert item["at"] == [[1.0, 2.5], None]
    assert both.rows.source != alone.rows.source


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("user_id,item_id\n1,2\n", "'user_id,item_id:'"),
        ("user_id:token\tx:int\n1\t2\n", "'x:int'.*'name:type'"),
        ("user_id:token\trating:float\n1\tgood\n", "good"),
        ("user_id:token\trating:float\n1\t2\t3\n", "Expected 2 columns, got 3"),
        ("user_id:token\tuser_id:token\n1\t2\n", "'user_id' more than once"),
        ("user_id:token\trating:float\n1\t\n", "1 of 1 rows have no label"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        _read(tmp_path, text)
