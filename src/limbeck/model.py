"""A predictor in two parts: an encoder (columns to tensors) and a module (tensors to signals)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors.torch import load_file, save_file

from limbeck import parts
from limbeck.encoder import Encoder
from limbeck.taps import HIDDEN, Taps
from limbeck.types import Array, Batch, Kind, Signals, fingerprint

if TYPE_CHECKING:
    from limbeck.task import Problem


class Family(Protocol):
    """What a file in `models/` offers: a frozen dataclass whose fields are the recipe's settings.

    `module` must depend on nothing but the settings, the encoder and the number of outputs, so that
    a saved model can be built again. A family that is fitted rather than descended also has `fit`;
    one that completes itself after training has `finish`, and one that puts its chances right by validation rows
    `calibrate(module, tensors, labels)`. One that people can read has `told(module, encoder, labels)`:
    file -> text, such as rules or coefficients, which lie beside its artifact.
    """

    kinds: Mapping[str, Kind]

    def encoder(self, problem: Problem) -> Encoder:
        """Fit on `problem.train` (and the axis) only."""
        ...

    def module(self, encoder: Encoder, outputs: int) -> torch.nn.Module:
        """A module whose `forward(**tensors)` returns signals by name; fresh weights."""
        ...


class Fitted(Family, Protocol):
    """A family fitted in one go (closed form, or by a library), as tables' estimators are."""

    def fit(self, module: torch.nn.Module, inputs: Mapping[str, Array], target: Any, weight: Array | None) -> None:
        """Set the module's weights.

        Args:
            module: as `module` built it.
            inputs: the encoder's tensors, first axis the row.
            target: (N, outputs), dense or SciPy sparse: one-hot or multi-hot labels, or soft targets.
            weight: (N,), or none for equal weights.
        """
        ...


class Model:
    """A trained predictor.

    Args:
        family: the name of the part in `models/` and its settings.
        encoder: columns to tensors.
        module: tensors to signals; `forward` takes the encoder's tensors by name.
        outputs: the length of the main signal's axis.

    `taps` are the paths of parts whose states it says beside its signals; they are no part of what is saved.
    """

    taps: tuple[str, ...] = ()

    def __init__(
        self, family: str, settings: dict[str, Any], encoder: Encoder, module: torch.nn.Module, outputs: int
    ) -> None:
        self.family = family
        self.settings = settings
        self.encoder = encoder
        self.module = module
        self.outputs = outputs

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Of its family."""
        kinds: Mapping[str, Kind] = parts.get("models", self.family).kinds
        return {**kinds, **{HIDDEN + path: "embedding" for path in self.taps}} if self.taps else kinds

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns its encoder takes."""
        return self.encoder.reads

    @property
    def fingerprint(self) -> str:
        """Of the encoder, the architecture and every weight."""
        digest = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        said = {"family": self.family, "settings": self.settings, "outputs": self.outputs}
        if self.taps:
            said["taps"] = list(self.taps)
        return fingerprint("model", 1, **said, encoder=self.encoder.fingerprint, weights=digest.hexdigest())

    @property
    def parameters(self) -> int:
        """How many floating-point numbers it holds, buffers included."""
        return sum(p.numel() for p in self.module.state_dict().values() if p.is_floating_point())

    def having(self, module: torch.nn.Module) -> Model:
        """The same model around another module of its family, such as averaged weights."""
        return Model(self.family, self.settings, self.encoder, module, self.outputs)

    def tapped(self, paths: Sequence[str]) -> Model:
        """The same model, which also says the states of these parts, as `hidden.<path>`."""
        heard = self.having(self.module)
        heard.taps = tuple(paths)
        return heard

    def __call__(self, batch: Batch) -> Signals:
        """Signals as NumPy arrays, without gradients, in eval mode."""
        self.module.eval()
        device = next((p.device for p in self.module.state_dict().values()), torch.device("cpu"))
        tensors = {k: torch.from_numpy(v).to(device) for k, v in self.encoder(batch.only(self.reads)).items()}
        with torch.inference_mode(), Taps(self.module, self.taps) as taps:
            said = {**self.module(**tensors), **taps.read()}
        return Signals({k: v.float().cpu().numpy() for k, v in said.items()}, self.kinds)

    def save(self, folder: Path) -> None:
        """Write `encoder/`, `weights.safetensors` and `model.json`."""
        self.encoder.save(folder / "encoder")
        state = {k: v.detach().cpu().contiguous().clone() for k, v in self.module.state_dict().items()}
        save_file(state, folder / "weights.safetensors")
        said = {"family": self.family, "settings": self.settings, "outputs": self.outputs}
        (folder / "model.json").write_text(json.dumps(said, ensure_ascii=False, indent=1), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Model:
        """Build the module again and give it the saved weights."""
        said = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        encoder = Encoder.load(folder / "encoder")
        module = parts.make("models", said["family"], said["settings"]).module(encoder, said["outputs"])
        module.load_state_dict(load_file(folder / "weights.safetensors"))
        return Model(said["family"], said["settings"], encoder, module, said["outputs"])
