import pyarrow as pa
import pytest

from limbeck.data import pack as module
from limbeck.data.pack import Pack
from limbeck.errors import UserError
from limbeck.table import source_of

SOURCE = source_of(
    pa.table({"text": ["a", "b"], "label": ["x", "y"], "stars": [1, 2]}),
    source="s",
    roles={"text": "text", "label": "label"},
    sides={"item": pa.table({"n": [1]})},
    facts={"licence": "MIT"},
)


def test_a_pack_is_read_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_pack", {"some-pack": SOURCE}.__getitem__)
    assert Pack("some-pack").read(tmp_path) is SOURCE


def test_roles_are_added_to_those_of_the_pack(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_pack", lambda name: SOURCE)
    read = Pack("some-pack", roles={"label": "stars", "privileged": ["label"]}).read(tmp_path)
    assert read.rows.roles == {"text": "text", "label": "stars", "privileged": ("label",)}
    assert (read.rows.source, read.sides, read.facts) == (SOURCE.rows.source, SOURCE.sides, SOURCE.facts)
    with pytest.raises(UserError, match=r"'price' \(label\)"):
        Pack("some-pack", roles={"label": "price"}).read(tmp_path)


def test_weights_are_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "open_pack", lambda name: tmp_path)
    with pytest.raises(UserError, match="'minilm' holds weights"):
        Pack("minilm").read(tmp_path)
