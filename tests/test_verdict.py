import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from limbeck import parts
from limbeck.task import Judgement, Task, columns_mean
from limbeck.types import Array
from limbeck.verdict import Paired, agreement, caution, kept, paired, rails, sentence, spread

USERS = 200
RANDOM = np.random.default_rng(0)
GAIN = columns_mean("gain")


def auc(columns: Mapping[str, Array]) -> float:
    """By the sum of ranks (Mann and Whitney): the share of pairs in the right order."""
    label = columns["label"] > 0
    ranks, ones = stats.rankdata(columns["score"]), int(label.sum())
    pairs = ones * (len(label) - ones)
    return float(ranks[label].sum() - ones * (ones + 1) / 2) / pairs if pairs else math.nan


def judged(gain: Array, unit: Array | None = None, top: Array | None = None, **columns: Array) -> Judgement:
    unit = np.arange(len(gain)) if unit is None else unit
    top = np.zeros((len(gain), 1), np.int64) if top is None else top
    return Judgement({}, unit, {"gain": gain, **columns}, {}, top)


def task(chance: float | None = None, higher: bool = True) -> Task:
    nothing: Any = None
    return Task(
        "t",
        (),
        ("logits", "logits"),
        nothing,
        nothing,
        "hard",
        {"gain": GAIN},
        nothing,
        (),
        nothing,
        nothing,
        higher,
        chance,
    )


# Spreads and pairs


def test_the_mean_and_deviation_are_over_seeds_and_the_interval_over_users() -> None:
    gains = [RANDOM.normal(mean, 1.0, USERS) for mean in (0.4, 0.5, 0.9)]
    found = spread(GAIN, [judged(g) for g in gains])
    means = [g.mean() for g in gains]
    assert found.mean == pytest.approx(np.mean(means))
    assert found.sd == pytest.approx(np.std(means, ddof=1))
    per_user = np.mean(gains, 0)
    error = per_user.std(ddof=1) / math.sqrt(USERS)
    assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.3 * error)


def test_one_judgement_has_no_deviation() -> None:
    assert spread(GAIN, [judged(RANDOM.normal(size=USERS))]).sd is None


def test_means_are_paired_by_unit_over_splits_and_seeds_as_scipy_pairs_them() -> None:
    units = [RANDOM.permutation(USERS), RANDOM.permutation(USERS)[: USERS // 2]]  # the second split judges half of them
    first = [judged(RANDOM.normal(0.55, 1, len(u)), u) for u in units]
    second = [judged(RANDOM.normal(0.4, 1, len(u)), u) for u in units]
    found = paired(GAIN, first, second)

    def by_user(several: list[Judgement], user: int) -> float:
        return float(np.mean([g for j in several for u, g in zip(j.unit, j.columns["gain"], strict=True) if u == user]))

    gaps = [by_user(first, user) - by_user(second, user) for user in range(USERS)]
    assert found.p_value == pytest.approx(stats.wilcoxon(gaps).pvalue)
    wanted = np.mean([a.columns["gain"].mean() - b.columns["gain"].mean() for a, b in zip(first, second, strict=True)])
    assert found.difference == pytest.approx(wanted)
    error = np.std(gaps, ddof=1) / math.sqrt(USERS)
    assert found.low == pytest.approx(np.mean(gaps) - 1.96 * error, abs=0.3 * error)
    assert found.high == pytest.approx(np.mean(gaps) + 1.96 * error, abs=0.3 * error)


def test_turning_the_pair_round_turns_the_difference_round() -> None:
    first, second = [judged(RANDOM.normal(0.2, 1, USERS))], [judged(RANDOM.normal(size=USERS))]
    there, back = paired(GAIN, first, second), paired(GAIN, second, first)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.p_value == pytest.approx(back.p_value)


def test_a_predictor_is_no_better_than_itself() -> None:
    one = [judged(RANDOM.normal(size=USERS))]
    assert paired(GAIN, one, one) == Paired(0.0, 0.0, 0.0, 1.0)
    same = [classed(0.5)]
    assert paired(auc, same, same) == Paired(0.0, 0.0, 0.0, 1.0)


def test_only_judgements_of_the_same_rows_are_compared() -> None:
    one = judged(np.zeros(5))
    for other in ([replace(one, unit=np.arange(5) + 1)], [one, one], [judged(np.zeros(4))]):
        with pytest.raises(ValueError, match="compared on the same rows, split by split"):
            paired(GAIN, [one], other)


def classed(strength: float, seed: int = 1) -> Judgement:
    random = np.random.default_rng(seed)
    label = (np.arange(400) % 2).astype(float)
    return judged(np.zeros(400), label=label, score=strength * label + random.normal(size=400))


def test_the_interval_of_an_auc_holds_it_and_has_its_theoretical_width() -> None:
    one = classed(1.0)
    found = spread(auc, [one])
    area = auc(one.columns)
    assert found.mean == pytest.approx(area)
    # Hanley and McNeil 1982, equation 2
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + 199 * (q1 - area**2) + 199 * (q2 - area**2)) / 200**2)
    assert found.low < area < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.2)


