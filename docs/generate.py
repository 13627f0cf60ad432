"""Writes what documentation can be read off the code: the keys of a recipe, the tables of parts, and the site.

Run: python docs/generate.py [--check]
`--check` writes nothing; it fails where a committed page is not what the code says, or a link leads nowhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import shutil
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from markdown_it import MarkdownIt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from limbeck import artifact, bounds, knowledge, parts, recipe, split, threat, weight
from limbeck.term import Term

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "docs" / "objectives.json"
"""What losses reached, one object each: `job`, `loss`, `metric`, `value`, `deviation` over seeds, and `kd` and `twin`,
which plain distillation and the honest twin reached there, with `beats_kd` and `beats_twin` of a paired test."""
GROUPS = {
    "response": "The teacher's answers",
    "feature": "Its inner states",
    "relation": "How its rows, or items, lie to one another",
    "ranking": "Rankings and recommendations",
    "detection": "Detection and segmentation",
    "sequence": "Forecasts and time series",
    "tabular": "Tables",
    "policy": "Policies",
    "robust": "Robustness",
    "language": "Language",
    "data_free": "No data",
    "several": "Several teachers",
}
SCENARIOS = (
    ("classes of texts, people, products", "`kl` beside `hard`", "`dist`"),
    ("yes or no: clicks, purchases", "`kl` at temperature 1 beside `hard`; of one logit `soft_binary`", ""),
    ("a catalogue is ranked", "`listwise_kl` beside `hard`", "`unbiased_groups`"),
    ("a catalogue too long for memory", "`linear_candidates`, with `label.top`", ""),
    ("a vocabulary too long for memory", "`linear_head`, with `label.top`", "`skewed_kl` as its divergence"),
    (
        "few labels, many rows without one",
        "`kl` alone, with the rows under `data.unlabelled`",
        "for tables, `{make: munge}` there",
    ),
    ("numbers: prices, values", "`squared_error`", "`teacher_bounded`, where the teacher errs too"),
    ("what customers will be worth", "`squared_error` with `signal: distribution` beside `hard`", ""),
    ("forecasts", "`quantile` beside `hard_quantile`", "`horizon_weighted`, `multi_scale`"),
    ("embeddings for search", "`cosine_embedding`", "`relational`, `probabilistic_transfer`, `queue_kl`"),
    ("pictures, a convolutional teacher trained here", "`dist` beside `hard`", "`kl`, `fit_net`"),
    ("the teacher's classifier may be deployed too", "`fit_net` in the model `borrowed_classifier` (SimKD)", ""),
    ("boxes", "`cross_head`, or `localisation` for edges that are distributions", "`pearson_maps`, `focal_global`"),
    ("masks", "`channel_wise` on logits", "`pixel_kl` with `structural`"),
    ("a transformer", "`kl`, then `minilm_relations` beside it", "`tiny_bert` at equal heads"),
    ("a student must withstand attacks", "`rslad` with `training.attack`", "`ard`, with labels"),
    ("several teachers", "`kl` of an `ensemble`", "`several_kl`, where they differ row by row"),
    ("several tasks (in Python)", "a hard and a soft loss a head (`signal`, `truth`), weights `learned`", "`balanced`"),
    ("no teacher better than the student", "`kl` with `from: average` or `from: peers`", "`generations: 2`"),
    ("the student acts", "`policy_kl`", "`teacher_action`"),
    ("fitted students: trees, linear models", "`kl` or `soft_binary`: they offer soft targets", ""),
)
"""What is to be done, what to start with, and what to try against it."""
SITE = ROOT / "docs" / "site"
TITLES = {
    recipe.Recipe: "The whole file",
    recipe.Data: "data",
    recipe.Protocol: "protocols",
    split.Split: "split",
    recipe.Teacher: "teacher",
    recipe.Student: "students",
    bounds.Range: "range",
    recipe.Loss: "objective",
    weight.SampleWeight: "sample_weight",
    knowledge.Knowledge: "label",
    recipe.Training: "training",
    threat.Threat: "attack",
    artifact.Export: "export",
    bounds.Tune: "tune",
    bounds.Budget: "budget",
}
WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "none", Any: "anything"}
SIGNS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}", "min_length": "at least {}"}
PAGE = """<!doctype html><html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ max-width: 52rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; }}
pre {{ overflow: auto; padding: .8rem; background: #8881; }} table {{ display: block; overflow: auto; }}
td, th {{ padding: .3rem .6rem; border-bottom: 1px solid #8884; text-align: left; vertical-align: top; }}
:root {{ color-scheme: light dark; }}
</style><nav>{nav}</nav>{body}</html>
"""
NAV = {"Limbeck": "README.md", "Docs": "docs/index.md", "Recipes": "docs/recipes.md", "Parts": "docs/parts.md"}
NAV |= {"Objectives": "docs/objectives.md"}
NAV |= {"Contributing": "CONTRIBUTING.md", "中文": "README.zh.md"}


def said(docstring: str | None) -> tuple[str, dict[str, str]]:
    """A docstring's text above its first section, and what its `Args` say of each name."""
    text = inspect.cleandoc(docstring or "")
    above = re.split(r"\n\n(?:Args|Returns|Raises|Source|Example)s?:|\n\n>>>", text)[0]
    found = re.search(r"Args:\n((?:    .*\n?|\n)*)", text)
    about: dict[str, str] = {}
    for entry in re.findall(r"^    (\S[^:\n]*): ((?:.*\n?)(?:     +.*\n?)*)", found[1] if found else "", re.M):
        about |= {name.strip(): " ".join(entry[1].split()) for name in entry[0].split(",")}
    return above, about


def kind(annotation: Any, limits: tuple[Any, ...] = ()) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    more = [m for limit in limits for m in (limit.metadata if isinstance(limit, FieldInfo) else [limit])]
    signs = [sign.format(getattr(m, name)) for m in more for name, sign in SIGNS.items() if hasattr(m, name)]
    tail = f" ({', '.join(signs)})" if signs else ""
    if origin is Annotated:
        return kind(inner[0], inner[1:])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(kind(one) for one in inner)
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"{len(inner)} of {kind(inner[0])}"
    if origin in (tuple, list):
        return f"list of {kind(inner[0])}{tail}"
    if origin in (dict, Mapping) or annotation is dict:
        return "mapping"
    if annotation in TITLES:
        title = TITLES[annotation]
        return f"[{title}](#{title})"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation))) + tail


def keys(model: type[Any]) -> Iterator[tuple[str, str, str, str]]:
    """(key, field, type, default) of a model of the recipe."""
    if issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            default = "required" if field.default is PydanticUndefined else shown(field.default)
            yield field.alias or name, name, kind(field.annotation, tuple(field.metadata)), default
        return
    hints = get_type_hints(model, include_extras=True)
    for field in dataclasses.fields(model):
        default = "required" if field.default is dataclasses.MISSING else shown(field.default)
        yield field.name, field.name, kind(hints[field.name]), default


def shown(value: Any) -> str:
    """A default as a recipe would write it."""
    if value is None or value in ({}, (), "") or isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    return f"`{text}`"


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def recipe_page() -> str:
    """Every key of a recipe."""
    text = [
        "# Every key of a recipe\n",
        "Written by `make docs` from the models in `src/limbeck/recipe.py`; change those, not this page.",
        "A change on the command line names a key with dots: `--set training.epochs=5`, `--set students.0.width=8`.",
    ]
    for model, title in TITLES.items():
        above, about = said(model.__doc__)
        rows = [(f"`{key}`", kind_, default, about.get(name, "")) for key, name, kind_, default in keys(model)]
        text += [f"\n## {title}\n\n{above}\n", table(("key", "type", "default", "meaning"), rows)]
        if issubclass(model, BaseModel) and model.model_config.get("extra") == "allow":
            text.append("\nAny other key is a setting of the part that is named.")
    return "\n".join(text) + "\n"


def parts_page() -> str:
    """Every part, own and plugged in, with its settings."""
    text = ["# Parts\n\nThe names a recipe can use, and the settings each takes.\n"]
    for folder in parts.FOLDERS:
        rows = []
        for name in parts.names(folder):
            part = parts.get(folder, name)
            described = part if inspect.ismodule(part) or inspect.isclass(part) else inspect.getmodule(type(part))
            own = f"limbeck.{folder}.{name}"
            above, _ = said(getattr(sys.modules.get(own, described), "__doc__", None))
            known = parts.settings_of(part) if inspect.isclass(part) else {}
            empty = inspect.Parameter.empty
            given = [key if default is empty else f"{key}={default!r}" for key, default in known.items()]
            rows.append((f"`{name}`", above.split("\n")[0], ", ".join(f"`{one}`" for one in given)))
        text += [f"\n## {folder}\n", table(("name", "", "settings"), rows)]
    return "\n".join(text) + "\n"


@dataclasses.dataclass(frozen=True)
class Loss:
    """What a loss says of itself."""

    name: str
    use: str
    reads: tuple[tuple[str, str], ...]
    settings: tuple[str, ...]
    group: str
    paper: str

    @property
    def knows(self) -> str:
        """The first signal of the teacher that it reads."""
        named = [re.findall(r"`([^`]+)`", what) for what, whose in self.reads if "teacher" in whose or whose == "both"]
        return named[0][0].removesuffix(".ids") if named and named[0] else ""


def losses() -> list[Loss]:
    """Those of Limbeck itself, by name; what others plug in is no part of a committed page."""
    found = []
    for name in parts.names("losses"):
        part = parts.get("losses", name)
        if part.__module__ != f"limbeck.losses.{name}":
            continue
        above, _ = said(part.__doc__)
        cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in above.splitlines() if "|" in line]
        reads = tuple((what, whose) for what, whose in (line for line in cells if len(line) == 2) if "`" in what)
        empty = inspect.Parameter.empty
        own = parts.settings_of(part).items()
        given = tuple(f"`{key}`" if default is empty else f"`{key}={brief(default)}`" for key, default in own)
        group = part.group if part.needs_teacher or part.group != Term.group else "hard"
        use = " ".join(above.split("\n\n")[0].split())
        found.append(Loss(name, use, reads, given, group, part.paper))
    return found


