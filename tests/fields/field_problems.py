"""How field problems are solved in the tests."""

from __future__ import annotations

import math
from typing import Any

import torch

import ndl

STIFF = "rodas5(rtol=1e-11, atol=1e-13)"
EXPLICIT = "tsit5(rtol=1e-11, atol=1e-13)"


def solved(text: str, grid: str, span: str = "0..0.5", method: str = STIFF, **settings: str) -> Any:
    """The solution of the model `M` of a text."""
    chosen = {"span": span, "grid": grid, "method": method, "save": "end", **settings}
    lines = "\n".join(f"    {k} = {v}" for k, v in chosen.items())
    (found,) = ndl.loads(f"{text}\n\nsolve M as run:\n{lines}\n").run("run")
    return found


def errors(text: str, grids: list[str], exact: Any, state: str = "u", **settings: str) -> list[float]:
    """The largest error at the points for each grid; `exact` is a function of the coordinates."""
    found = []
    for grid in grids:
        s = solved(text, grid, **settings)
        points = [s.grid[c] for c in s.model.GRIDS[0].coordinates]
        found.append(float((s.final[state] - exact(*points)).abs().max()))
    return found


def order(found: list[float], ratio: float = 2.0) -> float:
    """The order that the last two errors show."""
    return math.log(found[-2] / found[-1]) / math.log(ratio)


__all__ = ["EXPLICIT", "STIFF", "errors", "order", "solved", "torch"]
