import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.split import Split, assign
from limbeck.task import Judgement, Problem, Source
from limbeck.tasks import recommend
from limbeck.tasks.recommend import TASK
from limbeck.types import Batch, Rows, Signals

Row = tuple[str, str, int, int]
"""User, item, time, part."""


def source(rows: Sequence[Row], rating: Sequence[float] | None = None) -> Source:
    users, items, times, _ = zip(*rows, strict=True)
    columns = {"who": list(users), "what": list(items), "when": list(times)}
    roles: dict[str, Any] = {"user": "who", "item": "what", "time": "when"}
    if rating is not None:
        columns["stars"], roles["label"] = list(rating), "stars"
    side = pa.table({"id": sorted(set(items)), "name": [f"the {item}" for item in sorted(set(items))]})
    return Source(Rows(pa.table(columns), np.arange(len(rows)), "shop", roles), {"item": side}, {"licence": "ours"})


def prepare(rows: Sequence[Row], rating: Sequence[float] | None = None, **options: Any) -> Problem:
    part = np.array([row[3] for row in rows], np.int8)
    return TASK.prepare(source(rows, rating), part, {**TASK.options, **options})


def lists(rows: Rows, column: str) -> dict[str, list[str]]:
    found = rows.column(column)
    return {user: list(found[i]) for i, user in enumerate(rows.column("user"))}


def shop(users: int = 30, items: int = 40, seed: int = 0) -> list[Row]:
    """Everybody has 8 items in training, 2 in validation and 3 in the test."""
    random = np.random.default_rng(seed)
    rows: list[Row] = []
    for user in range(users):
        for place, item in enumerate(random.permutation(items)[:13]):
            rows.append((f"u{user}", f"i{item}", place, (place >= 8) + (place >= 10)))
    return rows


class Says:
    """A predictor that answers a score for every user and item; it may cut its head to the best."""

    fingerprint = "says"

    def __init__(
        self, scores: np.ndarray, users: Sequence[str], *, top: int | None = None, history: bool = False
    ) -> None:
        self.scores, self.users, self.top = scores, list(users), top
        self.reads = ("user", "history") if history else ("user",)
        self.rows_at_once: list[int] = []

    def __call__(self, batch: Batch) -> Signals:
        assert set(batch) == set(self.reads)
        self.rows_at_once.append(len(batch.key))
        said = np.stack(
            [self.scores[self.users.index(u)] if u in self.users else -self.scores[0] for u in batch["user"]]
        )
        if self.top is None:
            return Signals({"scores": said}, {"scores": "scores"})
        ids = np.argsort(-said, axis=1, kind="stable")[:, : self.top]
        values = np.take_along_axis(said, ids, 1)
        return Signals({"scores.ids": ids, "scores.values": values}, {"scores": "scores"})


def noise(problem: Problem, seed: int = 0, **how: Any) -> Says:
    users = problem.train.column("user")
    return Says(np.random.default_rng(seed).normal(size=(len(users), len(problem.axis))), users, **how)


def naive(predictor: Says, problem: Problem, rows: Rows, k: int = 10) -> dict[str, float]:
    """User by user over Python lists."""
    seen, wanted = lists(rows, "seen"), lists(rows, "targets")
    ndcg, recall, mrr = [], [], []
    for user in rows.column("user"):
        scores = dict(zip(problem.axis.values, predictor.scores[predictor.users.index(user)], strict=True))
        ranked = sorted((i for i in scores if i not in seen[user]), key=lambda i: -scores[i])
        hits = [place for place, item in enumerate(ranked) if item in wanted[user]]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(wanted[user]))))
        ndcg.append(sum(1 / math.log2(place + 2) for place in hits if place < k) / ideal)
        recall.append(sum(place < k for place in hits) / len(wanted[user]))
        mrr.append(1 / (hits[0] + 1) if hits else 0.0)
    return {"ndcg@10": np.mean(ndcg), "recall@10": np.mean(recall), "mrr": np.mean(mrr)}


# Rows to queries