def test_metrics_that_are_no_means_are_paired_on_equal_draws() -> None:
    strong, weak = [classed(1.5), classed(1.5, 2)], [classed(0.8), classed(0.8, 2)]
    found = paired(auc, strong, weak)
    assert found.difference == pytest.approx(
        np.mean([auc(a.columns) - auc(b.columns) for a, b in zip(strong, weak, strict=True)])
    )
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(2 / 1001)  # no draw of 1,000 goes the other way
    alike = paired(auc, [classed(1.0, 3)], [classed(1.0, 4)])
    assert alike.low < 0 < alike.high
    assert alike.p_value > 0.05


def test_draws_of_one_class_alone_are_left_out_of_the_interval() -> None:
    label = np.array([1.0, 0, 0, 0])
    found = spread(auc, [judged(np.zeros(4), label=label, score=np.array([2.0, 1, 3, 0]))])
    assert 0 <= found.low <= found.mean <= found.high <= 1
    nothing = spread(auc, [judged(np.zeros(2), label=np.ones(2), score=np.ones(2))])
    assert math.isnan(nothing.low)


def test_equal_seeds_draw_alike() -> None:
    one, other = [classed(1.0)], [classed(0.9, 2)]
    assert paired(auc, one, other, seed=3) == paired(auc, one, other, seed=3)
    assert paired(auc, one, other, seed=3) != paired(auc, one, other, seed=4)


def test_agreement_is_the_mean_overlap_of_the_answers() -> None:
    first = judged(np.zeros(2), top=np.array([[1, 2, 3, 4], [5, 6, -1, -1]]))
    second = judged(np.zeros(2), top=np.array([[4, 3, 9, 8], [6, 7, -1, -1]]))
    assert agreement([first], [second]) == pytest.approx((2 / 4 + 1 / 4) / 2)  # what is not shown agrees with nothing
    assert agreement([first, second], [first, first]) == pytest.approx(((1 + 0.5) / 2 + 0.375) / 2)
    classes = judged(np.zeros(4), top=np.array([[0], [1], [1], [0]]))
    assert agreement([classes], [judged(np.zeros(4), top=np.array([[0], [1], [0], [0]]))]) == 0.75


# What was kept


def test_the_three_ratios_of_a_headline_that_should_be_high() -> None:
    found = kept(task(), teacher=0.50, student=0.45, scratch=0.40, trivial=0.30)
    assert found.retention == pytest.approx(0.9)
    assert found.lift_retention == pytest.approx(0.75)
    assert found.transfer_ratio == pytest.approx(0.5)
    known = kept(task(chance=0.25), teacher=0.50, student=0.45, scratch=0.40, trivial=0.30)
    assert known.lift_retention == pytest.approx(0.8)


def test_errors_are_kept_the_other_way_round() -> None:
    found = kept(task(higher=False), teacher=2.0, student=2.5, scratch=3.0, trivial=4.0)
    assert found.retention == pytest.approx(0.8)
    assert found.lift_retention == pytest.approx(0.75)
    assert found.transfer_ratio == pytest.approx(0.5)


def test_there_is_no_ratio_to_nothing() -> None:
    worse = kept(task(), teacher=0.4, student=0.45, scratch=0.4, trivial=0.4)
    assert worse.transfer_ratio is None  # the teacher is no better than scratch
    assert worse.lift_retention is None
    assert kept(task(), teacher=0.0, student=0.4, scratch=0.1, trivial=0.0).retention is None
    assert kept(task(), teacher=0.5, student=math.nan, scratch=0.1, trivial=0.0).retention is None


