"""A Keras model that someone else saved, answered on Keras' torch backend: no TensorFlow is needed."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.brought import CLIP, Reading, Slot, filled, matrix, need_columns, plan_of
from limbeck.errors import MissingExtra, UserError, few
from limbeck.picture_input import PictureInput
from limbeck.table import digest, find_file
from limbeck.task import Problem
from limbeck.types import Array, Batch, Kind, Signals, fingerprint

BACKEND = "torch"


@dataclass(frozen=True)
class Keras:
    """A `.keras` file of Keras 3 with one output of a number a class; code inside it (Lambda layers) is never run.

    A TensorFlow SavedModel, or an older `.h5`, is brought as ONNX: `python -m tf2onnx.convert --saved-model DIR
    --output model.onnx`, then `{from: onnx, path: model.onnx}`.

    Args:
        path: the file.
        inputs: input -> column; empty: every input reads the column of its name.
        features: columns of numbers that fill the one input (rows, features).
        picture: how pictures fill an input of theirs; by default scaled to [0, 1].
        classes: the class or item at each position of the output; by default in the task's order.
        signal: name of the signal; by default the task's own.
        kind: what the numbers are; probabilities become logits.
        clip: probabilities stay within [clip, 1 - clip].
        rows_per_run: at most.
    """

    path: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    picture: PictureInput = field(default_factory=PictureInput)
    classes: tuple[str, ...] = ()
    signal: str | None = None
    kind: Kind | None = None
    clip: float = CLIP
    rows_per_run: int = 128

    def find(self, base: Path) -> Path:
        """The file.

        Raises:
            UserError: there is none, or it leaves the recipe's folder.
        """
        return find_file(self.path, base)

    def open(self, problem: Problem, base: Path) -> KerasPredictor:
        """Load the model, bind its inputs to columns, and let it answer two rows.

        Raises:
            UserError: no such file, one that Keras does not load, or inputs, output or classes that do not fit.
        """
        if self.rows_per_run < 1:
            raise UserError(f"{self._who}: rows_per_run is {self.rows_per_run}; it must be 1 or more")
        file = self.find(base)
        model = self._loaded(file)
        slots = tuple(Slot(one.name, str(one.dtype), tuple(one.shape)) for one in model.inputs)
        if len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
            said = few([f"{one.name}: {tuple(one.shape)}" for one in model.outputs])
            raise UserError(f"{self._who}: one output of rows x {problem.axis.name}s was wanted, it has {said}")
        if self.features and (self.inputs or len(slots) != 1):
            raise UserError(
                f"{self._who}: 'features' fills one input, and 'inputs' must not be given beside it; this model has "
                f"{few([slot.name for slot in slots])}"
            )
        plan = {} if self.features else plan_of(slots, self.inputs, self._who)
        reads = self.features or tuple(dict.fromkeys(plan.values()))
        need_columns(problem, reads, self._who)
        reading = Reading(self._who, problem.axis, self.signal, self.kind, self.classes, self.clip)
        keys = {"plan": plan, "features": self.features, "picture": asdict(self.picture), **reading.keys}
        told = fingerprint("keras", 1, file=digest(file), **keys)
        predictor = KerasPredictor(model, slots, plan, self.picture, reading, self.rows_per_run, reads, told)
        predictor(problem.train.slice(0, 2).batch(reads))
        return predictor

    @property
    def _who(self) -> str:
        return f"keras '{self.path}'"

    def _loaded(self, file: Path) -> Any:
        if not zipfile.is_zipfile(file):
            raise UserError(
                f"{self._who} is no file of Keras 3; write one with `model.save('model.keras')`, or bring it as ONNX"
            )
        keras = _keras()
        try:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError, ImportError, AttributeError) as wrong:
            reason = next((line for line in str(wrong).splitlines() if line.strip()), type(wrong).__name__)
            raise UserError(f"{self._who} cannot be loaded: {reason[:300]}") from None
        model.trainable = False
        return model


@dataclass(frozen=True, repr=False)
class KerasPredictor:
    """Answers of a loaded model.

    Args:
        model: Keras' own; a torch module, in eval mode.
        slots: its inputs.
        plan: input -> column; empty where all of `reads` fill the one input side by side.
        picture: how pictures fill an input.
        reading: numbers to the main signal.
        rows_per_run: at most.
        reads: every column it takes.
        fingerprint: of the file and the settings.
    """

    model: Any
    slots: tuple[Slot, ...]
    plan: Mapping[str, str]
    picture: PictureInput
    reading: Reading
    rows_per_run: int
    reads: tuple[str, ...]
    fingerprint: str

    def __call__(self, batch: Batch) -> Signals:
        """The model's answer to these rows.

        Raises:
            UserError: a column does not fit its input.
        """
        who, seen = self.reading.who, batch.only(self.reads)
        if self.plan:
            fed = filled(seen, self.slots, self.plan, who, self.picture)
        else:
            fed = {self.slots[0].name: matrix(seen, self.reads, who).astype(str(self.slots[0].dtype))}
        return self.reading.asked(self._run, fed, len(batch.key), self.rows_per_run)

    def _run(self, fed: dict[str, Array]) -> Array:
        import torch

        given = [fed[slot.name] for slot in self.slots]
        with torch.inference_mode():
            said = self.model(given if len(given) > 1 else given[0], training=False)
        return np.asarray(said.float().cpu().numpy())


def _keras() -> Any:
    """Keras on torch.

    Raises:
        UserError: it is not installed, or this process uses it on another backend.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = BACKEND
    try:
        import keras
    except ModuleNotFoundError as missing:
        raise MissingExtra("keras", "teacher 'keras'") from missing
    if keras.backend.backend() != BACKEND:
        raise UserError(
            f"Keras runs on {keras.backend.backend()} in this process; set KERAS_BACKEND={BACKEND} before importing it"
        )
    return keras