def test_a_row_is_a_user_with_history_seen_and_targets_in_time() -> None:
    rows: list[Row] = [
        ("ann", "c", 3, 0), ("ann", "a", 1, 0), ("bob", "b", 5, 0), ("ann", "b", 4, 1), ("ann", "d", 9, 2),
        ("bob", "a", 6, 2), ("bob", "d", 1, 0), ("bob", "c", 7, 3),
    ]  # fmt: skip
    problem = prepare(rows)
    assert problem.reads == ("user", "history")
    assert problem.axis.values == ("a", "b", "c", "d")
    assert problem.axis.title(2) == "the c"
    assert lists(problem.train, "targets") == lists(problem.train, "history") == {"ann": ["a", "c"], "bob": ["d", "b"]}
    assert lists(problem.train, "seen") == {"ann": [], "bob": []}
    assert lists(problem.validation, "targets") == {"ann": ["b"]}
    assert lists(problem.validation, "seen") == {"ann": ["a", "c"]}
    assert lists(problem.test, "targets") == {"ann": ["d"], "bob": ["a"]}
    assert lists(problem.test, "seen") == {"ann": ["a", "c", "b"], "bob": ["d", "b"]}
    assert lists(problem.test, "history") == {"ann": ["a", "c"], "bob": ["d", "b"]}
    assert problem.facts["interactions"] == {"train": 4, "validation": 1, "test": 2}
    assert problem.facts["licence"] == "ours"


def test_known_history_is_all_that_went_before() -> None:
    rows: list[Row] = [
        ("ann", item, time, part) for time, (item, part) in enumerate(zip("abcd", (0, 0, 1, 2), strict=True))
    ]
    rows += [("bob", "d", 0, 0)]
    problem = prepare(rows, history="known")
    assert lists(problem.validation, "history")["ann"] == ["a", "b"]
    assert lists(problem.test, "history")["ann"] == ["a", "b", "c"]
    assert lists(prepare(rows).test, "history")["ann"] == ["a", "b"]
    assert problem.test.fingerprint != prepare(rows).test.fingerprint


def test_the_last_item_out_leaves_one_target_each() -> None:
    whole = source([(u, i, t, 0) for u, i, t, _ in shop()])
    part = assign(whole.rows, Split("leave_last_out"))
    problem = TASK.prepare(whole, part, {**TASK.options, "history": "known"})
    for rows, known in ((problem.validation, 11), (problem.test, 12)):
        assert set(map(len, lists(rows, "targets").values())) <= {0, 1}
        assert {len(h) for h in lists(rows, "history").values()} == {known}
        assert lists(rows, "history") == lists(rows, "seen")


def test_the_catalogue_and_the_users_are_those_of_training_rows() -> None:
    rows: list[Row] = [
        ("ann", "a", 0, 0),
        ("ann", "b", 1, 0),
        ("ann", "new", 2, 2),
        ("stranger", "a", 3, 2),
        ("x", "c", 0, 3),
    ]
    problem = prepare(rows)
    assert problem.axis.values == ("a", "b")
    assert problem.test.column("user") == ["ann"]
    assert problem.facts["test_interactions_outside_catalogue"] == 1
    assert TASK.targets(problem.test, problem)["targets"].tolist() == [[-1]]


def test_what_a_user_already_has_is_no_target_and_is_counted() -> None:
    rows: list[Row] = [
        ("ann", "a", 0, 0), ("ann", "b", 1, 0), ("bob", "a", 0, 0), ("bob", "c", 1, 0), ("eve", "d", 0, 0),
        ("ann", "c", 2, 1), ("ann", "a", 3, 1),  # a again
        ("ann", "c", 4, 2), ("ann", "d", 5, 2),  # c again, from validation
        ("bob", "a", 6, 2), ("bob", "c", 7, 2),  # nothing new
        ("zoe", "a", 0, 2), ("zoe", "b", 1, 2), ("yan", "a", 0, 1),  # nobody knows them
    ]  # fmt: skip
    problem = prepare(rows, history="known")
    assert lists(problem.validation, "targets") == {"ann": ["c"]}
    assert lists(problem.test, "targets") == {"ann": ["d"]}
    assert lists(problem.test, "history") == lists(problem.test, "seen") == {"ann": ["a", "b", "c", "a"]}
    assert problem.facts["interactions_with_what_a_user_had_left_out"] == {"validation": 1, "test": 3}
    assert problem.facts["users_wanting_only_what_they_had"] == {"validation": 0, "test": 1}
    assert problem.facts["users_without_training_rows"] == {"validation": 1, "test": 1}
    oracle = Says(np.eye(4)[[3, 0, 0]], ["ann", "bob", "eve"])
    assert TASK.judge(oracle, problem.test, problem).metrics["recall@10"] == 1.0


