"""A model that someone else serves: a client of the Open Inference Protocol v2."""

from __future__ import annotations

import datetime
import email.utils
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import httpx
import numpy as np

from limbeck.brought import CLIP, TEXT, Reading, Slot, filled, need_columns, plan_of
from limbeck.errors import LimbeckError, UserError, few
from limbeck.task import Problem
from limbeck.types import Array, Batch, Kind, Signals, fingerprint

DTYPES = {
    "FP16": "float16", "FP32": "float32", "FP64": "float64", "INT8": "int8", "INT16": "int16", "INT32": "int32",
    "INT64": "int64", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "BOOL": "bool",
    "BYTES": TEXT,
}  # fmt: skip
FLOATS = ("FP16", "FP32", "FP64")
HEADER = "Inference-Header-Content-Length"
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
FIRST_WAIT, LONGEST_WAIT = 0.25, 120.0
"""Seconds: the backoff's first step, and the longest that a server may ask us to wait."""


@dataclass(frozen=True)
class Http:
    """A model behind HTTP.

    Equal fingerprints promise equal answers. Here that promise is the server's owner's: the fingerprint
    hashes the address, the model's name, version and metadata, and these settings, but cannot see the
    weights. Raise `revision` when they changed under the same version.

    Args:
        url: such as `http://127.0.0.1:8000`, without `/v2`.
        model_name: as the server calls it.
        version: its version; empty: the server's choice.
        inputs: input -> column; empty: every input reads the column of its name.
        output: the output that answers; by default the only one of floats.
        classes: the class or item at each position of the output; by default in the task's order.
        signal: name of the signal; by default the task's own.
        kind: what the numbers are; probabilities become logits.
        clip: probabilities stay within [clip, 1 - clip].
        rows_per_request: at most.
        binary: send and ask for raw tensors, which is quicker and exact; otherwise JSON.
        timeout: seconds for one request.
        retries: how often a request is sent again after 429, 503 or a broken connection.
        token_env: the environment variable that holds a bearer token.
        headers_env: header -> the environment variable that holds its value.
        revision: any text; another one is another teacher.
    """

    asks_a_service: ClassVar[bool] = True

    url: str
    model_name: str
    version: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    classes: tuple[str, ...] = ()
    signal: str | None = None
    kind: Kind | None = None
    clip: float = CLIP
    rows_per_request: int = 256
    binary: bool = True
    timeout: float = 30.0
    retries: int = 5
    token_env: str | None = None
    headers_env: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query:
            raise UserError("http: 'url' must look like http://host:port, without a name, password or query in it; "
                            "secrets come from the environment (token_env, headers_env)")  # fmt: skip
        for what, name in (("model_name", self.model_name), ("version", self.version or "1")):
            if not NAME.fullmatch(name):
                raise UserError(f"http: {what} is {name!r}; letters, digits, '.', '_' and '-' are allowed, at most 128")
        if self.rows_per_request < 1 or self.retries < 0 or not self.timeout > 0:
            raise UserError("http: rows_per_request must be 1 or more, retries 0 or more and timeout above 0")

    def open(self, problem: Problem, base: Path) -> HttpPredictor:
        """Ask for the model's metadata and bind its inputs to columns.

        Raises:
            UserError: a secret is not in the environment, nobody answers, or the model is unknown or
                does not fit.
            LimbeckError: the server fails.
        """
        service = Service(self)
        metadata = service.metadata()
        inputs, outputs = (_listed(metadata, part, service.who) for part in ("inputs", "outputs"))
        slots = [_slot(given) for given in inputs]
        plan = plan_of(slots, self.inputs, service.who)
        reads = tuple(dict.fromkeys(plan.values()))
        need_columns(problem, reads, service.who)
        reading = Reading(service.who, problem.axis, self.signal, self.kind, self.classes, self.clip)
        output = self._output(outputs, reading)
        settings = {"url": self.url, "model": self.model_name, "version": self.version, "revision": self.revision}
        told = fingerprint("http", 1, metadata=metadata, plan=plan, output=output, **settings, **reading.keys)
        datatypes = {given["name"]: given["datatype"] for given in inputs}
        return HttpPredictor(service, datatypes, tuple(slots), plan, output, reading, reads, told)

    def _output(self, outputs: Sequence[Mapping[str, Any]], reading: Reading) -> str:
        usable = {told["name"]: told["shape"] for told in outputs if told["datatype"] in FLOATS}
        if self.output is None and len(usable) != 1:
            raise UserError(f"{reading.who} has {len(usable)} outputs of floats; name one under 'output': "
                            f"{few(list(usable))}")  # fmt: skip
        name = self.output or next(iter(usable))
        if name not in usable:
            raise UserError(f"{reading.who} has no output '{name}' of floats; there are: {few(list(usable))}")
        width = usable[name][-1] if len(usable[name]) > 1 else 1
        wanted = len(reading.axis)
        if width >= 0 and width != wanted and not (width == 1 and wanted == 2):
            raise UserError(f"{reading.who}: axis 1 of '{name}' is {width}, not {wanted}, the {reading.axis.name}s "
                            "of the task")  # fmt: skip
        return str(name)


