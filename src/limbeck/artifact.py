"""The folder a server can load: verified when it is opened, and answering without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa

from limbeck.encoder import Encoder
from limbeck.errors import ParityRefused, StoreDamaged, UserError
from limbeck.types import Array, Axis, Batch, Kind, Rows, Signals, fingerprint

SCHEMA = 1
MANIFEST = "manifest.json"
Precision = Literal["fp32", "int8"]
MODELS: Mapping[Precision, str] = {"fp32": "model.onnx", "int8": "model.int8.onnx"}
TOLERANCE: Mapping[Precision, float] = {"fp32": 1e-4, "int8": 0.05}
"""How far golden answers may be off, relative to the largest; processors round int8 products differently."""

Type = Literal["text", "integer", "number", "boolean", "time", "picture"]


@dataclass(frozen=True)
class Export:
    """How a student leaves.

    Args:
        precisions: which files to write; fp32 always is.
        int8: `dynamic` measures activations in every call, `static` uses ranges from calibration (and
            alone makes convolutions faster), `auto` keeps the one that judges better, then the smaller.
        allowed_loss: share of the headline, on validation rows, that int8 may lose.
        required: whether a refused int8 refuses the export; else its file is left out.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    precisions: tuple[Precision, ...] = ("fp32", "int8")
    int8: Literal["dynamic", "static", "auto"] = "auto"
    allowed_loss: float = 0.01
    required: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.allowed_loss < 1:
            raise UserError(f"allowed_loss is {self.allowed_loss}; it is a share of the headline, 0 or more, below 1")
        if "fp32" not in self.precisions:
            raise UserError("export.precisions must hold fp32, which int8 is held against")


@dataclass(frozen=True)
class Column:
    """A raw column that an artifact reads.

    Args:
        name: as in the rows.
        role: what it plays (`user`, `text`, ...), or nothing.
        type: of its values; `time` travels as int64 microseconds since 1970, a `picture` as the bytes of its file.
        many: whether a row holds a list of values.
    """

    name: str
    role: str
    type: Type
    many: bool = False

    @staticmethod
    def of(rows: Rows, names: Sequence[str]) -> tuple[Column, ...]:
        """The named columns of some rows, with the roles the rows give them."""
        roles: dict[str, str] = {}
        for role, held in rows.roles.items():
            if role == "features":  # a column that is read and nothing more
                continue
            roles.update(dict.fromkeys([held] if isinstance(held, str) else held, role))
        columns = []
        for name in rows.select(names).names:
            held = rows.table.schema.field(name).type
            many = pa.types.is_list(held) or pa.types.is_large_list(held)
            columns.append(Column(name, roles.get(name, ""), _type(held.value_type if many else held), many))
        return tuple(columns)


def _type(held: pa.DataType) -> Type:
    if pa.types.is_dictionary(held):
        return _type(held.value_type)
    if pa.types.is_boolean(held):
        return "boolean"
    if pa.types.is_temporal(held):
        return "time"
    if pa.types.is_integer(held):
        return "integer"
    if pa.types.is_binary(held) or pa.types.is_large_binary(held):
        return "picture"
    return "number" if pa.types.is_floating(held) or pa.types.is_decimal(held) else "text"


@dataclass(frozen=True)
class Slot:
    """A tensor that goes into the ONNX file, or comes out.

    Args:
        name: of the tensor.
        dtype: as NumPy calls it.
        shape: -1 where it is free; the first axis is the row.
        kind: of an output; nothing for an input.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    kind: str = ""


@dataclass(frozen=True)
class Contract:
    """What an artifact takes and gives.

    Args:
        task: the name of its task, whose `answer` turns its signals into answers for people.
        columns: every raw column it reads, and no other.
        inputs, outputs: the tensors between encoder and file, and after it.
        precisions: which files there are.
        recommended: the one to use where nobody says otherwise.
        limbeck: the version that wrote it.
    """

    task: str
    columns: tuple[Column, ...]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    precisions: tuple[Precision, ...]
    recommended: Precision
    limbeck: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(column.name for column in self.columns)

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of every output."""
        return {slot.name: cast(Kind, slot.kind) for slot in self.outputs if "." not in slot.name}

    def save(self, folder: Path) -> None:
        """Write `contract.json`."""
        write_json(folder / "contract.json", {"schema": SCHEMA, **asdict(self)})

    @staticmethod
    def load(folder: Path) -> Contract:
        """Read what `save` wrote.

        Raises:
            UserError: another schema.
        """
        said = json.loads((folder / "contract.json").read_text(encoding="utf-8"))
        if said.get("schema") != SCHEMA:
            raise UserError(f"{folder}: its contract is of schema {said.get('schema')!r}, this version reads {SCHEMA}")
        inputs, outputs = ([Slot(**{**s, "shape": tuple(s["shape"])}) for s in said[k]] for k in ("inputs", "outputs"))
        columns = tuple(Column(**column) for column in said["columns"])
        return Contract(
            said["task"],
            columns,
            tuple(inputs),
            tuple(outputs),
            tuple(said["precisions"]),
            said["recommended"],
            said["limbeck"],
        )


