import json
from pathlib import Path

import pytest

from limbeck.fetch import open_pack

pytestmark = pytest.mark.slow


def test_it_is_the_folder_of_a_hugging_face_model():
    folder = open_pack("minilm")
    assert isinstance(folder, Path)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["hidden_size"], config["num_hidden_layers"]) == ("bert", 384, 6)
    assert (folder / "model.safetensors").stat().st_size > 4 * 22_000_000
    assert (folder / "tokenizer.json").is_file()
