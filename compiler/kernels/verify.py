"""What every kernel must satisfy."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.ir import TYPES, Block, Instr, Kernel, KernelError, Value
from ndl.compiler.kernels.ops import TABLE


def verify(kernel: Kernel) -> Kernel:
    """The kernel itself. Raises `KernelError` when a value is used before it is defined or twice defined,
    types do not fit, or a buffer is used against its mode."""
    checker = _Checker(kernel)
    shared = checker.block(kernel.entry, set(), "entry", 0)
    carried = [v.type for v in kernel.begin.yields]
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


class _Checker:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.defined: set[Value] = set()

    def define(self, values: Sequence[Value], seen: set[Value]) -> None:
        for v in values:
            if v in self.defined or v.type not in TYPES:
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
            _same(given[1:], instr.results, "when")
        elif instr.op in ("load", "store"):
            self.memory(instr, given)
        elif instr.op not in ("const", "member"):
            _same([TABLE[instr.op].type(given)], instr.results, instr.op)

    def loop(self, instr: Instr, seen: set[Value], given: list[str]) -> None:
        test, turn = instr.regions
        self.block(test, seen, "while", len(given))
        self.block(turn, seen, "while", len(given))
        _same(["bool"], test.yields, "while")
        for values in (test.params, turn.params, turn.yields, instr.results):
            _same(given, values, "while")

    def memory(self, instr: Instr, given: list[str]) -> None:
        buffer = self.kernel.buffer(instr.attr("buffer"))
        if instr.op == "store" and (buffer.mode == "in" or given != ["i32", buffer.type]):
            raise KernelError(f"a store of {given} in `{buffer.name}`: {buffer.mode} {buffer.type}")
        if instr.op == "load" and (buffer.mode == "out" or given != ["i32"]):
            raise KernelError(f"a load of {given} from `{buffer.name}`: {buffer.mode}")
