"""Where fields are stored, as a setting says: `grid = uniform(65)`, `{Rod: chebyshev(32)}`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.values import (
    UNKNOWN,
    DictV,
    DistV,
    DomainV,
    HostV,
    ListV,
    ModelV,
    RangeV,
    Unknown,
    WordV,
    describe,
    is_number,
)
from ndl.compiler.diagnostics import NDLError, did_you_mean, fail
from ndl.compiler.ir.grid import SCHEMES, Grid, GridAxis
from ndl.compiler.source import NO_SPAN, Span
from ndl.compiler.syntax import tree

KINDS = ("uniform", "fourier", "chebyshev", "fem")
OPTIONS = {"uniform": ("order", "at", "scheme", "fluxes"), "fourier": ("dealias",), "chebyshev": ()}
FEM_OPTIONS = ("order", "size", "mass")
ORDERS = (2, 4, 6, 8)
CHOICES = (*SCHEMES, "cells", "nodes", "components", "characteristic", "lumped", "consistent")
"""The words that options of grids take."""


@dataclass(frozen=True)
class Axes:
    """One kind of grid with its points along some or all coordinates."""

    kind: str
    points: tuple[int, ...]
    order: int = 2
    cells: bool = False
    scheme: str = "central"
    characteristic: bool = False
    dealias: float | None = None


@dataclass(frozen=True)
class Fem:
    """`fem(order=1, size=0.05)`: Lagrange elements of an order on simplices of a size; None for a mesh that
    is read. `lumped`: the mass matrix is replaced by its row sums."""

    order: int = 1
    size: float | None = None
    lumped: bool = True


@dataclass(frozen=True)
class GridChoice:
    """What a setting says, and where: one grid for every domain (named ""), or one for each; a list is one
    axis each."""

    domains: tuple[tuple[str, tuple[Axes, ...] | Fem], ...]
    span: Span = field(default=NO_SPAN, compare=False)

    def of(self, domain: str) -> tuple[Axes, ...] | Fem | None:
        """The choice for a domain."""
        chosen = dict(self.domains)
        return chosen.get(domain, chosen.get(""))


def grid_choice(ev: Evaluator, value: Any, span: Span) -> GridChoice | Unknown:
    """Read the value of a `grid` setting."""
    if isinstance(value, (Unknown, HostV)):
        return UNKNOWN
    if not isinstance(value, DictV):
        found = _axes(ev, value, span)
        return UNKNOWN if isinstance(found, Unknown) else GridChoice((("", found),), span)
    chosen = []
    for key, entry in value.entries:
        found = _axes(ev, entry, span)
        if isinstance(found, Unknown) or isinstance(key, Unknown):
            return UNKNOWN
        if not isinstance(key, DomainV):
            unknown: Unknown = ev.error(
                "NDL441", f"`grid` names domains, and this is {describe(key)}", span, help=HELP
            )
            return unknown
        chosen.append((key.name, found))
    return GridChoice(tuple(chosen), span)


HELP = (
    "write `grid = uniform(65)`, `fourier(64, 64)`, `chebyshev(32)`, `fem(size=0.05)`, "
    "or `{Rod: chebyshev(32)}`"
)


def _axes(ev: Evaluator, value: Any, span: Span) -> tuple[Axes, ...] | Fem | Unknown:
    if isinstance(value, (Unknown, HostV)):
        return UNKNOWN
    if isinstance(value, ListV):
        parts = [_axes(ev, v, span) for v in value.items]
        if any(isinstance(p, Fem) for p in parts):
            bad: Unknown = ev.error(
                "NDL441", "`fem` is the grid of a whole domain, not of one coordinate", span
            )
            return bad
        good = [p for p in parts if isinstance(p, tuple)]
        return UNKNOWN if len(good) < len(parts) else tuple(a for p in good for a in p)
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = {}
    if isinstance(value, DistV) and value.law == "uniform":
        kind, args = "uniform", value.args
        if args and isinstance(args[-1], WordV) and args[-1].name == "options":
            args, options = args[:-1], args[-1].options
    elif isinstance(value, WordV):
        kind, args, options = value.name, value.args, value.options
    else:
        unknown: Unknown = ev.error("NDL441", f"{describe(value)} is no grid", span, help=HELP)
        return unknown
    if kind == "fem":
        return _fem(ev, args, options, span)
    return _one(ev, kind, [ev.known(a) for a in args], options, span)


def _fem(ev: Evaluator, args: Sequence[Any], options: Mapping[str, Any], span: Span) -> Fem | Unknown:
    def wrong(message: str, help: str | None = "write `fem(order=1, size=0.05)`") -> Unknown:
        unknown: Unknown = ev.error("NDL441", message, span, help=help)
        return unknown

    if args:
        return wrong("`fem` takes its options by name")
    for name in options:
        if name not in FEM_OPTIONS:
            return wrong(f"`fem` has no option `{name}`", did_you_mean(name, FEM_OPTIONS))
    if any(isinstance(a, (Unknown, HostV)) for a in options.values()):
        return UNKNOWN
    order, size = ev.known(options.get("order", 1)), ev.known(options.get("size"))
    if order not in (1, 2):
        return wrong(f"elements have the order 1 or 2, not {order if is_number(order) else describe(order)}")
    if size is not None and not (is_number(size) and size > 0):
        return wrong("`size`, the length of the edges, is a number above 0")
    mass = getattr(options.get("mass"), "name", "lumped" if order == 1 else "consistent")
    if mass not in ("lumped", "consistent"):
        return wrong("`mass` is `lumped` or `consistent`", None)
    if mass == "lumped" and order == 2:
        return wrong("only elements of order 1 have a lumped mass", "leave `mass` out")
    return Fem(int(order), None if size is None else float(size), mass == "lumped")


def _one(
    ev: Evaluator, kind: str, args: list[Any], options: Mapping[str, Any], span: Span
) -> tuple[Axes, ...] | Unknown:
    def wrong(message: str, help: str | None = HELP) -> Unknown:
        unknown: Unknown = ev.error("NDL441", message, span, help=help)
        return unknown

    if kind not in KINDS:
        return wrong(f"`{kind}` is no grid", did_you_mean(kind, KINDS) or HELP)
    if any(isinstance(a, (Unknown, HostV)) for a in (*args, *options.values())):
        return UNKNOWN
    if not args or any(type(a) is not int or a < 1 for a in args):
        return wrong(f"`{kind}` takes the number of points along each coordinate")
    for name in options:
        if name not in OPTIONS[kind]:
            return wrong(f"`{kind}` has no option `{name}`", did_you_mean(name, OPTIONS[kind]))
    order, at = ev.known(options.get("order", 2)), options.get("at")
    if order not in ORDERS:
        return wrong(f"differences have the order 2, 4, 6 or 8, not {order}", None)
    place = "nodes" if at is None else getattr(at, "name", "")
    if place not in ("nodes", "cells"):
        return wrong("`at` is `nodes` or `cells`", None)
    scheme = getattr(options.get("scheme"), "name", "" if "scheme" in options else "central")
    if scheme not in SCHEMES:
        known = f"`scheme` is {', '.join(f'`{s}`' for s in SCHEMES)}"
        return wrong(known, did_you_mean(scheme, SCHEMES))
    fluxes = "components" if "fluxes" not in options else getattr(options["fluxes"], "name", "")
    if fluxes not in ("components", "characteristic"):
        return wrong("`fluxes` is `components` or `characteristic`", None)
    waves = fluxes == "characteristic"
    if waves and scheme not in ("upwind", "weno5"):
        return wrong("`fluxes=characteristic` goes with `scheme=weno5` or `scheme=upwind`", None)
    part = ev.known(options.get("dealias")) if "dealias" in options else None
    if part is not None and not (isinstance(part, (int, float)) and 0 < part <= 1):
        return wrong("`dealias` is the part of the modes that is kept, such as 2/3", None)
    return (Axes(kind, tuple(args), int(order), place == "cells", scheme, waves, part),)


# ---------------------------------------------------------------- the grid of a domain


def chosen_for(domain: DomainV, choice: GridChoice | None, span: Span) -> tuple[Axes, ...] | Fem:
    """What the setting says for a domain. Raises `NDLError` where it says nothing."""
    chosen = None if choice is None else choice.of(domain.name) or choice.of(domain.given)
    if chosen is None:
        boxes = "`grid = uniform(65)`, `fourier(64)` or `chebyshev(32)`"
        raise fail(
            "NDL440",
            f"the fields on `{domain.name}` need a grid",
            span,
            help=f"add the setting {boxes if domain.shape is None else '`grid = fem(size=0.05)`'} to the run",
        )
    return chosen


def written_at(choice: GridChoice | None, span: Span) -> Span:
    """Where a grid is written; `span` where no text says it."""
    return span if choice is None or choice.span == NO_SPAN else choice.span


def grid_of(ev: Evaluator, domain: DomainV, choice: GridChoice | None, span: Span) -> Grid:
    """The grid of a box. Raises `NDLError` where there is none or where it does not fit."""
    chosen = chosen_for(domain, choice, span)
    assert not isinstance(chosen, Fem)
    at = written_at(choice, span)
    if domain.shape is not None:
        raise _misfit(
            f"`{domain.name}` is no box, so its grid is a mesh", at, "write `grid = fem(size=0.05)`"
        )
    count = len(domain.coordinates)
    each: list[Axes] = []
    for axes in chosen:
        points = axes.points * count if len(axes.points) == len(chosen) == 1 else axes.points
        each += [replace(axes, points=(n,)) for n in points]
    if len(each) != count:
        sizes = ", ".join(["33"] * count)
        raise _misfit(
            f"this grid has {len(each)} axes, and `{domain.name}` has the coordinates "
            f"{', '.join(domain.coordinates)}",
            at,
            f"write a number of points for each, `uniform({sizes})`, or one for all, `uniform(33)`",
        )
    made = zip(domain.coordinates, domain.ranges, domain.periodic, each)
    return Grid(domain.name, tuple(_axis(ev, domain, c, r, p, a, span, at) for c, r, p, a in made))


def _misfit(message: str, span: Span, help: str | None = None) -> NDLError:
    return fail("NDL441", message, span, help=help)


def _axis(
    ev: Evaluator,
    domain: DomainV,
    coordinate: str,
    range_: Any,
    periodic: bool,
    axes: Axes,
    span: Span,
    at: Span,
) -> GridAxis:
    (n,) = axes.points
    lower, upper = (ev.known(end) for end in (range_.lo, range_.hi)) if isinstance(range_, RangeV) else (0, 0)
    if not (is_number(lower) and is_number(upper)):
        raise fail(
            "NDL445",
            f"the range of `{coordinate}` in `{domain.name}` must be known when compiling",
            span,
            help="give its ends as numbers or by `const`",
        )
    if axes.kind == "fourier" and not periodic:
        message = f"`fourier` is for periodic coordinates, and `{coordinate}` of `{domain.name}` is not"
        raise _misfit(message, at, "use `chebyshev(…)` or `uniform(…)`, or declare it `periodic`")
    if axes.kind == "chebyshev" and periodic:
        message = f"`chebyshev` has ends, and `{coordinate}` of `{domain.name}` is periodic"
        raise _misfit(message, at, "use `fourier(…)` or `uniform(…)`")
    least = 2 if axes.kind == "fourier" else 3 if axes.kind == "chebyshev" else 2 * axes.order
    if n < least:
        raise _misfit(f"{n} points are too few along `{coordinate}`: at least {least}", at)
    if axes.scheme == "weno5" and n < 6:
        raise _misfit(f"{n} points are too few along `{coordinate}`: `weno5` reads 6", at)
    cells = axes.cells and not periodic
    ends = float(lower), float(upper)
    # waves k with 2 k < dealias n
    kept = None if axes.dealias is None else math.ceil(axes.dealias * n / 2 - 1e-9) - 1
    return GridAxis(
        coordinate, axes.kind, n, *ends, periodic, axes.order, cells, axes.scheme, axes.characteristic, kept
    )


def domains_of(model: ModelV) -> dict[str, Any]:
    """The domains that are declared inside a model, by name."""
    found: dict[str, Any] = {}
    for stmt in model.decl.body:
        if isinstance(stmt, tree.DomainDecl):
            found[stmt.name] = DomainV(stmt.name, ())
    return found
