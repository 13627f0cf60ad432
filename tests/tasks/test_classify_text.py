from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import UserError
from limbeck.metrics import classification
from limbeck.task import Judgement, Problem, Source
from limbeck.tasks.classify_text import TASK
from limbeck.types import Axis, Batch, Key, Kind, Rows, Signals

Row = tuple[str, Any, int]
"""Text, label, part."""

PLENTY: list[Row] = [(f"text {i}", "yes" if i % 2 else "no", (0, 0, 1, 2)[i // 2 % 4]) for i in range(40)]


def prepare(rows: Sequence[Row], ids: Sequence[int] | None = None, **options: Any) -> Problem:
    texts, labels, part = zip(*rows, strict=True)
    table = pa.table({"review": pa.array(texts, pa.string()), "stars": pa.array(labels)})
    id = np.arange(len(rows)) if ids is None else np.array(ids)
    source = Source(Rows(table, id, "here", {"text": "review", "label": "stars"}), facts={"licence": "ours"})
    return TASK.prepare(source, np.array(part), {**TASK.options, **options})


def every_id(problem: Problem) -> dict[str, list[int]]:
    return {name: getattr(problem, name).id.tolist() for name in ("train", "validation", "test")}


class Says:
    """A predictor that answers what it is given, by row id."""

    reads = ("review",)
    fingerprint = "says"

    def __init__(self, values: Mapping[int, Sequence[float]], kind: Kind = "logits") -> None:
        self.values, self.kind = values, kind

    def __call__(self, batch: Batch) -> Signals:
        assert set(batch) == {"review"}
        said = np.array([self.values[int(i)] for i in batch.key.id], np.float32)
        return Signals({str(self.kind): said}, {str(self.kind): self.kind})


def test_rows_keep_their_part_and_the_student_reads_the_text_alone() -> None:
    problem = prepare(PLENTY)
    assert every_id(problem) == {
        name: [i for i, row in enumerate(PLENTY) if row[2] == p]
        for p, name in enumerate(("train", "validation", "test"))
    }
    assert problem.reads == ("review",)
    assert problem.axis == Axis("label", ("no", "yes"))
    assert problem.facts["licence"] == "ours"
    assert problem.facts["rows"] == len(PLENTY)
    assert problem.unlabelled is None


def test_of_equal_texts_the_smallest_id_stays_in_its_own_part() -> None:
    extra: list[Row] = [("Café  au\nlait", "yes", 2), ("Cafe\u0301 au lait ", "yes", 0), (" Café au lait", "yes", 1)]
    rows = PLENTY + extra
    problem = prepare(rows, ids=[*range(40), 92, 91, 90])
    assert 90 in every_id(problem)["validation"]
    assert not {91, 92} & {i for ids in every_id(problem).values() for i in ids}
    assert problem.facts["duplicates_dropped"] == 2
    kept = prepare(rows, deduplicate=False)
    assert sum(map(len, every_id(kept).values())) == 43


def test_white_space_of_any_script_makes_no_other_text() -> None:
    problem = prepare([*PLENTY, ("很\u3000好 吃", "yes", 0), ("很 好\u00a0吃\u2003", "yes", 2)])
    assert problem.facts["duplicates_dropped"] == 1


def test_equal_texts_with_different_labels_are_all_dropped() -> None:
    problem = prepare([*PLENTY, ("torn", "yes", 0), ("torn", "no", 2), ("torn", None, 0), ("torn", "yes", 0)])
    assert sum(map(len, every_id(problem).values())) == 40
    assert problem.unlabelled is None
    assert problem.facts["contradictions_dropped"] == 4
    assert problem.facts["duplicates_dropped"] == 0


def test_of_equal_texts_the_labelled_one_stays() -> None:
    problem = prepare([("same", None, 0), ("same", "yes", 2), *PLENTY, ("bare", None, 0), ("bare", None, 0)])
    assert 1 in every_id(problem)["test"]
    assert problem.unlabelled is not None
    assert problem.unlabelled.id.tolist() == [42]
    assert problem.facts["unlabelled"] == 1
    assert problem.facts["duplicates_dropped"] == 2


def test_rows_left_out_have_no_say() -> None:
    problem = prepare([("text 0", "yes", 3), ("new", "maybe", 3), *PLENTY])
    assert problem.facts["contradictions_dropped"] == 0
    assert problem.axis.values == ("no", "yes")
    assert len(problem.train) == sum(row[2] == 0 for row in PLENTY)


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["yes", "no", None]), st.integers(0, 3)), max_size=30
    )
)
@settings(deadline=None, max_examples=60)
def test_no_text_is_ever_in_two_parts(rows: list[Row]) -> None:
    problem = prepare([*PLENTY, *rows])
    parts = [problem.train, problem.validation, problem.test, *([problem.unlabelled] if problem.unlabelled else [])]
    texts = [text for part in parts for text in part.column("review")]
    assert len(texts) == len(set(texts))
    there = [row for row in [*PLENTY, *rows] if row[2] < 3]
    bare = problem.facts["unlabelled_outside_training_dropped"]
    gone = problem.facts["duplicates_dropped"] + problem.facts["contradictions_dropped"] + bare
    assert len(texts) + gone == len(there)


