"""The derivative of a model's equations by one of its states, as a linear map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ndl.runtime.colouring import colouring, components, installed, library
from ndl.runtime.grids import grid_weights
from ndl.runtime.info import GridInfo, State
from ndl.runtime.matrix_free import LinearOperator, Space, probes
from ndl.runtime.meshes import mass_matrix
from torch import Tensor

SMALL = 256
"""Numbers of a state without a grid up to which the matrix is made of its columns."""


class Linearized(LinearOperator):
    """v -> dF/dx v at `x` `[n of all states]` for the F of a model, `0 = F`, `x' = F` or `x'' = F`, and one
    state. Derivatives go to the model's weights."""

    def __init__(self, model: Any, state: State, x: Tensor, space: Space, back: bool = False) -> None:
        super().__init__(space)
        self.model, self.state, self.x, self.back = model, state, x, back
        self.rate = highest(model, state)
        # F is a sum against the functions of the nodes of a mesh
        self.tested = state.algebraic and any(g.mesh for g in model.GRIDS)

    def residual(self, part: Tensor) -> Tensor:
        """F of the state's own equation for its values `[..., n]`, the other states held."""
        x = self.x.expand(*part.shape[:-1], self.x.shape[-1])
        a, b = self.state.places.start, self.state.places.stop
        whole = torch.cat([x[..., :a], part, x[..., b:]], -1)
        t = whole.new_zeros(whole.shape[:-1])
        found: Tensor = self.model.vector_field(t, whole)[..., self.rate.places]
        return found

    @property
    def own(self) -> Tensor:
        return self.x[self.state.places]

    def act(self, v: Tensor) -> Tensor:
        v = self.space.vector(self.space.values(v))
        if not torch.is_grad_enabled() and self.matrix is not None:
            return self._by_matrix(v)
        found = self._pulled(v) if self.back else self._along(v)
        return self.space.vector(self.space.values(found))

    def _by_matrix(self, v: Tensor) -> Tensor:
        """The same without derivatives, where the sparse matrix is known."""
        free = self.space.free.numpy()
        rows = v.double().reshape(-1, self.space.n).numpy()
        found = np.zeros_like(rows)
        found[:, free] = (self.matrix @ rows[:, free].T).T
        return self.space.primal(v.new_tensor(found).reshape(v.shape))

    def _along(self, v: Tensor) -> Tensor:
        at = self.own.expand_as(v).clone()
        found: Tensor = torch.func.jvp(self.residual, (at,), (v.to(at.dtype),))[1]
        if self.tested:
            found = self.space.primal(self.space.vector(self.space.values(found)))
        return found

    def _pulled(self, v: Tensor) -> Tensor:
        w = v if self.tested else self.space.dual(v)
        at = self.own.expand_as(v).clone()
        (found,) = torch.func.vjp(self.residual, at)[1](w.to(at.dtype))
        return self.space.primal(self.space.vector(self.space.values(found)))

    def transposed(self) -> LinearOperator:
        return Linearized(self.model, self.state, self.x, self.space, not self.back)

    # ------------------------------------------------------------ as a sparse matrix

    def weak(self) -> Any:
        J = self._jacobian()
        if J is None:
            return None
        free = self.space.free.numpy()
        inside = J[free][:, free].tocsr()
        if not self.tested:
            inside = (self.space.matrix @ inside).tocsr()
        return inside.T.tocsr() if self.back else inside

    def _jacobian(self) -> Any:
        """dF/dx of the state, a sparse matrix where its equation reads few neighbours."""
        grids = self.model.GRIDS
        if not installed():
            return None
        with torch.no_grad():
            if not grids:
                return self._columns() if self.space.n <= SMALL else None
            if len(grids) != 1 or not grids[0].reach or any(r < 0 for r in grids[0].reach):
                return None
            colours = colouring(grids[0], components(grids[0], [self.state]))
            (J,) = colours.matrices(self.residual, self.own[None])
        return J

    def _columns(self) -> Any:
        eye = torch.eye(self.space.n, dtype=torch.float64)
        J = torch.func.jvp(self.residual, (self.own.expand_as(eye).clone(),), (eye,))[1]
        return library().csr_matrix(J.T.numpy())


def highest(model: Any, state: State) -> State:
    """The state of first order whose rate is that of the equation of a state: of `x'' = F`, x'."""
    names = {s.name: s for s in model.STATES}
    while state.name + "'" in names:
        state = names[state.name + "'"]
    return state


def linearized(
    model: Any, state: State, x: Tensor, ends: Sequence[Sequence[float]], held: bool, lumped: bool = False
) -> Linearized:
    """The map at `x`, all states. `ends` are the corrections of the grid's quadrature at the ends of each
    axis; `held`: the field has conditions, which may give its value somewhere; `lumped`: the mass matrix of a
    mesh is that of its row sums."""
    x = x.detach().to(torch.float64)
    if not model.GRIDS or not state.shape:
        return Linearized(model, state, x, Space(state.shape))
    (grid,) = model.GRIDS[:1]
    points = int(np.prod([layout[1] for layout in grid.layouts]))
    if state.size % points:
        return Linearized(model, state, x, Space(state.shape))
    each = state.size // points
    mass = mass_matrix(grid.mesh, each) if grid.mesh else None
    weights = None if grid.mesh else _weights(grid, ends, each)
    if mass is not None and lumped:
        weights, mass = torch.from_numpy(np.asarray(mass.sum(axis=1)).ravel()), None
    free = _free(Linearized(model, state, x, Space(state.shape)), grid, each) if held else None
    return Linearized(model, state, x, Space(state.shape, weights, mass, free))


def _weights(grid: GridInfo, ends: Sequence[Sequence[float]], each: int) -> Tensor:
    """The weights of the integral for each number of a field."""
    found = torch.ones(1, dtype=torch.float64)
    for layout, own in zip(grid.layouts, ends):
        found = torch.outer(found, grid_weights(layout, own)).reshape(-1)
    return found.repeat_interleave(each)


def _free(A: Linearized, grid: GridInfo, each: int) -> Tensor:
    """Where no condition gives the value: there the equation is the distance from what is given, or a rate
    that is 0, and reads nothing else."""
    with torch.no_grad():
        given = _at_ends(grid, each)
        for v in probes(A.space.n):
            image = torch.func.jvp(A.residual, (A.own,), (v,))[1]
            given &= (image - (v if A.state.algebraic else 0.0)).abs() <= 1e-14 * v.abs()
    return ~given


def free_places(model: Any, A: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """The same `[n]` for all states of a model of equations `0 = …` and their derivative."""
    given = torch.zeros(like.shape[-1], dtype=torch.bool)
    for grid in model.GRIDS[:1]:
        points = int(np.prod([layout[1] for layout in grid.layouts]))
        for s in model.STATES:
            if s.size % points == 0:
                given[s.places] = _at_ends(grid, s.size // points)
    with torch.no_grad():
        for v in probes(like.shape[-1]):
            probe = v.to(like).expand(like.shape).clone()
            apart = (A(probe) - probe).abs() <= 1e-14 * probe.abs()
            given &= apart.reshape(-1, like.shape[-1]).all(0).cpu()
    return ~given


def _at_ends(grid: GridInfo, each: int) -> Tensor:
    """The points at ends of axes; of a mesh all."""
    found = torch.full((1,), bool(grid.mesh))
    for kind, n, _, _ in grid.layouts:
        own = torch.zeros(n, dtype=torch.bool)
        if kind in ("nodes", "chebyshev"):
            own[0] = own[-1] = True
        found = (found[:, None] | own).reshape(-1)
    return found.repeat_interleave(each)