def brief(default: Any) -> str:
    """A default; of fractions four digits."""
    return f"{default:.4g}" if isinstance(default, float) and default % 1 else repr(default)


def objectives_page() -> str:
    """Every loss, what it is for, and which to choose."""
    every = losses()
    text = [
        "# Objectives\n",
        "Written by `make docs` from the losses' own words in `src/limbeck/losses/`; change those, not this page.",
        "A recipe's objective is a list of them, each with a `weight` and its settings.\n",
        "## What to choose\n",
        *scenarios({loss.name for loss in every}),
        "A temperature may move by a schedule; it is neither learned nor balanced, for one that descends with its loss "
        "runs to where the loss is least, not to where a student learns most. The few losses that were measured stand "
        "below; of all others nothing is claimed but what their sources claim.\n",
        "Or look for what your teacher says, then for your case. Start with the plainest, and keep `kl` (of rankings "
        "`listwise_kl`) and the honest twin beside it: what does not beat both is not worth its trouble.\n",
        *chooser([loss for loss in every if loss.group != "hard"]),
        "\n## What was measured\n",
        *measured(),
    ]
    own = {loss.group: loss.group for loss in every if loss.group not in GROUPS}
    for group, title in {**own, "hard": "Hard losses, which need no teacher", **GROUPS}.items():
        rows = [row_of(loss) for loss in every if loss.group == group]
        if rows:
            text += [f"\n## {title}\n", table(("loss", "what it is for", "reads", "settings", "source"), rows)]
    return "\n".join(text) + "\n"


