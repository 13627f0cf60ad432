"""A first recipe for rows of one's own: looks at the columns, guesses, and says what it guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from limbeck import parts
from limbeck.encoders.tfidf import analyzer_of
from limbeck.errors import UserError
from limbeck.table import check_text, find_file, reader_for
from limbeck.types import Rows

NAMES = {
    "user": ("user", "customer", "client", "member", "visitor", "buyer", "shopper", "session", "account", "household"),
    "item": ("item", "product", "sku", "article", "goods", "asin", "movie", "film", "offer"),
    "time": ("time", "timestamp", "date", "datetime", "at", "when", "day", "created", "ts"),
    "text": ("text", "review", "comment", "content", "body", "message", "description", "title", "sentence", "query"),
    "label": ("label", "class", "category", "sentiment", "target", "stars", "rating", "score", "polarity", "y"),
    "weight": ("weight", "weights"),
    "split": ("split", "part", "fold"),
    "id": ("id", "rowid", "uid", "index"),
}
"""Words that columns of a role are called by."""

CLASSES = 50
"""Different labels at most; more are no classes."""
CLOSED_FORM = 20_000
"""Items up to which EASE's matrix of items by items fits in memory."""
BATCH = 1024
"""Users a step of a recommender sees; a small shop's are seen at once."""


@dataclass(frozen=True)
class Scaffold:
    """A recipe for a file.

    Args:
        text: YAML with comments.
        task: the question chosen.
        roles: role -> column, as guessed.
    """

    text: str
    task: str
    roles: dict[str, str]


def scaffold(file: Path, folder: Path, task: str | None = None) -> Scaffold:
    """Look at a file and write a recipe for it.

    Args:
        file: of rows, in any format that is read.
        folder: where the recipe will lie; a file inside it is named relatively.
        task: the question; by default the one that the columns answer.

    Raises:
        UserError: the file cannot be read, or its columns answer no question that is known here.
    """
    path = _named(file, folder)
    settings = _settings(find_file(path, folder), path)
    rows = parts.make("data", reader_for(path), {"path": path, **settings}).read(folder).rows
    roles = guess(rows)
    chosen = task or _task(roles, rows)
    if chosen not in WRITERS:
        parts.get("tasks", chosen)  # tells a name that nobody knows apart from one without a scaffold
        raise UserError(f"init writes recipes for {', '.join(WRITERS)}; for '{chosen}' start from a recipe in recipes/")
    lacking = [role for role in parts.get("tasks", chosen).roles if role not in roles]
    if lacking:
        raise UserError(
            f"no column of {path} looks like the role {' or '.join(map(repr, lacking))} of task '{chosen}'; "
            f"there are: {', '.join(rows.names)}. Rename one, or write data.roles by hand"
        )
    used = {role: roles[role] for role in (*USED[chosen], "id", "split") if role in roles}
    lines = [
        f"# Written by `limbeck init {file.name}` from a look at its columns: guesses, to be read and mended.",
        "#   limbeck check {this file}; limbeck run {this file} --plan; limbeck run {this file}",
        f"task: {chosen}",
        "data:",
        *(f"  {key}: {_yaml(value)}" for key, value in {"path": path, **settings}.items()),
        "  roles:",
        *(_said(f"    {role}: {_yaml(column)}", _why(rows, column)) for role, column in used.items()),
        *_rest(rows, used),
        "",
        *WRITERS[chosen](rows, used),
    ]
    return Scaffold("\n".join(line.rstrip() for line in lines) + "\n", chosen, used)


def guess(rows: Rows) -> dict[str, str]:
    """Role -> column, by name first and by what a column holds; roles that rows bring already stay."""
    roles = {role: column for role, column in rows.roles.items() if isinstance(column, str)}
    for role in ("split", "id", "weight", "time", "user", "item", "label", "text"):
        fitting = [name for name in rows.names if name not in roles.values() and FITS[role](rows, name)]
        named = [name for name in fitting if _words(name) & set(NAMES[role])]
        if role in roles:
            continue
        if role == "text" and fitting:
            roles[role] = max(named or fitting, key=lambda name: _length(rows, name))
        elif role == "id":  # the whole name, for `user id` is no id of rows
            exact = [name for name in named if name.lower() in NAMES[role]]
            roles.update(zip([role], exact, strict=False))
        elif named:
            roles[role] = min(named, key=lambda name: _rank(role, name))
    return roles


