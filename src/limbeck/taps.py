"""Hidden signals: what the inner parts of a module say, read as they say it, without touching their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from limbeck.errors import UserError, few

HIDDEN = "hidden."
"""Stands before a path in the name of its signal."""
INPUT, WEIGHT, BIAS = "input.", "weight.", "bias."
"""Stand before the path of a linear head in the names of what it is given, and of its weights."""


class Taps:
    """Reads what submodules say in a forward pass.

    The hooks live on the submodules, so wrapping the module for data parallelism or compiling it later
    keeps them; weights, state and answers are untouched. Close them before an export: a tap is no part
    of a model. A part that runs several times in a pass is read the last time; of a tuple the first
    tensor is read, of a mapping the first value that is one.

    Args:
        module: plain, compiled but never run, or wrapped by `DistributedDataParallel`.
        paths: of submodules, as `named_modules` spells them, such as `body.encoder.layer.2`.
        heads: paths of linear submodules, of which is read what they are given, and their weights.
        skipped: those of the heads whose answers nobody reads: within `listening` they give none.

    Raises:
        UserError: no such submodule; names all that are not there, and the nearest that are.
    """

    def __init__(
        self, module: nn.Module, paths: Sequence[str], heads: Sequence[str] = (), skipped: Sequence[str] = ()
    ) -> None:
        inner = unwrapped(module)
        parts = dict(inner.named_modules())
        missing = [path for path in (*paths, *heads) if path not in parts or not path]
        if missing:
            known = few([name for name in parts if name][:12])
            raise UserError(f"no part {few(missing)} of {type(inner).__name__} to tap; there are: {known}")
        self._said: dict[str, Tensor] = {}
        self.paths, self.heads = tuple(dict.fromkeys(paths)), tuple(dict.fromkeys(heads))
        self._handles = [parts[path].register_forward_hook(self._hook(path)) for path in self.paths]
        self._handles += [parts[path].register_forward_hook(self._head_hook(path)) for path in self.heads]
        self._skipped = [parts[path] for path in dict.fromkeys(skipped)]

    def _hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        said = self._said  # a closure over the dictionary alone, so that a copied module has no copy of these taps

        def keep(_part: nn.Module, _inputs: Any, output: Any) -> None:
            said[HIDDEN + path] = _first(output, path)

        return keep

    def _head_hook(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        said = self._said

        def keep(part: nn.Module, inputs: Any, _output: Any) -> None:
            own = (getattr(part, "weight", None), getattr(part, "bias", None))
            weight, bias = inputs[1:3] if len(inputs) > 2 else own
            if not inputs or not isinstance(weight, Tensor) or weight.ndim != 2:
                raise UserError(f"the part '{path}' is a {type(part).__name__}; a head is linear, such as nn.Linear")
            said.update({INPUT + path: inputs[0], WEIGHT + path: weight})
            if bias is not None:
                said[BIAS + path] = bias

        return keep

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A pass in which heads that are skipped give (B, .., 0): the logits are never there."""
        before = [vars(part).get("forward") for part in self._skipped]
        for part in self._skipped:
            part.forward = _nothing
        try:
            yield
        finally:
            for part, own in zip(self._skipped, before, strict=True):
                del part.forward
                if own is not None:
                    part.forward = own

    def read(self) -> dict[str, Tensor]:
        """The last pass' signals, `hidden.<path>` -> tensor, and what heads are given; they are forgotten here.

        Raises:
            UserError: a part did not run.
        """
        silent = [path for path in self.paths if HIDDEN + path not in self._said]
        silent += [path for path in self.heads if INPUT + path not in self._said]
        if silent:
            raise UserError(
                f"the tapped parts {few(silent)} did not run; tap others, or tap before the module first runs compiled"
            )
        found = dict(self._said)
        self._said.clear()
        return found

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._said.clear()

    def __enter__(self) -> Taps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def unwrapped(module: nn.Module) -> nn.Module:
    """The user's own module inside what compiling and data parallelism put around it."""
    while True:
        inner = getattr(module, "_orig_mod", None) or (
            module.module if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel) else None
        )
        if inner is None:
            return module
        module = inner


def _nothing(hidden: Tensor, *_weights: Tensor) -> Tensor:
    return hidden[..., :0]


def _first(output: Any, path: str) -> Tensor:
    if isinstance(output, Tensor):
        return output
    inside = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
    for value in inside:
        if isinstance(value, Tensor):
            return value
    raise UserError(f"the tapped part '{path}' says {type(output).__name__}, in which no tensor was found")
