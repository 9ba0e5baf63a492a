"""Snapshots of a model's states and of its elementwise maps: from runs, or from data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ndl.compiler.check.values import ListV, TupleV, Value, describe
from ndl.compiler.diagnostics import fail
from ndl.compiler.passes.reduction.structure import extents
from ndl.compiler.syntax import tree
from ndl.host.objects import DataObject, SolutionObject


@dataclass(frozen=True)
class Snapshots:
    """`states` [s, n]; `maps` [s, size] by the ids of the elementwise maps' results."""

    states: torch.Tensor
    maps: dict[int, torch.Tensor]


def snapshots_of(reducer: Any, options: dict[str, Any]) -> Snapshots:
    """`snapshots = run`, a list of runs, a table with a column for each state, or a tensor of states;
    `every=k` takes each k-th time. Without `snapshots`, the file's runs of the model."""
    host, e = reducer.host, reducer.e
    unknown = set(options) - {"snapshots", "every"}
    if unknown:
        name = sorted(unknown)[0]
        wrong = f"`{reducer.word}` has no option `{name}`"
        raise fail("NDL323", wrong, e.span, help="it takes snapshots and every")
    every = host.number(options.get("every", 1))
    if not isinstance(every, int) or every < 1:
        raise fail("NDL673", "`every` is a whole number from 1", e.span)
    given = options.get("snapshots")
    found = _runs(reducer) if given is None else [given]
    if len(found) == 1 and isinstance(found[0], (ListV, TupleV)):
        runs = found[0].items
        found = list(runs) if any(isinstance(i, SolutionObject) for i in runs) else found
    parts = [_one(reducer, source, every) for source in found]
    keys = parts[0].maps
    return Snapshots(
        torch.cat([p.states for p in parts]), {k: torch.cat([p.maps[k] for p in parts]) for k in keys}
    )


def _runs(reducer: Any) -> list[Any]:
    """The named runs of the model in its file."""
    host = reducer.host
    found = []
    for item in host.module.items:
        if isinstance(item, tree.Solve):
            target = host.ev.eval(item.target, host.module.scope)
            if getattr(target, "decl", None) is reducer.model.decl:
                found.append(host.named_run(item))
    if not found:
        raise fail(
            "NDL674",
            f"`{reducer.word}` needs snapshots of `{reducer.name}`",
            reducer.e.span,
            help=f"name a run, `solve {reducer.name} as full:`, and write `snapshots=full`",
        )
    return found


def _one(reducer: Any, source: Any, every: int) -> Snapshots:
    if isinstance(source, SolutionObject):
        return of_solution(reducer, source.solution, every)
    if isinstance(source, DataObject):
        return of_table(reducer, source.table, every)
    value = reducer.ev.value(source, reducer.e.span) if isinstance(source, (Value, ListV)) else None
    if isinstance(value, Value):
        return of_tensor(reducer, value.ref, every)
    raise fail("NDL674", f"snapshots are a run, a table or a tensor, not {describe(source)}", reducer.e.span)


def of_solution(reducer: Any, solution: Any, every: int) -> Snapshots:
    """The saved times of a run, of each of its members."""
    model = solution.model
    if tuple(s.name for s in model.STATES) != tuple(s.name for s in reducer.states):
        raise fail("NDL674", f"this run is not one of `{reducer.name}`", reducer.e.span)
    saved = solution.saved
    x = solution.saved.values["x"].detach().double()  # [B, S, n]
    t = torch.as_tensor(saved.t, dtype=torch.float64)
    ok = torch.as_tensor(saved.valid).clone()
    ok &= (torch.arange(x.shape[1]) % every == 0)[None]
    member, time = torch.nonzero(ok, as_tuple=True)
    return evaluated(reducer, model, x[member, time], t[member, time], member)


def of_table(reducer: Any, table: Any, every: int) -> Snapshots:
    """The rows of a table; inputs have columns, or the values that the model was given."""
    missing = [s.name for s in reducer.states if s.name not in table]
    if missing:
        raise fail("NDL674", f"these data have no column `{missing[0]}`", reducer.e.span)
    rank = {s.name: len(s.type.extents) for s in reducer.states}
    columns = []
    for s in reducer.states:
        column = table[s.name].double()
        count = column.shape[: column.ndim - rank[s.name]].numel()
        columns.append(column.reshape(count, s.size))
    x = torch.cat(columns, 1)
    t = torch.zeros(len(x)) if table.time is None else table.time.double().repeat(len(x) // len(table.time))
    keep = (torch.arange(len(x)) % every == 0) & ~torch.isnan(x).any(1)
    model = reducer.instance
    fed = {}
    for i in model.INPUTS:
        if i.name in table:
            column = table[i.name].double()
            lead = column.shape[: column.ndim - len(i.shape)].numel()
            fed[i.name] = column.reshape(lead, *i.shape).repeat_interleave(len(x) // lead, 0)[keep]
    return evaluated(reducer, model, x[keep], t[keep], torch.zeros(int(keep.sum()), dtype=torch.long), fed)


def of_tensor(reducer: Any, x: torch.Tensor, every: int) -> Snapshots:
    """States as rows: [s, n], or the axes of the only state behind others."""
    n = sum(s.size for s in reducer.states)
    if x.numel() % n or not x.numel():
        raise fail("NDL674", f"these snapshots are not states of {n} numbers each", reducer.e.span)
    rows = x.detach().double().reshape(-1, n)[::every]
    zero = torch.zeros(len(rows), dtype=torch.long)
    return evaluated(reducer, reducer.instance, rows, zero.double(), zero)


def evaluated(
    reducer: Any,
    model: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    member: torch.Tensor,
    fed: dict[str, torch.Tensor] | None = None,
) -> Snapshots:
    """The elementwise maps at states x [s, n] and times t of members; `fed` are inputs of each row."""
    structure = reducer.structure
    blocks = dict(zip((s.name for s in reducer.states), torch.split(x, [s.size for s in reducer.states], 1)))
    sources: dict[int, torch.Tensor] = {}
    for node in structure.sources:
        name, shape = str(node.attr("name")), extents(node)
        if node.op == "path":
            value = model.path_value(name, t.to(model.dtype), int(node.attr("order", 0)))
            value = of_members(value, member, len(shape), t)
        elif name == "t":
            value = t
        elif name in blocks:
            value = blocks[name]
        elif fed and name in fed:
            value = fed[name]
        else:
            value = of_members(model.input(name), member, len(shape))
        sources[node.id] = value.detach().double().reshape(len(x), *shape)
    ranks = {p.name: p.type.rank for p in structure.function.params}
    own = {}  # weights of which each member has its own
    for name, value in model.values().items():
        if name in ranks and value.ndim > ranks[name]:
            own[name] = value.detach().double()[member]
    roots = [r.root for r in structure.regions]
    if not roots:
        return Snapshots(x, {})
    values = reducer.affine.snapshots(roots, sources, own)
    return Snapshots(x, {r.id: v for r, v in zip(roots, values)})


def of_members(
    value: torch.Tensor, member: torch.Tensor, rank: int, t: torch.Tensor | None = None
) -> torch.Tensor:
    """The rows of a value that has an axis of members, or one for all."""
    shape = value.shape[value.ndim - rank :]
    if t is not None and value.ndim == rank + 1 and len(value) == len(t):
        return value
    if value.ndim > rank:
        return value.reshape(-1, *shape)[member]
    return value.expand(len(member), *shape)
