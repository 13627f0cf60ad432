"""Any Hugging Face encoder, fine-tuned: pooled states and a fresh classification head."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.tokens import Tokens
from limbeck.errors import UserError
from limbeck.pretrained import NOT_HERE, body_of, bring_folder, content_of, folder_here
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

DROPOUTS = ("hidden_dropout_prob", "dropout", "resid_pdrop", "embd_pdrop")
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
"""What architectures call them."""


HEAD_RATE = 20.0
"""How much faster the fresh head learns than the body; chosen on validation rows of fine-foods."""


class Pooled(nn.Module):
    """A body, its states pooled, logits.

    Args:
        body: a transformers model that says `last_hidden_state`.
        width: D of its states.
        outputs: C.
        pooling: `mean` of the states that are there, or the first one (`cls`).
        dropout: share of the pooled state that training hides.
        half: compute the body in bfloat16 when it answers (training has its own precision).
    """

    def __init__(
        self, body: nn.Module, width: int, outputs: int, *, pooling: str, dropout: float, half: bool = False
    ) -> None:
        super().__init__()
        self.body = body
        self.half_answers = half
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)
        # The body knows much already and may only be moved gently; the head knows nothing.
        self.rates = {"head": HEAD_RATE}

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Ids and whether they are there (1 or 0), both (B, L), to logits (B, C)."""
        self._attend("eager" if self.training and ids.device.type == "cpu" else "sdpa")
        # The first place is always seen: attention over nothing at all would be NaN.
        seen = torch.cat([torch.ones_like(mask[:, :1]), mask[:, 1:]], 1)
        if self.half_answers and not self.training:
            with torch.autocast(ids.device.type, torch.bfloat16):
                states = self.body(input_ids=ids, attention_mask=seen).last_hidden_state.float()
        else:
            states = self.body(input_ids=ids, attention_mask=seen).last_hidden_state
        if self.pooling == "cls":
            return {"logits": self.head(self.dropout(states[:, 0]))}
        there = mask.unsqueeze(2).to(states.dtype)
        mean = (states * there).sum(1) / there.sum(1).clamp(min=1.0)
        return {"logits": self.head(self.dropout(mean))}

    def _attend(self, way: str) -> None:
        """Choose how attention is computed: the fused kernel's backward pass takes twice as long on a CPU."""
        body: Any = self.body
        if body.config._attn_implementation != way:
            body.set_attn_implementation(way)


@dataclass(frozen=True)
class Transformer:
    """A pretrained encoder with a new head.

    Args:
        source: the absolute path of a Hugging Face folder, `pack:NAME`, or a hub name (`org/name`, with `@revision` if
            wanted). Safetensors only; code that comes with weights is never run.
        length: tokens read of a text, special ones included.
        tail: how many of these come from the end of a text that is too long.
        pooling: `mean` of the tokens' states, or the first one's (`cls`).
        layers: how many of its layers are kept, from the first; none keeps all.
        frozen: how many of these stay as they came, from the first, and the table of words below them
            with them: 0 keeps the table alone, which of a network of many languages is most of its
            weights; none lets everything learn.
        dropout: share of states hidden in training, in the body and before the head.
        attention_dropout: the same for attention weights.
        precision: of its answers once trained; bf16 is about three times faster on a CPU that has it.
    """

    source: str = "pack:minilm"
    length: int = 256
    tail: int = 0
    pooling: Literal["mean", "cls"] = "mean"
    layers: int | None = None
    frozen: int | None = None
    dropout: float = 0.1
    attention_dropout: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if self.layers is not None and self.layers < 1:
            raise UserError(f"layers is {self.layers}; it must be at least 1, or left out for all")
        if self.frozen is not None and self.frozen < 0:
            raise UserError(f"frozen is {self.frozen}; it must be at least 0, or left out to let everything learn")

    def content(self) -> str:
        """Of the weights it starts from."""
        return content_of(bring_folder(self.source))

    def encoder(self, problem: Problem) -> Encoder:
        """The network's own tokens; its configuration goes with them, so that it can be built again anywhere."""
        column = problem.train.role("text")
        tokens = Tokens.pretrained(column, bring_folder(self.source), length=self.length, tail=self.tail)
        most = (tokens.config or {}).get("max_position_embeddings")
        if isinstance(most, int) and self.length > most:
            raise UserError(f"length is {self.length}, but '{self.source}' knows {most} places; lower length")
        return Encoder([tokens])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """The pretrained body and a fresh head.

        Where the source is not on this machine the body is fresh too, with a warning: that is right
        only for a saved model, whose weights come next.
        """
        config = self._config(encoder.encodings[0].config)  # type: ignore[attr-defined]  # these are Tokens
        folder = folder_here(self.source)
        if folder is None:
            warnings.warn(NOT_HERE.format(self.source), stacklevel=2)
        body = body_of(folder, config, attention="sdpa", spare="pooler.")
        if hasattr(body, "pooler"):
            body.pooler = None  # type: ignore[assignment]  # never asked, so it would never learn
        if self.frozen is not None:
            _freeze(body, self.frozen, config.num_hidden_layers)
        half = self.precision == "bf16"
        return Pooled(body, config.hidden_size, outputs, pooling=self.pooling, dropout=self.dropout, half=half)

    def _config(self, said: Mapping[str, Any]) -> Any:
        from transformers import AutoConfig

        config = AutoConfig.for_model(**said)
        if self.layers is not None:
            if self.layers > config.num_hidden_layers:
                raise UserError(f"layers is {self.layers}; '{self.source}' has {config.num_hidden_layers}")
            config.num_hidden_layers = self.layers
        for names, share in ((DROPOUTS, self.dropout), (ATTENTION_DROPOUTS, self.attention_dropout)):
            for name in names:
                if hasattr(config, name):
                    setattr(config, name, share)
        return config


def _freeze(body: nn.Module, count: int, layers: int) -> None:
    """Keep the table of words and the first layers as they are."""
    stack = next((m for m in body.modules() if isinstance(m, nn.ModuleList) and len(m) == layers), None)
    if stack is None or count > layers:
        found = f"the network has {layers}" if stack is not None else "no stack of layers was found in the network"
        raise UserError(f"frozen is {count}; {found}; lower it, or leave it out")
    words: nn.Module = body.get_input_embeddings()  # type: ignore[operator]  # transformers' own
    for part in (words, *stack[:count]):
        part.requires_grad_(False)
