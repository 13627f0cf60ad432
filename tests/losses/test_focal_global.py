import math

import pytest
import torch
from torch import Tensor

from limbeck.errors import UserError
from limbeck.losses.focal_global import FocalGlobal, focal, foreground
from limbeck.testing import check_loss
from tests.losses import laws
from tests.losses.naive import softmax

TAPPED = {"student": "neck", "teacher": "fpn.neck"}


def looks(maps: Tensor, temperature: float) -> tuple[list[float], list[float]]:
    """Of one row: places and channels."""
    places, channels = maps.abs().mean(0).flatten(), maps.abs().mean((1, 2))
    return (
        [len(places) * p for p in softmax(places, temperature)],
        [len(channels) * p for p in softmax(channels, temperature)],
    )


def naive(student: Tensor, teacher: Tensor, objects: Tensor, temperature: float = 0.5) -> list[list[float]]:
    """Place by place, channel by channel."""
    rows = []
    for s, t, mask in zip(student, teacher, objects.flatten(1).tolist(), strict=True):
        (places, channels), (own_places, own_channels) = looks(t, temperature), looks(s, temperature)
        squares = (s - t).flatten(1).square().tolist()
        cost = [a * sum(c * x[i] for c, x in zip(channels, squares, strict=True)) for i, a in enumerate(places)]
        ground = [float(m == 0) / max(1, mask.count(0.0)) for m in mask]
        apart = [abs(a - b) for a, b in zip(own_places + own_channels, places + channels, strict=True)]
        rows.append(
            [
                sum(m * c for m, c in zip(mask, cost, strict=True)),
                sum(g * c for g, c in zip(ground, cost, strict=True)),
                sum(apart),
            ]
        )
    return rows


def parts(student: Tensor, teacher: Tensor, objects: Tensor) -> Tensor:
    return torch.stack(focal(student, teacher, objects), 1)


@pytest.mark.parametrize("shape", [(3, 5, 2, 3), (2, 7, 5, 5)])
def test_equal_to_a_sum_over_places_and_channels(shape: tuple[int, ...]) -> None:
    objects = (torch.arange(math.prod(shape) // shape[1]) % 4).reshape(shape[0], *shape[2:]) / 4
    laws.equals_naive(parts, naive, *laws.drawn(*shape, scale=1.0), objects, rounding=0.06)


def test_a_place_counts_by_the_smallest_box_upon_it_and_padding_is_no_box() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 1.0, 1.0], [0.7, 0.2, 0.7, 0.9], [-1.0, -1.0, -1.0, -1.0]]])
    found = foreground(boxes, 4, 4)[0]
    assert found[2:, 2:].unique().tolist() == [1 / 4]
    assert found[0].unique().tolist() == [1 / 16]
    assert not foreground(boxes[:, 2:], 4, 4).any()


def test_nothing_is_lost_for_equals_and_only_the_student_learns() -> None:
    student, teacher = laws.drawn(3, 4, 2, 2, scale=1.0)
    objects = torch.tensor([[[0.5, 0.5], [0.0, 0.0]]]).expand(3, 2, 2)
    assert parts(teacher, teacher, objects).abs().max() < 1e-5
    laws.only_the_student_learns(parts, student, teacher, objects)
    laws.ignores_the_order_of_rows(parts, student, teacher, objects)


def test_extremes_stay_finite() -> None:
    def loss(s: Tensor, t: Tensor) -> Tensor:
        return parts(s[:, None, None], t[:, None, None], torch.ones(len(s), 1, s.shape[1]))

    laws.stays_finite(loss, ruled_out=False)


def test_the_context_of_the_whole_at_first_adds_nothing() -> None:
    student, teacher = laws.drawn(2, 3, 4, 4, scale=1.0)
    said = {"hidden.neck": student}, {"hidden.fpn.neck": teacher}, {"boxes": torch.rand(2, 2, 4)}
    term = FocalGlobal(**TAPPED, objects=0.0, ground=0.0, look=0.0, whole=1.0)
    term.size(*said)
    assert term(*said).item() == pytest.approx((student - teacher).square().sum().item() / 2, rel=1e-5)
    near = FocalGlobal(**TAPPED, objects=1.0, ground=0.0, look=0.0, whole=0.0)
    near.size(*said)
    assert not list(near.parameters())
    wanted = naive(student, teacher, foreground(said[2]["boxes"], 4, 4))
    assert near(*said).item() == pytest.approx((wanted[0][0] + wanted[1][0]) / 2, rel=1e-4)


def test_it_keeps_the_contract_and_pictures_are_asked_for() -> None:
    check_loss(FocalGlobal(**TAPPED))
    with pytest.raises(UserError, match=r"both must be \(B, C, H, W\)"):
        FocalGlobal(**TAPPED).size({"hidden.neck": torch.zeros(2, 3)}, {"hidden.fpn.neck": torch.zeros(2, 3)}, {})
    with pytest.raises(UserError, match="ground is -1"):
        FocalGlobal(**TAPPED, ground=-1.0)