def test_without_repeats_and_strangers_nothing_is_left_out() -> None:
    problem = prepare(shop())
    for fact in ("interactions_with_what_a_user_had_left_out", "users_wanting_only_what_they_had",
                 "users_without_training_rows"):  # fmt: skip
        assert problem.facts[fact] == {"validation": 0, "test": 0}
    assert sum(map(len, lists(problem.test, "targets").values())) == problem.facts["interactions"]["test"]


def test_a_catalogue_beyond_what_is_scored_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommend, "CATALOGUE", 40)
    assert len(prepare(shop()).axis) == 40
    monkeypatch.setattr(recommend, "CATALOGUE", 39)
    with pytest.raises(UserError, match="the training rows have 40 items; up to 39 can be ranked"):
        prepare(shop())


def test_only_ratings_at_or_above_positive_are_interactions() -> None:
    rows: list[Row] = [("ann", item, time, 2 * (time > 3)) for time, item in enumerate("abcdef")]
    problem = prepare(rows, [5, 1, 4, 4, 2, 5], positive=4)
    assert lists(problem.train, "targets") == {"ann": ["a", "c", "d"]}
    assert lists(problem.test, "targets") == {"ann": ["f"]}


def test_a_ranking_needs_two_items() -> None:
    with pytest.raises(UserError, match="fewer than 2 items are left"):
        prepare([("ann", "a", 0, 0), ("bob", "a", 0, 0), ("ann", "b", 1, 2)])


def test_what_is_bought_twice_is_wanted_once() -> None:
    rows: list[Row] = [("ann", item, time, 0) for time, item in enumerate("aabca")]
    rows += [("ann", "d", 6, 2), ("ann", "d", 7, 2), ("bob", "d", 0, 0)]
    problem = prepare(rows)
    assert lists(problem.train, "history")["ann"] == ["a", "a", "b", "c", "a"]
    assert lists(problem.train, "targets")["ann"] == ["a", "b", "c"]
    assert lists(problem.test, "targets")["ann"] == ["d"]
    judged = TASK.judge(Says(np.eye(4)[[3, 3]], ["ann", "bob"]), problem.test, problem)
    assert judged.metrics["ndcg@10"] == judged.metrics["recall@10"] == 1.0


