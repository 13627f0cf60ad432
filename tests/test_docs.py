import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def generate() -> Any:
    place = Path(__file__).parents[1] / "docs" / "generate.py"
    spec = importlib.util.spec_from_file_location("generate", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)

    sys.modules["generate"] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_loss_is_on_the_page_with_its_settings_and_in_the_chooser_by_its_own_words(generate: Any) -> None:
    page, figures = generate.objectives_page(), "\n".join(generate.measured())
    assert figures in page
    scenarios = "\n".join(generate.scenarios({loss.name for loss in generate.losses()}))
    assert scenarios in page
    page = page.replace(figures, "").replace(scenarios, "")
    for loss in generate.losses():
        assert page.count(f"| `{loss.name}` |") == (1 if loss.group == "hard" else 2), loss.name
        assert all(one in page for one in loss.settings)
    choosing = page.split("## What was measured")[0]
    assert "### The teacher says `hidden.<path>`" in choosing
    assert "| Plain knowledge distillation: the one to try first, and to beat. | `kl` |" in choosing


def test_scenarios_name_losses_that_are_there(generate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "SCENARIOS", (("a case", "`kl`", "`klm`"),))
    with pytest.raises(SystemExit, match="losses that are none: klm"):
        list(generate.scenarios({"kl"}))


def test_only_what_beat_plain_distillation_and_the_twin_is_recommended(
    generate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "MEASURED", tmp_path / "none.json")
    assert "none is recommended" in "\n".join(generate.measured())
    monkeypatch.setattr(generate, "MEASURED", tmp_path / "objectives.json")
    good = {"job": "rank", "loss": "dist", "metric": "NDCG", "value": 0.31, "deviation": 0.002, "kd": 0.3, "twin": 0.29}
    figures = [{**good, "beats_kd": True, "beats_twin": True}]
    figures += [{**good, "loss": "uld", "beats_kd": False, "beats_twin": True}]
    figures += [{**good, "job": "sort", "beats_kd": True, "beats_twin": False}]
    generate.MEASURED.write_text(json.dumps(figures), encoding="utf-8")
    said = "\n".join(generate.measured())
    assert "- rank: `dist`\n" in said
    assert "- sort: none beat both" in said
    assert "| rank | `uld` | NDCG | 0.3100 ± 0.0020 | 0.3000 | 0.2900 (beaten) |" in said


def test_every_key_of_a_recipe_has_a_meaning(generate: Any) -> None:
    lines = [line for line in generate.recipe_page().splitlines() if line.startswith("| `")]
    assert len(lines) > 60
    assert not [line for line in lines if line.rstrip("| ").endswith("|") or line.split(" | ")[-1].strip("| ") == ""]
