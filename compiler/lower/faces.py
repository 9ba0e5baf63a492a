"""Values between neighbours on an axis of a grid, reconstructed from values at points, with the neighbours
beyond its ends.

`upwind` takes the neighbour's value; `minmod`, `vanleer` and `mc` add half a limited slope (van Leer 1979,
J. Comput. Phys. 32, 101–136); `weno5` weighs three parabolas by their smoothness (Jiang and Shu 1996,
J. Comput. Phys. 126, 202–228, epsilon = 1e-6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ndl.compiler.ir.graph import Node
from ndl.compiler.lower.pointwise import Pointwise

REACH = {"upwind": 0, "minmod": 1, "vanleer": 1, "mc": 1, "weno5": 2}
"""How many neighbours on either side a value between neighbours reads."""
EPSILON = 1e-6


def reconstructed(p: Pointwise, scheme: str, v: Sequence[Node]) -> Node:
    """The value at the upper face of the middle one of the values, which are in the wind's order."""
    if scheme == "upwind":
        return v[0]
    return _weno5(p, v) if scheme == "weno5" else p.add(v[1], p.times(0.5, limited(p, scheme, *v)))


def limited(p: Pointwise, scheme: str, before: Node, middle: Node, after: Node) -> Node:
    """A slope that is 0 at extrema and makes none."""
    a, b = p.sub(middle, before), p.sub(after, middle)
    if scheme == "vanleer":
        # 2ab/(a + b) where both have the same sign; the least number keeps 0/0 away
        product = p.mul(a, b)
        size = p.most(p.add(p.op("abs", a), p.op("abs", b)), p.number(1e-30, a))
        twice = p.div(p.times(2.0, p.positive(product)), size)
        return p.mul(p.op("sign", p.add(a, b)), twice)
    pieces = [a, b]
    if scheme == "mc":
        pieces = [p.times(2.0, a), p.times(2.0, b), p.times(0.5, p.add(a, b))]
    return p.add(p.positive(p.least(*pieces)), p.negative(p.most(*pieces)))


def _weno5(p: Pointwise, v: Sequence[Node]) -> Node:
    parabolas = [
        p.weighted([1 / 3, -7 / 6, 11 / 6], v[0:3]),
        p.weighted([-1 / 6, 5 / 6, 1 / 3], v[1:4]),
        p.weighted([1 / 3, 5 / 6, -1 / 6], v[2:5]),
    ]
    slopes = ([1.0, -4.0, 3.0], [1.0, 0.0, -1.0], [3.0, -4.0, 1.0])
    shares = []
    for k, (ideal, slope) in enumerate(zip((0.1, 0.6, 0.3), slopes)):
        near = v[k : k + 3]
        bend = p.times(13 / 12, p.square(p.weighted([1.0, -2.0, 1.0], near)))
        rough = p.add(bend, p.times(0.25, p.square(p.weighted(slope, near))))
        below = p.square(p.add(rough, p.number(EPSILON, rough)))
        shares.append(p.div(p.number(ideal, below), below))
    total = p.add(*(p.mul(w, q) for w, q in zip(shares, parabolas)))
    return p.div(total, p.add(*shares))


At = Callable[[int], Node]


def upper_face(p: Pointwise, scheme: str, at: At, k: int) -> Node:
    """The value at the face between k and k + 1 as the points below it have it; `at(j)` are the values j
    places further."""
    r = REACH[scheme]
    return reconstructed(p, scheme, [at(k + j) for j in range(-r, r + 1)])


def lower_face(p: Pointwise, scheme: str, at: At, k: int) -> Node:
    """The value at the same face as the points above it have it."""
    r = REACH[scheme]
    return reconstructed(p, scheme, [at(k + 1 - j) for j in range(-r, r + 1)])
