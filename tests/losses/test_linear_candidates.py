from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import parts
from limbeck.errors import UserError
from limbeck.losses.linear_candidates import LinearCandidates
from limbeck.models.matrix_factorisation import Factors
from limbeck.models.sasrec import Attention
from limbeck.taps import Taps

torch.set_num_threads(1)
B, D, N, M = 5, 6, 41, 7


def student() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    sizes = {"input.head": (B, D), "weight.head": (N, D), "bias.head": (N,)}
    return {name: torch.randn(*size, generator=draw) for name, size in sizes.items()}


def teacher() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randperm(N, generator=draw)[:M] for _ in range(B)])
    ids[2, 4:] = -1
    return {"scores.ids": ids, "scores.values": torch.randn(B, M, generator=draw)}


@pytest.mark.parametrize("mask_seen", [True, False])
@pytest.mark.parametrize(("name", "settings"), [("listwise_kl", {"temperature": 0.5}), ("ranking_distillation", {})])
def test_it_is_the_ranking_over_the_candidates_of_all_scores(
    name: str, settings: dict[str, Any], mask_seen: bool
) -> None:
    said, known = student(), teacher()
    batch = {"targets": known["scores.ids"][:, :2], "weight": torch.linspace(0.5, 2.0, B)}
    scores = nn.functional.linear(said["input.head"], said["weight.head"], said["bias.head"])
    wanted = parts.make("losses", name, {**settings, "mask_seen": mask_seen})({"scores": scores}, known, batch)
    term = LinearCandidates(student="head", ranking=name, mask_seen=mask_seen, settings=settings)
    torch.testing.assert_close(term(said, known, batch), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("way", ["factors", "attention"])
def test_rankers_have_a_head_that_can_be_tapped_and_skipped(way: str) -> None:
    torch.manual_seed(0)
    inputs = {"history": torch.tensor([[2, 3, 4], [5, 6, 0]])}
    model: nn.Module = Attention(N + 2, width=D, heads=1, layers=1, length=3, dropout=0.0)
    if way == "factors":
        model, inputs = Factors(9, N + 2, width=D, spread=0.1, dropout=0.0), {**inputs, "user": torch.tensor([2, 3])}
    whole = model(**inputs)["scores"]
    known = {"scores.ids": torch.tensor([[0, 5], [7, 40]]), "scores.values": torch.tensor([[1.0, 0.0], [0.0, 2.0]])}
    with Taps(model, (), heads=["head"], skipped=["head"]) as taps:
        with taps.listening():
            assert model(**inputs)["scores"].shape == (2, 0)
        said = taps.read()
        value = LinearCandidates(student="head", mask_seen=False)(said, known, {})
        wanted = parts.make("losses", "listwise_kl", {"mask_seen": False})({"scores": whole}, known, {})
        torch.testing.assert_close(value, wanted)
        value.backward()
        assert torch.equal(model(**inputs)["scores"], whole)
    assert all(p.grad is not None for name, p in model.named_parameters() if name in ("item.weight", "bias"))


def test_knowledge_of_all_items_and_losses_of_no_list_are_refused() -> None:
    with pytest.raises(UserError, match="label with 'top'"):
        LinearCandidates(student="head")(student(), {"scores": torch.zeros(B, N)}, {})
    with pytest.raises(UserError, match="no loss of a row's list"):
        LinearCandidates(student="head", ranking="kl")
