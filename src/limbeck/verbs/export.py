"""The way out: a trained model becomes a folder a server can load, held against the model before it is sealed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from limbeck import atomic, graph, parts, report
from limbeck.artifact import MANIFEST, MODELS, Column, Contract, Export, Precision, Slot, golden, seal, write_json
from limbeck.encoder import Encoder
from limbeck.errors import ParityRefused, UserError
from limbeck.model import Model
from limbeck.parity import Bench, Candidate, Parity, Proof
from limbeck.types import Axis, stem_of


@dataclass(frozen=True)
class About:
    """What the folder says besides the computation.

    Args:
        task: name of the task.
        axis: what the positions of the main signal mean.
        columns: the raw columns the model reads, as `Column.of` finds them.
        report: of the run.
        recipe: its YAML text.
        fingerprints: what went in: name -> fingerprint.
        card: for people: heading -> text, in order; data, licence, teacher, objective, intended use, limits.
    """

    task: str
    axis: Axis
    columns: tuple[Column, ...]
    report: report.Report
    recipe: str
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    card: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Args:
        path: the folder.
        parity: precision -> how it answers; a refused int8 is told here too.
    """

    path: Path
    parity: Mapping[Precision, Parity]


def export(model: Model, folder: Path, *, proof: Proof, about: About, settings: Export | None = None) -> Exported:
    """Write an artifact, whole or not at all; one that lies there already is replaced.

    Args:
        model: trained; it is left as it is.
        folder: to be written; its name is the student's.
        proof: what the files are held against.
        about: what the folder says besides.
        settings: how.

    Raises:
        ParityRefused: a file does not answer as the model does.
        UserError: the folder holds something else, or the model cannot become ONNX.
    """
    settings = settings or Export()
    with _whole(folder) as half:
        model.encoder.save(half / "encoder")
        encoder = Encoder.load(half / "encoder")
        columns = _columns(about.columns, encoder.reads)
        bench = Bench(model, encoder, columns, proof)
        files = {"fp32": bench.candidate(_fp32(model, bench))}
        parity: dict[Precision, Parity] = {"fp32": bench.hold(files["fp32"])}
        if "int8" in settings.precisions:
            parity["int8"], files["int8"] = _int8(files["fp32"], bench, settings)
            if parity["int8"].refused and settings.required:
                raise ParityRefused(parity["int8"].refused)
        kept = {precision: files[precision] for precision, held in parity.items() if not held.refused}
        for precision, file in kept.items():
            (half / MODELS[precision]).write_bytes(file.model)
        _write(half, folder.name, _contract(bench, columns, about.task, kept), about, parity)
        requests = [bench.requests(rows, length) for rows, length in ((1, 8), (2, 16), (3, 1))]
        write_json(half / "golden.json", golden(requests, {name: file.predictor for name, file in kept.items()}))
        for name, text in _told(model, bench, about.axis).items():
            (half / name).write_text(text, encoding="utf-8")
        seal(half)
    return Exported(folder, parity)


def _told(model: Model, bench: Bench, axis: Axis) -> Mapping[str, str]:
    """File -> what a model tells of itself, such as its rules, where people can read that."""
    told = getattr(parts.make("models", model.family, model.settings), "told", None)
    titles = [axis.title(place) for place in range(len(axis))]
    found: Mapping[str, str] = told(bench.module, model.encoder, titles) if told else {}
    return found


def _fp32(model: Model, bench: Bench) -> bytes:
    family = parts.get("models", model.family)
    offered = getattr(parts.make("models", model.family, model.settings), "onnx_translations", None)
    translations: Mapping[Callable[..., object], Callable[..., object]] = offered() if offered else {}
    try:
        return graph.to_onnx(bench.module, bench.requests(3, 8), free=bench.requests.free, translations=translations)
    except ValueError as failed:
        raise UserError(f"{family.__name__} cannot become ONNX with free rows and lengths: {failed}") from failed


def _int8(whole: Candidate, bench: Bench, settings: Export) -> tuple[Parity, Candidate]:
    """The best candidate; refused where even that one loses too much."""
    if not graph.has_int8_form(whole.model):
        found, _ = bench.compare(whole)
        return replace(
            found, refused="int8 does not apply: no operator of this file has it, as in models of trees"
        ), whole
    sign = 1 if bench.proof.higher_is_better else -1
    tried: list[tuple[tuple[bool, float, int], Parity, Candidate]] = []
    for way in ("dynamic", "static") if settings.int8 == "auto" else (settings.int8,):
        chunks = list(bench.chunks())
        model = graph.dynamic_int8(whole.model) if way == "dynamic" else graph.static_int8(whole.model, chunks)
        file = bench.candidate(model, way)
        found, _ = bench.compare(file)
        found = replace(found, refused=_refusal(found, bench.proof, settings.allowed_loss, len(whole.model)))
        # Headlines that round alike are equal, as in fp32's own check; then bytes decide.
        order = (found.refused is None, round(sign * found.headline, 3), -found.bytes)
        tried.append((order, found, file))
    _, found, file = max(tried, key=lambda one: one[0])
    return found, file


