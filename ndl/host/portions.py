"""Runs whose ensembles are written in portions: `write = "data.zarr"`, `portion = 64`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ndl.compiler.check.covariances import covariance_of, formula
from ndl.compiler.check.parts import declarations
from ndl.compiler.check.values import Closure, FnV, ModelV, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.syntax import tree
from ndl.runtime.portions import MEMBER, DataSet, Layout, writer

SUFFIXES = (".zarr", ".h5", ".nc")
BUDGET = 256 * 2**20
"""Bytes that the values of a portion may have where the block names no size."""


@dataclass(frozen=True)
class Plan:
    """A run in portions: how many members in all, how many at once (None: that of a set that is there), what
    fits the memory."""

    stmt: tree.Solve
    settings: Mapping[str, Any]
    target: Any
    members: int
    portion: int | None
    fits: int
    written: str


def portioned(host: Any, stmt: tree.Solve) -> Plan | None:
    """How a `solve` block is written in portions; None where it is not."""
    from ndl.host.names import stmt_name

    settings = host.settings_of(stmt.settings, stmt_name(stmt))
    size = _size(host, settings)
    written = host.ev.eval(settings["write"][0], host.module.scope) if "write" in settings else None
    if not isinstance(written, str) or Path(written).suffix.lower() not in SUFFIXES:
        if size is not None:
            raise fail("NDL538", "`portion` is for a data set that is written", settings["portion"][1],
                       help='write `write = "data.zarr"` or `"data.h5"`')  # fmt: skip
        return None
    scope = host.module.scope
    target = host.ev.eval(stmt.target, scope)
    members = _members(host, target, settings)
    if "save" not in settings and _is_steady(host, target):
        settings = {**settings, "save": (tree.Name(stmt.span, "end"), stmt.span)}
    saved = None if "save" not in settings else host.saved(host.ev.eval(settings["save"][0], scope))
    if members is None or saved in (None, "steps"):
        if size is not None:
            what = "an `ensemble`" if members is None else "times that all members share: `save = every 0.1`"
            raise fail("NDL538", f"portions are of {what}", settings["portion"][1])
        return None
    fits = _fitting(host, stmt, target, settings)
    if size is None and fits >= members:
        return None
    return Plan(stmt, settings, target, members, size, min(fits, members), written)


def _is_steady(host: Any, target: Any) -> bool:
    """Whether a model has nothing that moves, so that a run has one time."""
    return isinstance(target, ModelV) and not any(p.rates or p.events for p in declarations(host.ev, target))


def _size(host: Any, settings: Mapping[str, Any]) -> int | None:
    if "portion" not in settings:
        return None
    value, where = settings["portion"]
    size = host.number(host.ev.eval(value, host.module.scope))
    if not is_number(size) or float(size) != int(size) or int(size) < 1:
        raise fail(
            "NDL538", "`portion` is a number of members, at least 1", where, help="write `portion = 64`"
        )
    return int(size)


def _members(host: Any, target: Any, settings: Mapping[str, Any]) -> int | None:
    """How many members a run has: those of `ensemble`, or of a family's lists."""
    if "ensemble" in settings:
        return int(host.number(host.ev.eval(settings["ensemble"][0], host.module.scope)))
    if isinstance(target, ModelV) and target.members:
        listed = host.ev.value(next(iter(target.members.values())), settings["write"][1])
        return int(listed.ref.shape[0])
    return None


def _planned(host: Any, stmt: tree.Solve, target: Any, settings: Any, first: int, count: int) -> Any:
    return host.planned(host.ev, target, settings, host.module.scope, stmt.span, (first, count))


