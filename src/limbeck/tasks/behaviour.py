"""Behaviour: will this person click, buy, or redeem?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import classes, parts
from limbeck.draft import distinct, epochs_for, line, protocol, shares, training_rows
from limbeck.encoder import as_text, lookup
from limbeck.errors import UserError, counted, few
from limbeck.features import codes, history, moments, past_rate, read_as, with_sides
from limbeck.split import PARTS
from limbeck.task import Judgement, Problem, Source, Task, sliced
from limbeck.types import Array, Axis, Batch, Predictor, Rows, Signals, fingerprint

CHUNK = 1024
"""Rows a call when judging."""
NO, YES = "no", "yes"
WORDS = (("0", "1"), ("false", "true"), ("no", "yes"), ("n", "y"), ("-1", "1"))
"""Pairs of labels that say by themselves which of them is yes."""
COLD = 10
"""Training rows below which a user or an item is cold."""
HEAD = 0.8
"""Share of the training rows that the commonest items, the head, make up."""
STEPS, BATCH = 3000, 256
"""Steps that a drafted recipe takes at least, and the rows of each."""
PCOC = (0.97, 1.03)
"""Where chances are right enough to be paid for."""


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Rows with a yes or a no each, what is known of user and item beside them, and what came before.

    The columns of the side tables `user` and `item` join the rows. What is counted or listed of the past is of
    training rows only, and of those strictly before a row's own time: no row sees its own label, a later one, or one
    of a row that judges.

    A row without a label is `unlabelled` among training rows, and left out elsewhere.

    Options:
        positive: of numbers, the least that is a yes; of text, the label that is. Not needed of 0 and 1, true and
            false, yes and no.
        history: where positive, a column `history` lists so many of the user's last items with a yes (and `passed`
            those with a no); roles user, item and time are needed.
        rates: a column for the share of yes in the past of the user and of the item, and one for how many rows it rests
            on, as ln(1 + n).
        columns: what columns are, where a look at them would be wrong: name -> kind, or `{kind: ..., ...}`; see
            `limbeck.encoders.columns`. Columns of kind `left_out` are not read.

    Raises:
        UserError: labels of which it cannot be said which is yes; a part without both answers.
    """
    rows = source.rows
    table, joined = with_sides(source)
    said, name = yes_or_no(rows, options["positive"])
    place = table.column_names.index(rows.role("label"))
    table = table.set_column(place, name, pa.array(np.array([NO, YES, None], object)[said]))
    roles = {**rows.roles, "label": name}
    ours = fingerprint(
        "behaviour",
        1,
        rows=rows.fingerprint,
        parts=hashlib.sha256(np.ascontiguousarray(part, np.int8).tobytes()).hexdigest(),
        options=dict(options),
    )
    whole = Rows(table, rows.id, ours, roles)
    whole, made = _with_past(whole, said, np.asarray(part), options)
    columns = {**made, **dict(options["columns"])}
    whole = read_as(whole, columns, tuple(made))
    read = whole.roles["features"]
    kept = [whole.take(np.flatnonzero((part == p) & (said < 2))) for p in range(3)]
    for which, some in zip(PARTS, kept, strict=True):
        _check_both(some, which)
    bare = np.flatnonzero((part == 0) & (said == 2))
    facts = {
        **source.facts,
        "rows": {which: len(some) for which, some in zip(PARTS, kept, strict=True)},
        "share_of_yes": {w: round(_share(some), 4) for w, some in zip(PARTS, kept, strict=True)},
        "unlabelled": len(bare),
        "without_label_left_out": int(((part > 0) & (part < 3) & (said == 2)).sum()),
        "joined": {side: names for side, names in joined.items() if names},
        **_strangers(kept),
    }
    unlabelled = whole.take(bare) if len(bare) else None
    axis = Axis("label", (NO, YES))
    kinds = {key: how for key, how in columns.items() if key in whole.names}
    return Problem(kept[0], kept[1], kept[2], axis, tuple(read), unlabelled, facts, kinds)


