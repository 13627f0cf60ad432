import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from limbeck.encoder import Encoder
from limbeck.encoders.tokens import Tokens
from limbeck.errors import UserError

TEXTS = ["The coffee is good, really good!", "Bad tea; the tea was bad.", "good tea", "质量很好,很好", "质量 不好"] * 3
AWKWARD = ["", "   ", "good", "🙂🙂 good", "a\x00b", "\ud800 half", "good " * 20_000, "x" * 100_000, "[PAD] [UNK] good"]


@pytest.fixture(scope="module")
def trained() -> Tokens:
    return Tokens.train("text", TEXTS, vocabulary=200, length=8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pretrained folder whose padding is not id 0, as with RoBERTa."""
    words = ["<s>", "<pad>", "</s>", "<unk>", "good", "bad", "tea", "the", "rare"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(words[:4])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $0 </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta", "vocab_size": len(words)}))
    return tmp_path


def test_padding_is_0_unknown_1_and_rows_are_padded_on_the_right(trained: Tokens) -> None:
    ids = trained(["good tea", "good", "Ω"])["ids"]
    good, tea = (trained.tokenizer.token_to_id(w) for w in ("\u2581good", "\u2581tea"))
    assert ids.dtype == np.int64
    assert ids[:2].tolist() == [[good, tea], [good, 0]]
    assert 1 in ids[2]
    assert min(good, tea) >= 2


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "words"])
def test_every_algorithm_stays_in_its_vocabulary_and_survives_awkward_texts(algorithm: Any) -> None:
    tokens = Tokens.train("text", TEXTS, vocabulary=40, length=16, algorithm=algorithm)
    ids = tokens(AWKWARD)["ids"]
    assert ids.shape == (len(AWKWARD), 16)
    assert len(tokens) <= 40
    assert 0 <= ids.min() <= ids.max() < len(tokens)
    assert not ids[0].any()
    assert not ids[1].any()


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "words"])
def test_training_twice_gives_one_tokenizer(algorithm: Any) -> None:
    first, again = (Tokens.train("text", TEXTS, vocabulary=200, algorithm=algorithm) for _ in range(2))
    assert again.fingerprint == first.fingerprint
    assert Tokens.train("text", TEXTS[:4], vocabulary=200, algorithm=algorithm).fingerprint != first.fingerprint


def test_typing_a_special_token_means_its_characters(trained: Tokens) -> None:
    assert 0 not in trained(["[PAD] good"])["ids"][0].tolist()


def test_chinese_characters_are_tokens_of_their_own(trained: Tokens) -> None:
    ids = trained(["质量很好", "很好"])["ids"]
    assert ids[1, :2].tolist() == ids[0, 2:4].tolist()
    assert len(set(ids[0].tolist())) == 4


def test_the_tail_of_a_long_text_can_be_kept(trained: Tokens) -> None:
    text = "good good good tea tea tea bad bad"
    whole = trained.cut(length=100)([text])["ids"][0]
    assert trained.cut(length=4)([text])["ids"][0].tolist() == whole[:4].tolist()
    assert trained.cut(length=4, tail=3)([text])["ids"][0].tolist() == [*whole[:1], *whole[-3:]]
    assert trained.cut(length=4, tail=4)([text])["ids"][0].tolist() == whole[-4:].tolist()
    assert trained.cut(length=100, tail=9)([text])["ids"][0].tolist() == whole.tolist()


@given(st.lists(st.text(), max_size=5))
@settings(max_examples=30, deadline=None)
def test_a_row_does_not_depend_on_its_neighbours(texts: list[str]) -> None:
    tokens = Tokens.train("text", TEXTS, vocabulary=60, length=8)
    together = tokens(texts)["ids"]
    for row, text in zip(together, texts, strict=True):
        alone = tokens([text])["ids"][0]
        assert row[row != 0].tolist() == alone[alone != 0].tolist()


def test_no_rows_and_empty_texts_keep_one_column(trained: Tokens) -> None:
    assert trained([])["ids"].shape == (0, 1)
    assert trained(["", ""])["ids"].shape == (2, 1)


def test_pretrained_keeps_its_ids_and_special_tokens_and_masks_padding(folder: Path) -> None:
    said = Tokens.pretrained("text", folder, length=5)(["good tea", "the bad tea bad the tea", ""])
    assert said["ids"].tolist() == [[0, 4, 6, 2, 0], [0, 7, 5, 6, 2], [0, 2, 0, 0, 0]]
    assert said["mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]


def test_pretrained_with_a_tail_keeps_both_special_tokens(folder: Path) -> None:
    said = Tokens.pretrained("text", folder, length=4, tail=2)(["the bad tea good"])
    assert said["ids"].tolist() == [[0, 7, 4, 2]]


def test_the_mask_rules_how_a_loader_cuts_pretrained_rows(folder: Path) -> None:
    assert Encoder([Tokens.pretrained("text", folder)]).padded == (("mask", "ids"),)


def test_saved_and_loaded_tokens_answer_alike(trained: Tokens, folder: Path, tmp_path: Path) -> None:
    texts = ["good tea the", "bad bad bad bad bad bad"]
    for tokens in (trained, trained.cut(length=3, tail=1), Tokens.pretrained("text", folder, length=5)):
        Encoder([tokens]).save(tmp_path / "encoder")
        loaded = Encoder.load(tmp_path / "encoder").encodings[0]
        assert isinstance(loaded, Tokens)
        assert loaded.fingerprint == tokens.fingerprint
        assert loaded.config == tokens.config
        for name, value in tokens(texts).items():
            assert loaded(texts)[name].tolist() == value.tolist()


def test_mistakes_are_told(folder: Path) -> None:
    with pytest.raises(UserError, match="vocabulary is 2"):
        Tokens.train("text", TEXTS, vocabulary=2)
    with pytest.raises(UserError, match="length is 0"):
        Tokens.train("text", TEXTS, length=0)
    with pytest.raises(UserError, match="tail 9"):
        Tokens.train("text", TEXTS, length=8).cut(length=8, tail=9)
    with pytest.raises(UserError, match="adds 2 tokens of its own"):
        Tokens.pretrained("text", folder, length=2)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        Tokens.pretrained("text", folder)
