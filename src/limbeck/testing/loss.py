"""The contract of losses."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from limbeck.testing.answer import TOLERANCE, need
from limbeck.testing.outputs import Outputs, outputs_for

if TYPE_CHECKING:
    from torch import Tensor

    from limbeck.term import Term


def check_loss(term: Term, *, outputs: Outputs | None = None, rowwise: bool | None = None) -> None:
    """Hold a loss to what training relies on.

    Sized with a dry batch, it gives a finite scalar; its gradient is finite and reaches the student and all it
    owns, such as projections, never the teacher; what it says it needs of a teacher is true; permuting the rows
    changes nothing (to 1e-5), nor, of a mean over rows, does doubling the batch, a row of weight 2 counts as two,
    and the values of two parts, by their shares of the denominator, make that of the whole, though some rows have
    no label, some steps are masked, and all have weights; bfloat16 signals are answered within 5%; an objective's
    weight multiplies it; the batch is left as it was; its state is all in its `state_dict`; its soft target, if it
    offers one, is finite.

    Args:
        term: fresh; it is copied before every use, so it may have state.
        outputs: signals it reads; by default `outputs_for(term)`, each of them.
        rowwise: whether it is a mean over rows; false where rows are compared with one another, for there a
            doubled batch is another batch. By default what the term says.

    Raises:
        AssertionError: a promise is broken; says which.
    """
    for given in [outputs] if outputs else outputs_for(term):
        _check(_sized(term, given), given, term.rowwise if rowwise is None else rowwise)


def _sized(term: Term, given: Outputs) -> Term:
    """A copy that has seen a dry batch."""
    import torch

    fresh = copy.deepcopy(term)
    torch.manual_seed(0)
    with torch.no_grad():
        fresh.size(given.student, given.teacher, given.batch)
    return fresh


def _check(term: Term, given: Outputs, rowwise: bool) -> None:
    import torch

    from limbeck.objective import Objective

    value = _check_gradient(term, given)

    def near(other: Outputs, words: str, tolerance: float = TOLERANCE) -> None:
        found = _loss(term, other)[0].item()
        need(abs(found - value) <= tolerance * (1 + abs(value)), f"{words}: {value:.6g} becomes {found:.6g}")

    if term.needs_teacher:
        other = dataclasses.replace(given, teacher={n: _another(t) for n, t in given.teacher.items()})
        changed = _loss(term, other)[0].item() != value
        need(changed, "another teacher changes nothing; set needs_teacher = False on a hard loss")
    else:
        near(dataclasses.replace(given, teacher={}), "needs_teacher is false, but without a teacher the value changes")
    order = torch.arange(next(iter(given.student.values())).shape[0]).roll(2)
    near(given.each(lambda t: t[order]), "permuting the rows changes the value")
    if rowwise:
        near(given.each(lambda t: torch.cat([t, t])), "doubling the batch changes the value")
    if term.rowwise:
        _check_weight(term, given)
        _check_parts(term, given)
    half = given.each(lambda t: t.bfloat16() if t.is_floating_point() else t)
    near(half, "bfloat16 signals change the value by more than 5%", 0.05)
    torch.manual_seed(0)
    total, _ = Objective([("term", copy.deepcopy(term), 0.5)])(given.student, given.teacher, given.batch)
    halved = abs(total.item() - 0.5 * value) <= TOLERANCE * (1 + abs(value))
    need(halved, f"half the weight makes {total.item():.6g} of {value:.6g}")
    _check_state(term, given)
    soft = copy.deepcopy(term).target(given.teacher, given.batch)
    if soft is not None:
        sound = soft.shape[0] == len(order) and bool(torch.isfinite(soft).all())
        need(sound, "its soft target is not finite (B, ...)")


def _check_weight(term: Term, given: Outputs) -> None:
    """A row's weight says how often it stands there."""
    import torch

    count = len(next(iter(given.student.values())))
    weight = torch.ones(count)
    weight[0] = 2.0
    twice = given.each(lambda t: torch.cat([t[:1], t]))
    wanted = _loss(term, dataclasses.replace(twice, batch={**twice.batch, "weight": torch.ones(count + 1)}))[0].item()
    found = _loss(term, dataclasses.replace(given, batch={**given.batch, "weight": weight}))[0].item()
    near = abs(found - wanted) <= TOLERANCE * (1 + abs(wanted))
    need(near, f"a row of weight 2 does not count as two: {found:.6g}, not {wanted:.6g}")