def _rank(role: str, name: str) -> int:
    return min(NAMES[role].index(word) for word in _words(name) & set(NAMES[role]))


def _words(name: str) -> set[str]:
    """`bought_at`, `customerId` -> their words.

    >>> sorted(_words("customerId"))
    ['customer', 'customerid', 'id']
    """
    spaced = "".join(f" {c}" if c.isupper() else c if c.isalnum() else " " for c in name)
    words = spaced.lower().split()
    return {*words, *(word.rstrip("s") for word in words), name.lower()}


def _type(rows: Rows, name: str) -> pa.DataType:
    return rows.table.schema.field(name).type


def _is_text(rows: Rows, name: str) -> bool:
    return pa.types.is_string(_type(rows, name)) or pa.types.is_large_string(_type(rows, name))


def _whole(rows: Rows, name: str) -> bool:
    return bool(rows.table.column(name).null_count == 0) and not pa.types.is_nested(_type(rows, name))


def _distinct(rows: Rows, name: str) -> int:
    return int(pc.count_distinct(rows.table.column(name)).as_py())


def _length(rows: Rows, name: str) -> float:
    return float(pc.mean(pc.utf8_length(rows.table.column(name))).as_py() or 0.0)


def _fits_text(rows: Rows, name: str) -> bool:
    return _is_text(rows, name) and _length(rows, name) > 8 and _distinct(rows, name) > CLASSES


def _fits_label(rows: Rows, name: str) -> bool:
    return _whole(rows, name) and not pa.types.is_temporal(_type(rows, name)) and 2 <= _distinct(rows, name) <= CLASSES


def _fits_name(rows: Rows, name: str) -> bool:
    """Names users or items: whole numbers or text, and fewer of them than rows."""
    kind = _type(rows, name)
    return _whole(rows, name) and (pa.types.is_integer(kind) or _is_text(rows, name)) and _distinct(rows, name) >= 2


