"""Recommend: which items of the catalogue does a user want next?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from limbeck import parts
from limbeck.draft import distinct, epochs_for, line, protocol, shares
from limbeck.encoder import as_text, lookup
from limbeck.errors import UserError
from limbeck.store import persons
from limbeck.task import Judgement, Problem, Source, Task, columns_mean, sliced
from limbeck.types import Array, Axis, Batch, Lists, Predictor, Rows, Signals, fingerprint

LIST = 20
CHUNK = 512
CATALOGUE = 50_000
"""Items at most: every model and loss here scores the whole catalogue for every row of a batch."""
JUDGED = ("validation", "test")
CLOSED_FORM = 20_000
"""Items up to which EASE's matrix of items by items fits in memory."""
BATCH = 1024
"""Users a step of a drafted student sees; a small shop's are seen at once."""


def prepare(source: Source, part: Array, options: Mapping[str, Any]) -> Problem:
    """Interactions to queries: one row a user and part, with the history the model may read.

    Columns of the rows: `user`; `history`, what the model reads, in time; `seen`, what is masked
    when ranking; `targets`, what was wanted, each item once. A training row wants its own history.
    Items that occur in no training row are outside the catalogue: wanting one counts as a miss.

    An item that a user already has is masked when ranking, so it cannot be wanted either: bought
    again, it is no target (but stays in later histories). Users who have no training row, or want
    nothing but what they have, are not judged. All of these are counted in the facts.

    Options:
        positive: the least label that makes a row an interaction; without it every row is one.
        history: what a model reads of a user: `train`, or `known`, which when testing also holds
            the validation rows.

    Raises:
        UserError: fewer than 2 items, or more than 50,000.
    """
    rows = source.rows
    users, items = as_text(rows.column(rows.role("user"))), as_text(rows.column(rows.role("item")))
    kept = np.ones(len(rows), bool)
    if options["positive"] is not None:
        kept = np.asarray(rows.column(rows.role("label")), float) >= float(options["positive"])
    known_users = pa.array(sorted(set(users.filter(pa.array(kept & (part == 0))).to_pylist())), pa.string())
    user = pc.fill_null(pc.index_in(users, value_set=known_users), -1).to_numpy(zero_copy_only=False)
    strangers = {name: _count(users, kept & (user < 0) & (part == p)) for p, name in enumerate(JUDGED, 1)}
    kept &= user >= 0
    again = kept & _again(user, items, np.where(kept, part, len(JUDGED) + 1))
    time = np.asarray(rows.column(rows.role("time"))) if "time" in rows.roles else rows.id
    order = np.lexsort((rows.id, time, user))
    order = order[kept[order]]
    axis = _catalogue(source, items.filter(pa.array(kept & (part == 0))))
    if len(axis) < 2:
        raise UserError("fewer than 2 items are left in the training rows; a ranking needs a choice")
    if len(axis) > CATALOGUE:
        raise UserError(
            f"the training rows have {len(axis):,} items; up to {CATALOGUE:,} can be ranked, since the whole catalogue "
            "is scored at once: leave out the rarest items, or make a recipe for each department"
        )
    ours = fingerprint(
        "queries", 4, rows=rows.fingerprint, parts=hashlib.sha256(part.tobytes()).hexdigest(), options=dict(options)
    )
    table = _Queries(known_users, items, user, part, order[~again[order]], order, str(options["history"]))
    made = [Rows(table.make(p), table.ids(p), ours, {"user": "user"}) for p in range(3)]
    unknown = int((lookup(axis.values, items.filter(pa.array(kept & ~again & (part == 2)))) < 0).sum())
    facts = {
        **source.facts,
        "users": len(known_users),
        "items": len(axis),
        "interactions": {
            name: int((kept & (part == p)).sum()) for p, name in enumerate(("train", "validation", "test"))
        },
        "test_interactions_outside_catalogue": unknown,
        "interactions_with_what_a_user_had_left_out": {
            name: int((again & (part == p)).sum()) for p, name in enumerate(JUDGED, 1)
        },
        "users_wanting_only_what_they_had": {
            name: _count(users, kept & (part == p)) - len(made[p]) for p, name in enumerate(JUDGED, 1)
        },
        "users_without_training_rows": strangers,
    }
    return Problem(made[0], made[1], made[2], axis, ("user", "history"), None, facts)