@pytest.mark.parametrize(
    ("student", "scratch", "p", "higher", "words"),
    [
        (0.45, 0.40, 0.03, True, "distillation helped: 0.05 better than its honest twin (p = 0.030)."),
        (0.45, 0.40, 1e-9, True, "distillation helped: 0.05 better than its honest twin (p < .001)."),
        (0.40, 0.45, 0.01, True, "distillation hurt: 0.05 worse than its honest twin (p = 0.010)."),
        (0.45, 0.40, 0.01, False, "distillation hurt: 0.05 worse than its honest twin (p = 0.010)."),
        (0.40, 0.45, 0.01, False, "distillation helped: 0.05 better than its honest twin (p = 0.010)."),
        (0.45, 0.40, 0.05, True, "distillation did not help: its honest twin does as well (p = 0.050)."),
        (0.45, 0.45, 1.0, True, "distillation did not help: its honest twin does as well (p = 1.000)."),
    ],
)
def test_the_sentence_says_what_happened(student: float, scratch: float, p: float, higher: bool, words: str) -> None:
    gap = student - scratch
    test = Paired(gap, gap - 0.01, gap + 0.01, p)
    said = sentence(task(higher=higher), "mf-16", teacher=0.5, student=student, scratch=scratch, test=test, share=0.9)
    assert said == f"mf-16 keeps 90.0% of the teacher's gain ({student:.4g} of 0.5); {words}"


def test_without_a_share_the_sentence_promises_none() -> None:
    test = Paired(0.1, 0.0, 0.2, 0.2)
    said = sentence(task(), "mf", teacher=0.0, student=0.1, scratch=0.0, test=test, share=None)
    assert said.startswith("mf is not comparable (0.1 of 0); distillation did not help")


@pytest.mark.parametrize(
    ("student", "said"),
    [
        (0.58, "bag keeps 16.0% of what the teacher's gain has above chance, 0.5 (0.58 of 1); "),
        (0.47, "bag is no better than chance, which has gain 0.5 (0.47 of 1); "),
    ],
)
def test_where_a_blind_guess_is_worth_something_it_is_not_called_kept(student: float, said: str) -> None:
    guess = task(chance=0.5)
    found = kept(guess, teacher=1.0, student=student, scratch=0.5, trivial=math.nan)
    told = sentence(
        guess,
        "bag",
        teacher=1.0,
        student=student,
        scratch=0.5,
        test=Paired(0.0, 0.0, 0.0, 1.0),
        share=found.share(guess),
    )
    assert told.startswith(said)
    assert found.share(task()) == pytest.approx(student)


def test_one_training_alone_is_said_to_prove_nothing() -> None:
    assert caution(1) == " One training alone proves nothing: name several seeds."
    assert caution(2) == ""


def test_where_the_teacher_is_no_better_than_nothing_there_is_no_lift_to_keep() -> None:
    assert kept(task(), teacher=0.09, student=0.08, scratch=0.07, trivial=0.1).lift_retention is None
    assert kept(task(chance=0.5), teacher=0.4, student=0.45, scratch=0.4, trivial=0.0).lift_retention is None


def test_a_metric_that_resampling_biases_has_no_interval() -> None:
    from limbeck.tasks.recommend import TASK

    top = np.arange(40).reshape(4, 10)
    columns = {"top": top, "catalogue": np.full(4, 50)}
    found = spread(TASK.metrics["coverage@10"], [Judgement({}, np.arange(4), columns, {}, top)])
    assert found.mean == 0.8
    assert np.isnan(found.low)
    assert np.isnan(found.high)


def test_students_outside_the_guard_rails_are_named() -> None:
    task = parts.get("tasks", "behaviour")
    assert rails(task, {"fm": {"pcoc": 1.0}, "lr": {"pcoc": 0.97}}) == (
        " On test rows pcoc lies within 0.97 and 1.03 for every student."
    )
    said = rails(task, {"fm": {"pcoc": 1.0}, "lr": {"pcoc": 1.2}, "odd": {"pcoc": float("nan")}})
    assert said.endswith("lie within 0.97 and 1.03: lr (1.200), odd (nan).")
    assert rails(parts.get("tasks", "recommend"), {"mf": {}}) == ""
