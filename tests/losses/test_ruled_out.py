"""Classes that student and teacher both rule out, as padded vocabularies do: they cost nothing, and nothing is NaN."""

import pytest
import torch

from limbeck import parts

NAMES = [
    "kl", "reverse_kl", "generalised_jsd", "skewed_kl", "total_variation", "alpha_beta", "standardised_kl",
    "squared_error", "soft_binary", "dist", "decoupled_kl",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_both_rule_out_costs_nothing(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    settings = {"signal": "logits"} if name == "squared_error" else {}
    term = parts.make("losses", name, settings)
    known = torch.randn(4, 5, dtype=dtype).requires_grad_()
    teacher = torch.randn(4, 5).to(dtype)
    label = torch.tensor([0, 1, 2, 3])
    out = torch.full((4, 2), -torch.inf, dtype=dtype)
    value = term({"logits": torch.cat([known, out], 1)}, {"logits": torch.cat([teacher, out], 1)}, {"label": label})
    value.backward()
    assert torch.isfinite(value)
    assert known.grad is not None
    assert torch.isfinite(known.grad).all()
    if name == "dist":  # its second half is a mean over classes, those that are ruled out among them
        return
    alone = term({"logits": known}, {"logits": teacher}, {"label": label})
    scale = 7 / 5 if name in ("squared_error", "soft_binary") else 1.0  # means over outputs
    torch.testing.assert_close(scale * value.float(), alone.float(), rtol=1e-2, atol=1e-3)
