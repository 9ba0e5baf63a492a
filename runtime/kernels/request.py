"""What the runtime asks of whoever makes kernels, and what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.problem import Problem


@dataclass(frozen=True)
class Part:
    """A part of a splitting: a term followed by `steps` steps of a `solver`; by exponentials, which the
    runtime makes, where that is None; or, without a `name`, the components `moves` with the others held,
    time standing at the fraction `inside` of a step."""

    name: str = ""
    solver: Tableau | type[StepSolver] | None = None
    options: tuple[tuple[str, float], ...] = ()
    steps: int = 1
    moves: tuple[bool, ...] = ()
    inside: float = 0.0


@dataclass(frozen=True)
class Request:
    """A kernel for a model: the method, the direction, and what is to be kept.

    `solver` is a tableau, or the class of a step solver with the values of its `options`. `own` names the
    weights and inputs of which each trajectory has its own; `vector` says that there is a tolerance for each
    state, `grow` how fast a step may grow, `beta` how it heeds the error before; `backward` asks for the
    derivative; `keep` says that a run with a tape may leave arrays to it. `inside`: some saved times lie
    inside steps, which only noise asks for. `watch` says that each trajectory goes at its own time even with
    fixed steps: for events, and to see where one fails. `parts` are those of a splitting, `uneven` says
    that its last step is shorter.
    """

    solver: Tableau | type[StepSolver]
    adaptive: bool
    precision: str
    own: frozenset[str]
    save: bool
    tape: bool
    backward: bool = False
    sign: float = 1.0
    vector: bool = False
    grow: float = 10.0
    beta: float | None = None
    target: str = "cpu"
    options: tuple[tuple[str, float], ...] = ()
    noise: bool = False
    keep: bool = False
    inside: bool = False
    stepped: bool = False
    """Whether steps are whole steps of the noise, whose increments are drawn."""
    watch: bool = False
    drivers: bool = False
    """Whether the derivative is also by the coefficients of paths (of those that `own` names)."""
    parts: tuple[Part, ...] = ()
    uneven: bool = False
    undone: bool = False
    trail: bool = False
    """The run leaves what steps are taken again from: times and sizes of adaptive ones, else checkpoints."""
    stretch: bool = False
    """Not a whole run, but a stretch of one taken again from a checkpoint, or its derivative."""
    tf32: bool = False
    """Whether products of matrices on a GPU may round their factors in single precision."""


@dataclass(frozen=True)
class Weight:
    """Where a weight stands: rows `offset`, … of the table `weights`, of the buffer `own` (`each`), or of the
    table `nets` (`whole`)."""

    name: str
    shape: tuple[int, ...]
    each: bool
    offset: int
    whole: bool = False

    @property
    def size(self) -> int:
        total = 1
        for n in self.shape:
            total *= n
        return total


@dataclass(frozen=True)
class Made:
    """A kernel, the weights that it reads, how many numbers its tape has for each step, how many it keeps of
    arrays, how many are carried from step to step besides the state, and how many a checkpoint has; of the
    history of delayed states, how many rows it starts with and has for each step."""

    program: Program
    weights: tuple[Weight, ...]
    width: int
    kept: int = 0
    memory: int = 0
    held: int = 0
    past: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class PathUse:
    """An input on time: whether the equations read it, and whether the kernels want one for each trajectory
    even where all share it."""

    name: str
    read: bool
    each: bool = False


class KernelSource(Protocol):
    """Makes the kernels of one model."""

    def make(self, request: Request) -> Made | str:
        """The kernel, or why there is none, as words that follow “because”."""
        ...

    def weights(self) -> tuple[tuple[str, tuple[int, ...]], ...] | str:
        """Names and shapes of the weights and inputs that the equations read, or why there is no kernel."""
        ...

    def paths(self) -> tuple[PathUse, ...]:
        """The inputs on time, in order."""
        ...


def solver_of(problem: Problem) -> Tableau | type[StepSolver]:
    """The method as a request names it."""
    solver = problem.method.solver
    return solver if isinstance(solver, Tableau) else type(solver)


def rounds(problem: Problem, target: str) -> bool:
    """Whether products may round: where PyTorch's own may, by `torch.set_float32_matmul_precision`."""
    asked = torch.get_float32_matmul_precision() != "highest"
    return target == "triton" and problem.dtype == torch.float32 and asked


def options_of(problem: Problem) -> tuple[tuple[str, float], ...]:
    """The numbers among a step solver's own options."""
    solver = problem.method.solver
    options = solver.options if isinstance(solver, StepSolver) else {}
    kinds = (int, float, torch.Tensor)
    return tuple(sorted((k, float(v)) for k, v in options.items() if isinstance(v, kinds)))
