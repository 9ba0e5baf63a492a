"""Arrays of a step that its derivative wants: kept by the run itself instead of computed again.

The run and its adjoint write the code of a step in the same order, so that the arrays which it makes have the
same numbers. Which of them the derivative reads is seen when it is written.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndl.compiler.kernels.code import MADE, Code
from ndl.compiler.kernels.ir import Instr, Kernel, KernelError, Value, extent_of

BUFFER = "kept"


@dataclass(frozen=True)
class Kept:
    """`offsets` has (an array's number, where it stands among the kept reals of a step), `width` how many
    these are; `count` arrays are made in a step."""

    offsets: tuple[tuple[int, int], ...] = ()
    width: int = 0
    count: int = 0


NOTHING = Kept()


def arrays_since(code: Code, since: int | None) -> list[tuple[Instr, Value]]:
    """The arrays that were made after the first `since` visible instructions, with what made them; none of
    weights alone, which the run and its adjoint need not make at the same place."""
    body = [] if since is None else code.visible()[since:]
    made = [i for i in body if i.op in MADE and len(i.results) == 1]
    weights = code.of_all()
    return [(i, i.results[0]) for i in made if not weights.issuperset(i.args)]


def keep(code: Code, kept: Kept, since: int | None, k: Value) -> None:
    """Keep arrays of step k, made after the first `since` visible instructions."""
    made = arrays_since(code, since)
    if len(made) != kept.count:
        raise KernelError(f"a step makes {len(made)} arrays, and its adjoint {kept.count}")
    for number, at in kept.offsets:
        attrs = (("buffer", BUFFER), ("at", at), ("width", kept.width))
        code.add(Instr("keep", (k, made[number][1]), (), attrs, origin=code.origin))


class Recall:
    """Puts kept arrays of step k in the place of those that an adjoint computes, once their code has been
    differentiated. Without `kept` it is all of them, so that those which the adjoint reads are seen.

    Made when the code of the step is written; `since` is as in `keep`.
    """

    def __init__(self, code: Code, k: Value, kept: Kept | None, since: int | None) -> None:
        self.code, self.k, self.kept = code, k, kept
        self.made = arrays_since(code, since)

    def apply(self) -> None:
        kept, found = self.kept, {}
        width = kept.width if kept is not None else len(self.made)
        places = dict(kept.offsets) if kept is not None else {i: i for i in range(len(self.made))}
        for number, at in places.items():
            instr, value = self.made[number]
            attrs = (("buffer", BUFFER), ("at", at), ("width", width))
            found[id(instr)] = Instr("recall", (self.k,), (value,), attrs, origin=instr.origin)
        self.code.substitute(found)


def wanted(kernel: Kernel) -> Kept:
    """What an adjoint in which every array is recalled reads."""
    recalls = [i for i in kernel.step.walk() if i.op == "recall"]
    extents = {i.attr("at"): extent_of(i.results[0].type) or 0 for i in recalls}
    counts = {i.attr("width") for i in recalls}
    offsets, width = [], 0
    for number in sorted(extents):
        offsets.append((number, width))
        width += extents[number]
    return Kept(tuple(offsets), width, max(counts, default=0))