def yes_or_no(rows: Rows, positive: Any) -> tuple[Array, str]:
    """Every row's answer: int64 (N,), 0 no, 1 yes, 2 where there is none; and what the column is called from here on.

    Raises:
        UserError: it cannot be said which labels are yes.
    """
    name = rows.role("label")
    column = rows.table.column(name)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and positive is not None:
        try:
            least = float(positive)
        except (TypeError, ValueError):
            raise UserError(f"positive is {positive!r}, and the labels are numbers; a number was wanted") from None
        numbers = column.cast(pa.float64()).to_numpy().astype(np.float64)
        said = np.where(np.isnan(numbers), 2, numbers >= least).astype(np.int64)
        return said, f"{name} >= {least:g}"
    text = classes.labels(rows)
    if pa.types.is_floating(kind):
        text = np.array([value.removesuffix(".0") for value in text], object)
    found = sorted(set(text.tolist()) - {""})
    if positive is None:
        pair = next((pair for pair in WORDS if {*map(str.lower, found)} <= set(pair)), None)
        if pair is None:
            raise UserError(
                f"the labels are {few(found)}; say which is yes: `options: {{positive: ...}}`, of numbers the least one"
            )
        wanted = [value for value in found if value.lower() == pair[1]]
    else:
        wanted = [value for value in found if value == _spelt(positive)]
        if not wanted:
            raise UserError(f"positive is '{positive}', which no row says; there are: {few(found)}")
    return np.where(text == "", 2, np.isin(text, wanted)).astype(np.int64), name


def _spelt(positive: Any) -> str:
    """YAML's `yes` and `true` are one; a truth value is spelt as Arrow spells it."""
    return str(positive).lower() if isinstance(positive, bool) else str(positive)


def _with_past(rows: Rows, said: Array, part: Array, options: Mapping[str, Any]) -> tuple[Rows, dict[str, Any]]:
    """The rows with columns on what came before, and what these are."""
    length = options["history"]
    if not isinstance(length, int) or isinstance(length, bool) or length < 0:
        raise UserError(f"options.history is {length!r}; a whole number of 0 or more was wanted")
    table = rows.table
    made: dict[str, Any] = {}
    train = (part == 0) & (said < 2)
    if not (length or options["rates"]):
        return rows, {}
    time = moments(rows)
    new: dict[str, Any] = {}
    if length:
        item, items = rows.role("item"), as_text(_plain(rows, rows.role("item")))
        user = codes(rows, "user")
        for name, answer in (("history", 1), ("passed", 0)):
            new[name] = history(user, time, train & (said == answer), items, length=length)
            made[name] = {"kind": "history", "of": item, "length": length}
    for role in ("user", "item") if options["rates"] else ():
        if isinstance(rows.roles.get(role), str):
            rate, count = past_rate(codes(rows, role), time, train, said.astype(np.float64))
            for name, values in ((f"{role} rate before", rate), (f"{role} log rows before", np.log1p(count))):
                new[name], made[name] = pa.array(values), "number"
    taken = [name for name in new if name in table.column_names]
    if taken:
        raise UserError(f"the rows have a column {few(taken)} already; rename it, or leave history and rates out")
    for name, values in new.items():
        table = table.append_column(name, values)
    return Rows(table, rows.id, rows.source, rows.roles), made


def _share(rows: Rows) -> float:
    return float(pc.mean(pc.cast(pc.equal(rows.table.column(rows.role("label")), YES), pa.float64())).as_py() or 0.0)


def _check_both(rows: Rows, which: str) -> None:
    if not len(rows):
        raise UserError(f"no labelled {which} row is left; mend the split or bring more rows")
    if _share(rows) in (0.0, 1.0):
        only = YES if _share(rows) else NO
        raise UserError(
            f"all {counted(len(rows), f'{which} row')} say {only}; both answers were wanted in every part: split so "
            "that each has some (`kind: random, stratify: true`), or set options.positive otherwise"
        )


def _strangers(kept: list[Rows]) -> dict[str, Any]:
    """Of validation and test rows, how many are of users or items that no training row has."""
    found = {}
    for role in ("user", "item"):
        if isinstance(kept[0].roles.get(role), str):
            counts = [_training_counts(kept[0], some, role) for some in kept[1:]]
            names = dict(zip(PARTS[1:], [int((count == 0).sum()) for count in counts], strict=True))
            found[f"rows_of_unseen_{role}s"] = names
    return found


