import pytest
import torch

from limbeck.errors import UserError
from limbeck.token_reader import TokenReader, TokenVectors


def test_word_dropout_shows_tokens_as_unknown_and_leaves_padding_alone() -> None:
    torch.manual_seed(0)
    vectors = TokenVectors(50, 3, dropout=0.0, word_dropout=0.5)
    ids = torch.cat([torch.full((200, 5), 7), torch.zeros(200, 2, dtype=torch.int64)], 1)
    seen = vectors.train()(ids)
    unknown = (seen == vectors.table.weight[1]).all(2)
    assert 0.4 < unknown[:, :5].float().mean() < 0.6
    assert not unknown[:, 5:].any()
    assert not seen[:, 5:].any()
    assert torch.equal(vectors.eval()(ids)[:, :5], vectors.table.weight[7].expand(200, 5, 3))


def test_impossible_settings_are_refused() -> None:
    for wrong in ({"dropout": 1.0}, {"word_dropout": -0.1}, {"width": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            TokenReader(**wrong)  # type: ignore[arg-type]