def _again(user: Array, items: pa.Array, part: Array) -> Array:
    """Whether a row's user had its item in an earlier part, bool (N,)."""
    item = items.dictionary_encode().indices.to_numpy().astype(np.int64)
    _, pair = np.unique(user * (item.max(initial=0) + 1) + item, return_inverse=True)
    first = np.full(pair.max(initial=0) + 1, np.iinfo(part.dtype).max, part.dtype)
    np.minimum.at(first, pair, part)
    return np.asarray(part > first[pair])


def _count(users: pa.Array, rows: Array) -> int:
    """How many different users some rows have."""
    return int(pc.count_distinct(users.filter(pa.array(rows))).as_py())


@dataclass(frozen=True)
class _Queries:
    """Per-user lists of the parts' items.

    Args:
        users: the axis of `user`.
        items, user, part: of every row.
        wanted: rows that may be targets, in the order of users and time; `order` all that are kept.
        history: the option.
    """

    users: pa.Array
    items: pa.Array
    user: Array
    part: Array
    wanted: Array
    order: Array
    history: str

    def lists(self, parts_of: tuple[int, ...], who: Array, *, targets: bool = False) -> pa.Array:
        order = self.wanted if targets else self.order
        chosen = order[np.isin(self.part[order], parts_of)]
        if targets:
            item = self.items.take(pa.array(chosen)).dictionary_encode().indices.to_numpy().astype(np.int64)
            pair = self.user[chosen] * (item.max(initial=0) + 1) + item
            chosen = chosen[np.sort(np.unique(pair, return_index=True)[1])]
        counts = np.bincount(self.user[chosen], minlength=len(self.users))
        ends = np.cumsum(counts)
        # The rows are sorted by user, so a user's items stand together.
        offsets = np.concatenate([[0], np.cumsum(counts[who])]).astype(np.int32)
        take = np.arange(offsets[-1]) + np.repeat(ends[who] - counts[who] - offsets[:-1], counts[who])
        return pa.ListArray.from_arrays(pa.array(offsets), self.items.take(pa.array(chosen[take])))

    def who(self, p: int) -> Array:
        return np.unique(self.user[self.wanted[self.part[self.wanted] == p]])

    def ids(self, p: int) -> Array:
        return self.who(p).astype(np.int64) + p * len(self.users)

    def make(self, p: int) -> pa.Table:
        who = self.who(p)
        before = tuple(range(max(p, 1)))
        read = before if self.history == "known" else (0,)
        columns = {
            "user": self.users.take(pa.array(who)),
            "history": self.lists(read, who),
            "seen": self.lists(before if p else (), who),
            "targets": self.lists((p,), who, targets=True),
        }
        return pa.table(columns)


def _catalogue(source: Source, items: pa.Array) -> Axis:
    values = sorted(set(items.to_pylist()))
    side = source.sides.get("item")
    if side is None:
        return Axis("item", tuple(values))
    by_id = dict(zip(as_text(side.column(0).combine_chunks()).to_pylist(), side.column(1).to_pylist(), strict=True))
    return Axis("item", tuple(values), tuple(str(by_id.get(value, value)) for value in values))


def _padded(lists: Lists, axis: Axis) -> Array:
    """Axis positions (B, L), -2 outside the catalogue, -1 padding."""
    found = lookup(axis.values, lists.values)
    found[found < 0] = -2
    counts = np.diff(lists.offsets)
    answer = np.full((len(lists), max(1, int(counts.max(initial=0)))), -1, np.int64)
    answer[np.arange(answer.shape[1]) < counts[:, None]] = found
    return answer


def targets(rows: Rows, problem: Problem) -> dict[str, Array]:
    """`targets`: int64 (N, L), positions in the catalogue, padded with -1."""
    found = _padded(rows.column("targets"), problem.axis)
    return {"targets": np.where(found < 0, -1, found)}


def judge(predictor: Predictor, rows: Rows, problem: Problem) -> Judgement:
    """Rank the whole catalogue for every row, items already seen masked, in chunks."""
    columns = _ranked(predictor, rows, problem)
    slices = _slices(predictor, rows, problem, columns)
    metrics = {name: metric(columns) for name, metric in TASK.metrics.items()}
    return Judgement(metrics, _units(rows), columns, slices, columns["top"][:, :10])