def row_of(loss: Loss) -> tuple[str, ...]:
    """Of the table of losses."""
    reads = "; ".join(f"{whose}: {what}" for what, whose in loss.reads)
    return f"`{loss.name}`", loss.use, reads, ", ".join(loss.settings), loss.paper


def scenarios(known: set[str]) -> Iterator[str]:
    """By what is to be done; every loss that is named must be one."""
    named = {name for line in SCENARIOS for name in re.findall(r"`([a-z_]+)`", " ".join(line))}
    other = {"hard", "learned", "balanced", "borrowed_classifier", "ensemble", "signal", "truth"}
    if lost := named - known - other:
        raise SystemExit(f"the scenarios name losses that are none: {', '.join(sorted(lost))}")
    yield table(("what is to be done", "start with", "then compare"), list(SCENARIOS))
    yield ""


def chooser(every: list[Loss]) -> Iterator[str]:
    """By what the teacher says, the case in which each loss is the one to take, in its own words."""
    for knows in sorted({loss.knows for loss in every}, key=lambda name: (not name, name)):
        rows = [(loss.use, f"`{loss.name}`") for loss in every if loss.knows == knows]
        yield f"\n### {f'The teacher says `{knows}`' if knows else 'No teacher is asked'}\n"
        yield table(("case", "loss"), rows)


