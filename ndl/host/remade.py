"""The weights with which a net begins that `remake(N, …)` makes: those of N, by name, and of a weight on
`dual(S, m)` those of each wavenumber; wavenumbers that N does not have begin with 0."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ndl.compiler.check.remade import remake
from ndl.compiler.check.values import FileV, ListV
from ndl.compiler.diagnostics import fail
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.runtime.duals import wavenumbers
from ndl.runtime.info import ParameterInfo


def carry(old: Any, new: Any, span: Span) -> None:
    """Copy the weights of one module into another. Raises `NDLError` (NDL478) where one has another shape."""
    before = dict(old.named_modules())
    with torch.no_grad():
        for path, part in new.named_modules():
            theirs = {p.name: p for p in getattr(before.get(path), "PARAMETERS", ())}
            for p in getattr(part, "PARAMETERS", ()):
                if p.name in theirs:
                    shown = f"{path}.{p.name}" if path else p.name
                    _copy(before[path], theirs[p.name], part, p, shown, span)


def _copy(old: Any, theirs: ParameterInfo, new: Any, own: ParameterInfo, shown: str, span: Span) -> None:
    whole = theirs.shape == own.shape and theirs.waves == own.waves
    inner = theirs.shape[1:] == own.shape[1:] and len(theirs.waves) == len(own.waves) > 0
    if not whole and not inner:
        raise fail(
            "NDL478",
            f"the weight `{shown}` is R{[*theirs.shape]} and would be R{[*own.shape]}",
            span,
            notes=("weights are carried by name, those on `dual(S, m)` by wavenumber",),
            help="keep the options on which its size depends",
        )
    for source, target in zip(_tensors(old, theirs), _tensors(new, own)):
        target.copy_(source if whole else by_wavenumber(source, theirs.waves, own.waves))


def _tensors(part: Any, p: ParameterInfo) -> list[Tensor]:
    """Where a weight is stored: itself, or its free image and that one's unit."""
    name = p.attribute or p.name
    names = [f"raw_{name}", f"unit_{name}"] if p.constrained else [name]
    return [getattr(part, n) for n in names]


def by_wavenumber(x: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """What stands for each wavenumber along the first axis, for other wavenumbers; 0 for those not there."""
    rows = {k: i for i, k in enumerate(wavenumbers(old))}
    pairs = [(j, rows[k]) for j, k in enumerate(wavenumbers(new)) if k in rows]
    found = x.new_zeros(len(wavenumbers(new)), *x.shape[1:])
    to, from_ = (torch.tensor(places) for places in zip(*pairs))
    found[to] = x[from_]
    return found


def remade(host: Any, declared: Any, name: str, options: dict[str, Any]) -> Any:
    """A module made from Python; `declared` is what the file has by this name."""
    if not isinstance(declared, FileV) or declared.kind != "net":
        raise fail("NDL477", f"`{name}` is no net of this program", Span())
    given = {k: ListV(tuple(v)) if isinstance(v, (list, tuple)) else v for k, v in options.items()}
    written = tree.Name(declared.stmt.span, name)
    call = tree.Call(declared.stmt.span, written, (tree.Arg(written.span, "positional", None, written),))
    net = remake(host.ev, [host.ev.file_value(declared)], given, call, declared.module.scope)
    host.named[id(call)] = net  # so that the place of its weights stays its own
    return host.module_of(net, declared.stmt.span)