def _fits_time(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return _whole(rows, name) and (
        pa.types.is_temporal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    )


def _fits_id(rows: Rows, name: str) -> bool:
    return _whole(rows, name) and pa.types.is_integer(_type(rows, name)) and _distinct(rows, name) == len(rows)


def _fits_weight(rows: Rows, name: str) -> bool:
    kind = _type(rows, name)
    return _whole(rows, name) and (pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _fits_split(rows: Rows, name: str) -> bool:
    if not _is_text(rows, name) or _distinct(rows, name) > 4:
        return False
    said = set(pc.unique(rows.table.column(name)).to_pylist()) - {None, ""}
    return {"train", "test"} <= said <= {"train", "validation", "test"}


FITS: dict[str, Callable[[Rows, str], bool]] = {
    "user": _fits_name, "item": _fits_name, "time": _fits_time, "text": _fits_text, "label": _fits_label,
    "weight": _fits_weight, "split": _fits_split, "id": _fits_id,
}  # fmt: skip


def _task(roles: dict[str, str], rows: Rows) -> str:
    if "text" in roles and "label" in roles:
        return "classify_text"
    if "user" in roles and "item" in roles:
        return "recommend"
    raise UserError(
        f"the columns {', '.join(rows.names)} suggest no task: a column of users and one of items would be "
        "'recommend', one of texts and one of a few labels 'classify_text'; rename them, or write a recipe by hand"
    )


def _named(file: Path, folder: Path) -> str:
    """As the recipe names the file: from its own folder where the file lies inside."""
    inside = file.resolve().is_relative_to(folder.resolve())
    return str(file.resolve().relative_to(folder.resolve()) if inside else file.resolve())


def _settings(file: Path, path: str) -> dict[str, str]:
    """What a reader must be told: of a CSV, what stands between its cells."""
    if reader_for(path) != "csv" or path.lower().endswith(".tsv"):
        return {}
    check_text(file)
    with file.open(encoding="utf-8-sig") as opened:
        header = opened.readline()
    found = max(",;\t|", key=header.count)
    return {} if found == "," or found not in header else {"delimiter": found}


def _yaml(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("\n...\n").strip()
    )


def _why(rows: Rows, column: str) -> str:
    kind = "text" if _is_text(rows, column) else str(_type(rows, column))
    return f"{kind}, {_distinct(rows, column):,} different in {len(rows):,} rows"


def _rest(rows: Rows, used: dict[str, str]) -> Iterator[str]:
    left = [name for name in rows.names if name not in used.values()]
    if left:
        yield f"    # not used: {', '.join(left)}"


def _said(text: str, comment: str) -> str:
    return f"{text:<34} # {comment}"


def _splits(kind: str, why: str) -> list[str]:
    name = kind.partition(",")[0]
    return ["protocols:", _said(f"  - name: {name}", why), f"    split: {{kind: {kind}}}", "    splits: [0]", ""]


def _shares(count: int) -> str:
    return "[8, 1, 1]" if count >= 500 else "[6, 2, 2]"


def _recommend(rows: Rows, roles: dict[str, str]) -> Iterator[str]:
    users, items = _distinct(rows, roles["user"]), _distinct(rows, roles["item"])
    if "split" in roles:
        yield from _splits("given", "as the column says")
    elif "time" in roles and len(rows) >= 3 * users:
        yield from _splits("leave_last_out", "each user's last row is the test, the one before chooses")
    else:
        yield from _splits(f"user_random, shares: {_shares(len(rows) // users)}", "each user's rows at random")
    if "label" in roles:
        yield "options:"
        yield _said("  positive: null", "rows of this label and above count as wanted; null: every row does")
        yield ""
    closed = items <= CLOSED_FORM
    yield "teacher:"
    if closed:
        yield _said("  model: ease", "a closed form over all pairs of items; hard to beat on sparse data")
        yield _said("  choose: {l2: [50, 200, 500, 1000]}", "the best on validation rows")
    else:
        yield _said("  model: matrix_factorisation", f"{items:,} items are too many for a matrix of all pairs")
        yield "  width: 128"
    yield from ("", "students:", "  - {model: matrix_factorisation, name: mf-16, width: 16, dropout: 0.5}")
    yield from ("  - {model: matrix_factorisation, name: mf-8, width: 8, dropout: 0.5}", "", "objective:")
    yield _said("  - {loss: hard, weight: 0.3}", "the rows' own answers; below, the teacher's order of all items")
    yield f"  - {{loss: listwise_kl, weight: 1.0, temperature: {0.1 if closed else 1.0}}}"
    epochs = max(20, min(300, round(300 / -(-users // BATCH))))
    yield from ("", "training:", _said(f"  epochs: {epochs}", f"about 300 steps over {users:,} users"))
    yield from (f"  batch_size: {BATCH}", "  learning_rate: 0.07", f"  check_every: {max(1, epochs // 12)}", "")
    yield _said("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


def _classify_text(rows: Rows, roles: dict[str, str]) -> Iterator[str]:
    if "split" in roles:
        yield from _splits("given", "as the column says")
    else:
        yield from _splits(f"random, stratify: true, shares: {_shares(len(rows))}", "each label's rows at random")
    yield "teacher:"
    if analyzer_of(rows.column(roles["text"])) == "characters":
        yield _said("  model: character_transformer", "for scripts without spaces; trained from nothing")
        yield "  training: {epochs: 12, batch_size: 32, learning_rate: 1.0e-3, bucket: true, patience: 3}"
    else:
        yield _said("  model: transformer", "MiniLM, fetched once (83 MB), for English")
        yield _said("  source: pack:minilm", "or a Hugging Face folder, or a hub name such as org/name")
        yield _said("  length: 160", "tokens read of a text")
        yield "  training: {epochs: 3, batch_size: 32, learning_rate: 5.0e-5, schedule: linear, bucket: true, clip: 1}"
    yield from ("", "students:", "  - {model: bag_of_embeddings, name: bag, vocabulary: 8000, width: 16, ngrams: [2]}")
    yield "  - {model: text_convolution, name: convolution, vocabulary: 8000, width: 32, widths: [1, 2, 3]}"
    yield from ("", "objective:", _said("  - {loss: hard, weight: 0.2}", "the rows' own labels"))
    yield _said("  - {loss: kl, temperature: 2.0, weight: 0.8}", "the teacher's probabilities")
    yield from ("", "training:", _said("  epochs: 12", "at most"), "  batch_size: 64", "  learning_rate: 2.0e-3")
    yield from (_said("  bucket: true", "texts of like length together"), "  patience: 3", "")
    yield _said("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


WRITERS: dict[str, Callable[[Rows, dict[str, str]], Iterator[str]]] = {
    "recommend": _recommend, "classify_text": _classify_text,
}  # fmt: skip
USED = {"recommend": ("user", "item", "time", "label"), "classify_text": ("text", "label", "weight")}
"""Which roles a task's recipe names."""