def measured() -> Iterator[str]:
    """What was committed of the comparison; none is recommended that beat neither plain distillation nor the twin."""
    if not MEASURED.is_file():
        yield "No figures are committed yet, so none is recommended beside plain distillation (`kl`, `listwise_kl`)."
        return
    figures = json.loads(MEASURED.read_text(encoding="utf-8"))
    good = [one for one in figures if one["beats_kd"] and one["beats_twin"]]
    for job in dict.fromkeys(one["job"] for one in figures):
        names = ", ".join(f"`{one['loss']}`" for one in good if one["job"] == job)
        yield f"- {job}: {names or 'none beat both plain distillation and the honest twin'}"
    rows = [
        (
            one["job"],
            f"`{one['loss']}`",
            one["metric"],
            f"{one['value']:.4f} ± {one['deviation']:.4f}",
            *(f"{one[rival]:.4f}{' (beaten)' if one[f'beats_{rival}'] else ''}" for rival in ("kd", "twin")),
        )
        for one in figures
    ]
    yield ""
    yield table(("job", "loss", "metric", "value", "plain distillation", "honest twin"), rows)


COMMITTED = {"docs/recipes.md": recipe_page, "docs/objectives.md": objectives_page}
"""Pages that are kept beside the code, so that they can be read where it is."""


def pages() -> dict[str, str]:
    """Path from the root -> Markdown, of everything the site holds."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md")]
    texts = {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files}
    return {**texts, **{path: page() for path, page in COMMITTED.items()}, "docs/parts.md": parts_page()}


def links(path: str, text: str) -> Iterator[tuple[str, Path, str]]:
    """(as written, the file it leads to, anchor) of every link within the repository."""
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if not re.match(r"[a-z]+:", link):
            file, _, anchor = link.partition("#")
            yield link, (ROOT / path).parent.joinpath(file).resolve() if file else ROOT / path, anchor


def anchor_of(heading: str) -> str:
    """As GitHub makes it: lower case, spaces to hyphens, other marks left out."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def broken(texts: Mapping[str, str]) -> list[str]:
    """Links that lead nowhere."""
    anchors = {
        (ROOT / path): {anchor_of(heading) for heading in re.findall(r"^#+ (.+)$", text, re.M)}
        for path, text in texts.items()
    }
    wrong = []
    for path, text in texts.items():
        for link, file, anchor in links(path, text):
            if not (file in anchors or file.exists()) or (anchor and anchor not in anchors.get(file, set())):
                wrong.append(f"{path}: {link} leads nowhere")
    return wrong


def write_site(texts: Mapping[str, str]) -> None:
    """One HTML page a Markdown page; other files that are linked to are copied beside them."""
    shutil.rmtree(SITE, ignore_errors=True)
    markdown = MarkdownIt("commonmark").enable("table")
    for path, text in texts.items():
        place = (SITE / path).with_suffix(".html")
        place.parent.mkdir(parents=True, exist_ok=True)
        for _, file, _ in links(path, text):
            if file.is_file() and file.suffix != ".md":
                copy = SITE / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        body = re.sub(r'href="(?![a-z]+:)([^"#]+)\.md', r'href="\1.html', markdown.render(text))
        body = re.sub(r"<h(\d)>(.*?)</h", lambda m: f'<h{m[1]} id="{anchor_of(m[2])}">{m[2]}</h', body)
        up = "../" * path.count("/")
        nav = " · ".join(f'<a href="{up}{Path(to).with_suffix(".html")}">{name}</a>' for name, to in NAV.items())
        title = text.partition("\n")[0].lstrip("# ")
        lang = "zh" if path.endswith(".zh.md") else "en"
        place.write_text(PAGE.format(title=title, nav=nav, body=body, lang=lang), encoding="utf-8")


def main() -> int:
    """Write, or check; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    texts = pages()
    wrong = broken(texts)
    for path in COMMITTED:
        file = ROOT / path
        if not check:
            file.write_text(texts[path], encoding="utf-8")
        elif not file.is_file() or file.read_text(encoding="utf-8") != texts[path]:
            wrong.append(f"{path} is not what the code says; run make docs")
    if not check:
        write_site(texts)
    print("\n".join(wrong) or f"{len(texts)} pages, every link leads somewhere")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
