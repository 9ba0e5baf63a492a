"""Schemes for what carries fields: fluxes at the faces between points instead of central differences.

Rates of the form d(f)/dx become the difference of numerical fluxes, local Lax–Friedrichs (Rusanov 1961).
`upwind` and `weno5` split the flux at the points, (f ± a u)/2 a being the larger speed of both neighbours,
and reconstruct each part (Shu and Osher 1988, J. Comput. Phys. 77, 439–471); the limited schemes reconstruct
the states and take the flux of both (Kurganov and Tadmor 2000, J. Comput. Phys. 160, 241–282). Slopes carried
by a factor are differences from the side that the factor's sign tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ndl.compiler.check.values import Axis
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.autodiff import NotDifferentiable, pushforward
from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.grid import LIMITED
from ndl.compiler.ir.model import SchemeSpec
from ndl.compiler.lower.diffusive import Diffusive, entries, unit
from ndl.compiler.lower.faces import REACH, lower_face, reconstructed, upper_face
from ndl.compiler.lower.neighbours import Neighbours
from ndl.compiler.lower.pointwise import Pointwise
from ndl.compiler.lower.speeds import HOW, blocks, radius
from ndl.compiler.lower.transport import Carried, Transport
from ndl.compiler.lower.waves import Waves
from ndl.compiler.ops.adjoint import shape as shape_of

if TYPE_CHECKING:
    from ndl.compiler.check.models import Elaboration
    from ndl.compiler.lower.builder import GraphBuilder
    from ndl.compiler.lower.models import ModelLowering, Slot

Unknown = tuple["Slot", tuple[int, ...]]
SLOPE = "the factor of its slope"
LEFT = "neither a flux nor a slope times a factor"


@dataclass
class Schemes:
    """The rates of one function whose fields have schemes."""

    lowering: ModelLowering
    root: Elaboration
    findings: list[SchemeSpec] = field(default_factory=list)
    paces: list[tuple[Axis, tuple[str, ...], Node]] = field(default_factory=list)
    """Speeds over widths of cells, at each point, by what they carry: what limits an explicit step."""

    def __post_init__(self) -> None:
        ev = self.root.ev
        self.fields = ev.fields
        self.builder: GraphBuilder = ev.builder  # type: ignore[assignment]
        self.p = Pointwise(self.builder.graph)
        names = {s.spec.name: s for s in self.lowering.slots if s.axes}
        inputs = [n for n in self.p.graph if n.op == "input" and n.attr("name") in names]
        self.inputs = {n.attr("name"): n for n in inputs}
        self.slots = {n.id: names[n.attr("name")] for n in inputs}
        self.rests: list[tuple[Slot, Node | None]] = []
        """What of each rate no scheme carries."""

    # ------------------------------------------------------------ what is found

    def applied(self, rates: list[tuple[Slot, Node]]) -> dict[str, Node]:
        """The rates by the names of their states, those of fields with their schemes."""
        self.transport = Transport(
            self.p.graph,
            {i: (v.ref, a) for i, (v, a) in self.fields.slopes.items() if self._scheme(a) != "central"},
            list(self.inputs.values()),
            self._varies,
        )
        before = len(self.p.graph)
        taken = []
        for slot, rate in rates:
            taken.append((slot, rate, self.transport.take(rate)))
            if self.transport.left:
                self.findings.append(SchemeSpec("", "central", (slot.spec.name,), LEFT))
                self.transport.left.clear()
        self.rests = [(slot, c.rest if c.moves else rate) for slot, rate, c in taken]
        found = {slot.spec.name: rate for slot, rate, c in taken if not c.moves}
        moving = [(slot, c) for slot, _, c in taken if c.moves]
        totals = {slot.spec.name: c.rest for slot, c in moving}
        for axis in dict.fromkeys(a for s, _ in moving for a in s.axes):
            for name, part in self._along(axis, moving).items():
                rest = totals[name]
                totals[name] = part if rest is None else self.p.add(rest, part)
        found |= {k: v for k, v in totals.items() if v is not None}
        self.builder.adopt()
        self.builder.smooth_nodes |= set(range(before, len(self.p.graph)))
        return found

    @property
    def limited(self) -> bool:
        """Whether something limits explicit steps."""
        diffusive = Diffusive(self)
        return bool(self.paces) or any(r is not None and diffusive.present(r) for _, r in self.rests)

    def pace(self) -> Node:
        """The largest sum over coordinates of speeds over widths of cells, and of what derivatives of higher
        order add."""
        for slot, rest in self.rests:
            if rest is not None:
                found = Diffusive(self).paces(slot, rest)
                self.paces += [(axis, (slot.spec.name,), node) for axis, node in found]
        if not self.paces:
            return self.builder.graph.add("const", value=0.0)
        domains: dict[str, list[Node]] = {}
        for axis in dict.fromkeys(a for a, _, _ in self.paces):
            here = [(names, n) for a, names, n in self.paces if a is axis]
            sums = dict.fromkeys(
                tuple(k for k, (names, _) in enumerate(here) if name in names) for name in _names(here)
            )
            each = [self.p.add(*(here[k][1] for k in places)) for places in sums]
            domains.setdefault(self.fields.space.owner[axis][0], []).append(self.p.most(*each))
        largest = []
        for parts in domains.values():
            total = self.p.add(*parts)
            axes = tuple(range(len(shape_of(total))))
            largest.append(self.p.graph.add("amax", [total], axes=axes))
        self.builder.adopt()
        return self.p.most(*largest)

    def _scheme(self, axis: Axis) -> str:
        found: str = self.fields.space.grid_axis(axis).scheme
        return found

    def _varies(self, node: Node, axis: Axis) -> bool:
        """Whether a source varies along an axis: its coordinate, or a coefficient that is a field."""
        if node.id in self.fields.coordinates:
            return self.fields.coordinates[node.id] is axis
        return node.id in self._leaves(axis)

    def _leaves(self, axis: Axis) -> dict[int, int]:
        """Sources that vary along an axis, with its place in each."""
        found = {
            n.id: self.slots[n.id].axes.index(axis)
            for n in self.inputs.values()
            if axis in self.slots[n.id].axes
        }
        for i, v in self.root.site.leaves.items():  # type: ignore[attr-defined]
            if axis in v.axes:
                found[i] = v.axes.index(axis)
        found |= {i: 0 for i, a in self.fields.coordinates.items() if a is axis}
        return found

    # ------------------------------------------------------------ one axis

    def _along(self, axis: Axis, moving: Sequence[tuple[Slot, Carried]]) -> dict[str, Node]:
        fluxes = {s.spec.name: self.p.op("neg", c.fluxes[axis]) for s, c in moving if axis in c.fluxes}
        slots = [s for s, c in moving if axis in c.fluxes]
        own = [(s, a, w) for s, c in moving for a, w, x in c.slopes if x is axis]
        if not fluxes and not own:
            return {}
        axes = next(s.axes for s, _ in moving if axis in s.axes)
        extents = tuple(a.extent.constant or 0 for a in axes)
        one = Axial(self, axis, axes, Neighbours(self.fields, axis, self._leaves(axis), self.slots, extents))
        found = one.conserved(slots, fluxes) if fluxes else {}
        for slot, a, w in own:
            part = one.carried(slot, a, w)
            name = slot.spec.name
            found[name] = self.p.add(found[name], part) if name in found else part
        return found


@dataclass
class Axial:
    """One axis of one grid."""

    schemes: Schemes
    axis: Axis
    axes: tuple[Axis, ...]
    near: Neighbours

    def __post_init__(self) -> None:
        self.p, self.grids = self.schemes.p, len(self.axes)
        self.place = self.axes.index(self.axis)
        self.scheme = self.near.grid.scheme
        self.lists: dict[tuple[int, ...], Node] = {}

    def at(self, node: Node, k: int) -> Node:
        return self.near.at(node, self.place, k)

    # ------------------------------------------------------------ balances

    def conserved(self, slots: Sequence[Slot], fluxes: dict[str, Node]) -> dict[str, Node]:
        """-d(flux)/dx of each state, by the fluxes at faces."""
        speed, waves = self._speed(slots, fluxes)
        states = {s.spec.name: self.schemes.inputs[s.spec.name] for s in slots}
        faces: dict[tuple[str, int], Node] = {}

        def face(name: str, k: int) -> Node:
            if (name, k) not in faces:
                make = self._limited if self.scheme in LIMITED else self._split
                found = make(states, fluxes, speed, k) if waves is None else waves.faces(k)
                faces.update({(n, k): f for n, f in found.items()})
            return faces[name, k]

        found = {}
        for name in fluxes:
            difference = self.near.difference(lambda k, name=name: face(name, k), self.place)  # type: ignore[misc]
            found[name] = self.p.op("neg", difference)
        return found

    def _split(
        self, states: dict[str, Node], fluxes: dict[str, Node], speed: Node | None, k: int
    ) -> dict[str, Node]:
        """Both parts of the fluxes, each from its own side, at the face between k and k + 1."""
        p, found = self.p, {}
        alone = [n for n, u in states.items() if len(shape_of(u)) == self.grids]
        if len(alone) > 1:
            # numbers as one list: a third of the operations
            rest = [n for n in states if n not in alone]
            both = [self._joined(each, alone, rest) for each in (states, fluxes)]
            made = self._split(both[0], both[1], speed, k)
            whole = made.pop("")
            return made | {n: p.component(whole, (j,), self.grids) for j, n in enumerate(alone)}
        fastest = None if speed is None else p.most(self.at(speed, k), self.at(speed, k + 1))
        for name, flux in fluxes.items():
            u = states[name]
            a = p.number(0.0, u) if fastest is None else p.wide(fastest, u)

            def part(j: int, sign: float, flux: Node = flux, u: Node = u, a: Node = a) -> Node:
                return p.add(self.at(flux, j), p.times(sign, p.mul(a, self.at(u, j))))

            up = upper_face(p, self.scheme, lambda j: part(j, 1.0), k)
            down = lower_face(p, self.scheme, lambda j: part(j, -1.0), k)
            found[name] = p.times(0.5, p.add(up, down))
        return found

    def _joined(self, each: dict[str, Node], alone: list[str], rest: list[str]) -> dict[str, Node]:
        name = tuple(each[n].id for n in alone)
        if name not in self.lists:
            self.lists[name] = self.p.graph.add("stack", [each[n] for n in alone], axis=self.grids)
        return {"": self.lists[name], **{n: each[n] for n in rest}}

    def _limited(
        self, states: dict[str, Node], fluxes: dict[str, Node], speed: Node | None, k: int
    ) -> dict[str, Node]:
        """The fluxes of the states on both sides of a face, and what damps their difference."""
        p, inputs = self.p, self.schemes.inputs.values()
        here = [n for n in inputs if self.axis in self.schemes.slots[n.id].axes]
        sides = []
        for place, of in ((k, upper_face), (k + 1, lower_face)):
            made = {n.id: of(p, self.scheme, lambda j, n=n: self.at(n, j), k) for n in here}  # type: ignore[misc]
            image = self.near.image(place, made)
            values = {name: self.near.replaced(f, image) for name, f in fluxes.items()}
            fast = None if speed is None else self.near.replaced(speed, image)
            sides.append((made, values, fast))
        (below, lower, slow), (above, upper, fast) = sides
        found = {}
        for name, u in states.items():
            total = p.add(lower[name], upper[name])
            if slow is not None and fast is not None:
                a = p.wide(p.most(slow, fast), u)
                total = p.sub(total, p.mul(a, p.sub(above[u.id], below[u.id])))
            found[name] = p.times(0.5, total)
        return found

    # ------------------------------------------------------------ speeds

    def _speed(
        self, slots: Sequence[Slot], fluxes: dict[str, Node]
    ) -> tuple[Node | None, Waves | None]:  # fmt: skip
        """The spectral radius of the derivative of the fluxes by their states, and where fluxes are taken
        wave by wave what does that."""
        unknowns = [(s, index) for s in slots for index in entries(fluxes[s.spec.name], self.grids)]
        rows = [self.p.component(fluxes[s.spec.name], index, self.grids) for s, index in unknowns]
        matrix = [[self._slope(row, u) for u in unknowns] for row in rows]
        found = radius(self.p, matrix, rows[0])
        if found is not None:
            carried = tuple(s.spec.name for s in slots)
            self.schemes.paces.append((self.axis, carried, self.p.times(1 / self.near.grid.step, found)))
        names = [s.spec.name + "".join(f"[{i}]" for i in index) for s, index in unknowns]
        for block in blocks(matrix):
            how = HOW.get(len(block), "bound by the trace of the eighth power")
            if all(matrix[i][j] is None for i in block for j in block):
                how = "0"
            states = tuple(names[i] for i in block)
            self.schemes.findings.append(SchemeSpec(self.axis.name, self.scheme, states, how))
        return found, Waves(self, slots, fluxes, matrix) if self.near.grid.characteristic else None

    def _slope(self, flux: Node, unknown: Unknown) -> Node | None:
        """The derivative of a flux at each point by an entry of a state there."""
        slot, index = unknown
        graph, u = self.p.graph, self.schemes.inputs[slot.spec.name]
        try:
            return pushforward(graph, flux, self._seeds(flux, u, index), ())
        except NotDifferentiable as e:
            what = f"the flux along `{self.axis.name}` has no derivative by `{slot.spec.name}`: {e}"
            raise fail("NDL454", what, slot.spec.span, help="use `scheme=central`") from e

    def _seeds(self, flux: Node, u: Node, index: tuple[int, ...]) -> dict[int, Node]:
        """Tangents: of the entries of a state where only they are read, so that 0 is known to be 0."""
        users = [n for n in self.p.graph.needed([flux]) if u.id in n.inputs]
        if len(index) != 1 or any(n.op != "index" or n.attr("axis") != self.grids for n in users):
            return {u.id: unit(self.p, u, index, self.grids)}
        return {n.id: self.p.number(1.0, n) for n in users if n.attr("at") == index[0]}

    # ------------------------------------------------------------ slopes that are carried

    def carried(self, slot: Slot, a: Node, w: Node) -> Node:
        """a dw/dx, from the side from which it comes."""
        p, u = self.p, self.schemes.inputs[slot.spec.name]
        while w.op == "neg":
            (w,), a = p.graph.operands(w), p.op("neg", a)
        against = self._against(slot, a, w, u)
        h = 1 / self.near.grid.step

        def gap(k: int) -> Node:
            return p.times(h, p.sub(self.at(w, k + 1), self.at(w, k)))

        r = REACH[self.scheme]
        left = reconstructed(p, self.scheme, [gap(j - 1) for j in range(-r, r + 1)])
        right = reconstructed(p, self.scheme, [gap(-j) for j in range(-r, r + 1)])
        fast = p.op("abs", against)
        for _ in range(len(shape_of(fast)) - self.grids):
            fast = p.graph.add("amax", [fast], axes=(len(shape_of(fast)) - 1,))
        name = slot.spec.name
        self.schemes.paces.append((self.axis, (name,), p.times(h, fast)))
        self.schemes.findings.append(SchemeSpec(self.axis.name, self.scheme, (name,), SLOPE))
        if against is a:
            return p.add(p.mul(p.negative(a), left), p.mul(p.positive(a), right))
        upwards = p.op("lt", against, p.number(0.0, against))
        return p.mul(a, p.op("select", upwards, left, right))

    def _against(self, slot: Slot, a: Node, w: Node, u: Node) -> Node:
        """The factor times dw/du: its sign tells from where the state comes."""
        if _same(self.p, w, u):
            return a
        states = {n.id for n in self.p.graph.needed([w]) if n.id in self.schemes.slots}
        if states == {u.id} and len(shape_of(u)) == self.grids:
            slope = self._slope(w, (slot, ()))
            if slope is not None:
                return self.p.mul(a, slope)
        others = ", ".join(f"`{self.schemes.slots[i].spec.name}`" for i in sorted(states))
        what = f"`scheme={self.scheme}` does not apply to the rate of `{slot.spec.name}`"
        raise fail(
            "NDL454",
            f"{what}: a slope of {others} along `{self.axis.name}` is carried by a factor that varies",
            slot.spec.span,
            help="write it as the divergence of a flux, or use `scheme=central`",
        )


def _names(here: Sequence[tuple[tuple[str, ...], Node]]) -> list[str]:
    return list(dict.fromkeys(name for names, _ in here for name in names))


def _same(p: Pointwise, w: Node, u: Node) -> bool:
    """Whether a value is the state, entry by entry or 0."""
    if w.id == u.id:
        return True
    operands = p.graph.operands(w)
    if w.op == "stack":
        axis = w.attr("axis") % len(shape_of(w))
        return all(_entry(o, u, axis, k) or _nothing(p, o) for k, o in enumerate(operands))
    return False


def _entry(node: Node, u: Node, axis: int, at: int) -> bool:
    return (
        node.op == "index" and node.inputs == (u.id,) and (node.attr("axis"), node.attr("at")) == (axis, at)
    )


def _nothing(p: Pointwise, node: Node) -> bool:
    while node.op == "expand":
        (node,) = p.graph.operands(node)
    return node.op == "const" and node.attr("value") == 0
