import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import UserError
from limbeck.taps import Taps, unwrapped


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 7)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(7, 3))
        self.idle = nn.Linear(1, 1)
        self.reader = nn.GRU(7, 4, batch_first=True)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        inner = self.first(x)
        self.reader(inner.unsqueeze(1))
        return {"logits": self.rest(inner)}


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


def test_a_tap_reads_what_the_part_says_with_its_gradient_and_changes_no_answer(net: Net) -> None:
    x = torch.randn(3, 5)
    plain = net(x)["logits"]
    taps = Taps(net, ["first", "rest.0", "reader"])
    assert torch.equal(net(x)["logits"], plain)
    said = taps.read()
    assert torch.equal(said["hidden.first"], net.first(x))
    assert torch.equal(said["hidden.rest.0"], net.first(x).relu())
    assert said["hidden.reader"].shape == (3, 1, 4)  # the first of a recurrent network's pair
    said["hidden.first"].sum().backward()
    assert net.first.weight.grad is not None


def test_closed_taps_leave_nothing_behind(net: Net) -> None:
    with Taps(net, ["first"]) as taps:
        net(torch.randn(2, 5))
        taps.read()
    assert not net.first._forward_hooks
    assert set(net.state_dict()) == set(Net().state_dict())
    x = torch.randn(2, 5)
    exported = torch.export.export(net, (x,)).module()
    torch.testing.assert_close(exported(x), net(x))


def test_a_copied_module_does_not_share_its_copys_passes(net: Net) -> None:
    taps = Taps(net, ["first"])
    net(torch.ones(2, 5))
    found = taps.read()["hidden.first"]
    copied = copy.deepcopy(net)
    assert torch.equal(copied.first.weight, net.first.weight)
    net(torch.ones(2, 5))
    assert torch.equal(taps.read()["hidden.first"], found)


@pytest.mark.slow
def test_taps_survive_compiling(net: Net) -> None:
    x = torch.randn(4, 5)
    taps = Taps(net, ["first", "rest.0"])
    compiled: Any = torch.compile(net, backend="aot_eager")
    for _ in range(3):
        x = x + 1
        compiled(x)
        said = taps.read()
        torch.testing.assert_close(said["hidden.first"], net.first(x))
        torch.testing.assert_close(said["hidden.rest.0"], net.first(x).relu())
        taps._said.clear()  # the lines above ran the tapped part themselves
    late = Taps(compiled, ["first"])
    assert unwrapped(compiled) is net
    late.close()


def test_parts_that_are_not_there_or_never_run_are_named(net: Net) -> None:
    with pytest.raises(UserError, match=r"no part 'body' of Net to tap; there are: 'first', 'rest'"):
        Taps(net, ["body", "first"])
    taps = Taps(net, ["idle"])
    net(torch.randn(2, 5))
    with pytest.raises(UserError, match="'idle' did not run"):
        taps.read()


def test_a_tapped_head_says_what_it_is_given_and_its_weights(net: Net) -> None:
    x = torch.randn(2, 5)
    with Taps(net, ["first"], heads=["rest.1"]) as taps:
        wanted = net(x)["logits"]
        said = taps.read()
    found = said["input.rest.1"] @ said["weight.rest.1"].T + said["bias.rest.1"]
    torch.testing.assert_close(found, wanted)
    assert said["weight.rest.1"] is net.rest[1].weight
    assert "hidden.first" in said


def test_a_skipped_head_answers_nothing_in_a_pass_that_is_listened_to_and_all_in_others(net: Net) -> None:
    x = torch.randn(2, 5)
    plain = net(x)["logits"]
    with Taps(net, (), heads=["rest.1"], skipped=["rest.1"]) as taps:
        with taps.listening():
            assert net(x)["logits"].shape == (2, 0)
        assert taps.read()["input.rest.1"].shape == (2, 7)
        assert torch.equal(net(x)["logits"], plain)
    assert "forward" not in vars(net.rest[1])


def test_a_part_that_is_not_linear_is_no_head(net: Net) -> None:
    with Taps(net, (), heads=["rest.0"]), pytest.raises(UserError, match=r"'rest\.0' is a ReLU; a head is linear"):
        net(torch.randn(2, 5))
