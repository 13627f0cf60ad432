from pathlib import Path

import numpy as np

from limbeck.encoder import Encoder
from limbeck.encoders.presence import Presence
from limbeck.types import Lists


def test_every_row_is_there_whatever_the_column_holds() -> None:
    for column in (["a", ""], np.array([1.5, np.nan]), Lists.of([[1], []])):
        present = Presence("x")(column)["present"]
        assert present.dtype == np.float32
        assert present.tolist() == [1.0, 1.0]


def test_it_loads_what_it_saved(tmp_path: Path) -> None:
    Encoder([Presence("x")]).save(tmp_path)
    assert Encoder.load(tmp_path).fingerprint == Encoder([Presence("x")]).fingerprint
