"""The meshes of a model's domains, and the parts of their boundaries that conditions speak of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ndl.compiler.check.boundaries import SLOPE, VALUE, Condition
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.grids import Fem
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import Axis, DomainV, MeshFileV, RangeV, ShapeV, is_number
from ndl.compiler.diagnostics import Label, NDLError, did_you_mean, fail
from ndl.compiler.geometry import store
from ndl.compiler.geometry.elements import Elements, MissingPackage, elements, library
from ndl.compiler.geometry.loops import ShapeError
from ndl.compiler.geometry.mesh import Mesh, box
from ndl.compiler.lower.shapes import implicit
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim

if TYPE_CHECKING:
    from ndl.compiler.geometry.implicit import Implicit

Reading = Callable[[str], Path]
Cut = tuple[tree.Expr, Scope]
"""A condition on coordinates and where its names are found."""


@dataclass(eq=False)
class MeshSpace:
    """One domain with its elements. `axes`: of the nodes (`node`) and of the points of quadrature."""

    domain: DomainV
    fem: Fem
    elements: Elements
    axes: dict[str, Axis] = field(default_factory=dict)
    _parts: dict[Any, np.ndarray] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.elements.key

    def points(self, place: str) -> np.ndarray:
        """The coordinates at the points of a place `[n, d]`."""
        e = self.elements
        return e.nodes if place == "node" else getattr(e, place).points.reshape(-1, e.mesh.dimension)

    def data(self, what: str, place: str, k: int = 0) -> tuple[str, int]:
        """The key and size of a constant vector: `point` k, `normal` k, `weight` (of a node the integral of
        its function)."""
        e = self.elements
        if what == "point":
            values = self.points(place)[:, k]
        elif what == "normal":
            normals = e.facet.normals
            assert normals is not None
            values = normals.reshape(-1, e.mesh.dimension)[:, k]
        else:
            values = e.lumped if place == "node" else getattr(e, place).weights.reshape(-1)
        name = f"{what} {self.domain.coordinates[k]}" if what != "weight" else what
        return store.named(f"{self.domain.name} {place} {name}", values), len(values)

    def marks(self, label: str, marks: np.ndarray) -> tuple[str, int]:
        """The key and size of a vector of 0 and 1."""
        return store.named(f"{self.domain.name} {label}", marks), len(marks)

    def at_points(self, facets: np.ndarray) -> np.ndarray:
        """Marks of facets at their points of quadrature."""
        return np.repeat(facets, self.elements.facet.weights.shape[1])

    def at_nodes(self, facets: np.ndarray) -> np.ndarray:
        """Marks of the nodes on marked facets."""
        found = np.zeros(len(self.elements.nodes), dtype=bool)
        found[self.elements.facet_dofs[facets].reshape(-1)] = True
        return found

    # ------------------------------------------------------------ parts of the boundary

    def facets(self, c: Condition, scope: Scope) -> np.ndarray:
        """Marks of the facets on which a condition stands."""
        if id(c) not in self._parts:
            self._parts[id(c)] = self.part(c, c.part, scope, [(c.axis, c.side)] if c.side else [])
        return self._parts[id(c)]

    def part(self, keep: Any, where: Any, scope: Scope, faces: Sequence[tuple[int, str]]) -> np.ndarray:
        """Marks of the facets of a part of the boundary."""
        e = self.elements
        found = np.ones(len(e.facets), dtype=bool)
        if faces:
            low, high = e.mesh.points.min(0), e.mesh.points.max(0)
            ends = [(k, low[k] if side == "low" else high[k]) for k, side in faces]
            near = 1e-9 * (high - low).max()
            corners = e.mesh.points[e.facets]
            found = np.any([(np.abs(corners[:, :, k] - end) < near).all(1) for k, end in ends], axis=0)
        if where.part:
            found &= self._named(where.part, where)
        for cond in where.where:
            found &= implicit(cond, self.domain.coordinates, scope).holds(e.middles)
        return found

    def _named(self, name: str, where: Any) -> np.ndarray:
        parts = self.elements.mesh.parts
        if name not in parts:
            assert isinstance(self.domain.shape, MeshFileV)
            known = ", ".join(f'"{p}"' for p in parts) or "none"
            raise fail(
                "NDL444",
                f"the mesh of `{self.domain.name}` has no part `{name}`",
                self.domain.shape.span,
                notes=(f"its parts are: {known}",),
                help=did_you_mean(name, parts),
            )
        wanted = {tuple(f) for f in np.sort(parts[name], axis=1).tolist()}
        return np.array([tuple(f) in wanted for f in self.elements.facets.tolist()])

    def check(
        self, conditions: Sequence[Condition], scope: Scope, needed: bool, field_: str, span: Span
    ) -> None:
        """No facet has two conditions of one field; each has one where they are `needed`. Raises
        `NDLError`."""
        total = np.zeros(len(self.elements.facets), dtype=int)
        taken: list[tuple[Condition, np.ndarray]] = []
        for c in conditions:
            own = self.facets(c, scope)
            if not own.any():
                raise fail(
                    "NDL444",
                    f"`{c.place}` has no points",
                    c.span,
                    notes=("no edge of the mesh lies in it",),
                    help="change the condition, or take a smaller `size`",
                )
            for other, marks in taken:
                if (own & marks).any():
                    raise overlapping(c, other, field_, self._near(own & marks))
            taken.append((c, own))
            total += own
        if needed and (total == 0).any():
            place = f"part of `boundary({self.domain.name})`"
            raise fail(
                "NDL443",
                f"`{field_}` has no condition on {place}",
                span,
                notes=(f"its equation has second derivatives, and {self._near(total == 0)}",),
                help=f"write one for the rest: `on boundary({self.domain.name}) if …: dn({field_}) = 0`",
            )

    def _near(self, facets: np.ndarray) -> str:
        middle = self.elements.middles[facets][0]
        names = ", ".join(f"{c} = {v:.4g}" for c, v in zip(self.domain.coordinates, middle))
        return f"one such place is {names}"


def overlapping(c: Condition, other: Condition, field_: str, note: str) -> NDLError:
    return fail(
        "NDL442",
        f"`{field_}` has two conditions where `{c.place}` and `{other.place}` meet",
        c.span,
        labels=(Label(other.span, "the other one"),),
        notes=(note,),
        help="keep one of them there: `on boundary(S) if not (…): …` is the rest",
    )


# ---------------------------------------------------------------- making


def mesh_space(
    ev: Evaluator,
    domain: DomainV,
    fem: Fem,
    cuts: Sequence[Cut],
    read: Reading | None,
    first: int,
    span: Span,
    at: Span,
) -> MeshSpace:
    """The elements of a domain. `cuts` are conditions on its boundary; where one changes the mesh of a shape
    gets a node. The grid is written `at` a place. Raises `NDLError`."""
    try:
        library()  # the mesh generator needs what it brings
        found = elements(_mesh(ev, domain, fem, cuts, read, span, at), fem.order)
    except MissingPackage as missing:
        extra = "mesh" if missing.args[0] == "meshio" else "fem"
        raise fail(
            "NDL448",
            f"the mesh of `{domain.name}` needs {missing.args[0]}, which is not installed",
            span,
            help=f"install it with `pip install 'ndl-lang[{extra}]'`",
        ) from None
    except ShapeError as trouble:
        shape = domain.shape
        labels = (Label(shape.cond.span, "its shape"),) if isinstance(shape, ShapeV) else ()
        what = f"`{domain.name}` cannot be meshed"
        raise fail("NDL447", what, at, labels=labels, notes=(trouble.args[0],)) from None
    store.keep(found)
    made = MeshSpace(domain, fem, found)
    for k, place in enumerate(("node", "cell", "facet")):
        made.axes[place] = Axis(f"{domain.name}.{place}", Dim.of(len(made.points(place))), first + k)
    return made


def _mesh(
    ev: Evaluator,
    domain: DomainV,
    fem: Fem,
    cuts: Sequence[Cut],
    read: Reading | None,
    span: Span,
    at: Span,
) -> Mesh:
    from ndl.compiler.geometry.mesher import mesh_of

    shape = domain.shape
    if isinstance(shape, MeshFileV):
        return _read(domain, shape, fem, read, at)
    if fem.size is None:
        raise fail("NDL441", f"the mesh of `{domain.name}` needs a size", at, help="write `fem(size=0.05)`")
    if isinstance(shape, ShapeV):
        if len(domain.coordinates) > 3:
            raise ShapeError("shapes by a condition have at most three coordinates")
        tests = [implicit(c, domain.coordinates, scope).holds for c, scope in cuts]
        level = implicit(shape.cond, domain.coordinates, shape.scope)
        return _fine(mesh_of(level, fem.size, tests), fem.size)
    if any(domain.periodic):
        raise ShapeError("`fem` has no periodic coordinates; take `fourier(…)` or `uniform(…)`")
    low, high = box_of(ev, domain, span)
    return _fine(box([*zip(low, high)], fem.size), fem.size)


def _fine(mesh: Mesh, size: float) -> Mesh:
    """The mesh, whose edges are to be shorter than the shape is wide. Raises `ShapeError`."""
    used = mesh.points[np.unique(mesh.cells)]
    width = float(np.ptp(used, axis=0).max(initial=0.0)) if len(used) else 0.0
    if size > width * (1 + 1e-9):
        raise ShapeError(f"it is smaller than the size {size:g} of its mesh")
    return mesh


def box_of(ev: Evaluator, domain: DomainV, span: Span) -> tuple[np.ndarray, np.ndarray]:
    """The ends of a box."""
    ends = []
    for c, r in zip(domain.coordinates, domain.ranges):
        low, high = (ev.known(end) for end in (r.lo, r.hi)) if isinstance(r, RangeV) else (None, None)
        if not (is_number(low) and is_number(high)):
            what = f"the range of `{c}` in `{domain.name}` must be known when compiling"
            raise fail("NDL445", what, span, help="give its ends as numbers or by `const`")
        ends.append((float(low or 0), float(high or 0)))
    return np.array([a for a, _ in ends]), np.array([b for _, b in ends])


def _read(domain: DomainV, shape: MeshFileV, fem: Fem, read: Reading | None, span: Span) -> Mesh:
    if fem.size is not None:
        what = f"`{domain.name}` is a mesh that is read, so `size` says nothing"
        raise fail("NDL441", what, span, help="write `fem()` or `fem(order=2)`")
    return read_mesh(domain, shape, read)


def read_mesh(domain: DomainV, shape: MeshFileV, read: Reading | None) -> Mesh:
    """The mesh of a file. Raises `NDLError`, `MissingPackage`."""
    from ndl.compiler.geometry import files

    if read is None:
        raise fail("NDL448", f"the mesh of `{domain.name}` is read by a run", shape.span)
    try:
        path = read(shape.file)
        if not path.exists():
            raise fail("NDL448", f"there is no file `{shape.file}`", shape.span)
        return files.read(path, len(domain.coordinates))
    except NDLError:
        raise
    except ShapeError as trouble:
        raise fail("NDL448", trouble.args[0], shape.span) from None
    except Exception as trouble:
        if isinstance(trouble, MissingPackage):
            raise
        hint = getattr(trouble, "help", None)
        raise fail("NDL448", f"`{shape.file}` cannot be read: {trouble}", shape.span, help=hint) from None


def cuts_of(
    domain: str, conditions: Mapping[str, Sequence[Condition]], scopes: Mapping[str, Scope]
) -> list[Cut]:
    """The conditions `S if c` on the boundary of a domain, each once."""
    found: dict[int, Cut] = {}
    for prefix, several in conditions.items():
        for c in several:
            if c.domain.name == domain:
                found |= {id(cond): (cond, scopes[prefix]) for cond in c.part.where}
    return list(found.values())


def same_shape(a: DomainV, b: DomainV) -> bool:
    """Whether two domains of one name are the same: each elaboration reads a declaration anew."""
    if isinstance(a.shape, ShapeV) and isinstance(b.shape, ShapeV):
        return a.shape.cond is b.shape.cond
    if isinstance(a.shape, MeshFileV) and isinstance(b.shape, MeshFileV):
        return a.shape.file == b.shape.file
    return a.shape is b.shape is None and a.coordinates == b.coordinates


__all__ = ["SLOPE", "VALUE", "Implicit", "MeshSpace", "cuts_of", "mesh_space", "read_mesh"]
