"""What a run found, as data: teacher, students, their honest twins and trivial baselines side by side.

`report.json` is schema 1. Tools may rely on every field here; later fields are only ever added, and
unknown ones are passed over when reading. A value that could not be measured is null, never NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from limbeck import atomic, front
from limbeck.complaint import complaint
from limbeck.errors import UserError
from limbeck.robustness import Robustness

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA = 1
Role = Literal["teacher", "student", "scratch", "trivial"]
Precision = front.Precision
Number = front.Number


@dataclass(frozen=True)
class Metric:
    """One metric of one predictor on test rows, over splits and seeds.

    Args:
        mean: over splits and seeds.
        sd: sample standard deviation over the same; none of one alone.
        low, high: bounds of the 95% confidence interval.
    """

    mean: Number
    sd: Number = None
    low: Number = None
    high: Number = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds to answer one batch.

    Args:
        batch: rows in it.
        p50, p95: median and 95th percentile, milliseconds.
    """

    batch: int = 1
    p50: Number = None
    p95: Number = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One predictor in the table. A student and its scratch twin share their name.

    Args:
        role: what it was in the run.
        name: as in the recipe.
        tuned: whether its settings were searched for; none where there is nothing to tune.
        metrics: metric -> value.
        parameters: floating-point numbers in its state.
        bytes: of the exported artifact.
        precision: of the artifact that was judged.
        latency_ms: of that artifact, encoding included.
        rows_per_second: throughput of the same.
        train_seconds: per seed.
        slices: slice -> metric -> mean, with the count of rows under `n`.
        encode_ms: median milliseconds of `latency_ms` spent on encoding columns (addition).
        teacher_kind: `trained`, `table`, `onnx`, ... where role is teacher (addition).
        note: what a reader must know of this row (addition).
    """

    role: Role
    name: str
    tuned: bool | None = None
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    parameters: int | None = None
    bytes: int | None = None
    precision: Precision | None = None
    latency_ms: Latency | None = None
    rows_per_second: Number = None
    train_seconds: Number = None
    slices: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    encode_ms: Number = None
    teacher_kind: str | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A student against its honest twin on the headline metric, paired over users, rows or series.

    Args:
        student, scratch: names of the two rows.
        difference: student - scratch.
        low, high: bounds of its 95% confidence interval.
        p_value: of the paired test.
        retention: student/teacher, or teacher/student for errors.
        lift_retention: (student - trivial)/(teacher - trivial).
        transfer_ratio: (student - scratch)/(teacher - scratch).
        agreement: with the teacher, 0 to 1: top-1, overlap@10, correlation or IoU.
    """

    student: str
    scratch: str
    difference: Number = None
    low: Number = None
    high: Number = None
    p_value: Number = None
    retention: Number = None
    lift_retention: Number = None
    transfer_ratio: Number = None
    agreement: Number = None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How one training went (addition).

    Args:
        name, role: of the row it belongs to.
        split, seed: which training.
        x: epochs, rising.
        terms: term -> its mean at every x.
        validation: headline metric on validation rows at every x.
        best: the x that was kept.
    """

    name: str
    role: Literal["student", "scratch", "teacher"]
    split: int = 0
    seed: int = 0
    x: tuple[float, ...] = ()
    terms: Mapping[str, tuple[Number, ...]] = field(default_factory=dict)
    validation: tuple[Number, ...] = ()
    best: Number = None


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Rows whose confidence lies in [low, high).

    Args:
        low, high: bounds, 0 to 1.
        n: rows.
        confidence: their mean confidence.
        accuracy: the part of them that was right (or positive).
    """

    low: float
    high: float
    n: float
    confidence: Number = None
    accuracy: Number = None


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Whether a predictor's probabilities can be believed (addition).

    Args:
        name, role: of the row.
        bins: by rising confidence.
        ece: expected calibration error, the mean of |confidence - accuracy| weighted by n.
    """

    name: str
    role: Role
    bins: tuple[Bin, ...] = ()
    ece: Number = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Whether the teacher beat the best trivial baseline on validation rows (addition).

    Args:
        passed: whether it did.
        metric: the headline.
        teacher, baseline: its two values.
        baseline_name: the name of the best one.
        difference: teacher less that baseline on test rows, with `low` and `high` of its 95% interval.
        p_value: of the paired test of that difference.
    """

    passed: bool
    metric: str
    teacher: Number = None
    baseline: Number = None
    baseline_name: str | None = None
    difference: Number = None
    low: Number = None
    high: Number = None
    p_value: Number = None


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way of splitting and judging, with everybody's results under it.

    Args:
        name: as in the recipe.
        n: part (`train`, `validation`, `test`) -> rows.
        headline: the metric that decides.
        higher_is_better: of the headline.
        chance: the headline of a blind guess, where that is known (addition).
        splits, seeds: what the means are taken over.
        rows: the table.
        comparisons: every student against its twin.
        curves: learning curves (addition).
        reliability: reliability curves (addition).
        facts: JSON values; counts of the data, unlabelled rows that the twin could not use among
            them, and the licence (addition).
        gate: the check of the teacher (addition).
        overridden: the gate refused and the run was told to go on (addition).
        tunings: what searches found (addition).
    """

    name: str
    n: Mapping[str, int] = field(default_factory=dict)
    headline: str
    higher_is_better: bool = True
    chance: Number = None
    splits: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    curves: tuple[Curve, ...] = ()
    reliability: tuple[Reliability, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    gate: Gate | None = None
    overridden: bool = False
    tunings: tuple[front.Tuning, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An exported student.

    Args:
        student: name of its row.
        path: from the run's folder.
        precision: of its weights.
        parity: JSON values; how far its answers are from the student's.
    """

    student: str
    path: str
    precision: Precision
    parity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A run's answer.

    Args:
        schema: version of this layout.
        task: name of the task.
        data: JSON values about the source; `name` is its title.
        threads: processor threads that latencies were measured with.
        protocols: the first is the main one.
        artifacts: what was exported.
        verdict: one plain sentence, which says so where distillation did not help.
        seconds: step -> seconds.
        robustness: what attacks and corruptions do, where that was audited (addition).
    """

    schema: int = SCHEMA
    task: str
    data: Mapping[str, Any] = field(default_factory=dict)
    threads: int | None = None
    protocols: tuple[Protocol, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    verdict: str = ""
    seconds: Mapping[str, Number] = field(default_factory=dict)
    robustness: Robustness | None = None

    def save(self, folder: Path) -> Path:
        """Write `report.json` whole or not at all; NaN becomes null."""
        return _write(folder / "report.json", asdict(self))

    @staticmethod
    def load(path: Path) -> Report:
        """Read `report.json`, or the one in a folder.

        Raises:
            UserError: no such file, not JSON, another schema, or a field of the wrong type.
        """
        file = path / "report.json" if path.is_dir() else path
        said = _read(file)
        if not isinstance(said, dict) or said.get("schema") != SCHEMA:
            found = said.get("schema") if isinstance(said, dict) else type(said).__name__
            raise UserError(f"{file}: schema is {found!r}, this version reads {SCHEMA}; run `limbeck evaluate` again")
        from pydantic import ValidationError

        try:
            return _adapter().validate_python(said)
        except ValidationError as wrong:
            places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {complaint(e)}" for e in wrong.errors()[:5])
            raise UserError(f"{file} is no report of schema {SCHEMA}: {places}") from None


@cache
def _adapter() -> TypeAdapter[Report]:
    from pydantic import TypeAdapter

    return TypeAdapter(Report)


def save_rows(rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Write `rows.json`, the test rows on which teacher and student differ most.

    It belongs in the run's folder and never in an artifact. Privileged columns must be masked already.

    Args:
        rows: JSON values: `id`, `protocol`, `row` (column -> raw value), `truth`, `teacher`,
            `student` (as people read them), `teacher_p`, `student_p`, `disagreement`.
        folder: of the run.
    """
    return _write(folder / "rows.json", list(rows))


def load_rows(folder: Path) -> list[dict[str, Any]]:
    """Read what `save_rows` wrote; no rows where there is no such file, as in an artifact."""
    file = folder / "rows.json"
    if not file.exists():
        return []
    said = _read(file)
    if not isinstance(said, list) or not all(isinstance(row, dict) for row in said):
        raise UserError(f"{file} must hold a list of rows; remove it, or run `limbeck evaluate` again")
    return said


def _read(file: Path) -> object:
    try:
        said: object = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no {file}; `limbeck run` writes it when a run is done") from None
    except ValueError as wrong:
        raise UserError(f"{file} is not JSON: {wrong}") from None
    return said


def _write(file: Path, said: object) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(said), ensure_ascii=False, allow_nan=False, indent=1)
    atomic.replace(file, f"{text}\n".encode())
    return file


def plain(value: object) -> object:
    """The value as JSON can say it: NumPy numbers become Python's, what is not finite becomes None.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
