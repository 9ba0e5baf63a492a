"""A net whose weights are formulas: expression trees and their constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ndl.runtime.errors import RunError
from ndl.runtime.evolution import Found, Genome
from ndl.runtime.formulas import constants, text, values
from torch import Tensor, nn

LETTERS = ("x", "y", "z", "u", "v", "w")
TORCH: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "neg": torch.neg,
    "square": torch.square,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "abs": torch.abs,
}


class FormulaNet(nn.Module):
    """A formula for each of `outputs` results (None: one number), of `arity` numbers. While a loss is
    studied, its values are given."""

    def __init__(self, name: str, arity: int, outputs: int | None) -> None:
        super().__init__()
        self.name, self.arity, self.outputs = name, arity, outputs
        self.genome: Genome = ()
        self.constants: Sequence[Tensor] = ()
        self.found: tuple[Found, ...] = ()
        self.fronts: list[list[Found]] = []
        self.names: tuple[str, ...] = names_of(arity)
        self.points: list[Tensor] | None = None  # of the calls, while they are collected
        self.given: Tensor | None = None  # values [outputs, N], while they stand for the formula
        self.used = 0
        self.nodes = 0

    @property
    def rows(self) -> int:
        return self.outputs or 1

    def become(self, genome: Genome, c: Sequence[Tensor]) -> None:
        """Let it be these trees with these constants, which may have gradients."""
        self.genome, self.constants = genome, c

    def choose(self, found: Sequence[Found]) -> None:
        """Let it be what a search has found: one member for all results, or one for each."""
        self.found = tuple(found)
        numbers = [torch.tensor(float(x), dtype=torch.float64) for f in found for x in f.constants]
        self.become(tuple(tree for f in found for tree in f.genome), numbers)
        self.nodes = sum(f.size for f in found)

    def forward(self, *args: Tensor) -> Tensor:
        """Values of shape [...] or [..., outputs] at arguments of shape [...], or [..., arity] for a single
        one."""
        if len(args) == 1 and self.arity > 1:
            args = args[0].unbind(-1)
        X = torch.stack(torch.broadcast_tensors(*args))  # type: ignore[no-untyped-call]
        shape = X.shape[1:]
        if self.points is not None:
            self.points.append(X.detach().double().reshape(self.arity, -1))
            F = torch.zeros(self.rows, *shape, dtype=torch.float64)
        elif self.given is not None:
            count = X[0].numel()
            F = self.given[:, self.used : self.used + count].reshape(self.rows, *shape)
            self.used += count
        elif self.genome:
            F = self._values(X)
        else:
            raise RunError(
                f"the formula `{self.name}` has not been searched for yet",
                code="NDL456",
                help="`train` it, or the model that it stands in, with `optimizer = evolution(…)`",
            )
        return F[0] if self.outputs is None else F.movedim(0, -1)

    def _values(self, X: Tensor) -> Tensor:
        """[outputs, ...] at points [arity, ...]."""
        rows, at = [], 0
        for tree in self.genome:
            k = constants(tree)
            c = [x.to(X) for x in self.constants[at : at + k]]
            rows.append(values(tree, X, c, TORCH).expand(X.shape[1:]))
            at += k
        return torch.stack(rows)

    @property
    def text(self) -> str:
        """The formula as a function of the language."""
        bodies = [b for f in self.found for b in bodies_of(f, self.names)]
        body = bodies[0] if self.outputs is None else f"[{', '.join(bodies)}]"
        head = self.names[0] if self.arity == 1 else f"({', '.join(self.names)})"
        return f"{head} -> {body}"

    def lines(self) -> list[str]:
        """For a run's summary."""
        return [f"{self.name} = {self.text}"]


def names_of(arity: int) -> tuple[str, ...]:
    return LETTERS[:arity] if arity <= len(LETTERS) else tuple(f"x{k}" for k in range(1, arity + 1))


def bodies_of(f: Found, names: Sequence[str]) -> list[str]:
    found, at = [], 0
    for one in f.genome:
        k = constants(one)
        found.append(text(one, names, [float(x) for x in f.constants[at : at + k]]))
        at += k
    return found
