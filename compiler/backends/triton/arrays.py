"""Arrays as tiles: an array of m reals is `[BLOCK, P]`, P the power of two from 16 on that holds m.

Weights are read once, before the first step, and stay with the program; products are `tl.dot` in the
kernel's own precision, in single with factors rounded to tf32 where that is asked for. What stands in the
places from m on is arbitrary and is blanked before it is summed. What trajectories add to the sums of weights
is added up in tiles of the program, which end in a row of the buffer that is the program's own: the result
depends on no order of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ndl.compiler.backends.triton import views
from ndl.compiler.backends.triton.forms import Expr
from ndl.compiler.kernels.arrays import Product
from ndl.compiler.kernels.ir import Instr, Unsupported, Value, extent_of

if TYPE_CHECKING:
    from ndl.compiler.backends.triton.body import Body

WIDEST = 128
"""Elements of an array beyond which a tile takes more than a program has."""

TILES = ((16, 8),)
"""Trajectories and warps of a program: the tile that spills least. Others are not tried, since these kernels
take long to compile."""


def padded(extent: int) -> int:
    """The places of an array of so many elements: products want at least 16, tiles powers of two."""
    if extent > WIDEST:
        raise Unsupported(f"Triton kernels have layers of {WIDEST} at most, not {extent}")
    return max(16, 1 << (extent - 1).bit_length())


class Arrays:
    """The arrays of one function; `before` are the lines that stand before all others, `after` its last."""

    def __init__(self, body: Body) -> None:
        self.body, self.values = body, body.values
        self.before: list[str] = []
        self._made: dict[str, str] = {}
        self._sums: dict[tuple[str, int, int], str] = {}
        self.after: list[str] = []
        self.rounding = "ieee"
        """How products take their factors: as they are, or rounded to `tf32`."""

    def instr(self, instr: Instr) -> None:
        self.body.comment(instr)
        HANDLERS[instr.op](self, instr)

    # ------------------------------------------------------------ what stands before

    def once(self, base: str, text: str) -> str:
        """The name of a value that is made once, before all others."""
        if text not in self._made:
            self._made[text] = self.values.names.numbered(base)
            self.before.append(f"{self._made[text]} = {text}")
        return self._made[text]

    def columns(self, extent: int) -> str:
        """The numbers of an array's places, `[P]`."""
        return self.once("places", f"tl.arange(0, {padded(extent)})")

    def inside(self, extent: int) -> str:
        """Which places hold elements, `[1, P]`."""
        return self.once("inside", f"({self.columns(extent)} < {extent})[None, :]")

    def weights(self, buffer: str, at: int, extent: int) -> str:
        """Rows of a table as `[1, P]`."""
        places = self.columns(extent)
        mask = f", mask={places} < {extent}, other=0.0" if padded(extent) > extent else ""
        return self.once("w", f"tl.load({self.body.pointer(buffer)} + {at} + {places}{mask})[None, :]")

    def matrix(self, p: Product) -> str:
        """The factor `[inner, outer]` of a product."""
        i, j = f"{self.columns(p.inner)}[:, None]", f"{self.columns(p.outer)}[None, :]"
        along, across = (n if k == 1 else f"{n} * {k}" for n, k in ((i, p.along), (j, p.across)))
        place = f"{self.body.pointer(p.matrix.buffer)} + {p.matrix.at} + {along} + {across}"
        return self.once("W", f"tl.load({place}, mask=({i} < {p.inner}) & ({j} < {p.outer}), other=0.0)")

    # ------------------------------------------------------------ instructions

    def text(self, instr: Instr, k: int) -> str:
        """An operand that is an array."""
        return self.values.expr(instr.args[k]).inside(9)

    def blank(self, array: str, extent: int) -> str:
        """An array with zeros where it has no elements."""
        full = padded(extent) == extent
        return array if full else f"tl.where({self.inside(extent)}, {array}, 0.0)"

    def mine(self, array: str, extent: int) -> str:
        """The same, with zeros for trajectories that take no part."""
        mask = f"{Expr(self.body.mask, 0).inside(9)}[:, None]"
        mask = mask if padded(extent) == extent else f"{mask} & {self.inside(extent)}"
        return f"tl.where({mask}, {array}, 0.0)"

    def set(self, instr: Instr, text: str, base: str) -> None:
        self.body.line(f"{self.values.named(instr.results[0], base)} = {text}")

    def tile(self, text: str, extent: int) -> str:
        return f"tl.broadcast_to({text}, [BLOCK, {padded(extent)}])"

    def zeros(self, extent: int) -> str:
        return f"tl.zeros([BLOCK, {padded(extent)}], {self.values.precision.real})"

    def column(self, value: Value) -> str:
        """A real as `[BLOCK, 1]`."""
        varying = value in self.values.varying
        return f"{self.values.typed(value, 9) if varying else self.values.tile(value)}[:, None]"

    def pack(self, instr: Instr) -> None:
        n, name = len(instr.args), self.values.named(instr.results[0], "a")
        self.body.line(f"{name} = {self.zeros(n)}")
        for i, a in enumerate(instr.args):
            here = self.once("here", f"({self.columns(n)} == {i})[None, :]")
            self.body.line(f"{name} = tl.where({here}, {self.column(a)}, {name})")

    def element(self, instr: Instr) -> None:
        n = extent_of(instr.args[0].type) or 0
        here = self.once("here", f"({self.columns(n)} == {instr.attr('at')})[None, :]")
        self.set(instr, f"tl.sum(tl.where({here}, {self.text(instr, 0)}, 0.0), axis=1)", "v")

    def row(self, instr: Instr) -> None:
        n = extent_of(instr.results[0].type) or 0
        row = self.weights(instr.attr("buffer"), instr.attr("at"), n)
        self.values.set(instr.results[0], self.tile(row, n))

    def total(self, instr: Instr) -> None:
        n = extent_of(instr.args[0].type) or 0
        self.set(instr, f"tl.sum({self.blank(self.text(instr, 0), n)}, axis=1)", "v")

    def dense(self, instr: Instr) -> None:
        p = Product.of(instr)
        self.set(instr, self.product(self.blank(self.text(instr, 0), p.inner), self.matrix(p)), "a")

    def product(self, a: str, b: str) -> str:
        real = self.values.precision.real
        return f'tl.dot({a}, {b}, input_precision="{self.rounding}", out_dtype={real})'

    def map(self, instr: Instr) -> None:
        """A region's code on whole tiles."""
        region, n = instr.regions[0], extent_of(instr.results[0].type) or 0
        for p, a in zip(region.params, instr.args):
            if extent_of(a.type) is not None:
                self.values.set(p, self.values.expr(a))
            else:
                self.body.line(f"{self.values.named(p, 'column')} = {self.column(a)}")
        self.body.block(region)
        alone = all(extent_of(a.type) is None for a in instr.args)  # then a column stands for all
        for y, r in zip(region.yields, instr.results):
            text = self.values.typed(y)
            if alone or y not in self.values.varying:
                text = self.tile(text, n)
            self.body.line(f"{self.values.named(r, 'a')} = {text}")

    # ------------------------------------------------------------ sums

    def sum(self, buffer: str, at: int, rows: int, columns: int) -> str:
        """The name of the tile that collects a matrix of sums, or a row of them (`rows` 0)."""
        key = buffer, at, max(rows, 1) * columns
        if key not in self._sums:
            for other, start, count in self._sums:
                if other == buffer and start < at + key[2] and at < start + count:
                    raise Unsupported("a weight is used as a matrix and as a vector")
            self._sums[key] = name = self.values.names.numbered("sum")
            places, shape, mask = self.columns(columns), f"[{padded(columns)}]", ""
            if rows:
                i, j = f"{self.columns(rows)}[:, None]", f"{places}[None, :]"
                shape = f"[{padded(rows)}, {padded(columns)}]"
                places, mask = f"{i} * {columns} + {j}", f"({i} < {rows}) & ({j} < {columns})"
            self.before.append(f"{name} = tl.zeros({shape}, {self.values.precision.real})")
            place = f"{self.body.pointer(buffer)} + tl.program_id(0) * portion + {at} + {places}"
            self.after.append(f"tl.store({place}, {name}, mask={mask or f'{places} < {columns}'})")
        return self._sums[key]

    def outer(self, instr: Instr) -> None:
        m = instr.attr("matrix")
        name = self.sum(m.buffer, m.at, m.rows, m.columns)
        g, x = self.mine(self.text(instr, 0), m.rows), self.mine(self.text(instr, 1), m.columns)
        self.body.line(f"{name} += {self.product(f'tl.trans({g})', x)}")

    def accumulate(self, instr: Instr) -> None:
        n = extent_of(instr.args[0].type) or 0
        name = self.sum(instr.attr("buffer"), instr.attr("at"), 0, n)
        self.body.line(f"{name} += tl.sum({self.mine(self.text(instr, 0), n)}, axis=0)")


HANDLERS: dict[str, Callable[[Arrays, Instr], None]] = {
    "pack": Arrays.pack,
    "element": Arrays.element,
    "row": Arrays.row,
    "map": Arrays.map,
    "total": Arrays.total,
    "view": views.view,
    "collect": views.collect,
    "dense": Arrays.dense,
    "dense_t": Arrays.dense,
    "outer": Arrays.outer,
    "accumulate": Arrays.accumulate,
}
