"""Writing kernels: a builder that folds constants, shares common subexpressions and opens regions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from ndl.compiler.kernels.ir import Block, Buffer, Instr, Kernel, KernelError, Value
from ndl.compiler.kernels.ops import BITS, REAL, TABLE

Key = tuple[Any, ...]

MADE = ("map", "pack", "dense", "dense_t", "collect")
"""What makes arrays that are worth keeping."""

Pull = Callable[[Sequence[Value]], Sequence[tuple[Value, Value]]]
"""From the cotangents of a rule's values to pairs of an operand and what is added to its cotangent."""


@dataclass(frozen=True)
class Rule:
    """How values that were made together depend on others; stands in for the code between."""

    values: tuple[Value, ...]
    pull: Pull


class Code:
    """Appends instructions to the open block.

    Operands may be Python numbers where a real is wanted. Pure operations written twice are one value; so are
    loads from `in` buffers.
    """

    def __init__(self, precision: str, buffers: Sequence[Buffer] = ()) -> None:
        self.precision = precision
        self.buffers = {b.name: b for b in buffers}
        self.origin = ""
        self._next = self._marked = 0
        self._open: list[tuple[Block, dict[Key, tuple[Value, ...]]]] = []
        self._shared: dict[Key, tuple[Value, ...]] = {}
        self._numbers: dict[Value, Any] = {}
        self.products: dict[Value, tuple[Value, ...]] = {}
        """The factors of values that are products."""
        self.rules: dict[Value, Rule] = {}
        """Derivatives given as a whole, by the last value that each belongs to."""
        self.fixed: set[Value] = set()
        """Results of loops that a derivative takes as constants."""
        self.packs: dict[Value, tuple[Value, ...]] = {}

    # ------------------------------------------------------------ blocks

    def value(self, type: str) -> Value:
        self._next += 1
        return Value(self._next - 1, type)

    @contextmanager
    def block(self, types: Sequence[str] = (), shared: bool = False) -> Iterator[Block]:
        """Open a block with parameters of these types; `shared`: its values are seen by every later block."""
        block = Block(tuple(self.value(t) for t in types))
        seen = self._shared if shared else {}
        self._open.append((block, seen))
        try:
            yield block
        finally:
            self._open.pop()

    @contextmanager
    def closed(self, types: Sequence[str]) -> Iterator[Block]:
        """Open a block that sees nothing of the others."""
        outer, shared = self._open, self._shared
        self._open, self._shared = [], {}
        try:
            with self.block(types) as block:
                yield block
        finally:
            self._open, self._shared = outer, shared

    def know(self, name: str, args: tuple[Value, ...], value: Value) -> None:
        """Say that an operation, written from here on in the open block, gives a value that is at hand."""
        self._open[-1][1][name, args, ()] = (value,)

    def recall(self, name: str, args: tuple[Value, ...]) -> Value | None:
        """What `know` said of an operation, if that is seen from the open block."""
        key = (name, args, ())
        return next((seen[key][0] for _, seen in reversed(self._open) if key in seen), None)

    def add(self, instr: Instr) -> None:
        """Append an instruction to the open block."""
        self._open[-1][0].body.append(instr)

    def buffer(self, name: str, kind: str, mode: str, type: str = "real") -> str:
        """Declare a buffer (once) and return its name."""
        made = Buffer(name, kind, mode, type)
        if self.buffers.setdefault(name, made) != made:
            raise KernelError(f"two buffers `{name}`")
        return name

    # ------------------------------------------------------------ values

    def const(self, number: Any, type: str = "real") -> Value:
        """A number as a value."""
        if type == "real":
            kind: Any = REAL[self.precision]
            number = float(kind(number))
        elif type == "bool":
            number = bool(number)
        else:
            number = int(number)
        made = self.pure("const", (), type, (("type", type), ("value", _Exact(number))))
        self._numbers[made] = number
        return made

    def number(self, value: Value) -> Any:
        """The number that a value is known to be, or None."""
        return self._numbers.get(value)

    def real(self, value: Value | float) -> Value:
        return value if isinstance(value, Value) else self.const(value)

    def op(self, name: str, *operands: Value | float) -> Value:
        """A pure operation."""
        args = [self.real(a) for a in operands]
        entry = TABLE[name]
        type = entry.type([a.type for a in args])
        known = [self.number(a) for a in args]
        if all(k is not None for k in known) and type != "bits":
            folded = self._fold(name, args, known)
            if folded is not None:
                return self.const(folded, type)
        simpler = self._simpler(name, args, known)
        return simpler if simpler is not None else self.pure(name, tuple(args), type)

    def _fold(self, name: str, args: Sequence[Value], known: Sequence[Any]) -> Any:
        from ndl.compiler.kernels.interpret import scalar

        with np.errstate(all="ignore"):
            found = TABLE[name].compute(*(scalar(k, a.type, self.precision) for k, a in zip(known, args)))
        # a fold must not hide where a value stopped being finite
        return None if isinstance(found, np.floating) and not np.isfinite(found) else found

    def _simpler(self, name: str, args: list[Value], known: list[Any]) -> Value | None:
        """Identities that hold for every finite value."""
        if name in ("add", "mul") and known[0] is not None:
            args, known = args[::-1], known[::-1]
        a, k = args[0], known[-1]
        if name in ("add", "sub") and k == 0:
            return a
        if name == "sub" and known[0] == 0 and a.type == "real":
            return self.op("neg", args[1])
        if name in ("mul", "div") and k == 1:
            return a
        if name == "mul" and k == 0:
            return args[1]
        if name == "mul" and k == -1 and a.type == "real":
            return self.op("neg", a)
        if name == "fma":
            return self._simpler_fma(args, known)
        if name == "div" and k is not None and np.frexp(k)[0] == 0.5:
            return self.op("mul", a, 1.0 / k)
        if name == "pow":
            return self._power(a, k)
        if name == "select":
            return self._chosen(args, known)
        if name == "neg" and (inner := self._made(a)) is not None and inner[0] == "neg":
            return inner[1][0]  # type: ignore[no-any-return]
        return self._logic(name, args, known)

    def _simpler_fma(self, args: list[Value], known: list[Any]) -> Value | None:
        if known[0] is not None:
            args, known = [args[1], args[0], args[2]], [known[1], known[0], known[2]]
        if known[1] == 0:
            return args[2]
        if known[1] == 1:
            return self.op("add", args[0], args[2])
        if known[2] == 0:
            return self.op("mul", args[0], args[1])
        return None

    def _power(self, base: Value, k: Any) -> Value | None:
        """Small whole and half powers as products and roots."""
        if k is None or abs(k) > 8 or 2 * k != int(2 * k):
            return None
        if k < 0:
            return self.op("div", 1.0, self.op("pow", base, -k))
        if k != int(k):
            root = self.op("sqrt", base)
            return root if k == 0.5 else self.op("mul", self.op("pow", base, k - 0.5), root)
        found: Value | None = None
        square, n = base, int(k)
        while n:
            if n & 1:
                found = square if found is None else self.op("mul", found, square)
            n >>= 1
            if n:
                square = self.op("mul", square, square)
        return self.const(1.0) if found is None else found

    def _chosen(self, args: list[Value], known: list[Any]) -> Value | None:
        if known[0] is not None:
            return args[1] if known[0] else args[2]
        return args[1] if args[1] == args[2] else None

    def _logic(self, name: str, args: list[Value], known: list[Any]) -> Value | None:
        if name not in ("and", "or") or known == [None, None]:
            return None
        value, other = (known[0], args[1]) if known[0] is not None else (known[1], args[0])
        return other if value == (name == "and") else self.const(name == "or", "bool")

    def _made(self, value: Value) -> tuple[str, tuple[Value, ...]] | None:
        for block, _ in reversed(self._open):
            for instr in reversed(block.body[-8:]):
                if value in instr.results:
                    return instr.op, instr.args
        return None

    def pure(self, name: str, args: tuple[Value, ...], type: str, attrs: Any = ()) -> Value:
        """An operation without regions that depends on nothing but what it is given."""
        found = self.written((name, args, attrs))
        if found is not None:
            return found[0]
        made = self.value(type)
        if name == "mul":
            self.products[made] = args
        self.write((name, args, attrs), Instr(name, args, (made,), attrs, origin=self.origin))
        return made

    def written(self, key: Key) -> tuple[Value, ...] | None:
        """The results of an instruction of this key, where one is seen from the open block."""
        for seen in (*(s for _, s in reversed(self._open)), self._shared):
            if key in seen and not (key[0] in MADE and seen[key][0].id < self._marked):
                return seen[key]
        return None

    def write(self, key: Key, instr: Instr) -> None:
        """Append an instruction that depends on nothing but its key."""
        block, seen = self._open[-1]
        block.body.append(instr)
        seen[key] = instr.results

    # ------------------------------------------------------------ memory

    def member(self) -> Value:
        """The number of the trajectory."""
        return self.pure("member", (), "i32")

    def load(self, buffer: str, row: Value | int) -> Value:
        """Row `row` of a buffer: of this trajectory's column where it has columns."""
        b = self.buffers[buffer]
        at = row if isinstance(row, Value) else self.const(row, "i32")
        if b.mode == "in":
            return self.pure("load", (at,), b.type, (("buffer", buffer),))
        made = self.value(b.type)
        self.add(Instr("load", (at,), (made,), (("buffer", buffer),), origin=self.origin))
        return made

    def store(self, buffer: str, row: Value | int, value: Value) -> None:
        at = row if isinstance(row, Value) else self.const(row, "i32")
        if self.buffers[buffer].type != value.type or self.buffers[buffer].mode == "in":
            raise KernelError(f"a {value.type} cannot be stored in `{buffer}`")
        self.add(Instr("store", (at, value), (), (("buffer", buffer),), origin=self.origin))

    # ------------------------------------------------------------ regions

    def loop(
        self,
        start: Sequence[Value],
        more: Callable[[tuple[Value, ...]], Value],
        body: Callable[[tuple[Value, ...]], Sequence[Value]],
    ) -> tuple[Value, ...]:
        """`while more(carried): carried = body(carried)`."""
        types = [s.type for s in start]
        with self.block(types) as test:
            test.yields = (more(test.params),)
        with self.block(types) as turn:
            turn.yields = tuple(body(turn.params))
        results = tuple(self.value(t) for t in types)
        self.add(Instr("while", tuple(start), results, regions=(test, turn), origin=self.origin))
        return results

    def when(
        self, condition: Value, then: Callable[[], Sequence[Value]], otherwise: Sequence[Value] = ()
    ) -> tuple[Value, ...]:
        """The values of a region that is skipped where `condition` is false, `otherwise` there."""
        with self.block() as inside:
            inside.yields = tuple(then())
        results = tuple(self.value(v.type) for v in otherwise)
        self.add(Instr("when", (condition, *otherwise), results, regions=(inside,), origin=self.origin))
        return results

    # ------------------------------------------------------------ derivatives

    @property
    def made(self) -> int:
        """How many values there are; those made later have a larger number."""
        return self._next

    def derivative(self, values: Sequence[Value], since: int, pull: Pull) -> None:
        """Say how `values`, all made after there were `since`, depend on others. Without effect where one
        of them is older or stands twice: the code between then speaks for itself."""
        if len(set(values)) == len(values) and all(v.id >= since for v in values):
            self.rules[max(values, key=lambda v: v.id)] = Rule(tuple(values), pull)

    def of_all(self) -> set[Value]:
        """The values that all trajectories share: those of a block that every later one sees."""
        return {v for values in self._shared.values() for v in values}

    def visible(self) -> list[Instr]:
        """The instructions of the open blocks, the outer first."""
        return [instr for block, _ in self._open for instr in block.body]

    def mark(self) -> int:
        """How many instructions are visible. Arrays are made anew from here on, so that those which a run
        keeps do not depend on what was written before."""
        self._marked = self.made
        return len(self.visible())

    def substitute(self, found: Mapping[int, Instr]) -> None:
        """Put other instructions with the same results in the place of some, given by identity."""
        block = self._open[-1][0]
        block.body[:] = [found.get(id(instr), instr) for instr in block.body]

    # ------------------------------------------------------------ the whole

    def kernel(
        self, name: str, entry: Block, begin: Block, step: Block, finish: Block, **more: Any
    ) -> Kernel:
        used = tuple(self.buffers.values())
        return Kernel(name, self.precision, used, entry, begin, step, finish, **more)


class _Exact:
    """A number as part of a key: 0.0 and -0.0, and 1 and 1.0, are different."""

    def __init__(self, number: Any) -> None:
        self.number = number
        self._key = (type(number), repr(number))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Exact) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return self._key[1]


def number(value: Value, number: Any) -> Instr:
    """The instruction that makes `value` a number."""
    return Instr("const", (), (value,), (("type", value.type), ("value", _Exact(number))))


def number_of(instr: Instr) -> Any:
    """The number of a `const` instruction."""
    return instr.attr("value").number


__all__ = ["BITS", "Code", "number", "number_of"]
