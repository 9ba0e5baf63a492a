"""Fluxes at faces wave by wave: each characteristic field of a system is reconstructed on its own.

At a face the Jacobian A of the fluxes, at the mean of both states, has the eigenvalues l_k; what belongs to
wave k of a vector is P_k times it, with the projectors P_k = prod_(j != k) (A - l_j)/(l_k - l_j) onto the
eigenvectors, and the sum of all is the vector. For an eigenvalue of one eigenvector all entries of P_k v are
multiples of the amplitude that the left eigenvector gives, so that their reconstruction is that of the
amplitude: the characteristic-wise scheme of Shu (1998), "Essentially non-oscillatory and weighted essentially
non-oscillatory schemes for hyperbolic conservation laws", Procedure 2.8, with the largest speed of each wave
at both neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.diffusive import entries
from ndl.compiler.lower.faces import lower_face, upper_face
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.speeds import Matrix, blocks, eigenvalues
from ndl.compiler.ops.adjoint import extents

if TYPE_CHECKING:
    from ndl.compiler.lower.models import Slot
    from ndl.compiler.lower.schemes import Axial

Square = list[list[Node]]
MOST = 3
"""Unknowns whose eigenvalues have a closed form."""
LEAST = 1e-10
"""The distance of two speeds, below which they count as this far apart."""


class Waves:
    """The faces of one axis: `matrix` is the Jacobian of the fluxes of all unknowns at each point."""

    def __init__(self, axial: Axial, slots: Sequence[Slot], fluxes: dict[str, Node], matrix: Matrix) -> None:
        self.axial, self.p, self.grids = axial, axial.p, axial.grids
        self.fluxes, self.slots = fluxes, slots
        self.unknowns = [(s.spec.name, i) for s in slots for i in entries(fluxes[s.spec.name], self.grids)]
        self.parts = [(block, self._entries(matrix, block)) for block in blocks(matrix)]
        largest = max(self.parts, key=lambda part: len(part[0]))[0]
        if len(largest) > MOST:
            names = ", ".join(f"`{n}`" for n in dict.fromkeys(self.unknowns[i][0] for i in largest))
            what = f"{len(largest)} unknowns ({names}) depend on each other along `{axial.axis.name}`"
            why = "`fluxes=characteristic` takes waves apart of two and three unknowns"
            help = "use `fluxes=components`"
            raise fail("NDL454", f"{why}, and {what}", slots[0].spec.span, help=help)
        self.speeds = [eigenvalues(self.p, a) for _, a in self.parts]

    def _entries(self, matrix: Matrix, block: Sequence[int]) -> Square:
        like = next(iter(self.fluxes.values()))
        like = self.p.component(like, entries(like, self.grids)[0], self.grids)
        zero = self.p.number(0.0, like)
        return [[zero if (x := matrix[i][j]) is None else x for j in block] for i in block]

    def faces(self, k: int) -> dict[str, Node]:
        """The fluxes of all states at the face between k and k + 1."""
        found: dict[tuple[str, tuple[int, ...]], Node] = {}
        for (block, a), speeds in zip(self.parts, self.speeds):
            names = [self.unknowns[i] for i in block]
            found.update(zip(names, self._block(names, a, speeds, k)))
        return {s.spec.name: self._joined(s.spec.name, found) for s in self.slots}

    def _joined(self, name: str, found: dict[tuple[str, tuple[int, ...]], Node]) -> Node:
        places = entries(self.fluxes[name], self.grids)
        parts = [found[name, i] for i in places]
        if places == [()]:
            return parts[0]
        whole = self.p.graph.add("stack", parts, axis=self.grids)
        if len(places[0]) > 1:
            shape = extents(self.fluxes[name])
            whole = self.p.graph.add("reshape", [whole], shape=shape)
        return whole

    def _block(
        self, names: Sequence[tuple[str, tuple[int, ...]]], a: Square, speeds: list[Node], k: int
    ) -> list[Node]:
        """The fluxes of unknowns that depend on each other."""
        p, axial = self.p, self.axial
        at = axial.at
        fastest = [p.most(p.op("abs", at(s, k)), p.op("abs", at(s, k + 1))) for s in speeds]
        states = axial.schemes.inputs
        whole = [
            self._list([p.component(each[n], i, self.grids) for n, i in names])
            for each in (self.fluxes, states)
        ]
        if len(names) > 1:
            onto = self._projectors(a, k)
            flux, state = ([self._apart(onto, at(v, j)) for j in range(k - 2, k + 4)] for v in whole)
        else:
            flux, state = ([at(v, j) for j in range(k - 2, k + 4)] for v in whole)
        speed = p.wide(self._list(fastest), flux[0])

        def part(j: int, sign: float) -> Node:
            return p.add(flux[j - k + 2], p.times(sign, p.mul(speed, state[j - k + 2])))

        up = upper_face(p, axial.scheme, lambda j: part(j, 1.0), k)
        down = lower_face(p, axial.scheme, lambda j: part(j, -1.0), k)
        total = p.times(0.5, p.add(up, down))
        if len(names) == 1:
            return [total]
        total = p.graph.add("sum", [total], axes=(self.grids,))
        return [p.component(total, (i,), self.grids) for i in range(len(names))]

    def _list(self, parts: Sequence[Node]) -> Node:
        return self.p.graph.add("stack", list(parts), axis=self.grids) if len(parts) > 1 else parts[0]

    def _apart(self, onto: Node, vector: Node) -> Node:
        """What belongs to each wave of a vector, `[…, waves, unknowns]`."""
        g = "abc"[: self.grids]
        equation = f"{g}kij,{g}j->{g}ki"
        return self.p.graph.add("einsum", [onto, vector], equation=equation)

    def _projectors(self, a: Square, k: int) -> Node:
        """P_k at the face, `[…, waves, unknowns, unknowns]`."""
        p, axial = self.p, self.axial
        inputs = axial.schemes.inputs.values()
        here = [n for n in inputs if axial.axis in axial.schemes.slots[n.id].axes]
        mean = {n.id: p.times(0.5, p.add(axial.at(n, k), axial.at(n, k + 1))) for n in here}
        image = axial.near.image(k, mean)
        waves = projectors(p, [[axial.near.replaced(x, image) for x in row] for row in a])
        rows = [[self._list(row) for row in wave] for wave in waves]
        each = [p.graph.add("stack", wave, axis=self.grids) for wave in rows]
        return p.graph.add("stack", each, axis=self.grids)


def projectors(p: Pointwise, a: Square) -> list[Square]:
    """Those of a matrix of two or three rows onto its eigenspaces, in the order of the eigenvalues. Their
    sum is the unit matrix also where eigenvalues meet."""
    low, *middle, high = eigenvalues(p, a)
    one = [[p.number(float(i == j), low) for j in range(len(a))] for i in range(len(a))]
    if not middle:
        width = p.op("neg", _gap(p, low, high))
        first = _divided(p, _less(p, a, high), width)
        return [first, _minus(p, one, first)]
    centre, wide = middle[0], _gap(p, low, high)
    first, last = (
        _divided(p, _product(p, _less(p, a, centre), _less(p, a, other)), p.mul(wide, _gap(p, *ends)))
        for other, ends in ((high, (low, centre)), (low, (centre, high)))
    )
    return [first, _minus(p, _minus(p, one, first), last), last]


def _gap(p: Pointwise, lower: Node, upper: Node) -> Node:
    return p.most(p.sub(upper, lower), p.number(LEAST, upper))


def _less(p: Pointwise, a: Square, speed: Node) -> Square:
    return [[p.sub(x, speed) if i == j else x for j, x in enumerate(row)] for i, row in enumerate(a)]


def _product(p: Pointwise, a: Square, b: Square) -> Square:
    return [[p.add(*(p.mul(x, y) for x, y in zip(row, column))) for column in zip(*b)] for row in a]


def _divided(p: Pointwise, a: Square, by: Node) -> Square:
    return [[p.div(x, by) for x in row] for row in a]


def _minus(p: Pointwise, a: Square, b: Square) -> Square:
    return [[p.sub(x, y) for x, y in zip(*rows)] for rows in zip(a, b)]


__all__ = ["Waves"]
