import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers import models as kinds
from torch.export import Dim
from transformers import BertConfig, BertModel

from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.models.transformer import Pooled, Transformer
from limbeck.task import Problem
from limbeck.types import Axis, Batch, Key, Rows

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "tea", "the"]
TEXTS = ["good tea", "the bad tea bad the tea", "", "tea " * 5000, "🙂"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A very small BERT."""
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, **shape)).save_pretrained(tmp_path / "bert")
    tokenizer = Tokenizer(kinds.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(WORDS[:4])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $0 [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(tmp_path / "bert" / "tokenizer.json"))
    return tmp_path / "bert"


def problem() -> Problem:
    rows = Rows(pa.table({"text": TEXTS}), np.arange(len(TEXTS)), "here", {"text": "text"})
    return Problem(rows, rows, rows, Axis("label", ("bad", "good")), ("text",))


def batch(texts: list[str]) -> Batch:
    return Batch({"text": texts}, Key("here", np.arange(len(texts)), np.zeros(len(texts), np.int64)))


def build(**settings: object) -> Model:
    family = Transformer(**settings)  # type: ignore[arg-type]
    encoder = family.encoder(problem())
    torch.manual_seed(1)
    return Model("transformer", dict(settings), encoder, family.module(encoder, 2).eval(), 2)


@pytest.fixture
def model(folder: Path) -> Model:
    return build(source=str(folder), length=12)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_equal_to_transformers_own_states_pooled_by_hand(folder: Path, pooling: str) -> None:
    model = build(source=str(folder), length=12, pooling=pooling)
    peer = BertModel.from_pretrained(folder).eval()
    assert isinstance(model.module, Pooled)
    with torch.no_grad():
        states = peer(torch.tensor([[2, 4, 6, 3]])).last_hidden_state[0]
        wanted = model.module.head(states.mean(0) if pooling == "mean" else states[0])
    among = model(batch(TEXTS))["logits"]
    np.testing.assert_allclose(among[0], wanted.numpy(), atol=1e-5)
    assert np.isfinite(among).all()


def test_a_row_of_nothing_but_padding_is_finite(model: Model) -> None:
    nothing = torch.zeros(2, 3, dtype=torch.int64)
    assert model.module(ids=nothing, mask=nothing)["logits"].isfinite().all()


def test_the_first_layers_alone_can_be_kept(folder: Path) -> None:
    model = build(source=str(folder), length=12, layers=1)
    state = model.module.state_dict()
    whole = load_file(folder / "model.safetensors")
    assert not any("layer.1." in name for name in state)
    name = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(state[f"body.{name}"], whole[name])


def test_every_weight_learns_and_dropout_is_as_set(folder: Path) -> None:
    model = build(source=str(folder), length=12, dropout=0.25)
    assert {m.p for m in model.module.modules() if isinstance(m, torch.nn.Dropout)} <= {0.25, 0.0}
    tensors = {k: torch.from_numpy(v) for k, v in model.encoder(batch(TEXTS)).items()}
    model.module(**tensors)["logits"].square().sum().backward()
    assert all(p.grad is not None for p in model.module.parameters())


@pytest.mark.parametrize(("frozen", "still"), [(0, ["embeddings.word"]), (1, ["embeddings.word", "encoder.layer.0."])])
def test_what_is_frozen_keeps_its_weights_and_the_rest_learns(folder: Path, frozen: int, still: list[str]) -> None:
    model = build(source=str(folder), length=12, frozen=frozen)
    tensors = {k: torch.from_numpy(v) for k, v in model.encoder(batch(TEXTS)).items()}
    model.module(**tensors)["logits"].square().sum().backward()
    for name, parameter in model.module.named_parameters():
        assert (parameter.grad is None) == any(name.startswith(f"body.{part}") for part in still), name


def test_a_saved_model_needs_no_folder(model: Model, folder: Path, tmp_path: Path) -> None:
    said = model(batch(TEXTS))["logits"]
    model.save(tmp_path / "saved")
    folder.rename(tmp_path / "gone")
    with pytest.warns(UserWarning, match="not on this machine"):
        loaded = Model.load(tmp_path / "saved")
    assert np.array_equal(loaded(batch(TEXTS))["logits"], said)
    assert loaded.fingerprint == model.fingerprint


@pytest.mark.slow
def test_the_exported_graph_says_what_the_module_says(model: Model, tmp_path: Path) -> None:
    example = {k: torch.from_numpy(v) for k, v in model.encoder(batch(TEXTS[:2])).items()}
    dynamic = {k: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for k in example}
    program = torch.onnx.export(model.module, (), kwargs=example, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for texts in (["good"], [""], TEXTS, ["bad tea"] * 9):
        said = session.run(None, model.encoder(batch(texts)))[0]
        np.testing.assert_allclose(said, model(batch(texts))["logits"], atol=1e-4)


def test_mistakes_are_told(folder: Path) -> None:
    with pytest.raises(UserError, match="knows 16 places"):
        build(source=str(folder), length=17)
    with pytest.raises(UserError, match="has 2"):
        build(source=str(folder), length=12, layers=3)
    with pytest.raises(UserError, match="frozen is 3; the network has 2"):
        build(source=str(folder), length=12, frozen=3)
    with pytest.raises(UserError, match="'no such folder' is no folder here"):
        build(source="no such folder")
    with pytest.raises(UserError, match="layers is 0"):
        Transformer(layers=0)
    with pytest.raises(UserError, match=r"dropout is 1\.0"):
        Transformer(dropout=1.0)


def test_weights_that_are_not_there_are_missed(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.layer.1.output.dense.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lack 1 weights"):
        build(source=str(folder), length=12)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="safetensors"):
        build(source=str(folder), length=12)


def test_code_that_comes_with_weights_is_never_run(folder: Path, tmp_path: Path) -> None:
    said = json.loads((folder / "config.json").read_text())
    said["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: ...\nclass Model: ...\n")
    build(source=str(folder), length=12)
    assert not (tmp_path / "ran").exists()