def _training_counts(train: Rows, rows: Rows, role: str) -> Array:
    """How many training rows the user (or item) of every row has, int64 (N,)."""
    counted_ = pc.value_counts(as_text(train.table.column(train.role(role)).combine_chunks()))
    values, counts = counted_.field(0).to_pylist(), counted_.field(1).to_numpy()
    at = lookup(values, rows.table.column(rows.role(role)).combine_chunks())
    return np.where(at < 0, 0, counts[at])


def same(rows: Rows, options: Mapping[str, Any]) -> pa.Array:
    """Who was asked about what and when, as far as the rows say; where they do not, all their columns but the label."""
    roles = [rows.roles.get(role) for role in ("user", "item", "time")]
    names = [name for name in roles if isinstance(name, str)]
    if len(names) < 2:
        label = rows.roles.get("label")
        names = sorted(name for name in rows.names if name != label and not pa.types.is_nested(_type(rows, name)))
    columns = [pc.fill_null(pc.cast(as_text(_plain(rows, name)), pa.large_string()), "") for name in names]
    return pc.binary_join_element_wise(*columns, pa.scalar("\x1f", pa.large_string()))


def _type(rows: Rows, name: str) -> pa.DataType:
    return rows.table.schema.field(name).type


def _plain(rows: Rows, name: str) -> pa.Array:
    column = rows.table.column(name)
    return column.combine_chunks() if not isinstance(column, pa.Array) else column


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """All labelled rows, each counting alike.

    Raises:
        UserError: the predictor speaks of other classes than the task, or says NaN.
    """
    label = classes.targets(rows, problem)["label"]
    rows = rows.take(np.flatnonzero(label >= 0)) if (label < 0).any() else rows
    label = label[label >= 0]
    pieces = [classes.probabilities(predictor(b.only(predictor.reads)), problem.axis) for b in rows.batches(CHUNK)]
    group = codes(rows, "group" if "group" in rows.roles else "user") if _grouped(rows) else np.zeros(len(rows), int)
    columns = {
        "label": label,
        "probabilities": np.concatenate(pieces) if pieces else np.zeros((0, 2)),
        "group": group.astype(np.int64),
    }
    metrics = {name: metric(columns) for name, metric in METRICS.items()}
    slices = sliced(METRICS, columns, _slices(rows, problem), ("auc", "log_loss", "pcoc", "chance_error"))
    slices = {name: {k: v for k, v in told.items() if np.isfinite(v)} for name, told in slices.items()}
    return Judgement(metrics, rows.id, columns, slices, columns["probabilities"].argmax(1)[:, None].astype(np.int64))


def _grouped(rows: Rows) -> bool:
    return "group" in rows.roles or "user" in rows.roles


def _slices(rows: Rows, problem: Problem) -> dict[str, Array]:
    """Rows by how well their user and item are known."""
    masks: dict[str, Array] = {}
    for role in ("user", "item"):
        if not isinstance(problem.train.roles.get(role), str):
            continue
        count = _training_counts(problem.train, rows, role)
        masks[f"unseen {role}s"] = count == 0
        masks[f"cold {role}s (below {COLD} rows)"] = count < COLD
        if role == "item":
            ordered = np.sort(_training_counts(problem.train, problem.train, role))[::-1]
            edge = ordered[int(HEAD * (len(ordered) - 1))]
            masks["head items"], masks["tail items"] = count >= edge, count < edge
    return masks


def answer(said: Signals, axis: Axis, batch: Batch, top: int) -> list[dict[str, Any]]:
    """The chance of a yes, and which answer is likelier."""
    chances = classes.probabilities(said, axis)[:, 1]
    return [{"probability": round(float(p), 6), "label": axis.values[int(p >= 0.5)]} for p in chances]


def show(problem: Problem, judgement: Judgement, i: int) -> dict[str, Any]:
    """The answer, the chance of a yes, and how likely the true answer was said to be."""
    truth, chances = int(judgement.columns["label"][i]), judgement.columns["probabilities"][i]
    return {"truth": problem.axis.title(truth), "answer": f"yes: {chances[1]:.1%}", "p": float(chances[truth])}


