"""What every kernel must satisfy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ndl.compiler.kernels.ir import TYPES, Block, Instr, Kernel, KernelError, Value, array_type, extent_of
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.kernels.views import View


def verify(kernel: Kernel) -> Kernel:
    """The kernel itself. Raises `KernelError` when a value is used before it is defined or twice defined,
    types do not fit, or a buffer is used against its mode."""
    checker = _Checker(kernel)
    shared = checker.block(kernel.entry, set(), "entry", 0)
    carried = [v.type for v in kernel.begin.yields]
    if any(extent_of(type) is not None for type in carried):
        raise KernelError("an array is carried")
    checker.block(kernel.begin, shared, "begin", 0)
    checker.block(kernel.step, shared, "step", len(carried))
    checker.block(kernel.finish, shared, "finish", len(carried))
    _same([*carried, "bool"], kernel.step.yields, "step")
    for name, block in (("step", kernel.step), ("finish", kernel.finish)):
        _same(carried, block.params, name)
    if kernel.finish.yields:
        raise KernelError("`finish` yields nothing")
    return kernel


def _same(types: Sequence[str], values: Sequence[Value], where: str) -> None:
    if list(types) != [v.type for v in values]:
        raise KernelError(f"`{where}` has {[v.type for v in values]} where {list(types)} is carried")


Kinds = tuple[list[str], list[str]]


def _element(instr: Instr, given: list[str]) -> Kinds:
    if not 0 <= instr.attr("at") < (extent_of(given[0]) or 0):
        raise KernelError(f"element {instr.attr('at')} of {given[0]}")
    return given, ["real"]


def _seen(size: int, seen: View) -> None:
    if not ((seen.places >= 0) & (seen.places < size)).all():
        raise KernelError(f"the view {seen} leaves an array of {size}")


def _view(instr: Instr, given: list[str]) -> Kinds:
    _seen(extent_of(given[0]) or 0, instr.attr("view"))
    return given, [array_type(instr.attr("view").size)]


def _collect(instr: Instr, given: list[str]) -> Kinds:
    for seen in instr.attr("views"):
        _seen(extent_of(instr.results[0].type) or 0, seen)
    return [array_type(v.size) for v in instr.attr("views")], [instr.results[0].type]


def _product(left: str, right: str) -> Callable[[Instr, list[str]], Kinds]:
    """The extents of a matrix that the operands and the results have."""

    def kinds(instr: Instr, given: list[str]) -> Kinds:
        at = {k: array_type(getattr(instr.attr("matrix"), k)) for k in ("rows", "columns")}
        return [at[k] for k in left.split()], [at[k] for k in right.split()]

    return kinds


ARRAYS: dict[str, Callable[[Instr, list[str]], Kinds]] = {
    "pack": lambda instr, given: (["real"] * len(given), [array_type(len(given))]),
    "element": _element,
    "row": lambda instr, given: ([], [instr.results[0].type]),
    "total": lambda instr, given: (given, ["real"]),
    "dense": _product("columns", "rows"),
    "dense_t": _product("rows", "columns"),
    "outer": _product("rows columns", ""),
    "accumulate": lambda instr, given: (given, []),
    "view": _view,
    "collect": _collect,
    "keep": lambda instr, given: (["i32", *given[1:]], []),
    "recall": lambda instr, given: (["i32"], [instr.results[0].type]),
}
"""The types of operands and results that operations on arrays have."""


PLACES = {
    "outer": ("sum", "out"),
    "accumulate": ("sum", "out"),
    "keep": ("kept", "out"),
    "recall": ("kept", "in"),
}
"""Kind and mode of the buffers of operations that do not read a table."""


class _Checker:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.defined: set[Value] = set()

    def define(self, values: Sequence[Value], seen: set[Value]) -> None:
        for v in values:
            known = v.type in TYPES or extent_of(v.type) is not None
            if v in self.defined or not known:
                raise KernelError(f"{v}: {v.type} is defined twice or of no known type")
            self.defined.add(v)
            seen.add(v)

    def block(self, block: Block, outer: set[Value], where: str, params: int) -> set[Value]:
        if len(block.params) != params:
            raise KernelError(f"`{where}` has {len(block.params)} parameters, not {params}")
        seen = set(outer)
        self.define(block.params, seen)
        for instr in block.body:
            self.known(instr.args, seen, instr.op)
            self.instr(instr, seen)
            self.define(instr.results, seen)
        self.known(block.yields, seen, where)
        return seen

    def known(self, values: Sequence[Value], seen: set[Value], where: str) -> None:
        for v in values:
            if v not in seen:
                raise KernelError(f"{v} is used in `{where}` before it is defined")

    def instr(self, instr: Instr, seen: set[Value]) -> None:
        given = [a.type for a in instr.args]
        if instr.op == "while":
            self.loop(instr, seen, given)
        elif instr.op == "when":
            self.block(instr.regions[0], seen, "when", 0)
            if given[0] != "bool":
                raise KernelError("the condition of `when` is a bool")
            _same(given[1:], instr.regions[0].yields, "when")
            self.no_arrays(given)
            _same(given[1:], instr.results, "when")
        elif instr.op in ("load", "store"):
            self.memory(instr, given)
        elif instr.op == "map":
            self.map(instr, given)
        elif instr.op in ARRAYS:
            self.array(instr, given)
        elif instr.op not in ("const", "member"):
            _same([TABLE[instr.op].type(given)], instr.results, instr.op)

    def loop(self, instr: Instr, seen: set[Value], given: list[str]) -> None:
        test, turn = instr.regions
        self.no_arrays(given)
        self.block(test, seen, "while", len(given))
        self.block(turn, seen, "while", len(given))
        _same(["bool"], test.yields, "while")
        for values in (test.params, turn.params, turn.yields, instr.results):
            _same(given, values, "while")

    @staticmethod
    def no_arrays(types: Sequence[str]) -> None:
        if any(extent_of(t) is not None for t in types):
            raise KernelError("an array is carried or yielded")

    def map(self, instr: Instr, given: list[str]) -> None:
        region = instr.regions[0]
        self.block(region, set(), "map", len(given))
        if any(inner.regions or inner.op in ("load", "store", "member") for inner in region.body):
            raise KernelError("a map holds straight-line arithmetic alone")
        kind = instr.results[0].type
        _same(["real"] * len(given), region.params, "map")
        _same(["real"] * len(instr.results), region.yields, "map")
        if extent_of(kind) is None or any(t not in ("real", kind) for t in given):
            raise KernelError(f"a map of {given} to {kind}")
        _same([kind] * len(instr.results), instr.results, "map")

    def array(self, instr: Instr, given: list[str]) -> None:
        kinds, results = ARRAYS[instr.op](instr, given)
        if given != kinds:
            raise KernelError(f"`{instr.op}` takes {kinds}, not {given}")
        _same(results, instr.results, instr.op)
        if instr.op not in ("pack", "element", "total", "view", "collect"):
            dense = instr.op in ("dense", "dense_t", "outer")
            name = instr.attr("matrix").buffer if dense else instr.attr("buffer")
            buffer = self.kernel.buffer(name)
            if (buffer.kind, buffer.mode) != PLACES.get(instr.op, ("table", "in")):
                raise KernelError(f"`{instr.op}` of `{name}`: {buffer.kind} {buffer.mode}")

    def memory(self, instr: Instr, given: list[str]) -> None:
        buffer = self.kernel.buffer(instr.attr("buffer"))
        if buffer.kind in ("sum", "kept"):
            raise KernelError(f"`{buffer.name}` is a {buffer.kind} buffer, which holds no values")
        if instr.op == "store" and (buffer.mode == "in" or given != ["i32", buffer.type]):
            raise KernelError(f"a store of {given} in `{buffer.name}`: {buffer.mode} {buffer.type}")
        if instr.op == "load" and (buffer.mode == "out" or given != ["i32"]):
            raise KernelError(f"a load of {given} from `{buffer.name}`: {buffer.mode}")
