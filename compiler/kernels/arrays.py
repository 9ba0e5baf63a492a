"""Arrays in kernels: vectors of reals that a trajectory has, kept whole where code for each would be long.

    pack a, b, …       -> array       reals as an array
    element x, at      -> real
    row table[at]      -> array       a part of a table, the same for all trajectories
    map x, s, …        -> arrays      a region of scalar code for each place; reals go to every place
    total x            -> real        the sum of the elements
    view x, collect x  -> array       parts, repeats and sums along axes, see `views`
    dense W, x         -> array       W x, with W a part of a table, row by row
    dense_t W, x       -> array       W^T x
    outer G, g, x                     G += g x^T, with G a part of a `sum`
    accumulate sum[at], g             the same for a row
    keep buffer[at], k, x             x among the reals that step k keeps (`width` of them), see `kept`
    recall buffer[at], k -> array     that array again

Arrays live in one block: they are neither carried nor yielded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Block, Instr, Kernel, KernelError, Value, array_type, extent_of

Place = Callable[..., Sequence[Value]]
"""Scalar code for one place of a map: elements to the results' elements."""


@dataclass(frozen=True)
class Matrix:
    """Rows `at`, … of a buffer as a matrix, row by row."""

    buffer: str
    at: int
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.buffer}[{self.at}: {self.rows} x {self.columns}]"

    def inside(self, buffer: str) -> Matrix:
        """The same part of another buffer."""
        return Matrix(buffer, self.at, self.rows, self.columns)


@dataclass(frozen=True)
class Product:
    """What a `dense` or `dense_t` multiplies: each of `outer` results is a sum over `inner` entries of the
    matrix, the next result's `across` numbers further on, the next entry `along`."""

    matrix: Matrix
    outer: int
    inner: int
    across: int
    along: int

    @staticmethod
    def of(instr: Instr) -> Product:
        m: Matrix = instr.attr("matrix")
        if instr.op == "dense":
            return Product(m, m.rows, m.columns, m.columns, 1)
        return Product(m, m.columns, m.rows, 1, m.columns)


def extent(array: Value) -> int:
    """How many elements an array has."""
    found = extent_of(array.type)
    if found is None:
        raise KernelError(f"{array}: {array.type} is not an array")
    return found


def pack(code: Code, values: Sequence[Value]) -> Value:
    made = code.pure("pack", tuple(values), array_type(len(values)))
    code.packs[made] = tuple(values)
    return made


def element(code: Code, array: Value, at: int) -> Value:
    if array in code.packs:
        return code.packs[array][at]
    return code.pure("element", (array,), "real", (("at", at),))


def elements(code: Code, array: Value) -> list[Value]:
    return [element(code, array, i) for i in range(extent(array))]


def row(code: Code, buffer: str, at: int, count: int) -> Value:
    return code.pure("row", (), array_type(count), (("buffer", buffer), ("at", at)))


def total(code: Code, array: Value) -> Value:
    return code.pure("total", (array,), "real")


def dense(code: Code, matrix: Matrix, x: Value) -> Value:
    return code.pure("dense", (x,), array_type(matrix.rows), (("matrix", matrix),))


def dense_t(code: Code, matrix: Matrix, x: Value) -> Value:
    return code.pure("dense_t", (x,), array_type(matrix.columns), (("matrix", matrix),))


def outer(code: Code, matrix: Matrix, g: Value, x: Value) -> None:
    code.add(Instr("outer", (g, x), (), (("matrix", matrix),), origin=code.origin))


def accumulate(code: Code, buffer: str, at: int, g: Value) -> None:
    code.add(Instr("accumulate", (g,), (), (("buffer", buffer), ("at", at)), origin=code.origin))


def mapped(code: Code, args: Sequence[Value], count: int, place: Place) -> list[Value]:
    """Arrays of `count` elements, as `place` gives them from the arguments' elements."""
    with code.closed(["real"] * len(args)) as region:
        region.yields = tuple(place(*region.params))
    return close_map(code, region, args, count)


def one_op(code: Code, name: str, args: Sequence[Value], count: int) -> Value:
    """An elementwise operation on arrays and reals."""
    return mapped(code, args, count, lambda *x: [code.op(name, *x)])[0]


def close_map(code: Code, region: Block, args: Sequence[Value], count: int) -> list[Value]:
    """The map of a region; what it passes through unchanged, and what it does not use, is left out."""
    through = {p: a for p, a in zip(region.params, args) if extent_of(a.type) is not None}
    rest = [y for y in region.yields if y not in through]
    made: dict[Value, Value] = {}
    if rest:
        rest = list(dict.fromkeys(rest))
        used = needed(region.body, rest)
        kept = [(p, a) for p, a in zip(region.params, args) if p in used]
        inside = Block(
            tuple(p for p, _ in kept), [i for i in region.body if i.results[0] in used], tuple(rest)
        )
        given = tuple(a for _, a in kept)
        key = "map", given, (count, numbered(inside))
        results = code.written(key)
        if results is None:
            results = tuple(code.value(array_type(count)) for _ in rest)
            code.write(key, Instr("map", given, results, regions=(inside,), origin=code.origin))
        made = dict(zip(rest, results))
    return [through[y] if y in through else made[y] for y in region.yields]


def numbered(region: Block) -> tuple[object, ...]:
    """What a region computes, whatever its values are called."""
    at = {p: k for k, p in enumerate(region.params)}
    lines = []
    for instr in region.body:
        lines.append((instr.op, tuple(at[a] for a in instr.args), instr.attrs))
        at[instr.results[0]] = len(at)
    return (*lines, tuple(at[y] for y in region.yields))


def needed(body: Sequence[Instr], wanted: Sequence[Value]) -> set[Value]:
    """The values of straight-line code that others depend on."""
    used = set(wanted)
    for instr in reversed(body):
        if any(r in used for r in instr.results):
            used |= set(instr.args)
    return used


def has_arrays(kernel: Kernel) -> bool:
    """Whether some value is an array."""
    instrs = (i for _, block in kernel.blocks() for i in block.walk())
    return any(extent_of(v.type) is not None for i in instrs for v in i.results)