def _check_parts(term: Term, given: Outputs) -> None:
    """Parts that count for unequally much make the whole; a term that learns as it goes is held to it as it stands."""
    import torch

    count = len(next(iter(given.student.values())))
    uneven = {name: _uneven(name, column) for name, column in given.batch.items()}
    given = dataclasses.replace(given, batch={**uneven, "weight": torch.arange(count) % 3 + 0.5})
    still = copy.deepcopy(term).eval()
    parts = [given.each(lambda t: t[: count // 3]), given.each(lambda t: t[count // 3 :])]
    values = [_loss(still, part)[0].item() for part in parts]
    amounts = [still.denominator(part.teacher, part.batch).item() for part in parts]
    wanted, whole = _loss(still, given)[0].item(), still.denominator(given.teacher, given.batch).item()
    found = sum(value * amount for value, amount in zip(values, amounts, strict=True)) / whole
    near = abs(found - wanted) <= TOLERANCE * (1 + abs(wanted))
    need(near, f"two parts by what counts in them make {found:.6g}, and the whole is {wanted:.6g}; see `counts`")


def _uneven(name: str, column: Tensor) -> Tensor:
    """Of a column that may decide what counts, less in the first rows than in the last."""
    changed = column.clone()
    if name in ("label", "targets"):
        changed[0] = -1
    elif name == "history":
        changed[0, 1:] = 0
    elif name == "mask":
        changed = (column > 0).float()
        changed[0] = 0
        changed[:, 0] = 1
    return changed


def _check_gradient(term: Term, given: Outputs) -> float:
    """The value, once it and its gradient are found sound."""
    import torch

    kept = copy.deepcopy(dict(given.batch))
    own = copy.deepcopy(term)
    value, student, teacher = _tried(own, given)
    need(value.shape == (), f"the value has shape {tuple(value.shape)}; a loss is a scalar")
    need(bool(torch.isfinite(value)), f"the value is {value.item()}")
    need(value.requires_grad, "no gradient reaches the student")
    value.backward()  # type: ignore[no-untyped-call]  # torch's
    reached = [t.grad for t in student.values() if t.grad is not None]
    need(all(bool(torch.isfinite(g).all()) for g in reached), "the student's gradient is NaN or infinite")
    need(any(bool(g.any()) for g in reached), "no gradient reaches the student")
    missed = [name for name, p in own.named_parameters() if p.requires_grad and p.grad is None]
    need(not missed, f"no gradient reaches its own {', '.join(missed)}")
    sound = all(bool(torch.isfinite(p.grad).all()) for p in own.parameters() if p.grad is not None)
    need(sound, "the gradient of its own parameters is NaN or infinite")
    leaked = [name for name, t in teacher.items() if t.grad is not None and bool(t.grad.any())]
    need(not leaked, f"gradient reaches the teacher's {', '.join(leaked)}; detach them")
    need(all(torch.equal(kept[n], given.batch[n]) for n in kept), "it changes the tensors of the batch")
    return value.item()


def _check_state(term: Term, given: Outputs) -> None:
    """A term that is resumed goes on as one that never stopped."""
    first, second = copy.deepcopy(term), copy.deepcopy(term)
    _tried(first, given)
    try:
        second.load_state_dict(first.state_dict())
    except RuntimeError as wrong:
        raise AssertionError(f"its state cannot be loaded: {wrong}") from wrong
    wanted, found = (_tried(one, given)[0].item() for one in (first, second))
    need(found == wanted, f"loaded from its state_dict, it says {found:.6g}, not {wanted:.6g}; keep state in buffers")


def _another(signal: Tensor) -> Tensor:
    """A teacher that says something else: neither moved, turned nor scaled, which some losses rightly overlook."""
    moved = signal.roll(1, -1)
    return moved + signal.tanh() if signal.is_floating_point() else moved


def _loss(term: Term, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """By a copy of the term, so that what it remembers changes nothing."""
    return _tried(copy.deepcopy(term), outputs)


def _tried(term: Term, outputs: Outputs) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The value on fresh leaves, with the same random numbers every time."""
    import torch

    def leaves(signals: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: t.detach().clone().requires_grad_(t.is_floating_point()) for n, t in signals.items()}

    torch.manual_seed(0)
    student, teacher = leaves(outputs.student), leaves(outputs.teacher)
    return term(student, teacher, outputs.batch), student, teacher
