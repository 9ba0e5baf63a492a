"""Views of arrays and what they give back (`ndl.compiler.kernels.views`) as LLVM functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ndl.compiler.backends.llvm.routines import Writer
from ndl.compiler.kernels.views import View, disjoint

Axis = tuple[int, int, int]
"""Entries along an axis, and how far apart they are in the array and among the entries."""


def viewed(w: Writer, name: str, seen: View) -> str:
    """y[k] = x[the place of k]."""

    def entry(x: str, y: str) -> None:
        w.store(w.load(w.at("%x", x, w.kind)), w.at("%y", y, w.kind))

    _nested(w, _axes(seen), str(seen.offset), "0", entry)
    return w.function(f"define internal void @{name}(ptr noalias %y, ptr noalias %x)")


def collected(w: Writer, name: str, views: Sequence[View], extent: int) -> str:
    """y = 0, then y[the place of k] += x[k] for each part x; what meets in one place is summed first."""
    apart = disjoint(views)
    if not (apart and sum(_different(v) for v in views) == extent):

        def blank(at: str, _: list[str]) -> list[str]:
            w.store("zeroinitializer", w.at("%y", at, w.kind))
            return []

        w.counted(extent, "", [], blank)
    for i, seen in enumerate(views):
        axes = _axes(seen)
        summed = [a for a in axes if a[1] == 0]

        def entry(y: str, x: str, part: str = f"%x{i}", summed: Sequence[Axis] = summed) -> None:
            found, to = _summed(w, part, summed, x), w.at("%y", y, w.kind)
            w.store(found if apart else w.set(f"fadd {w.kind} {w.load(to)}, {found}"), to)

        _nested(w, [a for a in axes if a[1]], str(seen.offset), "0", entry)
    parts = "".join(f", ptr noalias %x{i}" for i in range(len(views)))
    return w.function(f"define internal void @{name}(ptr noalias %y{parts})")


def _axes(seen: View) -> list[Axis]:
    found: list[Axis] = []
    across = 1
    for n, step in zip(reversed(seen.extents), reversed(seen.strides)):
        found.insert(0, (n, step, across))
        across *= n
    return found


def _different(seen: View) -> int:
    """How many places a view has, where entries differ by their axes."""
    found = 1
    for n, step in zip(seen.extents, seen.strides):
        found *= n if step else 1
    return found


def _moved(w: Writer, start: str, turn: str, step: int) -> str:
    return w.sum(start, w.times(turn, step)) if step else start


def _nested(
    w: Writer, axes: Sequence[Axis], place: str, entry: str, body: Callable[[str, str], None]
) -> None:
    """`body(place, entry)` for all places and entries of the axes."""
    if not axes:
        body(place, entry)
        return
    (count, step, across), *inner = axes

    def turn(k: str, _: list[str]) -> list[str]:
        _nested(w, inner, _moved(w, place, k, step), _moved(w, entry, k, across), body)
        return []

    w.counted(count, "", [], turn)


def _summed(w: Writer, part: str, axes: Sequence[Axis], entry: str) -> str:
    """The sum of a part's entries along axes."""
    if not axes:
        return w.load(w.at(part, entry, w.kind))
    (count, _, across), *inner = axes

    def turn(k: str, sums: list[str]) -> list[str]:
        found = _summed(w, part, inner, _moved(w, entry, k, across))
        return [w.set(f"fadd {w.kind} {sums[0]}, {found}")]

    return w.counted(count, w.kind, ["zeroinitializer"], turn)[0]
