"""Rooted trees, which index the order conditions of Runge–Kutta methods.

A tree is the sorted tuple of its root's subtrees, so that `()` is the single vertex τ and
`((), ())` is [τ, τ]. Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, II.2.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations_with_replacement
from math import prod

Tree = tuple["Tree", ...]

GREATEST_ORDER = 8
"""Order conditions are known to us up to here: 200 trees."""


@cache
def trees(order: int) -> tuple[Tree, ...]:
    """All rooted trees with `order` vertices: 1, 1, 2, 4, 9, 20, 48, 115, … of them."""
    if order == 1:
        return ((),)
    found: list[Tree] = []
    for sizes in partitions(order - 1):
        found.extend(forests(sizes))
    return tuple(sorted(found, key=lambda t: (height(t), t)))


@cache
def partitions(total: int, largest: int | None = None) -> tuple[tuple[int, ...], ...]:
    """Ways to write `total` as a sum of positive integers, each in descending order."""
    if total == 0:
        return ((),)
    top = min(total, largest if largest is not None else total)
    return tuple((k, *rest) for k in range(top, 0, -1) for rest in partitions(total - k, k))


def forests(sizes: tuple[int, ...]) -> list[Tree]:
    """Multisets of trees with these numbers of vertices."""
    if not sizes:
        return [()]
    count = sizes.count(sizes[0])
    heads = combinations_with_replacement(trees(sizes[0]), count)
    tails = forests(sizes[count:])
    return [tuple(sorted(head + tail)) for head in heads for tail in tails]


@cache
def size(tree: Tree) -> int:
    """Number of vertices, which is the order of the condition."""
    return 1 + sum(map(size, tree))


@cache
def height(tree: Tree) -> int:
    return 1 + max(map(height, tree), default=0)


@cache
def density(tree: Tree) -> int:
    """γ(t): the number of vertices times the densities of the subtrees."""
    return size(tree) * prod(map(density, tree))


def tree_text(tree: Tree) -> str:
    """`τ`, `[τ, [τ]]`."""
    return f"[{', '.join(map(tree_text, tree))}]" if tree else "τ"


def condition_text(tree: Tree) -> str:
    """The condition that a tree stands for, as a reader of textbooks writes it.

    `[τ, [τ]]` is `Σ b_i c_i a_ij c_j = 1/8`.
    """
    letters = iter("ijklmnpq")
    factors: list[str] = []

    def visit(subtree: Tree, index: str) -> None:
        leaves = subtree.count(())
        if leaves:
            factors.append(f"c_{index}" + (f"^{leaves}" if leaves > 1 else ""))
        for child in subtree:
            if child:
                inner = next(letters)
                factors.append(f"a_{index}{inner}")
                visit(child, inner)

    root = next(letters)
    factors.append(f"b_{root}")
    visit(tree, root)
    total = density(tree)
    return f"Σ {' '.join(factors)} = {f'1/{total}' if total > 1 else '1'}"
