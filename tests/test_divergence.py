import math

import pytest
import torch
from torch import Tensor

from limbeck.bucketed import tail_at
from limbeck.divergence import Divergence, relative_entropy, softened
from limbeck.errors import UserError
from limbeck.types import Signals
from tests.losses import laws


class Peculiar(Divergence):
    """Says what it was given."""

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__(temperature=temperature, signal="logits")

    def between(self, student: Tensor, teacher: Tensor) -> Tensor:
        return relative_entropy(*reversed(softened(student, teacher, self.temperature)))


def test_relative_entropy_is_a_distributions_own_and_never_nan() -> None:
    p, q = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([[0.25, 0.25, 0.5], [0.0, 0.5, 0.5]])
    q_log, p_log = softened(q.log(), p.log(), 1.0)
    assert relative_entropy(p_log, q_log).tolist() == pytest.approx([math.log(2)] * 2)


def test_a_row_of_steps_is_read_from_top_k_knowledge_too() -> None:
    student, teacher = laws.drawn(3, 4, 9)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    flat = laws.stored(teacher.flatten(0, 1), 3, 2.0)
    stepped = Signals(
        {name: flat[name].unflatten(0, (3, 4)) for name in flat}, flat.kinds, tail_temperatures=flat.tail_temperatures
    )
    found = Peculiar()({"logits": student}, stepped, {"mask": mask})
    there = mask.bool()
    few = Signals({n: stepped[n][there] for n in stepped}, flat.kinds, tail_temperatures=flat.tail_temperatures)
    wanted = Peculiar()({"logits": student[there]}, few, {})
    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_tail_is_read_at_the_terms_own_temperature_or_refused() -> None:
    teacher = laws.drawn(3, 9)[1]
    said = laws.stored(teacher, 3, 2.0)
    assert tail_at(said, "logits", 2.0).shape == (3,)
    with pytest.raises(UserError, match=r"its tail at temperatures \[2.0\], not 1.0; label again"):
        Peculiar(1.0)({"logits": teacher}, said, {})


def test_its_target_is_the_teacher_as_it_is_where_all_of_it_is_known() -> None:
    teacher = laws.drawn(3, 9)[1]
    found = Peculiar().target({"logits": teacher}, {})
    assert found is not None
    torch.testing.assert_close(found, torch.softmax(teacher, 1))
    assert Peculiar().target(laws.stored(teacher, 3, 2.0), {}) is None
    assert Peculiar().target({"logits": teacher.unsqueeze(1)}, {}) is None
    assert Peculiar().temperatures == (2.0,)