def _units(rows: Rows) -> Array:
    """The user of every row as a number, the same in every part and split of a source."""
    return (persons(as_text(rows.column("user")).to_pylist()) >> np.uint64(1)).astype(np.int64)


def _ranked(predictor: Predictor, rows: Rows, problem: Problem) -> dict[str, Array]:
    ranking = parts.get("metrics", "ranking")
    popular = _popularity(problem)
    tail = popular < np.quantile(popular, 0.8)
    pieces: list[dict[str, Array]] = []
    for batch in rows.batches(CHUNK):
        scores = _scores(predictor(batch.only(tuple(n for n in predictor.reads if n in batch))), problem)
        seen = _padded(batch["seen"], problem.axis)
        row, column = np.nonzero(seen >= 0)
        scores[row, seen[row, column]] = -np.inf
        wanted = _padded(batch["targets"], problem.axis)
        count = np.diff(batch["targets"].offsets)
        top = ranking.top_positions(scores, LIST)
        hit = ranking.hits(top, wanted)
        is_tail = np.where(wanted >= 0, tail[np.maximum(wanted, 0)], False)
        in_tail = ranking.hits(top, np.where(is_tail, wanted, -1))
        tails, heads = is_tail.sum(1), count - is_tail.sum(1)
        pieces.append({
            "ndcg@10": ranking.ndcg(hit, count, 10),
            "recall@10": ranking.recall(hit, count, 10),
            "recall@20": ranking.recall(hit, count, 20),
            "mrr": ranking.reciprocal_rank(scores, wanted),
            "popularity": np.where(top[:, :10] >= 0, popular[top[:, :10]], 0.0).mean(1),
            "tail_hits": in_tail.sum(1), "tail_wanted": tails,
            "head_hits": hit.sum(1) - in_tail.sum(1), "head_wanted": heads,
            "top": top, "catalogue": np.full(len(top), len(problem.axis)),
        })  # fmt: skip
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]} if pieces else {}


def _scores(said: Signals, problem: Problem) -> Array:
    if "scores" in said:
        scores = np.array(said["scores"], np.float64)
    else:
        ids, values = np.asarray(said["scores.ids"]), np.asarray(said["scores.values"], np.float64)
        scores = np.full((len(ids), len(problem.axis) + 1), -np.inf)
        np.put_along_axis(scores, np.where(ids < 0, len(problem.axis), ids), values, 1)
        scores = scores[:, :-1]
    if scores.shape[1] != len(problem.axis):
        raise UserError(f"axis 1 of 'scores' is {scores.shape[1]}, not {len(problem.axis)}, the items of the catalogue")
    if np.isnan(scores).any():
        raise UserError("the scores hold NaN; a ranking of them would be arbitrary")
    return scores


def _popularity(problem: Problem) -> Array:
    """Share of the training users who have each item, (N,)."""
    found = _padded(problem.train.column("targets"), problem.axis)
    return np.bincount(found[found >= 0], minlength=len(problem.axis)) / max(1, len(problem.train))


def _slices(
    predictor: Predictor, rows: Rows, problem: Problem, columns: Mapping[str, Array]
) -> dict[str, dict[str, float]]:
    wanted = ("ndcg@10", "recall@20")
    length = np.diff(rows.column("history").offsets)
    low, high = np.quantile(length, [1 / 3, 2 / 3]) if len(length) else (0, 0)
    masks = {
        "short histories": length <= low,
        "medium histories": (length > low) & (length <= high),
        "long histories": length > high,
    }
    found = sliced(TASK.metrics, columns, masks, wanted)
    for name in ("head", "tail"):
        count = float(columns[f"{name}_wanted"].sum())
        found[f"{name} items"] = {"n": count, "recall@20": float(columns[f"{name}_hits"].sum()) / max(count, 1.0)}
    if "user" in predictor.reads and "history" in predictor.reads:
        hidden = _ranked(_Stranger(predictor), rows, problem)
        found["new users, folded in"] = {"n": float(len(rows)), **{w: TASK.metrics[w](hidden) for w in wanted}}
    return found


