"""Texts to token ids by a Hugging Face tokenizer: trained here, or brought by a pretrained folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from limbeck.encoder import RESERVED
from limbeck.encoders._padding import padded
from limbeck.errors import UserError
from limbeck.types import Array, fingerprint

Algorithm = Literal["bpe", "wordpiece", "words"]


class Tokens:
    """Ids of a text column.

    Without `config` the ids are 0 padding, 1 unknown, known tokens from 2. With it they are the
    tokenizer's own, special tokens included, and a `mask` says which are there.

    Args:
        column: its name; the tensors are `ids` and, with `config`, `mask`.
        tokenizer: already trained.
        length: tokens kept a text, at least 1.
        tail: how many of these come from the end of a text that is too long.
        config: the `config.json` of the network that reads the tokenizer's own ids, so that the
            network can be built again without its folder.
    """

    kind = "tokens"

    def __init__(
        self,
        column: str,
        tokenizer: Tokenizer,
        *,
        length: int = 256,
        tail: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        if not 0 <= tail <= length or length < 1:
            raise UserError(f"length is {length} and tail {tail}; length must be at least 1, tail between 0 and length")
        self.column = column
        self.length = length
        self.tail = tail
        self.config = config
        self.padded = ("ids",) if config is None else ("mask", "ids")
        self.tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        # A customer who types "[PAD]" means those five characters.
        self.tokenizer.encode_special_tokens = True
        self._json = self.tokenizer.to_str()
        if tail == 0:  # with a tail the cut is ours, for a tokenizer only knows one side
            special = self.tokenizer.num_special_tokens_to_add(False) if config is not None else 0
            if special >= length:
                raise UserError(f"length is {length}, but the tokenizer adds {special} tokens of its own; raise length")
            self.tokenizer.enable_truncation(length)

    @classmethod
    def train(
        cls,
        column: str,
        texts: Sequence[str],
        *,
        vocabulary: int = 8000,
        length: int = 256,
        lowercase: bool = True,
        algorithm: Algorithm = "bpe",
    ) -> Tokens:
        """A tokenizer of these texts' own.

        Chinese characters are words of their own; tokens seen once are unknown.

        Args:
            column: its name.
            texts: training rows only.
            vocabulary: tokens at most, the two reserved ones included.
            length: tokens kept a text.
            lowercase: forget capitals.
            algorithm: `bpe` and `wordpiece` cut rare words to pieces, `words` calls them unknown.
        """
        tokenizer, trainer = _untrained(algorithm, vocabulary)
        tokenizer.normalizer = normalizers.Sequence([
            normalizers.NFC(),
            normalizers.BertNormalizer(
                clean_text=True, handle_chinese_chars=True, strip_accents=False, lowercase=lowercase
            ),
        ])  # fmt: skip
        # A mark before words, not one inside them: with "##" before the rest of a word the trainer numbers
        # pieces in the order of a randomly seeded hash table, and no two trainings are alike.
        mark = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), mark])
        tokenizer.train_from_iterator(encodable(texts), trainer)
        return cls(column, tokenizer, length=length)

    @classmethod
    def pretrained(cls, column: str, folder: Path, *, length: int = 256, tail: int = 0) -> Tokens:
        """The tokenizer of a Hugging Face folder, its own ids and special tokens kept."""
        config = json.loads(_text(folder / "config.json"))
        return cls(column, _tokenizer(folder), length=length, tail=tail, config=config)

    def cut(self, *, length: int, tail: int = 0) -> Tokens:
        """The same tokens, cut elsewhere."""
        return Tokens(self.column, self.tokenizer, length=length, tail=tail, config=self.config)

    def __len__(self) -> int:
        """Rows an embedding table needs, the reserved ids included."""
        return int(self.tokenizer.get_vocab_size())

    def __call__(self, column: Sequence[str]) -> dict[str, Array]:
        """`ids` and, with `config`, `mask`: int64 (B, L), L at least 1 and at most `length`, padded on the right."""
        special = self.config is not None
        rows = [e.ids for e in self.tokenizer.encode_batch_fast(encodable(column), add_special_tokens=special)]
        if self.tail:
            head = self.length - self.tail
            rows = [r if len(r) <= self.length else r[:head] + r[-self.tail :] for r in rows]
        counts = np.fromiter(map(len, rows), np.int64, len(rows))
        flat = np.fromiter(chain.from_iterable(rows), np.int64, int(counts.sum()))
        ids = padded(flat, counts)
        if self.config is None:
            return {"ids": ids}
        return {"ids": ids, "mask": (np.arange(ids.shape[1]) < counts[:, None]).astype(np.int64)}

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer and the cut."""
        cuts = {"length": self.length, "tail": self.tail}
        return fingerprint("tokens", 1, column=self.column, tokenizer=self._json, config=self.config, **cuts)

    def save(self, folder: Path) -> dict[str, Any]:
        """The tokenizer's JSON, and where there is one the network's configuration."""
        files = {"tokenizer": self._json}
        if self.config is not None:
            files["config"] = json.dumps(self.config, ensure_ascii=False)
        names = {what: f"{self.column}.{what}.json" for what in files}
        for what, name in names.items():
            (folder / name).write_text(files[what], encoding="utf-8")
        return {"column": self.column, "length": self.length, "tail": self.tail, "files": names}

    @classmethod
    def load(cls, folder: Path, settings: dict[str, Any]) -> Tokens:
        """Read what `save` wrote."""
        texts = {what: _text(folder / name) for what, name in settings["files"].items()}
        config = json.loads(texts["config"]) if "config" in texts else None
        tokenizer = Tokenizer.from_str(texts["tokenizer"])
        return cls(settings["column"], tokenizer, length=settings["length"], tail=settings["tail"], config=config)


def encodable(texts: Sequence[str]) -> list[str]:
    """The texts, with halves of surrogate pairs (which JSON may carry, and UTF-8 not) replaced by `?`."""
    return [text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8") for text in texts]


_UNKNOWN = "[UNK]"


def _untrained(algorithm: Algorithm, vocabulary: int) -> tuple[Tokenizer, Any]:
    """A tokenizer that knows nothing yet, and what trains it."""
    if vocabulary <= RESERVED:
        raise UserError(f"vocabulary is {vocabulary}; it must be above {RESERVED}, the reserved ids")
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "min_frequency": 2,
        "special_tokens": ["[PAD]", _UNKNOWN],
        "show_progress": False,
    }
    if algorithm == "words":
        return Tokenizer(models.WordLevel(unk_token=_UNKNOWN)), trainers.WordLevelTrainer(**common)
    # Half the vocabulary at most goes to single characters, or Chinese would leave no room for words.
    common["limit_alphabet"] = max(1, vocabulary // 2)
    if algorithm == "bpe":
        return Tokenizer(models.BPE(unk_token=_UNKNOWN)), trainers.BpeTrainer(**common)
    model = models.WordPiece(unk_token=_UNKNOWN, continuing_subword_prefix="")
    return Tokenizer(model), trainers.WordPieceTrainer(**common, continuing_subword_prefix="")


def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_str(_text(folder / "tokenizer.json"))


def _text(file: Path) -> str:
    if not file.is_file():
        raise UserError(
            f"{file.parent} has no {file.name}; a Hugging Face folder with a fast tokenizer is wanted: "
            "write one with `AutoTokenizer.from_pretrained(...).save_pretrained(folder)`"
        )
    return file.read_text(encoding="utf-8")
