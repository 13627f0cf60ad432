import pytest
import torch
from torch import nn

from limbeck.attention import attended


def naive(states: torch.Tensor, read: nn.Linear, heads: int, bias: torch.Tensor, causal: bool) -> torch.Tensor:
    """Row by row, head by head, place by place."""
    rows, steps, width = states.shape
    part, answer = width // heads, torch.zeros_like(states)
    for b in range(rows):
        query, key, value = read(states[b]).split(width, 1)
        for h in range(heads):
            q, k, v = (x[:, h * part : (h + 1) * part] for x in (query, key, value))
            for t in range(steps):
                scores = k @ q[t] / part**0.5 + bias[b]
                scores = scores.masked_fill(torch.arange(steps) > t, -torch.inf) if causal else scores
                answer[b, t, h * part : (h + 1) * part] = torch.softmax(scores, 0) @ v
    return answer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
def test_equal_to_a_naive_sum(heads: int, causal: bool) -> None:
    torch.manual_seed(0)
    states, read = torch.randn(5, 7, 12), nn.Linear(12, 36)
    bias = torch.zeros(5, 7) if causal else torch.randn(5, 7)
    given = None if causal else bias[:, None, None, :]
    found = attended(states, read, heads=heads, bias=given, causal=causal)
    torch.testing.assert_close(found, naive(states, read, heads, bias, causal), rtol=1e-5, atol=1e-6)


def test_dropout_hides_attention_weights() -> None:
    torch.manual_seed(0)
    states, read = torch.randn(2, 4, 6), nn.Linear(6, 18)
    assert not torch.equal(attended(states, read, heads=2, dropout=0.5), attended(states, read, heads=2))
