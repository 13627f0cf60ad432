import pytest
import torch

from limbeck.errors import UserError
from limbeck.models.text_convolution import Phrases, TextConvolution
from limbeck.token_reader import TokenVectors


def test_equal_to_sliding_a_window_by_hand() -> None:
    torch.manual_seed(0)
    module = Phrases(
        TokenVectors(9, 4, dropout=0.0, word_dropout=0.0), widths=(3,), channels=2, outputs=2, dropout=0.0
    ).eval()
    ids = torch.tensor([5, 3, 7, 8])
    vectors = torch.cat([torch.zeros(1, 4), module.vectors.table.weight[ids], torch.zeros(1, 4)])
    filters = module.filters[0]
    assert isinstance(filters, torch.nn.Conv1d)
    assert filters.bias is not None
    found = torch.stack([(filters.weight * vectors[i : i + 3].T).sum((1, 2)) + filters.bias for i in range(4)]).relu()
    wanted = module.head(torch.cat([found.amax(0), found.mean(0)]))
    assert torch.allclose(module(torch.tensor([[*ids.tolist(), 0, 0]]))["logits"][0], wanted, atol=1e-5)


def test_impossible_widths_are_refused() -> None:
    with pytest.raises(UserError, match="widths is"):
        TextConvolution(widths=())
    with pytest.raises(UserError, match="widths is"):
        TextConvolution(widths=(0, 2))
