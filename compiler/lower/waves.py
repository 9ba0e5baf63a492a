"""Fluxes at faces wave by wave: each characteristic field of a system is reconstructed on its own.

At a face the Jacobian A of the fluxes, at the mean of both states, has the eigenvalues l_k; what belongs to
wave k of a vector is P_k times it, with the projectors P_k = prod_(j != k) (A - l_j)/(l_k - l_j) onto the
eigenvectors, and the sum of all is the vector. For an eigenvalue of one eigenvector all entries of P_k v are
multiples of the amplitude that the left eigenvector gives, so that their reconstruction is that of the
amplitude: the characteristic-wise scheme of Shu (1998), "Essentially non-oscillatory and weighted essentially
non-oscillatory schemes for hyperbolic conservation laws", Procedure 2.8, with the largest speed of each wave
at both neighbours. Waves of the same speed are reconstructed together, entry by entry. How many speeds are
different is seen of the matrix at random states, when the model is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.lower.diffusive import entries
from ndl.compiler.lower.faces import lower_face, upper_face
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.speeds import Matrix, blocks, few_eigenvalues
from ndl.compiler.ops.adjoint import extents

if TYPE_CHECKING:
    from ndl.compiler.lower.models import Slot
    from ndl.compiler.lower.schemes import Axial

Square = list[list[Node]]
CLOSED = 3
"""Different speeds that have a closed form."""
MOST = 5
"""Different speeds where some unknowns share one: more are not told apart by the traces of powers."""
MOST_SIMPLE = 8
"""Where each unknown has a speed of its own."""
POINTS = 64
"""Points at which it is seen how many speeds are different."""
SAME = 1e-6
"""The distance of two eigenvalues that count as one, over the largest: rounding parts double ones by its
root."""
LEAST = 1e-10
"""The distance of two speeds, below which they count as this far apart."""


class Waves:
    """The faces of one axis: `matrix` is the Jacobian of the fluxes of all unknowns at each point."""

    def __init__(self, axial: Axial, slots: Sequence[Slot], fluxes: dict[str, Node], matrix: Matrix) -> None:
        self.axial, self.p, self.grids = axial, axial.p, axial.grids
        self.fluxes, self.slots = fluxes, slots
        self.unknowns = [(s.spec.name, i) for s in slots for i in entries(fluxes[s.spec.name], self.grids)]
        self.parts = [(block, self._entries(matrix, block)) for block in blocks(matrix)]
        self.speeds = [few_eigenvalues(self.p, a, self._different(block, a)) for block, a in self.parts]

    def _different(self, block: Sequence[int], a: Square) -> int:
        """How many speeds of some unknowns are different. Raises `NDLError` for more than are served."""
        count = len(a) if len(a) <= CLOSED else different(self.p.graph, a)
        if count is not None and count <= (MOST_SIMPLE if count == len(a) else MOST):
            return count
        names = ", ".join(f"`{n}`" for n in dict.fromkeys(self.unknowns[i][0] for i in block))
        many = "" if count is None else f", with {count} different speeds"
        what = f"{len(block)} unknowns ({names}) depend on each other along `{self.axial.axis.name}`{many}"
        why = f"`fluxes=characteristic` takes apart waves of up to {MOST} different speeds, of up to "
        why += f"{MOST_SIMPLE} where no unknowns share one"
        raise fail("NDL454", f"{why}, and {what}", self.slots[0].spec.span, help="use `fluxes=components`")

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
            onto = self._projectors(a, speeds, k)
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

    def _projectors(self, a: Square, speeds: Sequence[Node], k: int) -> Node:
        """P_k at the face, `[…, waves, unknowns, unknowns]`."""
        p, axial = self.p, self.axial
        inputs = axial.schemes.inputs.values()
        moving = [n for n in inputs if axial.axis in axial.schemes.slots[n.id].axes]
        mean = {n.id: p.times(0.5, p.add(axial.at(n, k), axial.at(n, k + 1))) for n in moving}
        image = axial.near.image(k, mean)
        here = [[axial.near.replaced(x, image) for x in row] for row in a]
        there = [axial.near.replaced(s, image) for s in speeds]
        if len(there) > CLOSED:
            return many_projectors(p, here, there, self.grids)
        waves = projectors(p, here, there)
        rows = [[self._list(row) for row in wave] for wave in waves]
        each = [p.graph.add("stack", wave, axis=self.grids) for wave in rows]
        return p.graph.add("stack", each, axis=self.grids)


def different(graph: Graph, a: Square) -> int | None:
    """How many eigenvalues of a matrix are different at random states; None where that cannot be told."""
    import torch
    from ndl.compiler.ir.interpret import interpret

    nodes = [x for row in a for x in row]
    needed = graph.needed(nodes)
    if any(n.op in ("call", "path", "apply") for n in needed):
        return None
    draw = torch.Generator().manual_seed(0)

    def values(op: str) -> dict[str, torch.Tensor]:
        # positive numbers, for densities and the like
        named = {n.attr("name"): extents(n) for n in needed if n.op == op}
        return {k: 0.5 + torch.rand(s, generator=draw, dtype=torch.float64) for k, s in named.items()}

    outputs = tuple((str(k), x) for k, x in enumerate(nodes))
    got = interpret(Function("speeds", graph, (), outputs), values("input"), values("param"))
    entries = torch.stack([got[str(k)].double().reshape(-1)[:POINTS] for k in range(len(nodes))], -1)
    found = torch.linalg.eigvals(entries.reshape(-1, len(a), len(a))[torch.isfinite(entries).all(-1)])
    size = found.abs().amax(-1, keepdim=True)
    gaps = (found[:, :, None] - found[:, None]).abs() > SAME * size[..., None]
    # each value counts as the share that it is of those like it
    many = (1 / (~gaps).double().sum(-1)).sum(-1).round()
    return int(many.max()) if len(many) else None


def projectors(p: Pointwise, a: Square, speeds: Sequence[Node]) -> list[Square]:
    """Those of a matrix onto its eigenspaces, in the order of its two or three different eigenvalues. Their
    sum is the unit matrix also where eigenvalues meet."""
    low, *middle, high = speeds
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


def many_projectors(p: Pointwise, a: Square, speeds: Sequence[Node], grids: int) -> Node:
    """Those onto the eigenspaces of any number of different eigenvalues, `[…, waves, unknowns, unknowns]`;
    the middle one is what the others leave."""
    graph, m = p.graph, len(a)

    def matrix(rows: Square) -> Node:
        return graph.add("stack", [graph.add("stack", row, axis=grids) for row in rows], axis=grids)

    def apart(s: Node) -> Node:
        return matrix(_less(p, a, s))

    g = "abc"[:grids]
    product = f"{g}ij,{g}jk->{g}ik"
    factors = [apart(s) for s in speeds]
    middle, found = len(speeds) // 2, []
    for k, own in enumerate(speeds):
        if k == middle:
            continue
        others = [j for j in range(len(speeds)) if j != k]
        total, scale = factors[others[0]], _signed_gap(p, own, speeds[others[0]], k > others[0])
        for j in others[1:]:
            total = graph.add("einsum", [total, factors[j]], equation=product)
            scale = p.mul(scale, _signed_gap(p, own, speeds[j], k > j))
        found.append(p.div(total, p.wide(scale, total)))
    one = matrix([[p.number(float(i == j), speeds[0]) for j in range(m)] for i in range(m)])
    found.insert(middle, p.sub(one, p.add(*found)))
    return graph.add("stack", found, axis=grids)


def _signed_gap(p: Pointwise, own: Node, other: Node, above: bool) -> Node:
    return _gap(p, other, own) if above else p.op("neg", _gap(p, own, other))


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
