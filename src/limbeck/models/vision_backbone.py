"""Any vision network of transformers, with a fresh head: fine-tuned, partly or wholly, or frozen."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.encoder import Encoder
from limbeck.encoders.picture import Picture
from limbeck.errors import UserError
from limbeck.picture import Resize
from limbeck.picture_reader import PictureModule, Pixels, picture_of
from limbeck.pretrained import NOT_HERE, body_of, bring_folder, content_of, folder_here
from limbeck.types import Kind

if TYPE_CHECKING:
    from limbeck.task import Problem

PREPROCESSOR = "preprocessor_config.json"
HEAD_RATE = 10.0
"""How much faster the fresh head learns than the body."""


class Backbone(PictureModule):
    """A body, its last states pooled, logits.

    Args:
        pixels: makes numbers of pictures, as the body was trained.
        body: a transformers model that says `last_hidden_state`: (B, D, H, W), or (B, T, D).
        width: D.
        outputs: C.
        pooling: of states (B, T, D): their `mean`, or the first (`cls`).
        dropout: share of the pooled state that training hides.
        mirror: as `PictureModule` says.
    """

    def __init__(
        self,
        pixels: Pixels,
        body: nn.Module,
        width: int,
        outputs: int,
        *,
        pooling: str,
        dropout: float,
        mirror: bool,
    ) -> None:
        super().__init__(pixels, mirror=mirror)
        self.body = body
        self.pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)
        self.rates = {"head": HEAD_RATE}

    def answer(self, numbers: Tensor) -> Tensor:
        """Numbers (B, 3, H, W) to logits (B, C)."""
        logits: Tensor = self.head(self.dropout(self.pooled(numbers)))
        return logits

    def pooled(self, numbers: Tensor) -> Tensor:
        """Numbers (B, 3, H, W) to states (B, D)."""
        states: Tensor = self.body(pixel_values=numbers).last_hidden_state
        if states.ndim == 4:
            return states.mean((2, 3))
        return states[:, 0] if self.pooling == "cls" else states.mean(1)


@dataclass(frozen=True)
class VisionBackbone:
    """A pretrained vision network (ResNet, MobileNetV2, ConvNeXt, EfficientNet, ViT, ...) with a new head.

    Size, mean and deviation of the pixels are those of the folder's `preprocessor_config.json`.

    Args:
        source: the absolute path of a Hugging Face folder, `pack:NAME`, or a hub name (`org/name`, with `@revision` if
            wanted). Safetensors only; code that comes with weights is never run.
        size: height and width read, pixels, where not the network's own.
        resize: how a picture of another shape is made to fit: `stretch`, `crop` or `pad`.
        pooling: of networks whose states are a sequence: their `mean`, or the first one (`cls`).
        frozen: how many of its stages or layers stay as they came, from the first, and what lies before them; 0
            keeps that alone, -1 the whole body, so that only the head learns; none lets everything learn.
        dropout: share of the pooled state hidden in training.
        mirror: a picture and its mirror image mean the same: training sees either, at random, and an answer is the
            mean of both, for twice the time.
    """

    source: str
    size: tuple[int, int] | None = None
    resize: Resize = "stretch"
    pooling: Literal["mean", "cls"] = "mean"
    frozen: int | None = None
    dropout: float = 0.0
    mirror: bool = False

    kinds: ClassVar[Mapping[str, Kind]] = {"logits": "logits"}

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 1:
            raise UserError(f"size is {list(self.size)}; height and width must be at least 1")
        if self.pooling not in ("mean", "cls"):
            raise UserError(f"pooling is '{self.pooling}'; 'mean' or 'cls' was wanted")
        if self.frozen is not None and self.frozen < -1:
            raise UserError(f"frozen is {self.frozen}; it must be at least -1, or left out to let everything learn")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout is {self.dropout}; it must be at least 0 and below 1")

    def content(self) -> str:
        """Of the weights and settings it starts from."""
        return content_of(bring_folder(self.source))

    def encoder(self, problem: Problem) -> Encoder:
        """The pictures' pixels in colour; the network's configuration and normalisation go with them."""
        folder = bring_folder(self.source)
        said = {"network": _json(folder, "config.json"), **_reads(folder)}
        size = self.size or tuple(said.pop("size"))
        column, config = problem.train.role("picture"), {k: v for k, v in said.items() if k != "size"}
        return Encoder([Picture(column, size=size, channels=3, resize=self.resize, config=config)])

    def module(self, encoder: Encoder, outputs: int) -> nn.Module:
        """The pretrained body and a fresh head; a fresh body, with a warning, where the source is not on this machine.

        Raises:
            UserError: the network says no `last_hidden_state`, or has no stack of so many stages to freeze.
        """
        from transformers import AutoConfig

        picture = picture_of(encoder)
        assert picture.config is not None, "its own encoder has the network's configuration"
        folder = folder_here(self.source)
        if folder is None:
            warnings.warn(NOT_HERE.format(self.source), stacklevel=2)
        body = body_of(folder, AutoConfig.for_model(**picture.config["network"]), spare="pooler.")
        if hasattr(body, "pooler"):
            body.pooler = nn.Identity()  # never asked, so it would never learn
        pixels = Pixels(tuple(picture.config["mean"]), tuple(picture.config["deviation"]))
        width = _width(body, picture.size, self.source)
        made = Backbone(pixels, body, width, outputs, pooling=self.pooling, dropout=self.dropout, mirror=self.mirror)
        if self.frozen is not None:
            made.hold(_first(body, self.frozen))
        return made


def _json(folder: Path, name: str) -> dict[str, Any]:
    file = folder / name
    if not file.is_file():
        raise UserError(
            f"{folder.name} has no {name}; a Hugging Face folder of a vision network is wanted: write one with "
            "`AutoModel.from_pretrained(...).save_pretrained(folder)` and `AutoImageProcessor` likewise"
        )
    said: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return said


def _reads(folder: Path) -> dict[str, Any]:
    """Size, mean and deviation that a network's pictures have, as its image processor says.

    Raises:
        UserError: it scales pixels otherwise than to [0, 1], or names no size.
    """
    said = _json(folder, PREPROCESSOR)
    factor = said.get("rescale_factor", 1 / 255)
    if abs(factor * 255 - 1) > 1e-3:
        raise UserError(f"{folder.name}: its {PREPROCESSOR} multiplies pixels by {factor}; 1/255 was wanted")
    normal = said.get("do_normalize", True)
    mean, deviation = (said["image_mean"], said["image_std"]) if normal else ([0.0], [1.0])
    cut = said.get("crop_size") if said.get("do_center_crop") else None
    return {"size": _size(cut or said.get("size"), folder), "mean": mean, "deviation": deviation}


def _size(said: Any, folder: Path) -> tuple[int, int]:
    """Height and width; transformers writes them in three ways."""
    if isinstance(said, int):
        return said, said
    if isinstance(said, Mapping) and "height" in said:
        return int(said["height"]), int(said["width"])
    if isinstance(said, Mapping) and "shortest_edge" in said:
        return int(said["shortest_edge"]), int(said["shortest_edge"])
    raise UserError(f"{folder.name}: its {PREPROCESSOR} names no size of pictures; give `size: [height, width]`")


def _width(body: nn.Module, size: tuple[int, int], source: str) -> int:
    """Width of the last states, by asking once."""
    with torch.no_grad():
        said = body.eval()(pixel_values=torch.zeros(1, 3, *size))
    states = getattr(said, "last_hidden_state", None)
    if states is None or states.ndim not in (3, 4):
        raise UserError(f"'{source}' says no states of a picture (last_hidden_state); it is no vision backbone")
    return int(states.shape[1] if states.ndim == 4 else states.shape[2])


def _first(body: nn.Module, count: int) -> list[nn.Module]:
    """The parts below and up to so many of the stages: the longest list of modules that lies nearest the top."""
    if count < 0:
        return [body]
    lists = [(name, part) for name, part in body.named_modules() if isinstance(part, nn.ModuleList)]
    if not lists:
        raise UserError(f"frozen is {count}; no stack of stages was found in the network; use -1, or leave it out")
    name, stack = min(lists, key=lambda one: (one[0].count("."), -len(one[1])))
    if count > len(stack):
        raise UserError(f"frozen is {count}; the network has {len(stack)} stages; lower it, or use -1 for all of it")
    before: list[nn.Module] = []
    for part_name, part in body.named_modules():
        if part_name == name:
            break
        if part_name and not name.startswith(f"{part_name}.") and not any(_inside(part, held) for held in before):
            before.append(part)
    return [*before, *stack[:count]]


def _inside(part: nn.Module, holder: nn.Module) -> bool:
    return any(part is inner for inner in holder.modules())