class OnnxPredictor:
    """An encoder and an ONNX file: the arrow without torch.

    Safe to call from several threads at once.

    Args:
        model: the bytes of a single-file ONNX model.
        encoder: columns to its inputs.
        kinds: of its outputs.
        fingerprint: equal fingerprints promise equal answers.
        threads: that one call may use.
    """

    def __init__(
        self, model: bytes, encoder: Encoder, kinds: Mapping[str, Kind], *, fingerprint: str, threads: int = 1
    ) -> None:
        import onnxruntime

        if threads < 1:
            raise UserError(f"threads is {threads}; one call needs at least 1")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.encoder = encoder
        self.kinds = dict(kinds)
        self.fingerprint = fingerprint
        self.takes = tuple(tensor.name for tensor in self.session.get_inputs())
        self.gives = tuple(tensor.name for tensor in self.session.get_outputs())

    @property
    def reads(self) -> tuple[str, ...]:
        """The only columns it sees."""
        return self.encoder.reads

    def infer(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name for the encoder's tensors; tensors that the file does not take are left out."""
        said = self.session.run(None, {name: tensors[name] for name in self.takes})
        return dict(zip(self.gives, said, strict=True))

    def __call__(self, batch: Batch) -> Signals:
        """Signals as NumPy arrays.

        Raises:
            UserError: the batch lacks a column it reads.
        """
        return Signals(self.infer(self.encoder(batch.only(self.reads))), self.kinds)


@dataclass(frozen=True)
class Artifact:
    """An opened folder, whose every byte was checked against its manifest.

    Args:
        folder: where it lies.
        contract: what it takes and gives.
        axis: what the positions of its main signal mean.
        encoder: columns to tensors.
        files: file -> SHA-256, as the manifest lists them.
    """

    folder: Path
    contract: Contract
    axis: Axis
    encoder: Encoder
    files: Mapping[str, str]

    @staticmethod
    def open(folder: Path) -> Artifact:
        """Verify a folder and read all but the model.

        Raises:
            UserError: no artifact, or one of another version.
            StoreDamaged: a file is missing, changed, a link, or not in the manifest.
        """
        files = verify(folder)
        contract = Contract.load(folder)
        encoder = Encoder.load(folder / "encoder")
        if set(encoder.reads) != set(contract.reads):
            raise StoreDamaged(f"{folder}: its encoder reads {encoder.reads}, its contract says {contract.reads}")
        said = json.loads((folder / "axis.json").read_text(encoding="utf-8"))
        axis = Axis(said["name"], tuple(said["values"]), tuple(said["titles"]))
        return Artifact(folder, contract, axis, encoder, files)

    @property
    def fingerprint(self) -> str:
        """Of every file in it."""
        return fingerprint("artifact", 1, files=dict(self.files))

    @property
    def origin(self) -> dict[str, str]:
        """What it was made from, as far as its maker said: what -> fingerprint, and under `split` a name."""
        if "fingerprints.json" not in self.files:
            return {}
        said: dict[str, str] = json.loads((self.folder / "fingerprints.json").read_text(encoding="utf-8"))
        return said

    def predictor(self, precision: Precision | None = None, threads: int = 1) -> OnnxPredictor:
        """A predictor with a session of its own.

        Args:
            precision: which file; by default the one the contract recommends.
            threads: that one call may use.

        Raises:
            UserError: it has no such precision.
            StoreDamaged: the file changed since the folder was opened.
        """
        precision = precision or self.contract.recommended
        if precision not in self.contract.precisions:
            raise UserError(f"{self.folder} has no {precision} file; there are: {', '.join(self.contract.precisions)}")
        name = MODELS[precision]
        model = (self.folder / name).read_bytes()
        if hashlib.sha256(model).hexdigest() != self.files[name]:
            raise StoreDamaged(f"{self.folder / name} changed since the folder was opened; open it again")
        said = fingerprint("answers", 1, artifact=self.fingerprint, precision=precision)
        return OnnxPredictor(model, self.encoder, self.contract.kinds, fingerprint=said, threads=threads)

    def check_golden(self, precision: Precision | None = None) -> float:
        """Answer the golden requests and compare.

        Returns:
            The largest difference, relative to the largest expected number of its output.

        Raises:
            ParityRefused: an answer is further off than the precision's tolerance.
        """
        precision = precision or self.contract.recommended
        predictor = self.predictor(precision)
        golden = json.loads((self.folder / "golden.json").read_text(encoding="utf-8"))
        tolerance = golden["tolerance"][precision]
        worst = 0.0
        for number, request in enumerate(golden["requests"]):
            said = predictor.infer({name: _array(tensor) for name, tensor in request["inputs"].items()})
            for name, tensor in request["outputs"][precision].items():
                wanted = _array(tensor)
                off = float(np.abs(said[name][..., : wanted.shape[-1]] - wanted).max() / (np.abs(wanted).max() or 1.0))
                worst = max(worst, off)
                if not off <= tolerance:
                    raise ParityRefused(
                        f"{self.folder}: '{name}' of golden request {number} is off by {off:.2g} of its size in"
                        f" {precision}, {tolerance:.2g} is allowed; this machine computes otherwise than the one it was"
                        f" exported on: export it here, or use {' or '.join(self.contract.precisions)}"
                    )
        return worst


def golden(requests: Sequence[Mapping[str, Array]], predictors: Mapping[Precision, OnnxPredictor]) -> dict[str, Any]:
    """What `golden.json` holds: requests as tensors, and what every precision answers.

    Args:
        requests: tensors by name; made up, never from rows.
        predictors: the exported files.
    """
    said = [
        {
            "inputs": {name: _tensor(value) for name, value in request.items()},
            "outputs": {
                precision: {name: _tensor(value[..., :256]) for name, value in predictor.infer(request).items()}
                for precision, predictor in predictors.items()
            },
        }
        for request in requests
    ]
    return {"schema": SCHEMA, "tolerance": {p: TOLERANCE[p] for p in predictors}, "requests": said}


def _tensor(array: Array) -> dict[str, Any]:
    flat = array.reshape(-1)
    # Through text: a float32 then takes the fewest digits that bring it back.
    data = flat.astype(str).astype(np.float64).tolist() if flat.dtype.kind == "f" else flat.tolist()
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": data}


def _array(tensor: Mapping[str, Any]) -> Array:
    return np.array(tensor["data"], tensor["dtype"]).reshape(tensor["shape"])


def seal(folder: Path) -> None:
    """Write the manifest, which makes a folder an artifact. To be done last."""
    (folder / MANIFEST).write_text(_manifest(_digests(folder)), encoding="utf-8")


def verify(folder: Path) -> dict[str, str]:
    """Check every file against the manifest.

    Returns:
        File -> SHA-256.

    Raises:
        UserError: the folder has no manifest.
        StoreDamaged: the manifest or a file is not as it was written.
    """
    try:
        text = (folder / MANIFEST).read_bytes().decode()
        said = {name: (held["sha256"], held["bytes"]) for name, held in json.loads(text)["files"].items()}
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is no artifact: it has no {MANIFEST}; `limbeck export` writes one") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreDamaged(f"{folder / MANIFEST} is damaged; export it again") from None
    found = _digests(folder)
    wrong = [f"'{name}' is missing" for name in said.keys() - found.keys()]
    wrong += [f"'{name}' is not in the manifest" for name in found.keys() - said.keys()]
    wrong += [f"'{name}' changed" for name in said.keys() & found.keys() if said[name] != found[name]]
    if wrong:
        raise StoreDamaged(f"{folder}: {'; '.join(sorted(wrong))}; copy or export it again")
    if text != _manifest(found):
        raise StoreDamaged(f"{folder / MANIFEST} is damaged; export it again")
    return {name: digest for name, (digest, _) in found.items()}


def _manifest(files: Mapping[str, tuple[str, int]]) -> str:
    said = {name: {"sha256": digest, "bytes": size} for name, (digest, size) in sorted(files.items())}
    return json.dumps({"schema": SCHEMA, "files": said}, ensure_ascii=False, indent=1) + "\n"


def _digests(folder: Path) -> dict[str, tuple[str, int]]:
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise StoreDamaged(f"{folder}: '{name}' is a link, which could lead out of it; copy the file itself there")
        if path.is_file() and name != MANIFEST:
            with path.open("rb") as file:
                files[name] = (hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
    return files


def write_json(path: Path, said: object) -> None:
    """One JSON file; numbers that are not finite are an error."""
    path.write_text(json.dumps(said, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")
