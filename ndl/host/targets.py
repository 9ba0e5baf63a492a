"""What a training trains, and on what: models and nets as instances of their own, and the table of data."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from ndl.compiler.check.parts import declarations
from ndl.compiler.check.values import ListV, ModelV, NetV, OperatorV, TupleV, describe
from ndl.compiler.diagnostics import fail
from ndl.host.objects import DataObject, ModelObject, SolutionObject
from ndl.host.open_dims import closed_by_data, closed_net
from ndl.runtime.data import Table
from ndl.runtime.devices import chosen_device


def precision_of(session: Any) -> torch.dtype:
    """float64, or float32 for a model with nets; the setting decides."""
    from ndl.host.solving import PRECISIONS

    word = session.value("precision")
    if word is not None:
        return PRECISIONS[session.host.word(word, "float64")]
    for target in session.block.targets:
        found = session.host.ev.eval(target, session.scope)
        if isinstance(found, (NetV, OperatorV)):
            return torch.float32
        if isinstance(found, ModelV) and any(p.nets for p in declarations(session.host.ev, found)):
            return torch.float32
    return torch.float64


def device_of(session: Any) -> torch.device:
    """The setting `device`, which holds for the targets, the data and the runs of the loss."""
    if "device" not in session.settings:
        return torch.device("cpu")
    word, where = session.host.word(session.value("device"), "cpu"), session.settings["device"][0].span
    found: torch.device = session.host.guarded(lambda: chosen_device(word), where)
    return found


def make_targets(session: Any, seed: int, precision: torch.dtype) -> None:
    """The models and nets that are trained, as instances of their own."""
    host = session.host
    for written in session.block.targets:
        target = host.ev.eval(written, session.scope)
        if isinstance(target, ModelV):
            if "grid" in session.settings:
                target = host.gridded(host.ev, target, *session.settings["grid"], session.scope)
            target = closed_by_data(session, target)
            values = {"seed": seed, **target.values}
            fresh = replace(target, values=values)
            instance = host.instance(fresh)
            instance = instance.to(session.device, precision if precision != torch.float64 else None)
            session.models[target.decl.name] = (fresh, instance)
        elif isinstance(target, ModelObject):
            made = copy.deepcopy(target.instance) if session.copies else target.instance
            session.models[target.source.decl.name] = (target.source, made.to(session.device))
        elif isinstance(target, NetV):
            target = closed_net(session, target)
            net = host.trained_net(target, seed, precision, written.span, session.grid)
            session.nets[target.name] = net.to(session.device)
            session.declared[target.name] = target
        else:
            raise fail("NDL508", f"`train` wants models or nets, not {describe(target)}", written.span)


def read_data(session: Any, precision: torch.dtype) -> None:
    """The data, and other data to validate on, on the scales of the first."""
    found = session.value("data")
    if found is not None:
        session.table = _as_table(found, precision, session.device)
        if session.table is None:
            raise fail(
                "NDL519",
                f"`data` is a table or a solution, not {describe(found)}",
                session.settings["data"][0].span,
                help=f'write `table("{found}")`' if isinstance(found, str) else None,
            )
        session.data = DataObject(session.table)
    other = session.value("validate")
    for item in other.items if isinstance(other, (TupleV, ListV)) else (other,):
        table = _as_table(item, precision, session.device)
        if table is not None:
            session.validation = table.standard(session.table.scales if session.table is not None else {})


def _as_table(found: Any, precision: torch.dtype, device: torch.device) -> Table | None:
    if isinstance(found, DataObject):
        own: Table = found.table
        return own.to(precision, device)
    if isinstance(found, SolutionObject):
        return table_of(found.solution).to(precision, device)
    return None


def table_of(solution: Any) -> Table:
    """A solution's saved values as data, and beside them what was drawn for each member."""
    from ndl.runtime.export import beside
    from ndl.runtime.portions import MEMBER

    columns = {n: solution.get(n).values.detach() for n in solution.names()}
    if solution.problem.steady:  # no times
        columns = {n: v.squeeze(int(solution.problem.ensemble)) for n, v in columns.items()}
    if solution.problem.ensemble:
        own = ((name, values) for name, axes, values in beside(solution, columns) if axes[:1] == (MEMBER,))
        columns |= {name: torch.as_tensor(values) for name, values in own}
    if solution.problem.steady and solution.problem.ensemble:
        return Table(columns, source=solution.model.NAME)
    return Table(columns, solution.t.to(torch.float64), bool(solution.problem.ensemble), solution.model.NAME)
