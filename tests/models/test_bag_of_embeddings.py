import torch

from limbeck.models.bag_of_embeddings import Bag
from limbeck.token_reader import TokenVectors


def bag(hidden: int = 0) -> Bag:
    torch.manual_seed(0)
    vectors = TokenVectors(9, 4, dropout=0.0, word_dropout=0.0)
    return Bag(vectors, hidden=hidden, outputs=2, dropout=0.0).eval()


def test_a_fresh_bag_is_the_plain_mean_of_its_vectors() -> None:
    module = bag()
    vectors = module.vectors.table.weight
    wanted = module.head(torch.stack([vectors[[3, 5]].mean(0), vectors[4]]))
    assert torch.allclose(module(torch.tensor([[3, 5, 0], [4, 0, 0]]))["logits"], wanted, atol=1e-6)


def test_order_and_place_of_padding_change_nothing() -> None:
    module = bag(hidden=3)
    first, second = module(torch.tensor([[3, 5, 7, 0, 0], [0, 7, 0, 3, 5]]))["logits"]
    assert torch.allclose(first, second, atol=1e-6)


def test_a_shut_gate_silences_a_token() -> None:
    module = bag()
    with torch.no_grad():
        module.gate.weight[5] = -50.0
        module.vectors.table.weight[5] = 1e3
    loud, silent = module(torch.tensor([[3, 5], [3, 8]]))["logits"], module(torch.tensor([[3, 5]]))["logits"]
    assert loud.abs().max() < 10
    half = module.head(module.vectors.table.weight[3] / 2)
    assert torch.allclose(silent[0], half, atol=1e-5)
