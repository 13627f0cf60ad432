import collections
import io
import os
import pickle

import numpy as np
import pytest

from limbeck.errors import UserError
from limbeck.fetch import get_pack, open_pack
from limbeck.packs import fine_foods
from limbeck.split import Split, assign


class _Command:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("wanted", [_Command(), io.BytesIO(), collections.OrderedDict(), np.random.default_rng(0)])
def test_a_pickle_that_names_anything_else_is_refused(wanted):
    with pytest.raises(UserError, match="which no table needs; it was not read"):
        fine_foods.unpickled(pickle.dumps(wanted))


def test_a_member_that_is_not_the_pinned_one_is_not_read(tmp_path):
    folder = tmp_path / fine_foods.INSIDE
    folder.mkdir(parents=True)
    for file in fine_foods.PINNED:
        (folder / file).write_bytes(pickle.dumps(_Command()))
    with pytest.raises(UserError, match="not the file that was pinned"):
        fine_foods.table(tmp_path)


@pytest.mark.slow
def test_the_publishers_split_and_labels_are_kept_and_no_pickle_remains():
    rows = open_pack("fine-foods").rows
    assert collections.Counter(rows.column("split")) == {"train": 4000, "test": 1000}
    assert set(rows.column("label")) == {"great", "other"}
    assert all(text.strip() for text in rows.column("text"))
    assert [file.name for file in get_pack("fine-foods").rglob("*.pkl*")] == []


@pytest.mark.slow
def test_the_given_split_draws_its_validation_from_training_rows():
    rows = open_pack("fine-foods").rows
    part = assign(rows, Split("given"))
    assert np.bincount(part).tolist() == [3400, 600, 1000]
