"""The elaborator's builder that computes: each op by its reference implementation, at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    ListV,
    NetV,
    OperatorV,
    RangeV,
    Unknown,
    Value,
    is_number,
)
from ndl.compiler.diagnostics import fail
from ndl.compiler.ops.table import infer, lookup
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.compiler.types import Dim, Tensor
from ndl.host.masked import mask_of, masked_result

if TYPE_CHECKING:
    from ndl.host.host import Host

KINDS = {torch.bool: "Bool", torch.int64: "Z", torch.int32: "Z", torch.complex128: "C", torch.complex64: "C"}
DTYPES = {"R": torch.float64, "C": torch.complex128, "Z": torch.int64, "Bool": torch.bool}


@dataclass(frozen=True, eq=False)
class Path(Value):
    """A recorded path: a tensor that can also be evaluated between its times."""

    at: Any = None


@dataclass(frozen=True, eq=False)
class Masked(Value):
    """A value with missing entries, which `mask` (True where present) leaves out of sums and means; values
    of one `origin` have the same mask."""

    mask: Any = None
    at: Any = None
    origin: int | None = None


@dataclass(frozen=True, eq=False)
class Missing(Value):
    """True where the values of an origin are missing: `isnan(data.x)`."""

    of: int | None = None


def lift(x: Any) -> Value:
    """A torch tensor as a value."""
    if hasattr(x, "values") and callable(x):  # a recorded path
        plain = x.values
        return Path(type_of(plain), plain, at=x)
    return Value(type_of(x), x)


def type_of(x: torch.Tensor) -> Tensor:
    return Tensor(KINDS.get(x.dtype, "R"), tuple(Dim.of(n) for n in x.shape))


class EagerBuilder:
    """Computes with torch. Values have their whole shape: nothing is batched behind the scenes."""

    mode = "eager"

    def __init__(self, host: Host) -> None:
        self.host = host

    def op(self, name: str, args: Sequence[Value], span: Span, attrs: dict[str, Any]) -> Value:
        infer(name, [a.type for a in args], attrs)  # the shape rules of the language
        refs = promoted([a.ref for a in args])
        if any(mask_of(a) is not None for a in args):
            result, mask, origin = masked_result(name, args, refs, attrs, span)
            if mask is not None:
                return Masked(type_of(result), result, mask=mask, origin=origin)
        else:
            result = lookup(name).reference(*refs, **attrs)
        return Value(type_of(result), result)

    def const(self, value: Any, type: Tensor, span: Span) -> Value:
        x = torch.tensor(value, dtype=DTYPES[type.kind], device=self.host.run_device)
        return Value(type_of(x), x)

    def known(self, v: Value) -> Any:
        """A scalar as a plain number."""
        x = v.ref
        if not isinstance(x, torch.Tensor) or x.ndim or v.axes:
            return v
        if torch._C._functorch.is_batchedtensor(x):
            return v
        return x.item()

    def is_symmetric(self, matrix: Value) -> bool:
        from ndl.runtime.eigen import is_symmetric

        return not matrix.axes and is_symmetric(matrix.ref)

    # ------------------------------------------------------------ weights

    def apply_operator(self, ev: Evaluator, op: OperatorV, args: list[Any], span: Span) -> Any:
        return self.host.apply_operator(ev, op, args, span)

    def apply_net(self, ev: Evaluator, net: NetV, args: list[Any], span: Span) -> Any:
        return self.host.apply_net(ev, net, args, span)

    def attribute(self, ev: Evaluator, value: Any, name: str, span: Span) -> Any:
        return self.host.attribute(ev, value, name, span)

    def evaluate_path(self, ev: Evaluator, v: Value, args: list[Any], span: Span) -> Any:
        """`s.x(3.5)`."""
        at = getattr(v, "at", None)
        if at is None or len(args) != 1:
            return ev.error("NDL320", f"{v.type} cannot be called", span)
        where = ev.known(args[0])
        time = float(where) if is_number(where) else ev.value(where, span)
        return lift(at(time.ref if isinstance(time, Value) else time))

    # ------------------------------------------------------------ derivatives

    def derive(
        self, ev: Evaluator, e: tree.Expr, by: list[tree.Expr], scope: Scope, kind: str, span: Span
    ) -> Any:
        """`diff`, `jac`, `grad` by automatic differentiation of what is evaluated."""
        first = ev.eval(by[0], scope)
        if hasattr(first, "leaves"):
            return self.host.gradient(ev, e, first, scope, span)
        names = [b.id if isinstance(b, tree.Name) else "" for b in by]
        if not all(names):
            return ev.error("NDL353", "derivatives are by names", span)
        inner = scope.child()
        leaves: list[torch.Tensor] = []
        for b in by:
            assert isinstance(b, tree.Name)
            if b.id in inner.names:
                leaves.append(inner.names[b.id].ref)
                continue
            v = ev.value(ev.eval(b, scope), b.span)
            if isinstance(v, Unknown):
                return UNKNOWN
            base = v.ref if v.ref.dtype.is_floating_point else v.ref.to(torch.float64)
            leaf = (
                base + torch.zeros_like(base, requires_grad=True)
                if base.requires_grad
                else base.detach().clone()
            )
            if not leaf.requires_grad:
                leaf.requires_grad_(True)
            leaves.append(leaf)
            inner.names[b.id] = Value(type_of(leaf), leaf)
        with torch.enable_grad():
            y = ev.value(ev.eval(e, inner), e.span)
            if isinstance(y, Unknown):
                return UNKNOWN
            found = y.ref
            for leaf in leaves:
                found = slope(found, leaf, kind)
        return lift(found)

    def root(self, ev: Evaluator, function: Any, start: Any, span: Span) -> Any:
        return self.host.root(ev, function, start, span)

    def named(self, v: Value, name: str) -> Value:
        return v

    # ------------------------------------------------------------ assertions

    def check_assert(self, ev: Evaluator, stmt: tree.Assert, scope: Scope) -> None:
        """An `assert` of a test; a failure shows both sides."""
        cond = stmt.cond
        notes: list[str] = []
        if isinstance(cond, tree.Compare):
            values = [ev.eval(o, scope) for o in cond.operands]
            truth: Any = True
            for i, op in enumerate(cond.ops):
                part = ev.compare(
                    op, ev.known(values[i]), ev.known(values[i + 1]), cond.span, cond.operands[i : i + 2]
                )
                truth = ev.both("and", truth, part, cond.span)
            notes = [
                f"`{' '.join(o.span.text.split())}` is {shown(ev, v)}"
                for o, v in zip(cond.operands, values)
                if not isinstance(o, (tree.Num, tree.Str))
            ]
        else:
            truth = ev.eval(cond, scope)
        if isinstance(truth, Value):
            truth = bool(truth.ref.all())
        if truth is not True:
            raise fail(
                "NDL660",
                stmt.why or "an assertion does not hold",
                cond.span,
                notes=tuple(notes),
            )


def promoted(refs: list[Any]) -> list[Any]:
    """Tensors of one floating type where several meet."""
    floating = [r for r in refs if isinstance(r, torch.Tensor) and r.dtype.is_floating_point]
    kinds = {r.dtype for r in floating}
    if len(kinds) <= 1:
        return refs
    wide = torch.float64 if torch.float64 in kinds else torch.float32
    return [r.to(wide) if isinstance(r, torch.Tensor) and r.dtype.is_floating_point else r for r in refs]


def slope(y: torch.Tensor, x: torch.Tensor, kind: str) -> torch.Tensor:
    """dy/dx: the gradient of a scalar, the Jacobian of a tensor, or entry by entry for `diff`."""
    if not y.requires_grad:
        return torch.zeros(y.shape + x.shape if kind == "jac" else x.shape, dtype=x.dtype)
    if kind == "diff" and y.shape == x.shape:
        (g,) = torch.autograd.grad(y.sum(), x, create_graph=True, allow_unused=True)
        return torch.zeros_like(x) if g is None else g
    rows = []
    for entry in y.reshape(-1):
        (g,) = torch.autograd.grad(entry, x, create_graph=True, allow_unused=True)
        rows.append(torch.zeros_like(x) if g is None else g)
    return torch.stack(rows).reshape(y.shape + x.shape)


def shown(ev: Evaluator, v: Any) -> str:
    """A value in a message."""
    v = ev.known(v)
    if isinstance(v, float):
        return f"{v:.10g}"
    if isinstance(v, Value):
        x = v.ref.detach()
        if x.numel() <= 6:
            return str([round(float(i), 10) for i in x.reshape(-1)])
        return f"{v.type} between {float(x.min()):.6g} and {float(x.max()):.6g}"
    if isinstance(v, ListV) and len(v.items) <= 6:
        return f"[{', '.join(shown(ev, i) for i in v.items)}]"
    if isinstance(v, RangeV):
        return f"{shown(ev, v.lo)}..{shown(ev, v.hi)}"
    return str(v) if is_number(v) or isinstance(v, (bool, str)) else "a " + type(v).__name__.lower()
