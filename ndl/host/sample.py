"""One sample's view of a batch. Formulas speak of one sample; a batch of them is computed at once.

`torch.vmap` evaluates a formula for all samples. What must see the whole batch (the run of a model, a net
with dropout or statistics of the batch, a draw) steps out of the formula and comes back with results. Where a
formula cannot be shared so (it branches on values, or has derivatives), its samples are taken one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from ndl.compiler.check.values import Value
from ndl.host.builder import Masked, Path, type_of

Run = Callable[..., tuple[torch.Tensor, ...]]


class Unshared(Exception):
    """A formula has something that only its samples one by one can have."""


class Sample(Protocol):
    """The sample that a formula speaks of."""

    count: int

    def of(self, batch: torch.Tensor) -> torch.Tensor:
        """This sample's entry of `batch [samples, ...]`."""

    def shared(self) -> bool:
        """Whether the formula is evaluated for all samples at once."""


class One:
    """The sample number k, by itself."""

    def __init__(self, k: int, count: int) -> None:
        self.k, self.count = k, count

    def of(self, batch: torch.Tensor) -> torch.Tensor:
        return batch[self.k]

    def shared(self) -> bool:
        return False


class Every:
    """All samples of a batch at once, inside of `torch.vmap` over `index [samples]`."""

    def __init__(self, index: torch.Tensor, count: int) -> None:
        self.index, self.count = index, count

    def shared(self) -> bool:
        return True

    def of(self, batch: torch.Tensor) -> torch.Tensor:
        return self.whole(lambda index: (batch,))[0]

    def whole(self, run: Run, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`run(index, *values)` outside of the formula, on values `[samples, ...]`; what it returns, of the
        same form, is each sample's own again. Gradients go through."""
        found: tuple[torch.Tensor, ...] = _Whole.apply(run, self.index, *values)  # type: ignore[no-untyped-call]
        return found

    def outside(self, run: Callable[..., Any], *values: torch.Tensor) -> Any:
        """What `run(*values)` returns, whatever it is, with values `[samples, ...]`."""
        kept: list[Any] = []

        def call(index: torch.Tensor, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
            kept.append(run(*given))
            return (index.clone(),)

        self.whole(call, *values)
        return kept[0]


class _Whole(torch.autograd.Function):
    """A function whose rule for batches is the function itself, of the whole batch."""

    generate_vmap_rule = False

    @staticmethod
    def forward(run: Run, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        raise AssertionError("a formula stepped out of a batch that it is not in")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, run: Run, *values: torch.Tensor) -> Any:
        given = [
            v.expand(info.batch_size, *v.shape) if at is None else v.movedim(at, 0)
            for v, at in zip(values, in_dims[1:])
        ]
        found = run(*given)
        return found, (0,) * len(found)


def batched(x: Any) -> bool:
    """Whether a tensor stands for those of all samples."""
    return isinstance(x, torch.Tensor) and bool(torch._C._functorch.is_batchedtensor(x))


def for_all(formula: Callable[[Sample], Any], count: int) -> Any:
    """A formula's results, tensors or tuples of them, for each of `count` samples: `[samples, ...]`."""
    return torch.vmap(lambda index: formula(Every(index, count)), randomness="different")(torch.arange(count))


def one_by_one(formula: Callable[[Sample], Any], count: int) -> Any:
    """The same, one after the other."""
    found = [formula(One(k, count)) for k in range(count)]
    if isinstance(found[0], tuple):
        return tuple(torch.stack(v) for v in zip(*found))
    return torch.stack(found)


# ---------------------------------------------------------------- values of a sample


def column(values: torch.Tensor, sample: Sample | None, at: Any = None) -> Value:
    """A recorded column as a value, that of a sample where there is one; missing entries are filled with a
    harmless number and masked. `at` evaluates it between its times."""
    missing = torch.isnan(values) if values.dtype.is_floating_point else None
    pick = (lambda x: x) if sample is None else sample.of
    if missing is None or not bool(missing.any()):
        found = pick(values)
        return Value(type_of(found), found) if at is None else Path(type_of(found), found, at=at)
    rest = values[~missing].detach()
    filler = rest.mean() if rest.numel() else torch.ones((), dtype=values.dtype)
    found = pick(torch.where(missing, filler, values))
    return Masked(type_of(found), found, mask=pick(~missing), at=at, origin=id(values))
