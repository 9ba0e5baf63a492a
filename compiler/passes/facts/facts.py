"""What is known of a model: values for the compiler, sentences for people."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from ndl.compiler.source import Span

T = TypeVar("T")


@dataclass(frozen=True)
class Fact(Generic[T]):
    """A value and why it holds, in the words of the model; lower case, no full stop."""

    value: T
    why: str


@dataclass(frozen=True)
class Break:
    """An operation at which the right-hand side or its derivative jumps, and where it stands."""

    op: str
    text: str
    span: Span


@dataclass(frozen=True)
class LinearPart:
    """One rate taken apart: terms with constant coefficients in the states, and the rest."""

    state: str
    linear: str
    rest: str


@dataclass(frozen=True)
class Conserved:
    """A sum of states that the equations keep: `coefficients` over the flat state."""

    coefficients: tuple[Fraction, ...]
    text: str


@dataclass(frozen=True)
class Separation:
    """States in two groups, the rates of each depending on the other alone (and on t)."""

    positions: tuple[str, ...]
    momenta: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Facts of one model. `None` as a value means that it could not be decided, and `why` says why not.

    equation        ode sde dae integral recurrence
    noise           none additive scalar diagonal commutative general
    correction      Stratonovich drift correction by component, as text
    linear          each rate's linear part and rest; `wholly_linear` when no rest depends on the states
    stiffness       ratio of the fastest to the slowest decay, from the Jacobian near the initial state
    breaks          discontinuities of the drift
    sparsity        (row, column) of the Jacobian's entries that are not identically 0
    conserved       sums that are constant along solutions
    separable       two groups of states, when leapfrog and yoshida4 apply
    consistent      whether the initial values of algebraic states can be solved for (index 1)
    """

    model: str
    components: tuple[str, ...]
    equation: Fact[str]
    autonomous: Fact[bool]
    noise: Fact[str]
    calculus: str
    correction: Fact[tuple[tuple[str, str], ...] | None]
    linear: Fact[tuple[LinearPart, ...] | None]
    wholly_linear: Fact[bool | None]
    stiffness: Fact[float | None]
    breaks: Fact[tuple[Break, ...]]
    sparsity: Fact[tuple[tuple[int, int], ...] | None]
    conserved: Fact[tuple[Conserved, ...]]
    separable: Fact[Separation | None]
    consistent: Fact[bool | None]

    @property
    def stiff(self) -> bool:
        """Whether the ratio of time scales calls for an implicit method."""
        return self.stiffness.value is not None and self.stiffness.value >= STIFF


STIFF = 1000.0
"""Ratio of time scales from which explicit methods are limited by stability on ordinary spans."""
