"""Views of tiles and what they give back (`ndl.compiler.kernels.views`), by gathers along the elements."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ndl.compiler.kernels.ir import Instr, Unsupported, extent_of
from ndl.compiler.kernels.views import View

if TYPE_CHECKING:
    from ndl.compiler.backends.triton.arrays import Arrays


def view(a: Arrays, instr: Instr) -> None:
    seen: View = instr.attr("view")
    k, place, across = a.columns(seen.size), str(seen.offset), seen.size
    for n, step in zip(seen.extents, seen.strides):
        across //= n
        place += f" + {k} // {across} % {n} * {step}"
    at = a.once("at", place if seen.extents else f"{k} * 0 + {place}")
    a.set(instr, _gathered(a, a.text(instr, 0), at, seen.size), "a")


def collect(a: Arrays, instr: Instr) -> None:
    """Each place of the result looks for the entries that meet there."""
    extent = extent_of(instr.results[0].type) or 0
    name = a.values.named(instr.results[0], "a")
    a.body.line(f"{name} = {a.zeros(extent)}")
    for i, seen in enumerate(instr.attr("views")):
        at, hit = _found(a, seen, extent)
        across = seen.size
        with ExitStack() as loops:
            for depth, (n, step) in enumerate(zip(seen.extents, seen.strides)):
                across //= n
                if step == 0:
                    loops.enter_context(a.body.indented(f"for j{depth} in range({n}):"))
                    at += f" + j{depth} * {across}"
            part = _gathered(a, a.text(instr, i), at, extent)
            a.body.line(f"{name} += tl.where({hit}[None, :], {part}, 0.0)")


def _gathered(a: Arrays, x: str, at: str, extent: int) -> str:
    return f"tl.gather({x}, {a.tile(f'({at})[None, :]', extent)}, 1)"


def _found(a: Arrays, seen: View, extent: int) -> tuple[str, str]:
    """The first entry that meets in each place, and whether one does."""
    rest = a.once("rest", f"{a.columns(extent)} - {_least(seen)}")
    at, hit, across, axes = "0", f"{rest} >= 0", seen.size, []
    for n, step in zip(seen.extents, seen.strides):
        across //= n
        if step:
            axes.append((abs(step), n, across if step > 0 else -across))
            at += f" + {(n - 1) * across}" if step < 0 else ""
    reach = 0
    for step, n, _ in sorted(axes):
        if step <= reach:
            raise Unsupported("entries of a view overlap")
        reach += step * (n - 1)
    for step, n, across in sorted(axes, reverse=True):
        turn = a.once("turn", f"{rest} // {step}")
        hit += f") & ({turn} < {n}"
        at += f" + {turn} * {across}"
        rest = a.once("rest", f"{rest} - {turn} * {step}")
    hit = a.once("hit", f"({hit}) & ({rest} == 0)")
    return a.once("at", f"tl.where({hit}, {at}, 0)"), hit


def _least(seen: View) -> int:
    """The first of a view's places."""
    return seen.offset + sum((n - 1) * min(s, 0) for n, s in zip(seen.extents, seen.strides))
