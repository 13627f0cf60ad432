"""An ONNX file that someone else exported, answered by ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.brought import CLIP, TEXT, Reading, columns_of, few, matrix, need_columns, tensor
from limbeck.errors import UserError
from limbeck.table import find_file
from limbeck.task import Problem
from limbeck.types import Array, Batch, Kind, Signals, fingerprint

DTYPES = {
    "tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16", "tensor(int64)": "int64",
    "tensor(int32)": "int32", "tensor(int16)": "int16", "tensor(int8)": "int8", "tensor(uint8)": "uint8",
    "tensor(bool)": "bool", "tensor(string)": TEXT,
}  # fmt: skip
FLOATS = ("float16", "float32", "float64")

# Field 13 of a TensorProto, `external_data`, whose first entry is the other file's `location`.
EXTERNAL = re.compile(rb"j.{1,3}\n\x08location\x12", re.DOTALL)


@dataclass(frozen=True)
class Onnx:
    """A single ONNX file without custom operators.

    Args:
        path: the file.
        inputs: input -> column; empty: every input reads the column of its name.
        features: columns of numbers that fill the one input (rows, features) of scikit-learn's exports.
        output: the output that answers; by default the only one of floats and two axes.
        classes: the class or item at each position of the output; by default in the task's order.
        signal: name of the signal; by default the task's own.
        kind: what the numbers are; probabilities become logits.
        clip: probabilities stay within [clip, 1 - clip].
        batch: rows a run, at most.
    """

    path: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    output: str | None = None
    classes: tuple[str, ...] = ()
    signal: str | None = None
    kind: Kind | None = None
    clip: float = CLIP
    batch: int = 1024

    def open(self, problem: Problem, base: Path) -> OnnxPredictor:
        """Load the graph, bind its inputs to columns, and let it answer two rows.

        Raises:
            UserError: no such file, one that is no single-file graph of known operators, or inputs,
                output or classes that do not fit.
        """
        if self.batch < 1:
            raise UserError(f"{self._who}: batch is {self.batch}; it must be 1 or more")
        data = find_file(self.path, base).read_bytes()
        session = _session(data, self._who)
        plan = self._plan(session)
        reads = columns_of(plan)
        need_columns(problem, reads, self._who)
        output = self._output(session)
        reading = Reading(self._who, problem.axis, self.signal, self.kind, self.classes, self.clip)
        keys = {"plan": plan, "output": output, **reading.keys}
        told = fingerprint("onnx", 1, file=hashlib.sha256(data).hexdigest(), **keys)
        predictor = OnnxPredictor(session, plan, output, reading, self._rows(session), reads, told)
        predictor(problem.train.slice(0, 2).batch(reads))
        return predictor

    @property
    def _who(self) -> str:
        return f"onnx '{self.path}'"

    def _plan(self, session: Any) -> dict[str, tuple[str, ...]]:
        """Input -> the columns that fill it."""
        names = [given.name for given in session.get_inputs()]
        strange = [given.name for given in session.get_inputs() if given.type not in DTYPES]
        if strange:
            raise UserError(f"{self._who}: the inputs {few(strange)} are of types that no column fills")
        if self.features:
            if self.inputs or len(names) != 1:
                raise UserError(f"{self._who}: 'features' fills the only input; this graph has {few(names)}, "
                                "and 'inputs' must not be given beside it")  # fmt: skip
            return {names[0]: self.features}
        plan = dict(self.inputs) or {name: name for name in names}
        if set(plan) != set(names):
            raise UserError(f"{self._who}: the graph's inputs are {few(names)}, 'inputs' names {few(list(plan))}")
        return {name: (plan[name],) for name in names}

    def _output(self, session: Any) -> str:
        outputs = session.get_outputs()
        usable = [o.name for o in outputs if DTYPES.get(o.type) in FLOATS]
        if self.output is None and any(o.type.startswith("seq(map(") for o in outputs):
            raise UserError(f"{self._who} answers with dictionaries; export it again with options={{'zipmap': False}}")
        if self.output is not None:
            if self.output not in usable:
                raise UserError(f"{self._who} has no output '{self.output}' of floats; there are: {few(usable)}")
            return self.output
        flat = [o.name for o in outputs if o.name in usable and len(o.shape) == 2]
        choice = flat if flat else usable
        if len(choice) != 1:
            raise UserError(f"{self._who} has {len(choice)} outputs that could answer; name one under 'output': "
                            f"{few(choice)}")  # fmt: skip
        return str(choice[0])

    def _rows(self, session: Any) -> int:
        """Rows a run: what the settings say, or 1 where the graph insists."""
        fixed = {shape[0] for shape in (given.shape for given in session.get_inputs()) if shape and _is_fixed(shape[0])}
        if fixed - {1}:
            raise UserError(f"{self._who} takes exactly {max(fixed)} rows a run; export it with an open first axis")
        return 1 if fixed else self.batch


@dataclass(frozen=True, repr=False)
class OnnxPredictor:
    """Answers of a loaded graph.

    Args:
        session: ONNX Runtime's.
        plan: input -> the columns that fill it.
        output: the output that answers.
        reading: numbers to the main signal.
        batch: rows a run, at most.
        reads: every column of the plan.
        fingerprint: of the file and the settings.
    """

    session: Any
    plan: Mapping[str, Sequence[str]]
    output: str
    reading: Reading
    batch: int
    reads: tuple[str, ...]
    fingerprint: str

    def __call__(self, batch: Batch) -> Signals:
        """The graph's answer to these rows.

        Raises:
            UserError: a column does not fit its input, or the graph refuses the rows.
        """
        fed = self._feeds(batch.only(self.reads))
        # No rows: one run on nothing tells the width, but many graphs cannot; the axis knows it.
        if len(batch.key) == 0:
            return self.reading(np.zeros((0, len(self.reading.axis))))
        pieces = [self._run({n: v[at : at + self.batch] for n, v in fed.items()})
                  for at in range(0, len(batch.key), self.batch)]  # fmt: skip
        return self.reading(np.concatenate(pieces))

    def _feeds(self, batch: Batch) -> dict[str, Array]:
        who, fed = self.reading.who, {}
        for given in self.session.get_inputs():
            columns = self.plan[given.name]
            dtype, shape = DTYPES[given.type], [n if _is_fixed(n) else None for n in given.shape]
            if len(columns) > 1:
                if dtype not in FLOATS:
                    raise UserError(f"{who}: 'features' fills inputs of floats; '{given.name}' takes {dtype}")
                fed[given.name] = matrix(batch, columns, who).astype(dtype)
            else:
                where = f"{who}: column '{columns[0]}' for input '{given.name}'"
                fed[given.name] = tensor(batch[columns[0]], dtype, shape, where)
        return fed

    def _run(self, fed: Mapping[str, Array]) -> Array:
        from onnxruntime.capi import onnxruntime_pybind11_state as ort

        try:
            answer: Array = self.session.run([self.output], dict(fed))[0]
        except (ort.Fail, ort.InvalidArgument, ort.RuntimeException) as wrong:
            raise UserError(f"{self.reading.who} refuses these rows: {_brief(wrong)}") from None
        rows = len(next(iter(fed.values())))
        if answer.ndim == 0 or len(answer) != rows:
            raise UserError(f"{self.reading.who}: '{self.output}' has shape {answer.shape} for {rows} rows")
        return answer


def _session(data: bytes, who: str) -> Any:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    if EXTERNAL.search(data):
        raise UserError(f"{who} keeps its weights in another file; save it as one file (save_as_external_data=False)")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised below, in our words
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except ort.NotImplemented as wrong:
        raise UserError(f"{who} uses operators that ONNX Runtime lacks: {_brief(wrong)}") from None
    except (ort.Fail, ort.InvalidGraph, ort.InvalidProtobuf, ort.InvalidArgument, ort.RuntimeException) as wrong:
        raise UserError(f"{who} cannot be loaded, perhaps it is cut short or uses custom operators: "
                        f"{_brief(wrong)}") from None  # fmt: skip


def _brief(wrong: Exception) -> str:
    return str(wrong).splitlines()[0].removeprefix("[ONNXRuntimeError] : ")[:200]


def _is_fixed(length: object) -> bool:
    """Open axes are a name or nothing."""
    return isinstance(length, int) and length >= 0