def _fitting(host: Any, stmt: tree.Solve, target: Any, settings: Mapping[str, Any]) -> int:
    """How many members' values fit the budget."""
    from ndl.runtime.problem import SavePlan

    run, found, model = _planned(host, stmt, target, settings, 0, 1)
    instance, span = run.args[0], host.span(found.get("span"), model, stmt.span)
    times = len(SavePlan.make(run.keywords["save"], *span).times)
    kept = sum(math.prod(d.shape) for d in instance.DERIVED) + instance.size()
    return max(1, int(BUDGET // (8 * max(1, kept) * max(1, times))))


def fingerprint(host: Any, plan: Plan) -> dict[str, str]:
    """What a data set is of, by name: model, values, laws and settings, but not how it is cut."""
    from ndl.host.export import ir_text
    from ndl.runtime.problem import SavePlan

    run, found, model = _planned(host, plan.stmt, plan.target, plan.settings, 0, 1)
    span, given = host.span(found.get("span"), model, plan.stmt.span), run.keywords
    compiled = host.compilation.model(model)
    weights = hashlib.sha256()
    drawn = {*model.laws, *model.members}
    for name, value in run.args[0].named_parameters():
        if not any(name == d or name.endswith(f"_{d}") for d in drawn):
            weights.update(name.encode() + value.detach().cpu().numpy().tobytes())
    families = {k: _law_text(host, v) for k, v in model.laws.items()}
    families |= {k: str(_plain(host.number(v))) for k, v in model.members.items()}
    method = given["method"]
    return {
        "model": f"{model.decl.name} {_hash(ir_text(compiled.optimized) + str(run.args[0].DRAWS))}",
        "parameters": weights.hexdigest()[:16],
        "family": str(families),
        "span": str(span),
        "save": _hash(SavePlan.make(given["save"], *span).times.tobytes()),
        "method": f"{method.name} {method.options} {sorted(method.parts)}",
        "seed": str(given["seed"]),
        "precision": str(given["precision"]),
        "grid": str(run.args[0].GRIDS),
    }


def _law_text(host: Any, law: Any) -> str:
    """A law with its numbers, a covariance map as a formula."""
    covariance = covariance_of(law)
    if covariance is None:
        return f"{law.law}{[_plain(host.number(a)) for a in law.args]}"
    mean = law.args[0]
    if isinstance(mean, (Closure, FnV)):
        shown = (mean.expr if isinstance(mean, Closure) else mean.decl).span.text
    else:
        shown = _plain(host.number(mean))
    return f"{law.law}{[shown, formula(covariance, lambda a: _plain(host.number(a)), law.span)]}"


def _hash(text: str | bytes) -> str:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value


def write_portions(host: Any, plan: Plan, seen: Any = None) -> DataSet:
    """Write what is missing of the set, one portion after the other; `seen(k, count, solution)` is told."""
    path = host.policy.write(plan.written)
    own = writer(path, fingerprint(host, plan), plan.members, plan.portion)
    if plan.portion is None and own.found is None:
        own.portion = plan.fits
    missing = own.missing()
    for k in missing:
        first, count = own.places(k)
        solution = host.solution(
            host.ev, plan.target, plan.settings, host.module.scope, plan.stmt.span, (first, count)
        )
        own.write(k, *contents(solution, plan))
        if seen is not None:
            seen(k, own.count, solution)
    own.finish()
    return DataSet(path, plan.members, own.portion, own.count, len(missing))


def contents(solution: Any, plan: Plan) -> tuple[dict[str, np.ndarray], Layout]:
    """The arrays of a portion `[members, …]`: recorded values, what was drawn for each member, initial fields
    that were not saved; and what the set has beside them."""
    from ndl.runtime.export import attributes, beside, named_axes
    from ndl.runtime.grids import grid_points
    from ndl.runtime.meshes import tables

    model = solution.model
    arrays: dict[str, np.ndarray] = {}
    steady = solution.problem.steady
    common: dict[str, np.ndarray] = {} if steady else {"time": np.asarray(solution.problem.save.times)}
    dims: dict[str, tuple[str, ...]] = {}
    valid = torch.from_numpy(solution.saved.valid)
    for name in solution.names():
        values = solution.get(name).values.detach()
        gone = ~valid.reshape(*valid.shape, *[1] * (values.ndim - 2))
        values = torch.where(gone, torch.full_like(values, math.nan), values) if bool(gone.any()) else values
        own = named_axes(name, tuple(values.shape[2:]), model.GRIDS)
        dims[name] = (MEMBER, *own) if steady else (MEMBER, "time", *own)
        arrays[name] = (values[:, 0] if steady else values).cpu().numpy()
    for label, axes, values in beside(solution, arrays):
        (arrays if axes[:1] == (MEMBER,) else common)[label] = values
        dims[label] = axes
    for grid in model.GRIDS:
        if grid.mesh:
            node, nodes = f"{grid.domain}_node", tables(grid.mesh).nodes.T
            dims |= {c: (node,) for c in grid.coordinates}
            common |= {c: np.asarray(x) for c, x in zip(grid.coordinates, nodes)}
        else:
            common |= {c: grid_points(layout).numpy() for c, layout in zip(grid.coordinates, grid.layouts)}
    return arrays, Layout(dims, common, attributes(solution))


def run_portioned(host: Any, plan: Plan, block: Any, out: Any, progress: bool) -> DataSet:
    """A block in portions: its settings are written first, then a picture of the first portion."""
    from ndl import console
    from ndl.host.objects import DataObject
    from ndl.host.run import settings_text, write_figures
    from ndl.runtime import results
    from ndl.runtime.stored import store

    if out is not None:
        results.write_settings(out.path, settings_text(host, block))

    def seen(k: int, count: int, solution: Any) -> None:
        if progress and count > 1:
            console.say(f"{block.name}: portion {k + 1} of {count}", err=True)
        if k == 0 and out is not None:
            write_figures(solution, host.settings_of(block.stmt.settings, block.name), out.path)

    def run() -> DataSet:
        done = write_portions(host, plan, seen)
        host.named[id(block.stmt)] = DataObject(store(done.path, done.path.name))
        return done

    found: DataSet = host.guarded(run, block.stmt.span)
    return found