def test_the_axis_comes_from_training_rows_and_is_sorted() -> None:
    numbers = prepare([(text, 10 if label == "yes" else 9, part) for text, label, part in PLENTY])
    assert numbers.axis.values == ("9", "10")
    assert prepare(PLENTY, positive="no").axis.values == ("yes", "no")
    yes = prepare([(text, label == "yes", part) for text, label, part in PLENTY], positive="true")
    assert yes.axis.values == ("false", "true")
    assert TASK.targets(yes.test, yes)["label"].tolist() == [int(PLENTY[i][1] == "yes") for i in yes.test.id]


def test_a_few_unseen_labels_are_dropped_with_words_and_many_are_refused() -> None:
    rows: list[Row] = [(f"more {i}", "yes", 2) for i in range(20)]
    problem = prepare([*PLENTY, *rows, ("odd", "perhaps", 2)])
    assert problem.facts["unseen_labels_dropped"] == {"validation": 0, "test": 1}
    assert "'perhaps'" in problem.facts["unseen_labels"]
    assert 60 not in every_id(problem)["test"]
    with pytest.raises(UserError, match="no training row has"):
        prepare([*PLENTY, *((text, "perhaps", part) for text, _, part in rows)])


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([(text, "yes", part) for text, _, part in PLENTY], {}, "only the label 'yes'"),
        ([(text, label, 0) for text, label, _ in PLENTY], {}, "no labelled validation row"),
        ([(text, label, int(part == 1)) for text, label, part in PLENTY], {}, "no labelled test row"),
        ([(text, label, part) for text, label, part in PLENTY if part], {}, "no label"),
        (PLENTY, {"positive": "oui"}, "positive is 'oui'"),
        ([*PLENTY, ("third", "so", 0)], {"positive": "yes"}, "for two classes"),
    ],
)
def test_mistakes_are_told(rows: list[Row], options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        prepare(rows, **options)


def test_a_text_column_of_numbers_is_refused() -> None:
    rows = Rows(pa.table({"n": [1, 2], "y": ["a", "b"]}), np.arange(2), "here", {"text": "n", "label": "y"})
    with pytest.raises(UserError, match="holds no strings"):
        TASK.prepare(Source(rows), np.zeros(2, int), TASK.options)


def test_targets_of_rows_without_a_known_label_are_skipped() -> None:
    problem = prepare([*PLENTY, ("bare", None, 0)])
    assert problem.unlabelled is not None
    assert TASK.targets(problem.unlabelled, problem)["label"].tolist() == [-1]


def judged(classes: int = 2, n: int = 301, kind: Kind = "logits") -> tuple[Judgement, Problem, Any]:
    labels = "abcde"[:classes]
    rows: list[Row] = [(f"{i} " * (i * 7 % 13), labels[i % classes], (0, 1, 2, 2)[i // classes % 4]) for i in range(n)]
    problem = prepare(rows, deduplicate=False)
    values = np.random.default_rng(0).normal(size=(n, classes))
    values = np.exp(values) / np.exp(values).sum(1, keepdims=True) if kind == "probabilities" else values
    return TASK.judge(Says(dict(enumerate(values.tolist())), kind), problem.test, problem), problem, values


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_judging_keeps_rows_and_answers_together(classes: int, kind: Kind) -> None:
    judgement, problem, values = judged(classes, kind=kind)
    own = values[problem.test.id].astype(np.float32).astype(float)
    wanted = own if kind == "probabilities" else np.exp(own) / np.exp(own).sum(1, keepdims=True)
    np.testing.assert_allclose(judgement.columns["probabilities"], wanted, atol=1e-9)
    label = np.array([i % classes for i in problem.test.id])
    assert judgement.columns["label"].tolist() == label.tolist()
    assert judgement.unit.tolist() == problem.test.id.tolist()
    assert judgement.metrics["auc"] == classification.auc(wanted, label)
    assert judgement.top[:, 0].tolist() == wanted.argmax(1).tolist()
    assert judgement.metrics == {name: metric(judgement.columns) for name, metric in TASK.metrics.items()}
    assert TASK.headline == "auc"


def test_slices_by_length_and_by_label_share_out_the_rows(tmp_path: Path) -> None:
    judgement, problem, _ = judged()
    lengths = [judgement.slices[f"{name} texts"]["n"] for name in ("short", "medium", "long")]
    labels = [judgement.slices[f"label {name}"]["n"] for name in "ab"]
    assert sum(lengths) == sum(labels) == len(problem.test)
    assert min(lengths) > len(problem.test) / 6
    a = judgement.columns["label"] == 0
    right = judgement.columns["probabilities"][a].argmax(1) == 0
    assert judgement.slices["label a"]["accuracy"] == right.mean()
    judgement.save(tmp_path)
    assert "NaN" not in (tmp_path / "judgement.json").read_text()


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ([1.0, 2.0, 3.0], "logits", r"'logits' says 3 classes, the task has 2 \('no', 'yes'\)"),
        ([0.2], "probabilities", "says 1 class, the task has 2"),
        ([0.0, float("nan")], "logits", "holds NaN"),
        ([0.0, 1.0], "embedding", "classes need the signal 'logits'"),
    ],
)
def test_a_predictor_of_something_else_is_told_so(said: list[float], kind: Kind, words: str) -> None:
    problem = prepare(PLENTY)
    with pytest.raises(UserError, match=words):
        TASK.judge(Says(dict.fromkeys(range(40), said), kind), problem.test, problem)


def test_the_answer_is_the_labels_with_probabilities_best_first() -> None:
    said = Signals({"logits": np.log(np.array([[0.1, 0.7, 0.2]], np.float32))}, {"logits": "logits"})
    batch = Batch({"review": ["so so"]}, Key("here", np.arange(1), np.zeros(1, np.int64)))
    (answer,) = TASK.answer(said, Axis("label", ("1", "2", "3"), ("bad", "fair", "good")), batch, 2)
    assert answer["label"] == "2"
    assert [one["title"] for one in answer["labels"]] == ["fair", "good"]
    assert [one["probability"] for one in answer["labels"]] == pytest.approx([0.7, 0.2], abs=1e-6)


def test_a_row_shows_its_label_the_likeliest_and_how_likely_the_truth_was_said_to_be() -> None:
    problem = prepare(PLENTY)
    said = [{int(i): [p, 1 - p] for i in problem.test.id} for p in (0.9, 0.7)]
    one, other = (TASK.judge(Says(values, "probabilities"), problem.test, problem) for values in said)
    wrong = int(np.flatnonzero(one.columns["label"] == 1)[0])
    shown = TASK.show(problem, one, wrong)
    assert (shown["truth"], shown["answer"], shown["p"]) == ("yes", "no", pytest.approx(0.1))
    np.testing.assert_allclose(TASK.apart(one, other), 0.2)
