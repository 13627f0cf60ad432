import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from limbeck.encoder import RESERVED
from limbeck.errors import UserError
from limbeck.model import Model
from limbeck.models.sasrec import Attention, Sasrec
from limbeck.task import Problem
from limbeck.types import Axis, Rows

torch.set_num_threads(1)
ITEMS, LENGTH = 9, 6


def built(heads: int = 2, layers: int = 2) -> Attention:
    torch.manual_seed(0)
    module = Attention(ITEMS + RESERVED, width=8, heads=heads, layers=layers, length=LENGTH, dropout=0.0)
    for value in module.parameters():
        nn.init.normal_(value, std=0.5)  # so that every part has a say
    return module


def steps(module: Attention, history: list[list[int]]) -> Tensor:
    module.train()
    with torch.no_grad():
        said: Tensor = module(torch.tensor(history))["steps"]
    return said


def scores(module: Attention, history: list[list[int]]) -> Tensor:
    module.eval()
    with torch.no_grad():
        said: Tensor = module(torch.tensor(history))["scores"]
    return said


@pytest.mark.parametrize("place", range(1, 5))
def test_changing_a_later_item_changes_no_earlier_step(place: int) -> None:
    history = [2, 5, 3, 7, 4]
    other = [*history]
    other[place] = 10
    before, after = steps(built(), [history])[0], steps(built(), [other])[0]
    assert torch.equal(before[:place], after[:place])
    assert not torch.allclose(before[place:], after[place:])


def test_every_earlier_item_matters() -> None:
    history = [2, 5, 3, 7, 4]
    for place in range(5):
        other = [*history]
        other[place] = 10
        assert not torch.allclose(scores(built(), [history]), scores(built(), [other]), atol=1e-4)
    assert not torch.allclose(scores(built(), [[2, 5, 3]]), scores(built(), [[5, 2, 3]]), atol=1e-4)


def test_padding_changes_neither_scores_nor_steps() -> None:
    module = built()
    torch.testing.assert_close(scores(module, [[2, 5, 0, 0, 0]]), scores(module, [[2, 5]]))
    torch.testing.assert_close(steps(module, [[2, 5, 0, 0]])[:, :2], steps(module, [[2, 5]]))


def test_a_batch_of_one_is_a_row_of_the_batch() -> None:
    histories = [[2, 5, 3, 7], [4, 0, 0, 0], [0, 0, 0, 0], [1, 10, 2, 0]]
    whole = scores(built(), histories)
    for row, history in enumerate(histories):
        torch.testing.assert_close(whole[row : row + 1], scores(built(), [history]), rtol=1e-5, atol=1e-5)


def test_a_step_foretells_the_last_item_from_the_very_place_that_answers_are_given_from() -> None:
    history = [2, 5, 3, 7, 4]
    said = steps(built(), [history])[0, len(history) - 2]
    torch.testing.assert_close(said, scores(built(), [history[:-1]])[0])


@pytest.mark.parametrize("heads", [1, 2])
def test_equal_to_attention_written_out(heads: int) -> None:
    """Step by step, head by head, on one history."""
    module = built(heads, layers=1)
    history = [2, 5, 3, 7]
    block = module.blocks[0]
    x = torch.stack(
        [module.item.weight[i] + module.place.weight[max(0, len(history) - 2 - t)] for t, i in enumerate(history)]
    )
    q, k, v = block.mix(block.before(x)).chunk(3, 1)
    size = 8 // heads
    seen = torch.zeros(4, 8)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for t in range(4):
            weight = torch.softmax(torch.stack([q[t, part] @ k[s, part] for s in range(t + 1)]) / size**0.5, 0)
            seen[t, part] = sum(weight[s] * v[s, part] for s in range(t + 1))
    x = x + block.out(seen)
    inner = block.net[3](nn.functional.gelu(block.net[0](block.between(x))))
    said = module.last(x + inner) @ module.item.weight[RESERVED:].T + module.bias
    torch.testing.assert_close(steps(module, [history])[0], said.detach(), rtol=1e-4, atol=1e-4)


def test_only_the_latest_items_are_read() -> None:
    histories = [["i1", "i2", "i3", "i4"], ["i3", "i4"], []]
    rows = Rows(pa.table({"history": pa.array(histories, pa.list_(pa.string()))}), np.arange(3), "shop")
    problem = Problem(rows, rows, rows, Axis("item", tuple(f"i{i}" for i in range(ITEMS))), ("history",))
    family = Sasrec(width=8, length=2)
    encoder = family.encoder(problem)
    model = Model("sasrec", {"width": 8, "length": 2}, encoder, family.module(encoder, ITEMS), ITEMS)
    said = model(rows.batch())["scores"]
    np.testing.assert_allclose(said[0], said[1], rtol=1e-5, atol=1e-6)
    assert np.isfinite(said[2]).all()
    assert encoder.reads == ("history",)  # so that new users need nothing more


def test_it_learns_what_follows_what() -> None:
    """Items in a ring: after i comes i + 1."""
    from limbeck.losses.next_item import next_item

    torch.manual_seed(0)
    module = Attention(ITEMS + RESERVED, width=16, heads=1, layers=1, length=LENGTH, dropout=0.0)
    history = torch.tensor([[(start + t) % ITEMS + RESERVED for t in range(LENGTH)] for start in range(ITEMS)])
    optimizer = torch.optim.Adam(module.parameters(), 0.03)
    for _ in range(60):
        optimizer.zero_grad()
        next_item(module(history)["steps"], history).sum().backward()
        optimizer.step()
    found = steps(module, history.tolist())[:, :-1].argmax(2) + RESERVED
    assert torch.equal(found, history[:, 1:])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UserError, match="width 10 is not a multiple of heads 3"):
        Sasrec(width=10, heads=3)
