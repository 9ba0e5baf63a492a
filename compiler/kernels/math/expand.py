"""The pass that rewrites a kernel's mathematics into primitives."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from ndl.compiler.kernels.arrays import mapped
from ndl.compiler.kernels.code import Code, number_of
from ndl.compiler.kernels.ir import Block, Instr, Kernel, Value, extent_of
from ndl.compiler.kernels.math.functions import FUNCTIONS
from ndl.compiler.kernels.ops import TABLE
from ndl.compiler.kernels.verify import ARRAYS, verify


def expand(kernel: Kernel, keep: Collection[str] = ()) -> Kernel:
    """The same kernel, made of primitive ops and those to `keep`."""
    return verify(_Expansion(kernel, keep).kernel())


def expand_block(block: Block, precision: str) -> Block:
    """The same for a block that stands alone."""
    empty = Block()
    return _Expansion(Kernel("block", precision, (), empty, empty, empty, empty)).block(block)


class _Expansion:
    """Writes the kernel anew; `known` maps its values to the new ones."""

    def __init__(self, kernel: Kernel, keep: Collection[str] = ()) -> None:
        self.old, self.keep = kernel, keep
        self.code = Code(kernel.precision, kernel.buffers)
        self.known: dict[Value, Value] = {}

    def kernel(self) -> Kernel:
        old = self.old
        return replace(
            old,
            entry=self.block(old.entry, shared=True),
            begin=self.block(old.begin),
            step=self.block(old.step),
            finish=self.block(old.finish),
        )

    def block(self, old: Block, shared: bool = False) -> Block:
        with self.code.block([p.type for p in old.params], shared) as new:
            self.known.update(zip(old.params, new.params))
            self.body(old)
            new.yields = self.values(old.yields)
        return new

    def body(self, old: Block) -> None:
        for instr in old.body:
            self.code.origin = instr.origin
            results = self.region(instr) if instr.regions else self.flat(instr)
            self.known.update(zip(instr.results, results, strict=True))

    def values(self, old: tuple[Value, ...]) -> tuple[Value, ...]:
        return tuple(self.known[v] for v in old)

    def region(self, instr: Instr) -> tuple[Value, ...]:
        args = self.values(instr.args)
        if instr.op == "when":
            return self.code.when(args[0], lambda: self.inside(instr.regions[0], ()), args[1:])
        if instr.op == "map":
            count = extent_of(instr.results[0].type) or 0
            made = mapped(self.code, args, count, lambda *x: self.inside(instr.regions[0], x))
            return tuple(made)
        test, turn = instr.regions
        return self.code.loop(
            args, lambda given: self.inside(test, given)[0], lambda given: self.inside(turn, given)
        )

    def inside(self, old: Block, params: tuple[Value, ...]) -> tuple[Value, ...]:
        origin = self.code.origin
        self.known.update(zip(old.params, params, strict=True))
        self.body(old)
        self.code.origin = origin
        return self.values(old.yields)

    def flat(self, instr: Instr) -> tuple[Value, ...]:
        args = self.values(instr.args)
        if instr.op == "store":
            self.code.store(instr.attr("buffer"), args[0], args[1])
            return ()
        if instr.op in ARRAYS:
            return self.array(instr, args)
        return (self.value(instr, args),)

    def array(self, instr: Instr, args: tuple[Value, ...]) -> tuple[Value, ...]:
        if instr.results:
            return (self.code.pure(instr.op, args, instr.results[0].type, instr.attrs),)
        self.code.add(Instr(instr.op, args, (), instr.attrs, origin=instr.origin))
        return ()

    def value(self, instr: Instr, args: tuple[Value, ...]) -> Value:
        if instr.op == "const":
            return self.code.const(number_of(instr), instr.results[0].type)
        if instr.op == "member":
            return self.code.member()
        if instr.op == "load":
            return self.code.load(instr.attr("buffer"), args[0])
        if TABLE[instr.op].primitive or instr.op in self.keep:
            return self.code.op(instr.op, *args)
        function: Callable[..., Value] = FUNCTIONS[instr.op]
        return function(self.code, *args)