@dataclass(frozen=True, repr=False)
class HttpPredictor:
    """Answers of a served model.

    Args:
        service: the way there.
        datatypes: of the inputs, as the protocol calls them.
        slots: the inputs.
        plan: input -> column.
        output: the output that answers.
        reading: numbers to the main signal.
        reads: every column of the plan.
        fingerprint: of the address, the metadata and the settings.
    """

    service: Service
    datatypes: Mapping[str, str]
    slots: tuple[Slot, ...]
    plan: Mapping[str, str]
    output: str
    reading: Reading
    reads: tuple[str, ...]
    fingerprint: str

    def __call__(self, batch: Batch) -> Signals:
        """The service's answer to these rows, asked in pieces.

        Raises:
            UserError: a column does not fit its input, or the service refuses, is silent or answers amiss.
            LimbeckError: the service fails.
        """
        fed = filled(batch.only(self.reads), self.slots, self.plan, self.reading.who)
        ask = partial(self.service.infer, self.datatypes, self.output)
        return self.reading.asked(ask, fed, len(batch.key), self.service.settings.rows_per_request)


class Service:
    """One model's addresses, with patience."""

    def __init__(self, settings: Http) -> None:
        self.settings = settings
        self.who = f"http '{settings.model_name}' at {settings.url}"
        secrets = {name: _secret(variable, self.who) for name, variable in settings.headers_env.items()}
        if settings.token_env:
            secrets["Authorization"] = f"Bearer {_secret(settings.token_env, self.who)}"
        self.client = httpx.Client(headers=secrets, timeout=settings.timeout)
        version = f"/versions/{settings.version}" if settings.version else ""
        self.address = f"{settings.url.rstrip('/').removesuffix('/v2')}/v2/models/{settings.model_name}{version}"

    def metadata(self) -> dict[str, Any]:
        """What the server says of the model."""
        return _object(self._send("GET", self.address, {}, b"").content, self.who)

    def infer(self, datatypes: Mapping[str, str], output: str, fed: Mapping[str, Array]) -> Array:
        """One output of one request.

        Args:
            datatypes: of the inputs.
            output: its name.
            fed: input -> values, first axis the row.
        """
        typed = {name: (datatypes[name], values) for name, values in fed.items()}
        headers, body = _request(typed, output, self.settings.binary, self.who)
        answer = self._send("POST", f"{self.address}/infer", headers, body)
        return _answered(answer.headers.get(HEADER), answer.content, output, self.who)

    def _send(self, method: str, address: str, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        wait = FIRST_WAIT
        for attempt in range(self.settings.retries + 1):
            try:
                answer = self.client.request(method, address, headers=dict(headers), content=body)
            except httpx.TimeoutException:
                raise UserError(f"{self.who} gave no answer within {self.settings.timeout:g} s; raise 'timeout' "
                                "or lower 'rows_per_request'") from None  # fmt: skip
            except httpx.RequestError as wrong:
                pause = wait
                refused: LimbeckError = UserError(
                    f"{self.who} cannot be reached ({type(wrong).__name__}); is it running?"
                )
            else:
                if answer.status_code == 200:
                    return answer
                if answer.status_code not in {429, 503}:
                    raise _refusal(answer, self.who)
                pause = _pause(answer.headers.get("Retry-After"), wait)
                refused = LimbeckError(f"{self.who} is overloaded ({answer.status_code}); "
                                       "lower 'rows_per_request' or try later")  # fmt: skip
            if pause > LONGEST_WAIT:
                raise LimbeckError(f"{self.who} asks to wait {pause:.0f} s; try again later")
            if attempt < self.settings.retries:
                time.sleep(pause)
                wait = min(2 * wait, LONGEST_WAIT)
        raise refused


def _slot(given: Mapping[str, Any]) -> Slot:
    return Slot(given["name"], DTYPES.get(given["datatype"]), tuple(n if n >= 0 else None for n in given["shape"]))


def _secret(variable: str, who: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UserError(f"{who}: the environment variable '{variable}' is not set; its secret is read from there")
    return value


def _pause(retry_after: str | None, wait: float) -> float:
    """Seconds: what the server asks for, in either form of RFC 9110, section 10.2.3; else our own backoff."""
    if retry_after is None:
        return wait
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = email.utils.parsedate_to_datetime(retry_after)
    except ValueError:
        return wait
    moment = moment.replace(tzinfo=moment.tzinfo or datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(tz=datetime.UTC)).total_seconds())


def _refusal(answer: httpx.Response, who: str) -> LimbeckError:
    """A status other than 200 in words; the server's own are shortened and stripped of control characters."""
    try:
        said = json.loads(answer.content)
    except ValueError:
        said = None
    words = said.get("error") if isinstance(said, dict) else None
    shown = "".join(c if c.isprintable() else " " for c in words)[:200] if isinstance(words, str) else "no reason given"
    error = LimbeckError if answer.status_code >= 500 else UserError
    return error(f"{who} answered {answer.status_code}: {shown}")


def _request(fed: Mapping[str, tuple[str, Array]], output: str, binary: bool, who: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of an infer request."""
    inputs, blobs = [], []
    for name, (datatype, values) in fed.items():
        told: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": datatype}
        if binary:
            blobs.append(_bytes(values))
            told["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            told["data"] = values.ravel().tolist()
        inputs.append(told)
    wanted = {"name": output, "parameters": {"binary_data": binary}}
    try:
        head = json.dumps({"inputs": inputs, "outputs": [wanted]}, allow_nan=False).encode()
    except ValueError:
        raise UserError(f"{who}: NaN and infinity cannot be sent as JSON; set binary to true") from None
    if not binary:
        return {"Content-Type": "application/json"}, head
    return {"Content-Type": "application/octet-stream", HEADER: str(len(head))}, b"".join([head, *blobs])


def _bytes(values: Array) -> bytes:
    if values.dtype != object:
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    texts = [str(text).encode() for text in values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def _answered(header: str | None, body: bytes, output: str, who: str) -> Array:
    """One output of an infer response; every size is checked."""
    if header is not None and not (header.isdigit() and int(header) <= len(body)):
        raise UserError(f"{who} answered with the header {HEADER} {header[:20]!r} to a body of {len(body)} bytes")
    cut = len(body) if header is None else int(header)
    at, found = cut, None
    for told in _listed(_object(body[:cut], who), "outputs", who):
        size = told.get("parameters", {}).get("binary_data_size")
        if isinstance(size, int):
            blob, at = body[at : at + size], at + size
        if told["name"] == output:
            found = (told, blob if isinstance(size, int) else None)
    if found is None:
        raise UserError(f"{who} left out the output '{output}' of its answer")
    if at != len(body):
        raise UserError(f"{who} promised {at - cut} bytes of tensors and sent {len(body) - cut}")
    return _values(found[0], found[1], who)


def _values(told: Mapping[str, Any], blob: bytes | None, who: str) -> Array:
    name, shape, datatype = told["name"], told["shape"], told["datatype"]
    if datatype not in FLOATS:
        raise UserError(f"{who} answered '{name}' as {datatype}; {', '.join(FLOATS)} are understood")
    dtype = np.dtype(DTYPES[datatype])
    try:
        flat = np.frombuffer(blob, dtype.newbyteorder("<")) if blob is not None else np.asarray(told.get("data"), dtype)
        return flat.reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{who} answered '{name}' with numbers that do not fill its shape {shape}") from None


def _object(body: bytes, who: str) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise UserError(f"{who} answered something else than a JSON object; does it speak the Open Inference Protocol?")
    return said


def _listed(said: Mapping[str, Any], part: str, who: str) -> list[dict[str, Any]]:
    """Tensors of a metadata or infer answer, each with a name, a datatype and a shape of at least one axis."""
    tensors = said.get(part)
    sound = isinstance(tensors, list) and all(_is_tensor(told) for told in tensors)
    if not tensors or not sound:
        raise UserError(f"{who} answered without sound '{part}' (name, datatype, shape)")
    return list(tensors)


def _is_tensor(told: object) -> bool:
    if not isinstance(told, dict) or not isinstance(told.get("parameters", {}), dict):
        return False
    shape = told.get("shape")
    sizes = isinstance(shape, list) and bool(shape) and all(type(n) is int and n >= -1 for n in shape)
    return sizes and isinstance(told.get("name"), str) and isinstance(told.get("datatype"), str)