@given(st.permutations(range(20)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_table_does_not_matter(order: list[int]) -> None:
    rows = shop(2, 15)[:20]
    plain = prepare(rows)
    table = source(rows)
    moved = replace(table, rows=table.rows.take(np.array(order)))
    part = np.array([rows[i][3] for i in order], np.int8)
    again = TASK.prepare(moved, part, TASK.options)
    for name in ("train", "validation", "test"):
        for column in ("history", "seen", "targets"):
            assert lists(getattr(plain, name), column) == lists(getattr(again, name), column)


# Judging


def test_equal_to_a_loop_over_users() -> None:
    problem = prepare(shop())
    predictor = noise(problem)
    for rows in (problem.validation, problem.test):
        found = TASK.judge(predictor, rows, problem).metrics
        for name, value in naive(predictor, problem, rows).items():
            assert found[name] == pytest.approx(value), name


def test_items_already_seen_are_never_shown() -> None:
    problem = prepare(shop())
    judged = TASK.judge(noise(problem), problem.test, problem)
    seen = lists(problem.test, "seen")
    for user, top in zip(problem.test.column("user"), judged.top, strict=True):
        assert not set(seen[user]) & {problem.axis.values[i] for i in top if i >= 0}


def test_an_item_outside_the_catalogue_is_a_miss_that_counts() -> None:
    rows: list[Row] = [
        ("ann", "a", 0, 0),
        ("ann", "b", 1, 0),
        ("bob", "c", 0, 0),
        ("ann", "c", 2, 2),
        ("ann", "new", 3, 2),
    ]
    problem = prepare(rows)
    judged = TASK.judge(Says(np.eye(3)[[2, 0]], ["ann", "bob"]), problem.test, problem)
    assert judged.metrics["recall@10"] == 0.5
    assert judged.metrics["ndcg@10"] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_an_oracle_is_perfect_and_better_than_chance() -> None:
    problem = prepare(shop())
    predictor = noise(problem)
    chance = TASK.judge(predictor, problem.test, problem).metrics
    for row, wanted in enumerate(TASK.targets(problem.test, problem)["targets"]):
        predictor.scores[row, wanted[wanted >= 0]] += 100
    found = TASK.judge(predictor, problem.test, problem).metrics
    outside = problem.facts["test_interactions_outside_catalogue"]
    assert outside == 0
    assert found["ndcg@10"] == found["recall@20"] == found["mrr"] == 1.0
    assert chance["ndcg@10"] < 0.5


def test_the_size_of_chunks_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = prepare(shop())
    whole = TASK.judge(noise(problem), problem.test, problem)
    monkeypatch.setattr(recommend, "CHUNK", 7)
    predictor = noise(problem)
    parts = TASK.judge(predictor, problem.test, problem)
    assert predictor.rows_at_once == [7, 7, 7, 7, 2]
    assert whole.metrics == parts.metrics
    assert whole.slices == parts.slices
    assert np.array_equal(whole.top, parts.top)


def test_long_heads_are_judged_as_whole_ones() -> None:
    problem = prepare(shop())
    whole = TASK.judge(noise(problem), problem.test, problem)
    # Ten seen items may stand among the best; twenty more are then shown.
    cut = TASK.judge(noise(problem, top=30), problem.test, problem)
    assert np.array_equal(whole.top, cut.top)
    for name in ("ndcg@10", "recall@10", "recall@20", "coverage@10"):
        assert cut.metrics[name] == whole.metrics[name]


def test_a_head_shorter_than_the_list_shows_no_more() -> None:
    problem = prepare(shop())
    judged = TASK.judge(noise(problem, top=3), problem.test, problem)
    assert (judged.top[:, 3:] == -1).all()


def test_padding_in_a_head_stands_for_no_item() -> None:
    problem = prepare(shop())

    class Padded(Says):
        def __call__(self, batch: Batch) -> Signals:
            said = super().__call__(batch)
            ids, values = said["scores.ids"].copy(), said["scores.values"].copy()
            ids[:, 1:], values[:, 1:] = -1, -np.inf
            return Signals({"scores.ids": ids, "scores.values": values}, said.kinds)

    predictor = noise(problem, top=5)
    predictor.__class__ = Padded
    judged = TASK.judge(predictor, problem.test, problem)
    assert (judged.top[:, 1:] == -1).all()


def test_new_users_are_judged_where_a_model_could_know_them() -> None:
    problem = prepare(shop())
    plain = TASK.judge(noise(problem), problem.test, problem)
    assert "new users, folded in" not in plain.slices
    folded = TASK.judge(noise(problem, history=True), problem.test, problem)
    assert folded.metrics == plain.metrics
    strangers = noise(problem)
    strangers.scores = np.repeat(-strangers.scores[:1], len(strangers.users), 0)
    wanted = TASK.judge(strangers, problem.test, problem).metrics
    found = folded.slices["new users, folded in"]
    assert found == {"n": len(problem.test), "ndcg@10": wanted["ndcg@10"], "recall@20": wanted["recall@20"]}


def test_slices_divide_the_rows_and_the_wanted_items() -> None:
    rows = [row for i, row in enumerate(shop()) if row[3] != 0 or i % 13 < 2 + int(row[0][1:]) % 6]
    problem = prepare(rows)
    judged = TASK.judge(noise(problem), problem.test, problem)
    sizes = [judged.slices[f"{name} histories"]["n"] for name in ("short", "medium", "long")]
    assert sum(sizes) == len(problem.test)
    assert min(sizes) > 0
    wanted = sum(map(len, lists(problem.test, "targets").values()))
    head, tail = (judged.slices[f"{name} items"] for name in ("head", "tail"))
    assert head["n"] + tail["n"] == wanted
    hits = head["n"] * head["recall@20"] + tail["n"] * tail["recall@20"]
    assert hits == pytest.approx(judged.columns["head_hits"].sum() + judged.columns["tail_hits"].sum())


def test_users_are_the_same_unit_in_every_part() -> None:
    problem = prepare(shop())
    units = {}
    for rows in (problem.validation, problem.test):
        judged = TASK.judge(noise(problem), rows, problem)
        for user, unit in zip(rows.column("user"), judged.unit.tolist(), strict=True):
            assert units.setdefault(user, unit) == unit
    assert len(set(units.values())) == len(units)


@pytest.mark.parametrize(
    ("scores", "words"),
    [(np.zeros((30, 39)), r"axis 1 of 'scores' is 39, not \d+"), (np.full((30, 40), np.nan), "the scores hold NaN")],
)
def test_scores_that_cannot_be_ranked_are_refused(scores: np.ndarray, words: str) -> None:
    problem = prepare(shop())
    assert len(problem.axis) == 40
    with pytest.raises(UserError, match=words):
        TASK.judge(Says(scores, problem.train.column("user")), problem.test, problem)


def test_a_judgement_comes_back_from_disk(tmp_path: Any) -> None:
    problem = prepare(shop())
    judged = TASK.judge(noise(problem, history=True), problem.test, problem)
    judged.save(tmp_path)
    again = Judgement.load(tmp_path)
    assert again.metrics == judged.metrics
    assert again.slices == judged.slices
    assert all(np.array_equal(again.columns[name], value) for name, value in judged.columns.items())
    assert {name: metric(again.columns) for name, metric in TASK.metrics.items()} == judged.metrics


# Answers


def test_answers_are_the_best_items_a_user_does_not_have() -> None:
    problem = prepare(
        [("ann", item, time, 0) for time, item in enumerate("abc")] + [("bob", "d", 0, 0), ("ann", "d", 9, 2)]
    )
    batch = problem.test.batch(("user", "history"))
    said = Signals({"scores": np.array([[9.0, 8.0, 7.0, 0.123456789]])}, {"scores": "scores"})
    (answer,) = TASK.answer(said, problem.axis, batch, 3)
    assert answer == {"items": [{"item": "d", "title": "the d", "score": 0.123457}]}
    (answer,) = TASK.answer(said, problem.axis, batch.only(("user",)), 2)
    assert [item["item"] for item in answer["items"]] == ["a", "b"]


# What people are shown of a row


def test_a_row_shows_what_was_wanted_by_title_and_the_five_best() -> None:
    rows: list[Row] = [("ann", item, time, 0) for time, item in enumerate("abcdefg")]
    rows += [("ann", "zzz", 8, 2), ("bob", "a", 1, 0), ("bob", "g", 2, 2), ("bob", "b", 3, 2)]
    problem = prepare(rows)
    scores = np.array([[0.0] * 7, [7, 6, 5, 4, 3, 2, 1]], float)
    judgement = TASK.judge(Says(scores, ["ann", "bob"]), problem.test, problem)
    assert TASK.show(problem, judgement, 0) == {"truth": "zzz", "answer": ""}  # all that there is was seen
    assert TASK.show(problem, judgement, 1)["truth"] == "the g, the b"
    assert TASK.show(problem, judgement, 1)["answer"] == "the b, the c, the d, the e, the f"


def test_lists_are_apart_by_the_share_that_the_other_lacks() -> None:
    one, other = (
        Judgement({}, np.arange(2), {}, {}, np.array(top))
        for top in ([[1, 2, 3, 4], [5, 6, -1, -1]], [[4, 3, 9, 8]] * 2)
    )
    np.testing.assert_allclose(TASK.apart(one, other), [0.5, 1.0])
    np.testing.assert_allclose(TASK.apart(one, one), 0.0)
