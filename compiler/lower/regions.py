"""Domains as sets of points: boundaries for `distance` and `closest`, regions for `uniform(S)`, both made
when a program is compiled and named by keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.point_sets import refuse_points
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import BoundaryV, DistV, DomainV, MeshFileV, ShapeV
from ndl.compiler.diagnostics import fail
from ndl.compiler.geometry import store, surfaces
from ndl.compiler.geometry.elements import MissingPackage
from ndl.compiler.geometry.implicit import Implicit
from ndl.compiler.geometry.loops import ShapeError, bounds
from ndl.compiler.geometry.surfaces import Region, Surface
from ndl.compiler.lower.mesh_space import box_of, read_mesh
from ndl.compiler.lower.nearest import curves
from ndl.compiler.lower.shapes import implicit
from ndl.compiler.source import Span

_MADE: dict[tuple[str, str], Any] = {}
"""What was made of a shape by a condition, which is told by its values at some points."""


def surface_of(ev: Evaluator, target: BoundaryV, scope: Scope, span: Span) -> str:
    """The key of a part of a boundary. Raises `NDLError`."""
    domain = target.domain
    try:
        whole = _whole(ev, domain, span)
        kept = np.ones(len(whole.leaf), dtype=bool)
        if domain.shape is None:
            kept = np.isin(whole.leaf, [2 * k + (end == "high") for k, end in target.faces])
        middles = whole.corners.mean(1)
        for cond in target.where:
            kept &= implicit(cond, domain.coordinates, scope).holds(middles)
        if target.part:
            raise fail("NDL490", "a named part of a mesh as a set of points is not yet lowered", span)
    except ShapeError as trouble:
        raise fail(
            "NDL447", f"`{domain.name}` has no boundary to be found", span, notes=trouble.args
        ) from None
    except MissingPackage as missing:
        raise _missing(domain, missing, span) from None
    if not kept.any():
        raise fail("NDL444", f"`{target.text}` has no points", span)
    found = whole if kept.all() else surfaces.part_of(whole, kept)
    store.SURFACES.setdefault(found.key, found)
    return found.key


def _missing(domain: DomainV, missing: MissingPackage, span: Span) -> Exception:
    what = f"`{domain.name}` needs {missing.args[0]}, which is not installed"
    return fail("NDL448", what, span, help="install it with `pip install 'ndl-lang[mesh]'`")


def _whole(ev: Evaluator, domain: DomainV, span: Span) -> Surface:
    shape = domain.shape
    if shape is None:
        return surfaces.of_box(*box_of(ev, domain, span))
    if isinstance(shape, MeshFileV):
        return surfaces.of_mesh(read_mesh(domain, shape, reading(ev)))
    refuse_points(
        domain, "which has no boundary", span, "take the distance to each: `min(norm(p - x), x in S)`"
    )
    assert isinstance(shape, ShapeV)
    made = implicit(shape.cond, domain.coordinates, shape.scope)
    key = "surface", fingerprint(made)
    if key not in _MADE:
        found = surfaces.of_shape(made)
        _MADE[key] = replace(found, curves=curves(shape.cond, domain.coordinates, shape.scope))
    known: Surface = _MADE[key]
    return known


def fingerprint(shape: Implicit) -> str:
    """What tells one shape from another: the values of its curves at points near and far."""
    import hashlib

    grid = np.random.default_rng(0).uniform(-1, 1, (96, shape.dimension))
    points = grid * np.geomspace(0.03, 1000, 96)[:, None]
    values = np.nan_to_num(shape.leaves(points))
    return hashlib.sha256(
        np.ascontiguousarray(values).tobytes() + repr(shape.structure).encode()
    ).hexdigest()[:16]


def reading(ev: Evaluator) -> Any:
    """Where a program's files lie, if it may read them."""
    if ev.fields is not None:
        return ev.fields.space.read
    compilation = getattr(ev.host, "compilation", None)
    return getattr(compilation, "read", None)


def region_of(ev: Evaluator, domain: DomainV, span: Span) -> str:
    """The key of a domain to draw points from. Raises `NDLError`."""
    shape = domain.shape
    try:
        if shape is None:
            lower, upper = box_of(ev, domain, span)
            found = Region(f"box {list(zip(lower.tolist(), upper.tolist()))}", lower, upper)
        elif isinstance(shape, MeshFileV):
            found = surfaces.region_of_mesh(read_mesh(domain, shape, reading(ev)))
        else:
            refuse_points(domain, "which has no volume", span, "draw the number of one of them")
            assert isinstance(shape, ShapeV)
            found = _region(implicit(shape.cond, domain.coordinates, shape.scope))
    except ShapeError as trouble:
        raise fail("NDL447", f"no points of `{domain.name}` can be drawn", span, notes=trouble.args) from None
    except MissingPackage as missing:
        raise _missing(domain, missing, span) from None
    store.REGIONS.setdefault(found.key, found)
    return found.key


def _region(shape: Implicit) -> Region:
    key = "region", fingerprint(shape)
    if key not in _MADE:
        box = bounds(shape)
        _MADE[key] = Region(f"shape {key[1]}", box.lower, box.upper, shape.holds)
    found: Region = _MADE[key]
    return found


def known_law(ev: Evaluator, law: DistV, span: Span) -> DistV:
    """A law on points as the run knows it: `inside` of a key for `uniform(S)`, or `sphere`."""
    first = law.args[0] if law.args else None
    if law.law == "uniform" and isinstance(first, DomainV):
        return replace(law, law="inside", args=(region_of(ev, first, span),))
    if law.law == "uniform" and isinstance(first, DistV) and first.law == "sphere":
        return first
    return law
