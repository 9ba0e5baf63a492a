"""Sympy heads for ops of which sympy has no form that is safe to compute with.

`sigmoid` as `1/(1 + exp(-x))` overflows, `Max` differentiates to a Heaviside step with a value of 1/2
at ties: here each op is a head of its own, never evaluated, printed back as the op it came from, with a
derivative that is as stable as the op. Everything is real.
"""

from __future__ import annotations

from typing import Any

import sympy as sp


class Head(sp.Function):  # type: ignore[misc]
    """An op applied to real expressions: inert until it is differentiated or printed back."""

    op = ""
    is_commutative = True

    def _eval_is_extended_real(self) -> bool:
        return True

    def fdiff(self, argindex: int = 1) -> Any:
        raise NoDerivative(self.op)


class NoDerivative(Exception):
    """The derivative of an op has no symbolic form; the runtime differentiates instead."""


class Sigmoid(Head):
    op = "sigmoid"

    def fdiff(self, argindex: int = 1) -> Any:
        return self * (1 - self)


class Softplus(Head):
    op = "softplus"

    def fdiff(self, argindex: int = 1) -> Any:
        return Sigmoid(self.args[0])


class Silu(Head):
    op = "silu"

    def fdiff(self, argindex: int = 1) -> Any:
        s = Sigmoid(self.args[0])
        return s + self * (1 - s)


class Gelu(Head):
    """x Φ(x), Φ the normal distribution function."""

    op = "gelu"

    def fdiff(self, argindex: int = 1) -> Any:
        x = self.args[0]
        return (1 + sp.erf(x / sp.sqrt(2))) / 2 + x * sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


class Relu(Head):
    op = "relu"

    def fdiff(self, argindex: int = 1) -> Any:
        return Select(Greater(self.args[0], sp.S.Zero), sp.S.One, sp.S.Zero)


class Elu(Head):
    op = "elu"

    def fdiff(self, argindex: int = 1) -> Any:
        # min keeps the branch that is not taken finite.
        x = self.args[0]
        return Select(Greater(x, sp.S.Zero), sp.S.One, sp.exp(Minimum(x, sp.S.Zero)))


class Log1p(Head):
    op = "log1p"

    def fdiff(self, argindex: int = 1) -> Any:
        return 1 / (1 + self.args[0])


class Expm1(Head):
    op = "expm1"

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.exp(self.args[0])


class Trigamma(Head):
    op = "trigamma"


class Digamma(Head):
    op = "digamma"

    def fdiff(self, argindex: int = 1) -> Any:
        return Trigamma(self.args[0])


class Lgamma(Head):
    op = "lgamma"

    def fdiff(self, argindex: int = 1) -> Any:
        return Digamma(self.args[0])


class AbsoluteValue(Head):
    op = "abs"

    def fdiff(self, argindex: int = 1) -> Any:
        return Sign(self.args[0])


class Flat(Head):
    """Heads that are constant between their jumps."""

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.S.Zero


class Sign(Flat):
    op = "sign"


class Floor(Flat):
    op = "floor"


class Ceil(Flat):
    op = "ceil"


class Round(Flat):
    op = "round"


class FloorDivide(Flat):
    op = "floordiv"


class StopGradient(Flat):
    op = "stop_gradient"


class Modulo(Head):
    op = "mod"

    def fdiff(self, argindex: int = 1) -> Any:
        return sp.S.One if argindex == 1 else -FloorDivide(*self.args)


class Arctan2(Head):
    op = "atan2"

    def fdiff(self, argindex: int = 1) -> Any:
        y, x = self.args
        return (x if argindex == 1 else -y) / (x**2 + y**2)


class Maximum(Head):
    op = "maximum"

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args if argindex == 1 else reversed(self.args)
        return Select(Greater(a, b), sp.S.One, sp.S.Zero)


class Minimum(Head):
    op = "minimum"

    def fdiff(self, argindex: int = 1) -> Any:
        a, b = self.args if argindex == 1 else reversed(self.args)
        return Select(Less(a, b), sp.S.One, sp.S.Zero)


class Truth(Flat):
    """Bool results; only the first operand of `Select` and other truths take them."""


class Less(Truth):
    op = "lt"


class LessEqual(Truth):
    op = "le"


class Greater(Truth):
    op = "gt"


class GreaterEqual(Truth):
    op = "ge"


class Equal(Truth):
    op = "eq"


class NotEqual(Truth):
    op = "ne"


class And(Truth):
    op = "and"


class Or(Truth):
    op = "or"


class Not(Truth):
    op = "not"


class IsFinite(Truth):
    op = "isfinite"


class Select(Head):
    """`select(c, a, b)`; both branches are differentiated, the condition is not."""

    op = "select"

    @classmethod
    def eval(cls, condition: Any, a: Any, b: Any) -> Any:
        return a if a == b else None


def _subclasses(cls: type[Head]) -> list[type[Head]]:
    return [found for sub in cls.__subclasses__() for found in (sub, *_subclasses(sub))]


HEADS: dict[str, type[Head]] = {cls.op: cls for cls in _subclasses(Head) if cls.op}
"""Op name → head."""

NATIVE: dict[str, Any] = {
    "exp": sp.exp,
    "log": sp.log,
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "asin": sp.asin,
    "acos": sp.acos,
    "atan": sp.atan,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "erf": sp.erf,
}
"""Op name → sympy's own function, where its evaluation and derivative are sound for floats."""

OP_OF: dict[Any, str] = {
    **{cls: op for op, cls in HEADS.items()},
    **{f: op for op, f in NATIVE.items()},
    sp.Abs: "abs",
    sp.sign: "sign",
}
"""Head of an applied function → op name, for printing back."""
