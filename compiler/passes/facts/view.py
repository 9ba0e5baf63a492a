"""A model's drift as facts see it: one expression for each component of the state, and who reads whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.symbolic.bridge import Reader
from ndl.compiler.symbolic.noise import inputs_of

MOST_COMPONENTS = 64
"""Components of the state up to which a drift is read as formulas."""


@dataclass(frozen=True)
class View:
    """`rates[i]` is the rate (or residual) of component i of the flat state, `symbols[i]` that component.

    `reads[i]` are the components that rate i may depend on; `other` the names of inputs besides the
    states that any rate depends on (`t`, paths).
    """

    model: ModelIR
    reader: Reader
    names: tuple[str, ...]
    owners: tuple[str, ...]
    algebraic: tuple[bool, ...]
    symbols: tuple[Any, ...]
    rates: tuple[Any, ...]
    reads: tuple[frozenset[int], ...]

    def index(self, symbol: Any) -> int | None:
        return self.symbols.index(symbol) if symbol in self.symbols else None

    @property
    def formulas(self) -> bool:
        """Is every rate a formula of the states, without calls or cut expressions?"""
        plain = set(self.symbols)
        return all(
            symbol in plain or not self.reader.leaves.support(symbol)
            for rate in self.rates
            for symbol in rate.free_symbols
        )


def component_names(model: ModelIR) -> tuple[str, ...]:
    """`x`, or `x[0]`, `x[1]`, … in the order of the flat state."""
    names: list[str] = []
    for state in model.states:
        names.extend(state.name + suffix for suffix in suffixes(state.type.extents))
    return tuple(names)


def suffixes(shape: tuple[int, ...]) -> list[str]:
    if not shape:
        return [""]
    places: list[tuple[int, ...]] = [()]
    for n in shape:
        places = [(*p, i) for p in places for i in range(n)]
    return ["[" + ", ".join(map(str, p)) + "]" for p in places]


def view_of(model: ModelIR) -> View | None:
    """The view of a model with a drift of ordinary size, else None."""
    if model.drift is None or sum(state.size for state in model.states) > MOST_COMPONENTS:
        return None
    reader = Reader(model.drift.graph)
    by_name = inputs_of(model.drift)
    symbols: list[Any] = []
    rates: list[Any] = []
    outputs: list[Node] = [node for _, node in model.drift.outputs]
    for state in model.states:
        cells = reader.read(by_name[state.name])
        if cells is None:
            return None
        symbols.extend(cells.flat)
    for node in outputs:
        cells = reader.read(node)
        if cells is None:
            return None
        rates.extend(cells.flat)
    place = {symbol: i for i, symbol in enumerate(symbols)}
    reads = tuple(frozenset(place[s] for s in reader.leaves.support(rate) if s in place) for rate in rates)
    owners = tuple(state.name for state in model.states for _ in range(state.size))
    algebraic = tuple(state.algebraic for state in model.states for _ in range(state.size))
    return View(model, reader, component_names(model), owners, algebraic, tuple(symbols), tuple(rates), reads)