def _refusal(found: Parity, proof: Proof, allowed: float, whole: int) -> str | None:
    lost = proof.lost(found.headline)
    if not lost <= allowed:
        return (
            f"int8 ({found.way}) judges {found.headline:.4f}, the student {found.student_headline:.4f}: it loses"
            f" {lost:.2%} of the headline, {allowed:.2%} is allowed; raise export.allowed_loss, or leave int8 out of"
            " export.precisions"
        )
    if found.bytes >= whole:
        return f"int8 ({found.way}) takes {found.bytes} bytes, fp32 {whole}: so small a model gains nothing by it"
    return None


def _columns(known: Sequence[Column], reads: Sequence[str]) -> tuple[Column, ...]:
    by_name = {column.name: column for column in known}
    missing = [name for name in reads if name not in by_name]
    if missing:
        raise UserError(
            f"the model reads {', '.join(map(repr, missing))}, of which `columns` says nothing; use Column.of"
        )
    return tuple(by_name[name] for name in reads)


def _contract(bench: Bench, columns: tuple[Column, ...], task: str, kept: Mapping[Precision, Candidate]) -> Contract:
    inputs, outputs = graph.slots(kept["fp32"].model)
    return Contract(
        task=task,
        columns=columns,
        inputs=tuple(Slot(*held) for held in inputs),
        outputs=tuple(Slot(*held, kind=bench.kinds[stem_of(held[0])[0]]) for held in outputs),
        precisions=tuple(kept),
        recommended="int8" if "int8" in kept else "fp32",
        limbeck=version("limbeck"),
    )


def _write(folder: Path, name: str, contract: Contract, about: About, parity: Mapping[Precision, Parity]) -> None:
    """All that is for reading: contract, axis, report, recipe, fingerprints, card."""
    contract.save(folder)
    axis = about.axis
    write_json(folder / "axis.json", {"name": axis.name, "values": axis.values, "titles": axis.titles})
    artifacts = tuple(
        report.Artifact(student=name, path=".", precision=precision, parity=asdict(parity[precision]))
        for precision in contract.precisions
    )
    replace(about.report, artifacts=artifacts).save(folder)
    (folder / "recipe.yaml").write_text(about.recipe, encoding="utf-8")
    write_json(folder / "fingerprints.json", dict(about.fingerprints))
    (folder / "card.md").write_text(_card(name, contract, about, parity), encoding="utf-8")


def _card(name: str, contract: Contract, about: About, parity: Mapping[Precision, Parity]) -> str:
    lines = [f"# {name}", "", about.report.verdict or "No verdict: this model was not compared.", ""]
    for heading, text in about.card.items():
        lines += [f"## {heading.capitalize()}", "", text.strip(), ""]
    lines += ["## Files", "", "| file | on validation rows | the student there | bytes | |", "|---|---|---|---|---|"]
    for precision, held in parity.items():
        said = held.refused or ("recommended" if precision == contract.recommended else "")
        figures = f"{held.headline:.4f} | {held.student_headline:.4f} | {held.bytes}"
        lines.append(f"| {precision if held.refused else MODELS[precision]} | {figures} | {said} |")
    lines += ["", "## How to ask it", "", "It reads these columns, and no other:", ""]
    for column in contract.columns:
        role = f" (the {column.role})" if column.role and column.role != column.name else ""
        lines.append(f"- `{column.name}`{role}: {'a list of ' if column.many else ''}{column.type}")
    lines += ["", f"    limbeck predict {name} rows.csv --out answers.jsonl", ""]
    return "\n".join(lines)


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A folder beside the wanted one, which takes its place once everything in it is on the disk."""
    if folder.exists() and not (folder / MANIFEST).exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and is no artifact; give another place, or remove it")
    half, old = (folder.with_name(f"{folder.name}{atomic.MARK}{os.getpid()}.{secrets.token_hex(4)}") for _ in "ab")
    half.mkdir(parents=True)
    try:
        yield half
        for path in (*half.rglob("*"), half):
            atomic.sync(path)
        if folder.exists():
            folder.rename(old)  # a folder that holds files cannot be replaced in one step
        half.rename(folder)
        atomic.sync(folder.parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
