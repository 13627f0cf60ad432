"""An exported file held against the model it came from."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from limbeck.artifact import Column, OnnxPredictor
from limbeck.encoder import Encoder
from limbeck.errors import ParityRefused
from limbeck.made_up import Requests
from limbeck.model import Model
from limbeck.types import Array, Predictor, fingerprint

TOLERANCE = 1e-4
"""fp32 answers may differ by this much of their size: what another order of sums does in 24 bits, with room."""
HEADLINE_TOLERANCE = 1e-3
"""How far headlines may be apart; of those above 1, such as errors in units sold, this share."""
CHUNK = 64


@dataclass(frozen=True)
class Proof:
    """What an export is held against.

    Args:
        calibration: the encoder's tensors of some hundred training rows, at least 2.
        judge: a predictor's headline on validation rows.
        headline: the model's own, by the same judge.
        higher_is_better: of the headline.
    """

    calibration: Mapping[str, Array]
    judge: Callable[[Predictor], float]
    headline: float
    higher_is_better: bool = True

    def lost(self, headline: float) -> float:
        """The share of the model's headline that another lacks; negative where it is better, never NaN."""
        less = (self.headline - headline) * (1 if self.higher_is_better else -1)
        if not np.isfinite(less):
            return float("inf")
        return less / abs(self.headline) if self.headline else float(np.sign(less)) * float("inf") if less else 0.0


@dataclass(frozen=True)
class Parity:
    """How one file answers beside the model.

    Args:
        headline: of the file, on validation rows.
        student_headline: of the model.
        difference: file less model.
        max_abs: largest difference of an output, on calibration rows and made-up requests.
        agreement_top1: share of those rows whose best position is the same; none without a long axis.
        bytes: of the file.
        way: how it was quantised; nothing for fp32.
        refused: why the file was left out; none where it is there.
    """

    headline: float
    student_headline: float
    difference: float
    max_abs: float
    agreement_top1: float | None
    bytes: int
    way: str = ""
    refused: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A file that may go into an artifact: its bytes, a predictor of them, and how it was quantised."""

    model: bytes
    predictor: OnnxPredictor
    way: str = ""


class Bench:
    """Where candidates are held against the model: its module on the CPU, and what both are asked.

    Args:
        model: trained; it is left as it is.
        encoder: the model's, read back from the folder, so that parity covers what was saved.
        columns: the raw columns it reads.
        proof: calibration rows and the judge.
    """

    def __init__(self, model: Model, encoder: Encoder, columns: Sequence[Column], proof: Proof) -> None:
        self.module = copy.deepcopy(model.module).cpu().float().eval()
        self.kinds = model.kinds
        self.encoder = encoder
        self.proof = proof
        self.requests = Requests(encoder, columns, proof.calibration)

    def candidate(self, model: bytes, way: str = "") -> Candidate:
        """A file that can be asked."""
        said = fingerprint("candidate", 1, model=hashlib.sha256(model).hexdigest(), encoder=self.encoder.fingerprint)
        return Candidate(model, OnnxPredictor(model, self.encoder, self.kinds, fingerprint=said), way)

    def student(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The module's answers."""
        with torch.inference_mode():
            said = self.module(**{name: torch.from_numpy(value) for name, value in tensors.items()})
        return {name: value.float().numpy() for name, value in said.items()}

    def chunks(self) -> Iterator[dict[str, Array]]:
        """The calibration rows, some at a time."""
        count = len(next(iter(self.proof.calibration.values())))
        for start in range(0, count, CHUNK):
            yield {name: value[start : start + CHUNK] for name, value in self.proof.calibration.items()}

    def odd(self) -> Iterator[dict[str, Array]]:
        """Batches of 1, 2 and 7 rows; short, long and empty ones."""
        for rows in (1, 2, 7):
            yield {name: value[:rows] for name, value in self.proof.calibration.items()}
            for length in (1, 5, 1 << 30):
                yield self.requests(rows, length, seed=1)
        yield self.requests.empty

    def compare(self, candidate: Candidate) -> tuple[Parity, float]:
        """How a file answers, and its largest difference relative to the size of the answers."""
        pairs = [(candidate.predictor.infer(asked), self.student(asked)) for asked in chain(self.odd(), self.chunks())]
        apart = [_apart([(said[name], wanted[name]) for said, wanted in pairs]) for name in candidate.predictor.gives]
        headline = self.proof.judge(candidate.predictor)
        main = next(iter(self.kinds))
        found = Parity(
            headline=headline,
            student_headline=self.proof.headline,
            difference=headline - self.proof.headline,
            max_abs=max(absolute for absolute, _ in apart),
            # Of values no position is the best.
            agreement_top1=None
            if self.kinds[main] == "values"
            else _agreement([(said[main], wanted[main]) for said, wanted in pairs]),
            bytes=len(candidate.model),
            way=candidate.way,
        )
        return found, max(relative for _, relative in apart)

    def hold(self, candidate: Candidate) -> Parity:
        """The parity of the fp32 file.

        Raises:
            ParityRefused: it answers or judges otherwise than the model, or the model says NaN to an empty row.
        """
        if any(np.isnan(said).any() for said in self.student(self.requests.empty).values()):
            raise ParityRefused("the student answers NaN to a row of empty columns; mask the mean or the attention")
        found, relative = self.compare(candidate)
        if not relative <= TOLERANCE:
            raise ParityRefused(
                f"the ONNX file's answers differ from the student's by {relative:.2g} of their size"
                f" (at most {found.max_abs:.2g}), {TOLERANCE:.0e} is allowed: an operator of this model exports"
                " wrongly; give its family `onnx_translations`, or write it with other operators"
            )
        if not abs(found.difference) <= HEADLINE_TOLERANCE * max(1.0, abs(found.student_headline)):
            raise ParityRefused(
                f"the ONNX file judges {found.headline:.4f}, the student {found.student_headline:.4f}, more than"
                f" {HEADLINE_TOLERANCE} apart: the saved encoder answers otherwise than the one in training"
            )
        return found


def _apart(pairs: Sequence[tuple[Array, Array]]) -> tuple[float, float]:
    """The largest difference, absolute and relative to the number itself and a typical one."""
    said = np.concatenate([pair[0].reshape(-1) for pair in pairs]).astype(np.float64)
    wanted = np.concatenate([pair[1].reshape(-1) for pair in pairs]).astype(np.float64)
    finite = np.isfinite(wanted)
    if said.shape != wanted.shape or not np.array_equal(said[~finite], wanted[~finite], equal_nan=True):
        return float("inf"), float("inf")
    off = np.abs(said - wanted)[finite]
    size = np.abs(wanted[finite])
    # A typical size, and not the largest: one masked score of -1e9 would excuse everything.
    return float(off.max(initial=0)), float((off / (size + np.median(size) + 1e-9)).max(initial=0)) if len(off) else 0.0


def _agreement(pairs: Sequence[tuple[Array, Array]]) -> float | None:
    if pairs[0][1].ndim != 2 or pairs[0][1].shape[1] < 2:
        return None
    return float(np.mean(np.concatenate([said.argmax(1) == wanted.argmax(1) for said, wanted in pairs])))
