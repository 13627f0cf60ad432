"""An ONNX file that someone else exported, answered by ONNX Runtime on the CPU."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from limbeck.brought import CLIP, TEXT, Reading, Slot, filled, matrix, need_columns, plan_of
from limbeck.errors import UserError, counted, few
from limbeck.picture_input import PictureInput
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
        picture: how pictures fill an input of theirs; by default scaled to [0, 1].
        output: the output that answers; by default the only one of floats and two axes.
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
    output: str | None = None
    classes: tuple[str, ...] = ()
    signal: str | None = None
    kind: Kind | None = None
    clip: float = CLIP
    rows_per_run: int = 1024

    def find(self, base: Path) -> Path:
        """The file.

        Raises:
            UserError: there is none, or it leaves the recipe's folder.
        """
        return find_file(self.path, base)

    def open(self, problem: Problem, base: Path) -> OnnxPredictor:
        """Load the graph, bind its inputs to columns, and let it answer two rows.

        Raises:
            UserError: no such file, one that is no single-file graph of known operators, or inputs,
                output or classes that do not fit.
        """
        if self.rows_per_run < 1:
            raise UserError(f"{self._who}: rows_per_run is {self.rows_per_run}; it must be 1 or more")
        file = self.find(base)
        data = file.read_bytes()
        graph = _Graph(file, hashlib.sha256(data).hexdigest(), self._who)
        session = graph.session(data)
        slots = tuple(_slot(given) for given in session.get_inputs())
        plan = {} if self.features else plan_of(slots, self.inputs, self._who)
        if self.features and (self.inputs or len(slots) != 1 or slots[0].dtype not in FLOATS):
            has = few([f"{slot.name}: {slot.dtype}" for slot in slots])
            raise UserError(
                f"{self._who}: 'features' fills one input of floats; this graph has {has}, "
                "and 'inputs' must not be given beside it"
            )
        reads = self.features or tuple(dict.fromkeys(plan.values()))
        need_columns(problem, reads, self._who)
        output = self._output(session)
        reading = Reading(self._who, problem.axis, self.signal, self.kind, self.classes, self.clip)
        # As fingerprints were first made: one tuple of columns an input.
        keys: dict[str, Any] = {
            "plan": {slots[0].name: self.features} if self.features else {n: (c,) for n, c in plan.items()}
        }
        if self.picture != PictureInput():
            keys["picture"] = asdict(self.picture)
        told = fingerprint("onnx", 1, file=graph.digest, output=output, **keys, **reading.keys)
        rows = self._rows(slots)
        predictor = OnnxPredictor(graph, session, slots, plan, self.picture, output, reading, rows, reads, told)
        predictor(problem.train.slice(0, 2).batch(reads))
        return predictor

    @property
    def _who(self) -> str:
        return f"onnx '{self.path}'"

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

    def _rows(self, slots: Sequence[Slot]) -> int:
        """Rows a run: what the settings say, or 1 where the graph insists."""
        fixed = {slot.shape[0] for slot in slots if slot.shape and slot.shape[0] is not None}
        if fixed - {1}:
            raise UserError(
                f"{self._who} takes exactly {counted(max(fixed), 'row')} a run; export it with an open first axis"
            )
        return 1 if fixed else self.rows_per_run


@dataclass(frozen=True)
class _Graph:
    """A graph's file, from which sessions are made.

    Args:
        file: where it lies.
        digest: of its bytes.
        who: for messages.
    """

    file: Path
    digest: str
    who: str

    def session(self, data: bytes | None = None, *, threads: int = 0) -> Any:
        """A session; `threads` of 0 are as many as the machine has cores.

        Raises:
            UserError: the file changed, keeps weights elsewhere, or ONNX Runtime cannot load it.
        """
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as ort

        data = self.file.read_bytes() if data is None else data
        if hashlib.sha256(data).hexdigest() != self.digest:
            raise UserError(f"{self.who} changed since it was opened; run again")
        if EXTERNAL.search(data):
            raise UserError(
                f"{self.who} keeps its weights in another file; save it as one file (save_as_external_data=False)"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong is raised below, in our words
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except ort.NotImplemented as wrong:
            raise UserError(f"{self.who} uses operators that ONNX Runtime lacks: {_brief(wrong)}") from None
        except (ort.Fail, ort.InvalidGraph, ort.InvalidProtobuf, ort.InvalidArgument, ort.RuntimeException) as wrong:
            raise UserError(f"{self.who} cannot be loaded, perhaps it is cut short or uses custom operators: "
                            f"{_brief(wrong)}") from None  # fmt: skip


@dataclass(frozen=True, repr=False)
class OnnxPredictor:
    """Answers of a loaded graph.

    Args:
        graph: its file.
        session: ONNX Runtime's.
        slots: the inputs.
        plan: input -> column; empty where all of `reads` fill the one input side by side.
        picture: how pictures fill an input.
        output: the output that answers.
        reading: numbers to the main signal.
        rows_per_run: at most.
        reads: every column it takes.
        fingerprint: of the file and the settings.
    """

    graph: _Graph
    session: Any
    slots: tuple[Slot, ...]
    plan: Mapping[str, str]
    picture: PictureInput
    output: str
    reading: Reading
    rows_per_run: int
    reads: tuple[str, ...]
    fingerprint: str

    def __call__(self, batch: Batch) -> Signals:
        """The graph's answer to these rows.

        Raises:
            UserError: a column does not fit its input, or the graph refuses the rows.
        """
        who, seen = self.reading.who, batch.only(self.reads)
        if self.plan:
            fed = filled(seen, self.slots, self.plan, who, self.picture)
        else:
            fed = {self.slots[0].name: matrix(seen, self.reads, who).astype(str(self.slots[0].dtype))}
        return self.reading.asked(self._run, fed, len(batch.key), self.rows_per_run)

    def on_threads(self, count: int) -> OnnxPredictor:
        """The same answers, computed on so many threads."""
        return replace(self, session=self.graph.session(threads=count))

    def _run(self, fed: dict[str, Array]) -> Array:
        from onnxruntime.capi import onnxruntime_pybind11_state as ort

        try:
            answer: Array = self.session.run([self.output], fed)[0]
        except (ort.Fail, ort.InvalidArgument, ort.RuntimeException) as wrong:
            raise UserError(f"{self.reading.who} refuses these rows: {_brief(wrong)}") from None
        return answer


def _slot(given: Any) -> Slot:
    """Open axes are a name or nothing."""
    shape = tuple(n if isinstance(n, int) and n >= 0 else None for n in given.shape)
    return Slot(given.name, DTYPES.get(given.type), shape)


def _brief(wrong: Exception) -> str:
    return str(wrong).splitlines()[0].removeprefix("[ONNXRuntimeError] : ")[:200]
