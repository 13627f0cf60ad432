import sys
import types
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from limbeck import parts
from limbeck.errors import MissingExtra, UserError
from limbeck.losses.kl import Kl
from limbeck.picture_input import PictureInput


def test_every_file_of_every_folder_offers_its_part() -> None:
    for folder in parts.FOLDERS:
        found = parts.names(folder)
        assert found
        assert list(found) == sorted(found)
        assert not [name for name in found if name.startswith("_")]
        for name in found:
            part = parts.get(folder, name)
            if folder not in ("metrics", "tasks", "packs"):
                assert part.__name__ == parts.camel(name)
                assert part.__module__ == f"limbeck.{folder}.{name}"
            assert parts.module(folder, name).__name__ == f"limbeck.{folder}.{name}"


def test_a_hyphen_reads_as_an_underscore() -> None:
    assert parts.get("losses", "listwise-kl") is parts.get("losses", "listwise_kl")


@pytest.mark.parametrize(
    ("folder", "name", "words"),
    [
        ("losses", "listwise_kll", "no loss 'listwise_kll'; did you mean listwise_kl"),
        ("models", "popularty", "no model 'popularty'; did you mean popularity"),
        ("data", "zzzzzz", "no row source 'zzzzzz'; there are: .*csv.*parquet"),
        ("tasks", "_hidden", "no task '_hidden'"),
        ("encoders", "_padding", "no encoder '_padding'"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(folder: str, name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parts.get(folder, name)


def test_settings_are_checked_and_brought_to_their_types() -> None:
    made = parts.make("losses", "kl", {"temperature": "2"})
    assert isinstance(made, Kl)
    assert made.temperature == 2.0
    for settings, words in (
        ({"temperatur": 2}, "loss 'kl' has no setting 'temperatur'; did you mean 'temperature'?"),
        ({"zzz": 2}, "has no setting 'zzz'; it knows: temperature, signal"),
        ({"temperature": "warm"}, "setting 'temperature' is 'warm': a number was wanted"),
        ({"temperature": 0}, "temperature is 0.0; it must be above 0"),
    ):
        with pytest.raises(UserError, match=words.replace("?", r"\?")):
            parts.make("losses", "kl", settings)


def test_a_setting_that_must_be_given_is_asked_for() -> None:
    with pytest.raises(UserError, match="row source 'csv' lacks the setting 'path'"):
        parts.make("data", "csv", {})


@dataclass(frozen=True)
class Offered:
    """Another package's part."""

    size: int
    kind: Literal["a", "b"] = "a"
    names: tuple[str, ...] = field(default_factory=tuple)


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somebodys_parts")
    module.Offered = Offered  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys_parts", module)
    points = {
        "offered": EntryPoint("offered", "somebodys_parts:Offered", "limbeck.models"),
        "torn": EntryPoint("torn", "sklearn_that_is_not_there:Torn", "limbeck.models"),
    }
    monkeypatch.setattr(parts, "_plugged", lambda folder: points if folder == "models" else {})
    parts.names.cache_clear()
    yield
    parts.names.cache_clear()


@pytest.mark.usefixtures("plugged")
def test_other_packages_offer_parts_by_entry_points() -> None:
    assert {"offered", "ease"} <= set(parts.names("models"))
    assert parts.get("models", "offered") is Offered
    assert parts.make("models", "offered", {"size": 3, "names": ["x"]}) == Offered(3, "a", ("x",))
    assert list(parts.settings_of(Offered).values())[1:] == ["a", ()]
    with pytest.raises(UserError, match="lacks the setting 'size'"):
        parts.make("models", "offered", {})
    with pytest.raises(UserError, match="setting 'kind' is 'c'"):
        parts.make("models", "offered", {"size": 1, "kind": "c"})


@pytest.mark.usefixtures("plugged")
def test_a_package_that_is_not_there_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError, match="sklearn_that_is_not_there"):  # nobody's extra
        parts.get("models", "torn")
    monkeypatch.delitem(sys.modules, "limbeck.models.ease", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # what an install without it looks like
    with pytest.raises(MissingExtra, match=r"model 'ease' needs more packages: pip install 'limbeck\[train\]'"):
        parts.get("models", "ease")


def test_a_setting_of_several_words_is_read_like_a_part() -> None:
    made = parts.make("teachers", "onnx", {"path": "m.onnx", "picture": {"raw": True, "size": [4, 6]}})
    assert made.picture == PictureInput(size=(4, 6), raw=True)
    for wrong, said in (({"row": True}, "Unexpected keyword"), ({"deviation": [0]}, "deviations must be above 0")):
        with pytest.raises(UserError, match=said):
            parts.make("teachers", "onnx", {"path": "m.onnx", "picture": wrong})
