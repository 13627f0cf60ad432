import pytest
import torch

from limbeck.errors import UserError
from limbeck.models.character_transformer import Block, CharacterEncoder, CharacterTransformer


def test_a_block_equals_pytorchs_own_layer() -> None:
    torch.manual_seed(0)
    block = Block(8, 2, 0.0).eval()
    peer = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    names = {
        "self_attn.in_proj_": "read.",
        "self_attn.out_proj.": "write.",
        "linear1.": "layer.0.",
        "linear2.": "layer.2.",
    }
    names |= {"norm1.": "before_attention.", "norm2.": "before_layer."}
    own = block.state_dict()
    peer.load_state_dict({t + end: own[o + end] for t, o in names.items() for end in ("weight", "bias")})
    states = torch.randn(3, 5, 8)
    absent = torch.arange(5) >= torch.tensor([[5], [3], [1]])
    bias = (absent * -1e4).reshape(3, 1, 1, 5)
    found, wanted = block(states, bias), peer(states, src_key_padding_mask=absent)
    assert torch.allclose(found[~absent], wanted[~absent], atol=1e-5)


def test_characters_are_drawn_together_a_stride_at_a_time() -> None:
    settings = CharacterTransformer(width=4, heads=1, layers=1, stride=4, length=16)
    module = CharacterEncoder(9, settings, 2).eval()
    lengths = []
    module.blocks[0].register_forward_pre_hook(lambda _, inputs: lengths.append(inputs[0].shape[1]))
    for length in (1, 4, 5, 16):
        module(torch.ones(1, length, dtype=torch.int64))
    assert lengths == [1, 1, 2, 4]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of heads"):
        CharacterTransformer(width=10, heads=4)
    with pytest.raises(UserError, match="stride is 0"):
        CharacterTransformer(stride=0)
    with pytest.raises(UserError, match="dropout is 1"):
        CharacterTransformer(dropout=1.0)
