import torch
from torch import nn

from limbeck.models.bidirectional_gru import BothWays
from limbeck.token_reader import TokenVectors


def test_equal_to_pytorchs_bidirectional_unit_over_packed_rows() -> None:
    torch.manual_seed(0)
    module = BothWays(TokenVectors(9, 4, dropout=0.0, word_dropout=0.0), hidden=3, outputs=2, dropout=0.0).eval()
    peer = nn.GRU(4, 3, batch_first=True, bidirectional=True)
    onward, back = module.onward.state_dict(), module.backward_.state_dict()
    peer.load_state_dict({**onward, **{f"{name}_reverse": value for name, value in back.items()}})
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 2, 0, 0, 0], [5, 5, 5, 0, 0]])
    counts = (ids > 0).sum(1)
    packed = nn.utils.rnn.pack_padded_sequence(module.vectors(ids), counts, batch_first=True, enforce_sorted=False)
    states, _ = nn.utils.rnn.pad_packed_sequence(peer(packed)[0], batch_first=True)
    pooled = [torch.cat([row[:n].mean(0), row[:n].amax(0)]) for row, n in zip(states, counts.tolist(), strict=True)]
    assert torch.allclose(module(ids)["logits"], module.head(torch.stack(pooled)), atol=1e-6)
