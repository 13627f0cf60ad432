"""Our objectives beside other people's: the same values and gradients, or the factor between them, with its reason.

Each difference that a factor stands for is how the peer averages or what it leaves out; where a peer's own
formula is another, the test says so in its name. torchdistill, which needs torchvision, is compared by
`benchmarks/peers.py` in an environment of its own.
"""

import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck import parts
from limbeck.bucketed import bucketed
from limbeck.head import Head, fused
from limbeck.losses.cosine_embedding import cosine_embedding
from limbeck.losses.fit_net import fit_net
from limbeck.losses.generalised_jsd import generalised_jsd
from limbeck.losses.kl import Kl, kl
from limbeck.losses.listwise_kl import listwise_kl
from limbeck.losses.margin_mse import margin_mse
from limbeck.losses.relaxed_ranking import relaxed_ranking
from limbeck.losses.reverse_kl import reverse_kl
from limbeck.losses.uld import Uld
from tests.losses import laws

pytestmark = pytest.mark.slow  # importing the peers takes ten seconds
B, T, V, D = 5, 4, 41, 7


def agree(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], student: Tensor) -> None:
    """Value and gradient, to a few roundings of float32."""
    leaves = [student.detach().clone().requires_grad_() for _ in range(2)]
    values = [loss(leaf) for loss, leaf in zip((ours, theirs), leaves, strict=True)]
    torch.testing.assert_close(values[0].squeeze(), values[1].squeeze(), rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(value.sum(), leaf)[0] for value, leaf in zip(values, leaves, strict=True)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert gradients[0].any()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")


def liger() -> Any:
    """Liger's losses that need no kernels; it is for Linux alone, as Triton is."""
    if sys.platform != "linux":
        pytest.skip("liger-kernel installs on Linux only")
    import liger_kernel.chunked_loss as losses

    return losses


def sentences() -> Any:
    import sentence_transformers.sentence_transformer.losses as losses

    return losses


class Scoring:
    """Stands for a cross-encoder whose scores are given."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def preprocess(self, pairs: Any, **_: Any) -> dict[str, Tensor]:
        return {}

    def __call__(self, tokens: Any) -> dict[str, Tensor]:
        return {"scores": self.scores}

    def asked(self, loss: Any, labels: Tensor) -> Tensor:
        """The loss of lists of these scores, one a row."""
        inputs = [["query"] * len(labels), [["document"] * labels.shape[1]] * len(labels)]
        found: Tensor = loss(self, mini_batch_size=-1)(inputs, list(labels))
        return found


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_trls_gkd_is_our_jsd_without_t_squared(beta: float, temperature: float) -> None:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    student, teacher = laws.drawn(B, T, V)
    labels = torch.zeros(B, T, dtype=torch.long)
    labels[0, 1:] = -100
    mask = {"mask": labels == 0}
    term = parts.make("losses", "generalised_jsd", {"beta": beta, "temperature": temperature})
    agree(
        lambda s: term({"logits": s}, {"logits": teacher}, mask),
        # Its gradient falls with temperature; ours does not.
        lambda s: temperature**2 * GKDTrainer.generalized_jsd_loss(s, teacher, labels, beta, temperature),
        student,
    )


def test_trls_gkd_without_labels_divides_by_texts_where_we_divide_by_tokens() -> None:
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    student, teacher = laws.drawn(B, T, V)
    term = parts.make("losses", "generalised_jsd", {})
    agree(
        lambda s: T * term({"logits": s}, {"logits": teacher}, {}),
        lambda s: GKDTrainer.generalized_jsd_loss(s, teacher),
        student,
    )


@pytest.mark.parametrize(("beta", "ours"), [(0.0, kl), (1.0, reverse_kl)])
def test_trls_jsd_at_its_ends_is_not_the_limit_but_the_divergence_whose_direction_it_nears(
    beta: float, ours: laws.Loss
) -> None:
    from trl.experimental.sdpo.loss_utils import compute_divergence

    student, teacher = laws.drawn(B, V)
    known = torch.log_softmax(teacher, 1)
    agree(
        lambda s: ours(s, teacher, temperature=1.0),
        lambda s: compute_divergence(torch.log_softmax(s, 1), known, beta),
        student,
    )
    # So we refuse these ends: the divergence itself is 0 there.
    nearly = generalised_jsd(student, teacher, beta=abs(beta - 1e-3)).sum()
    assert nearly < 0.01 * ours(student, teacher, temperature=1.0).sum()


@pytest.mark.parametrize("top", [1, 7])
def test_trls_top_k_with_a_tail_is_our_bucket(top: int) -> None:
    from trl.experimental.sdpo.loss_utils import add_tail_bucket, compute_divergence

    student, teacher = laws.drawn(B, V)
    known = torch.log_softmax(teacher, 1)
    ids = known.topk(top, 1).indices
    said = laws.stored(teacher, top, 1.0)

    def theirs(student: Tensor) -> Tensor:
        mine = torch.log_softmax(student, 1)
        return compute_divergence(*(add_tail_bucket(x.gather(1, ids)) for x in (mine, known)), 0.0).mean()

    agree(lambda s: Kl(temperature=1.0)({"logits": s}, said, {}), theirs, student)
    tail = 1 - known.gather(1, ids).exp().sum(1)
    bucket = torch.softmax(bucketed(student, ids, teacher.gather(1, ids), tail, temperature=1.0)[1], 1)
    torch.testing.assert_close(bucket, add_tail_bucket(known.gather(1, ids)).exp(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_trls_divergence_of_heads_is_that_of_ours_without_t_squared(beta: float) -> None:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    states, theirs = laws.drawn(B, D, scale=1.0)
    heads = laws.drawn(V, D, scale=1.0)
    name = {0.0: "kl", 1.0: "reverse_kl"}.get(beta, "generalised_jsd")
    term = parts.make("losses", name, {"temperature": 2.0, **({"beta": beta} if 0 < beta < 1 else {})})
    share = torch.full((B,), 1 / B)
    everything = torch.ones(B, 1)
    agree(
        lambda s: fused(term.between, Head(s, heads[0]), [Head(theirs, heads[1])], share=share) / 4,
        lambda s: _chunked_divergence_loss(
            s.unsqueeze(1), theirs.unsqueeze(1), *heads, completion_mask=everything, beta=beta, temperature=2.0
        )[0],
        states,
    )


def test_trls_uld_is_a_mean_over_texts_of_means_over_tokens_where_ours_is_over_all_tokens() -> None:
    from trl.experimental.gold.gold_trainer import ULDLoss

    (student,), (teacher,) = laws.drawn(B, T, V, count=1), laws.drawn(B, T + 2, V + 9, seed=1, count=1)
    config = SimpleNamespace(
        uld_crossentropy_weight=0.0, uld_distillation_weight=1.0, uld_student_temperature=1.0,
        uld_teacher_temperature=1.0, uld_skip_student_eos=False, uld_skip_teacher_eos=False, use_extended_uld=False,
        uld_token_merge_strategy="none",
    )  # fmt: skip
    labels, longer = torch.zeros(B, T, dtype=torch.long), torch.zeros(B, T + 2, dtype=torch.long)
    same = ULDLoss(config)
    ours = Uld()
    agree(
        lambda s: ours({"steps": s}, {"steps": teacher}, {}),
        lambda s: same(s, teacher, labels, longer, labels, longer),
        student,
    )
    labels[0, 1:] = -100  # one token of the first text, four of each other
    each = [ours({"steps": student[:1, :1]}, {"steps": teacher[:1]}, {})]
    each += [ours({"steps": student[i : i + 1]}, {"steps": teacher[i : i + 1]}, {}) for i in range(1, B)]
    torch.testing.assert_close(torch.stack(each).mean(), same(student, teacher, labels, longer, labels, longer))
    counted = ours({"steps": student}, {"steps": teacher}, {"mask": labels == 0})
    torch.testing.assert_close(counted, (each[0] + T * sum(each[1:])) / (1 + T * (B - 1)))


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_ligers_jsd_of_heads_is_that_of_ours_without_t_squared(beta: float) -> None:
    states, theirs = laws.drawn(B, D, scale=1.0)
    heads = laws.drawn(V, D, scale=1.0)
    name = {0.0: "kl", 1.0: "reverse_kl"}.get(beta, "generalised_jsd")
    term = parts.make("losses", name, {"temperature": 2.0, **({"beta": beta} if 0 < beta < 1 else {})})
    loss = liger().LigerFusedLinearJSDLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, temperature=2.0, compiled=False
    )
    share, labels = torch.full((B,), 1 / B), torch.zeros(B, dtype=torch.long)
    agree(
        lambda s: fused(term.between, Head(s, heads[0]), [Head(theirs, heads[1])], share=share) / 4,
        lambda s: loss(s, heads[0], theirs, heads[1], labels),
        states,
    )


def test_ligers_cosine_is_that_of_logits() -> None:
    states, theirs = laws.drawn(B, D, scale=1.0)
    heads = laws.drawn(V, D, scale=1.0)
    loss = liger().LigerFusedLinearCosineSimilarityLoss(
        weight_hard_loss=0.0, weight_soft_loss=1.0, beta=1.0, compiled=False
    )
    labels = torch.zeros(B, dtype=torch.long)
    agree(
        lambda s: cosine_embedding(s @ heads[0].T, theirs @ heads[1].T).mean(),
        lambda s: loss(s, heads[0], theirs, heads[1], labels),
        states,
    )


def test_sentence_transformers_margin_mse_is_ours() -> None:
    queries, *documents = laws.drawn(B, D, scale=1.0, count=5)
    (teacher,) = laws.drawn(B, 4, count=1, seed=1)
    positive = torch.zeros(B, 4, dtype=torch.bool)
    positive[:, 0] = True
    loss = sentences().MarginMSELoss(None)
    agree(
        lambda q: margin_mse(torch.stack([(q * d).sum(1) for d in documents], 1), teacher, positive).mean(),
        lambda q: loss.compute_loss_from_embeddings([q, *documents], teacher),
        queries,
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_sentence_transformers_kl_is_ours(temperature: float) -> None:
    queries, *documents = laws.drawn(B, D, scale=1.0, count=5)
    (teacher,) = laws.drawn(B, 4, count=1, seed=1)
    loss = sentences().DistillKLDivLoss(None, temperature=temperature)

    def ours(queries: Tensor) -> Tensor:
        scores = torch.stack([(queries * d).sum(1) for d in documents], 1)
        return kl(scores, teacher, temperature=temperature).mean()

    agree(ours, lambda q: loss.compute_loss_from_embeddings([q, *documents], teacher), queries)


def test_sentence_transformers_kl_of_a_softened_teacher_alone_is_our_listwise_kl() -> None:
    queries, *documents = laws.drawn(B, D, scale=1.0, count=5)
    (teacher,) = laws.drawn(B, 4, count=1, seed=1)
    loss = sentences().DistillKLDivLoss(None, student_temperature=1.0, teacher_temperature=3.0)

    def ours(queries: Tensor) -> Tensor:
        return listwise_kl(torch.stack([(queries * d).sum(1) for d in documents], 1), teacher, temperature=3.0).mean()

    agree(ours, lambda q: loss.compute_loss_from_embeddings([q, *documents], teacher), queries)


@pytest.mark.parametrize(("metric", "ours"), [("mse", fit_net), ("cosine", cosine_embedding)])
def test_sentence_transformers_losses_of_embeddings_are_ours(metric: str, ours: laws.Loss) -> None:
    student, teacher = laws.drawn(B, D)
    loss = sentences().EmbedDistillLoss(None, distance_metric=metric)
    agree(lambda s: ours(s, teacher).mean(), lambda s: loss.compute_loss_from_embeddings([s], [teacher]), student)


def test_sentence_transformers_list_net_is_our_listwise_kl_and_the_teachers_entropy() -> None:
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    student, teacher = laws.drawn(B, V)
    entropy = torch.distributions.Categorical(logits=teacher).entropy().mean()
    agree(
        lambda s: listwise_kl(s, teacher).mean() + entropy,
        lambda s: Scoring(s.flatten()).asked(ListNetLoss, teacher),
        student,
    )


def test_sentence_transformers_list_mle_is_our_relaxed_ranking_of_the_whole_list() -> None:
    from sentence_transformers.cross_encoder.losses import ListMLELoss

    (student,), teacher = laws.drawn(B, V, count=1), laws.apart(B, V)
    agree(
        lambda s: relaxed_ranking(s, teacher, top=V, sampled=1).mean(),
        lambda s: Scoring(s.flatten()).asked(partial(ListMLELoss, respect_input_order=False), teacher),
        student,
    )
