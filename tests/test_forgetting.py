"""What is left of a person who asked to be forgotten is named, and named again to whoever asks again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import csv

from limbeck import forgetting, upkeep
from limbeck.cache import cache_folder
from limbeck.cli import main
from limbeck.forgetting import forget, note_run
from limbeck.recipe import parse
from limbeck.run import run

RECIPE = """
task: recommend
data: {path: buys.csv, roles: {user: who, item: what}}
protocols: [{name: random, split: {kind: user_random, shares: [6, 2, 2]}}]
teacher: {model: ease, l2: 10.0, allow_weak: true}
students: [{model: matrix_factorisation, name: small, width: 4}]
objective: [{loss: hard}, {loss: listwise_kl, temperature: 0.2}]
training: {epochs: 1, learning_rate: 0.05}
export: {precisions: [fp32]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shops with customers of their own, each with its run."""
    place = tmp_path_factory.mktemp("shops")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(place / "cache"))
        for name in ("tea", "nuts"):
            rows = [(f"{name}{u}", f"i{(u % 3) * 8 + k}") for u in range(30) for k in range(8)]
            (place / name).mkdir()
            table = pa.table({"who": [user for user, _ in rows], "what": [item for _, item in rows]})
            csv.write_csv(table, place / name / "buys.csv")
            run(parse(RECIPE)[0], base=place / name, out=place / name / "out")
    return place


@pytest.fixture
def shop(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, which may be changed."""
    place = tmp_path / "shop"
    shutil.copytree(made, place)
    known = place / "cache" / "runs.json"
    known.write_text(known.read_text().replace(str(made), str(place)))
    monkeypatch.setenv("LIMBECK_CACHE", str(place / "cache"))
    return place


def shown(out: Path) -> str:
    """Somebody whose row the report shows."""
    return str(json.loads((out / "rows.json").read_text())[0]["row"]["user"])


def test_everything_that_holds_something_of_a_person_is_named_and_nothing_else(shop: Path) -> None:
    out = shop / "tea" / "out"
    user = shown(out)
    done = forget(user, shop / "nowhere")
    assert sum(gone.rows for gone in done.stores.values()) == 1
    assert done.without_people == ()
    assert done.artifacts == (out / "artifact" / "small",)
    assert done.shown == (out / "rows.json", out / "report.html")
    assert done.again == (out,)
    assert done.steps[:2] == (out / "steps" / "students", out / "steps" / "judged")
    assert [place.parent.name for place in done.steps[2:]] == ["teachers", "baselines"]
    assert [user.encode() in file.read_bytes() for file in done.rows] == [True]
    others = [file for file in cache_folder("rows").glob("*.arrow") if file not in done.rows]
    assert not any(user.encode() in file.read_bytes() for file in others)


def test_who_asks_again_hears_the_same_story(shop: Path) -> None:
    user = shown(shop / "tea" / "out")
    first = forget(user, shop / "nowhere")
    assert forget(user, shop / "nowhere") == replace(first, stores={})
    for folder in first.stores:
        shutil.rmtree(folder)
    assert forget(user, shop / "nowhere") == replace(first, stores={}), "even where the store is gone"


def test_a_request_that_is_killed_before_the_rows_are_out_still_tells_it_all(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = shown(shop / "tea" / "out")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(upkeep, "forget", killed)
        with pytest.raises(KeyboardInterrupt):
            forget(user, shop / "nowhere")
    done = forget(user, shop / "nowhere")
    assert len(done.stores) == 1
    assert len(done.artifacts) == 1


def test_the_run_done_again_holds_nothing_of_the_person(shop: Path) -> None:
    out = shop / "tea" / "out"
    user = shown(out)
    forget(user, shop / "nowhere")
    run(parse(RECIPE)[0], base=shop / "tea", out=out)
    for name in ("rows.json", "report.html"):
        assert f'"{user}"' not in (out / name).read_text()
    left = forget(user, shop / "nowhere")
    assert (left.artifacts, left.shown, left.again) == ((), (), ())
    before, models = {place for place in left.steps if place.parent.name == "students"}, out / "steps" / "students"
    assert before, "the models of before are still there"
    assert before < set(models.iterdir()), "and those of after are none of theirs"


def test_a_stranger_leaves_no_trace(shop: Path) -> None:
    done = forget("nobody", shop)
    named = ("column 'who' of buys.csv",)
    assert done == forgetting.Farewell({}, (), (), (), (), (), (), named)
    assert not done.found


def test_who_asks_for_a_stranger_hears_how_people_are_named(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "forget", "--user", "nobody", "--runs", str(shop)]) == 0
    said = capsys.readouterr().out
    assert "0 rows of user nobody taken out of 0 stores" in said
    assert (
        "Nothing here is of 'nobody'. People go by what stands in the column with the role user, as in column" in said
    )
    assert "'who' of buys.csv." in said
    assert main(["store", "forget", "--user", shown(shop / "tea" / "out"), "--runs", str(shop)]) == 0
    said = capsys.readouterr().out
    assert "1 row of user" in said
    assert "taken out of 1 store\n" in said
    assert "Nothing here" not in said


def test_runs_that_were_removed_are_no_longer_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        note_run(tmp_path / name)
    known = json.loads((tmp_path / "cache" / "runs.json").read_text())
    assert known == [str(tmp_path / "a"), str(tmp_path / "b")]
    (tmp_path / "a").rmdir()
    (tmp_path / "c").mkdir()
    note_run(tmp_path / "c")
    assert json.loads((tmp_path / "cache" / "runs.json").read_text()) == [str(tmp_path / "b"), str(tmp_path / "c")]
