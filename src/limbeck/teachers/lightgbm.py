"""Boosted trees that someone else grew: LightGBM's text file, read by LightGBM."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.brought import Reading, matrix, need_columns
from limbeck.errors import MissingExtra, UserError
from limbeck.table import digest, find_file
from limbeck.task import Problem
from limbeck.types import Array, Batch, Signals, fingerprint

OBJECTIVES = ("binary", "cross_entropy", "multiclass")
"""Those whose raw scores are logits; `multiclassova` says one unrelated sigmoid a class."""


@dataclass(frozen=True)
class Lightgbm:
    """A classifier saved by `Booster.save_model`.

    Two classes have the logits [0, raw score]; more have their raw scores.

    Args:
        path: the text file.
        features: the columns in the model's own order; by default its feature names.
        classes: the label at each of the model's classes 0, 1, ...; by default in the task's order.
        signal: name of the signal; by default the task's own.
    """

    path: str
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    signal: str | None = None

    def find(self, base: Path) -> Path:
        """The file.

        Raises:
            UserError: there is none, or it leaves the recipe's folder.
        """
        return find_file(self.path, base)

    def open(self, problem: Problem, base: Path) -> LightgbmPredictor:
        """Load the model and check its features and classes.

        Raises:
            UserError: no such file, not a LightGBM classifier, or other features or classes.
            MissingExtra: LightGBM is not installed.
        """
        try:
            import lightgbm
        except ModuleNotFoundError:
            raise MissingExtra("tabular", "teacher 'lightgbm'") from None
        who = f"lightgbm '{self.path}'"
        file = self.find(base)
        header = _header(file.read_bytes(), who)
        try:
            booster = lightgbm.Booster(model_file=str(file))
        except lightgbm.basic.LightGBMError as wrong:
            raise UserError(f"{who} cannot be read: {wrong}") from None
        features = self.features or tuple(booster.feature_name())
        if len(features) != booster.num_feature():
            raise UserError(f"{who} reads {booster.num_feature()} features, 'features' names {len(features)}")
        need_columns(problem, features, who)
        scale = _scale(header, booster, who)
        reading = Reading(who, problem.axis, self.signal, "logits", self.classes)
        keys = {"file": digest(file), "features": features, **reading.keys}
        predictor = LightgbmPredictor(booster, reading, scale, features, fingerprint("lightgbm", 1, **keys))
        predictor(problem.train.slice(0, 2).batch(features))
        return predictor


@dataclass(frozen=True, repr=False)
class LightgbmPredictor:
    """Answers of a loaded booster.

    Args:
        booster: the model.
        reading: raw scores to the main signal.
        scale: what a raw score is multiplied by to be a logit.
        reads: its features, in the model's order.
        fingerprint: of the file and the settings.
        threads: that answer; 0 are LightGBM's choice.
    """

    booster: Any
    reading: Reading
    scale: float
    reads: tuple[str, ...]
    fingerprint: str
    threads: int = 0

    def on_threads(self, count: int) -> LightgbmPredictor:
        """The same answers, computed on so many threads."""
        return replace(self, threads=count)

    def __call__(self, batch: Batch) -> Signals:
        """Logits of these rows."""
        numbers = matrix(batch.only(self.reads), self.reads, self.reading.who)
        width = self.booster.num_model_per_iteration()
        if not len(numbers):
            return self.reading(np.zeros((0, width)))
        raw: Array = self.booster.predict(numbers, raw_score=True, num_threads=self.threads)
        return self.reading(self.scale * raw)


def _header(text: bytes, who: str) -> dict[str, str]:
    """The `name=value` lines before the first tree; a name alone has an empty value.

    LightGBM ends the whole process over many a file that is cut short, and answers from the trees
    that are left of others; so the trees are counted first, by the sizes that the header tells.

    Raises:
        UserError: no LightGBM text, or trees that are not where they should be.
    """
    head, _, trees = text.partition(b"\n\n")
    told = dict(line.partition("=")[::2] for line in head.decode(errors="replace").splitlines())
    if not text.startswith(b"tree\n") or "tree_sizes" not in told:
        raise UserError(f"{who} is no LightGBM text file; write one with Booster.save_model")
    at = 0
    for number, size in enumerate(told["tree_sizes"].split()):
        if not trees.startswith(b"Tree=%d\n" % number, at) or not size.isdigit():
            raise UserError(f"{who} is damaged or cut short at tree {number}; copy it again")
        at += int(size)
    if not trees.startswith(b"end of trees", at):
        raise UserError(f"{who} is damaged or cut short after its trees; copy it again")
    return told


def _scale(header: dict[str, str], booster: Any, who: str) -> float:
    """The raw score's factor: the sigmoid's slope, and 1 / trees where random forests add instead of averaging."""
    name, *settings = header.get("objective", "").split(" ")
    if name not in OBJECTIVES:
        raise UserError(f"{who} was trained for '{name or 'nothing'}'; its raw scores are no logits, as those of "
                        f"{', '.join(OBJECTIVES)} are")  # fmt: skip
    slope = next((float(s.removeprefix("sigmoid:")) for s in settings if s.startswith("sigmoid:")), 1.0)
    return slope / booster.current_iteration() if "average_output" in header else slope