def _click(name: str, *, grouped: bool = False, resampled: bool = True) -> Callable[[Mapping[str, Array]], float]:
    def of(columns: Mapping[str, Array]) -> list[Array]:
        return [columns["probabilities"][:, 1], columns["label"], *([columns["group"]] if grouped else [])]

    def value(columns: Mapping[str, Array]) -> float:
        return float(getattr(parts.get("metrics", "click"), name)(*of(columns)))

    def quick(columns: Mapping[str, Array]) -> Callable[[Array], float]:
        found: Callable[[Array], float] = getattr(parts.get("metrics", "click"), f"resampled_{name}")(*of(columns))
        return found

    if resampled:
        value.resampled = quick  # type: ignore[attr-defined]  # lets the intervals sort once
    else:
        value.resampled = None  # type: ignore[attr-defined]  # rows drawn twice make bins uneven: biased upwards
    return value


METRICS: dict[str, Callable[[Mapping[str, Array]], float]] = {
    "auc": classes.METRICS["auc"],
    "gauc": _click("group_auc", grouped=True),
    "log_loss": classes.METRICS["log_loss"],
    "pcoc": _click("pcoc"),
    "chance_error": _click("chance_error", resampled=False),
    "accuracy": classes.METRICS["accuracy"],
}


def fits(rows: Rows, roles: Mapping[str, str]) -> bool:
    """Whether rows ask this question: two answers, and neither texts nor pictures that would be judged."""
    return not {"text", "picture"} & set(roles) and distinct(rows, roles["label"]) == 2


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """An ensemble of three deep models and a linear one, and two small students."""
    if "split" in roles:
        yield from protocol("given", "as the column says")
    elif "time" in roles and distinct(rows, roles["time"]) >= 10:
        yield from protocol(f"time_cut, shares: {shares(len(rows))}", "the last rows in time are the test")
    else:
        yield from protocol(f"random, stratify: true, shares: {shares(len(rows))}", "each answer's rows at random")
    past = {"user", "item", "time"} <= set(roles)
    values = [value for value in classes.labels(Rows(rows.table, rows.id, rows.source, dict(roles))) if value]
    found = sorted(set(values), key=values.count)
    known = any({value.lower().removesuffix(".0") for value in found} <= set(pair) for pair in WORDS)
    if not known or past:
        yield "options:"
    if not known:
        yield line(f"  positive: {found[0]!r}", f"the label that is a yes; the other is {found[-1]!r}")
    if past:
        yield line("  history: 20", "of a user's last items with a yes, and with a no, before a row's time")
    yield from ("", "teacher:", "  from: ensemble", "  weights: validation", "  members:")
    count = training_rows(rows, roles.get("split"))
    yield "    - {model: deep_fm, width: 16, dropout: 0.2, unknown: 0.05}"
    yield "    - {model: deep_cross, width: 16, dropout: 0.2, unknown: 0.05}"
    yield f"    - {{model: {'interest_network' if past else 'embedding_mlp'}, width: 16, dropout: 0.2, unknown: 0.05}}"
    yield line("    - {model: sparse_logistic}", "keeps the whole from doing worse where rows are few")
    yield from ("", "students:", "  - {model: factorisation_machine, name: fm, width: 8, unknown: 0.05}")
    yield line("  - {model: sparse_logistic, name: logistic}", "a weight a value; quickest to serve")
    yield from ("", "objective:", line("  - {loss: hard, weight: 0.3}", "the rows' own answers"))
    yield line("  - {loss: kl, temperature: 1.0, weight: 0.7}", "the teacher's chances; 1 keeps them calibrated")
    epochs = epochs_for(STEPS, count, BATCH, least=8)
    steps = epochs * -(-count // BATCH)
    yield from ("", "training:", line(f"  epochs: {epochs}", f"at most: {steps:,} steps over {count:,} training rows"))
    yield from (f"  batch_size: {BATCH}", "  learning_rate: 2.0e-3", "  weight_decay: 0.1")
    every = max(1, epochs // 12)
    yield from (f"  check_every: {every}", f"  patience: {3 * every}", "")
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


TASK = Task(
    name="behaviour",
    roles=("label",),
    optional_roles=("user", "item", "time", "group", "features", "weight", "privileged"),
    takes_unlabelled=True,
    signal=("logits", "logits"),
    prepare=prepare,
    same=same,
    targets=classes.targets,
    hard="cross_entropy",
    metrics=METRICS,
    judge=judge,
    baselines=("majority", "sparse_logistic"),
    answer=answer,
    show=show,
    apart=classes.apart,
    draft=draft,
    fits=fits,
    rails={"pcoc": PCOC},
    chance=0.5,
    options={"positive": None, "history": 0, "rates": False, "columns": {}},
)