class _Stranger:
    """A predictor that is never told who the user is."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.reads = predictor.reads
        self.fingerprint = fingerprint("stranger", 1, of=predictor.fingerprint)

    def __call__(self, batch: Batch) -> Signals:
        return self.predictor(Batch({**batch, "user": [""] * len(batch.key)}, batch.key))


def answer(said: Signals, axis: Axis, batch: Batch, top: int) -> list[dict[str, Any]]:
    """The best items of every row with titles and scores, those of its history left out."""
    ranking = parts.get("metrics", "ranking")
    scores = np.array(said["scores"], np.float64)
    if "history" in batch:
        seen = _padded(batch["history"], axis)
        row, column = np.nonzero(seen >= 0)
        scores[row, seen[row, column]] = -np.inf
    best = ranking.top_positions(scores, top)
    return [
        {
            "items": [
                {"item": axis.values[i], "title": axis.title(i), "score": round(float(scores[row, i]), 6)}
                for i in best[row]
                if i >= 0
            ]
        }
        for row in range(len(best))
    ]


def show(problem: Problem, judgement: Judgement, i: int) -> dict[str, Any]:
    """What a user wanted, and the first items of the list; outside the catalogue an item has no title."""
    axis, wanted = problem.axis, list(problem.test.column("targets")[i])
    positions = lookup(axis.values, wanted).tolist()
    titles = [axis.title(p) if p >= 0 else value for p, value in zip(positions, wanted, strict=True)]
    best = [axis.title(int(p)) for p in judgement.top[i] if p >= 0]
    return {"truth": ", ".join(titles[:10]), "answer": ", ".join(best[:5])}


def draft(rows: Rows, roles: Mapping[str, str]) -> Iterator[str]:
    """A teacher that the catalogue's size allows, and two widths of student."""
    users, items = distinct(rows, roles["user"]), distinct(rows, roles["item"])
    if "split" in roles:
        yield from protocol("given", "as the column says")
    elif "time" in roles and len(rows) >= 3 * users:
        yield from protocol("leave_last_out", "each user's last row is the test, the one before chooses")
    else:
        yield from protocol(f"user_random, shares: {shares(len(rows) // users)}", "each user's rows at random")
    if "label" in roles:
        yield "options:"
        yield line("  positive: null", "rows of this label and above count as wanted; null: every row does")
        yield ""
    closed = items <= CLOSED_FORM
    yield "teacher:"
    if closed:
        yield line("  model: ease", "a closed form over all pairs of items; hard to beat on sparse data")
        yield line("  choose: {l2: [50, 200, 500, 1000]}", "the best on validation rows")
    else:
        yield line("  model: matrix_factorisation", f"{items:,} items are too many for a matrix of all pairs")
        yield "  width: 128"
    yield from ("", "students:", "  - {model: matrix_factorisation, name: mf-16, width: 16, dropout: 0.5}")
    yield from ("  - {model: matrix_factorisation, name: mf-8, width: 8, dropout: 0.5}", "", "objective:")
    yield line("  - {loss: hard, weight: 0.3}", "the rows' own answers; below, the teacher's order of all items")
    yield f"  - {{loss: listwise_kl, weight: 1.0, temperature: {0.1 if closed else 1.0}}}"
    epochs = epochs_for(300, users, BATCH, least=20)
    yield from ("", "training:", line(f"  epochs: {epochs}", f"about 300 steps over {users:,} users"))
    yield from (f"  batch_size: {BATCH}", "  learning_rate: 0.07", f"  check_every: {max(1, epochs // 12)}", "")
    yield line("seeds: [0, 1, 2]", "three trainings of everything: one alone proves nothing")


def _coverage(columns: Mapping[str, Array]) -> float:
    answer: float = parts.get("metrics", "ranking").coverage(columns["top"][:, :10], int(columns["catalogue"][0]))
    return answer


# People drawn again with some twice name fewer different items: resampling would say too little every time.
_coverage.resampled = None  # type: ignore[attr-defined]  # tells `verdict.spread` so


TASK = Task(
    name="recommend",
    roles=("user", "item"),
    optional_roles=("time", "label"),
    signal=("scores", "scores"),
    prepare=prepare,
    targets=targets,
    hard="catalogue_cross_entropy",
    metrics={
        **{name: columns_mean(name) for name in ("ndcg@10", "recall@10", "recall@20", "mrr")},
        "coverage@10": _coverage,
        "popularity@10": columns_mean("popularity"),
    },
    judge=judge,
    baselines=("popularity",),
    answer=answer,
    show=show,
    draft=draft,
    options={"positive": None, "history": "train"},
)
