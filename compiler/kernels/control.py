"""Step-size control as scalar code: the rules of `ndl.runtime.stepping.control` and `pace`, for one
trajectory.

E. Hairer, S. P. Nørsett, G. Wanner, "Solving Ordinary Differential Equations I", 2nd ed., section II.4. The
powers of the error are taken through the logarithm of its square, which the trajectory carries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.math.coarse import exp2_coarse, log2_coarse

Slope = Callable[[Value, Sequence[Value]], list[Value]]
"""dx/dt at (t, x)."""

NOTCHES = 6
"""Binary digits of a dyadic step."""

OK, TINY, SPENT, UNMET, ENDLESS, BROKEN, STUCK, REFUSED, UNTIED, AHEAD = range(10)
"""How a trajectory ended: as it should, with a step that no longer moves t, out of steps, with a requirement
that does not hold, with events that fire again and again; of fixed steps: with a value that is not finite,
with an iteration that did not converge; out of steps, the last one rejected; after an event, with algebraic
equations that have no solution near; with a delay that is not above 0."""


@dataclass
class Control:
    """The settings of one kernel, and its rules. `k` is 1 + the lower order of the pair, `beta` the power of
    the error before (None: 0.2/k)."""

    code: Code
    n: int
    k: float
    grow: float
    sign: float
    vector: bool
    """Whether there is a tolerance for each state."""
    dyadic: bool = False
    beta: float | None = None
    safety: float = 0.9
    shrink: float = 0.2
    smaller_step: float = 0.1
    """After a step that the method had proposed, and whose values were no numbers."""

    def load(self) -> None:
        """Read the table `settings` in the entry block: t0, t1, longest, first, rtol, atol (each n times)."""
        code = self.code
        code.buffer("settings", "table", "in")
        self.t0, self.t1, self.longest, self.first = (code.load("settings", i) for i in range(4))
        many = self.n if self.vector else 1
        rows = [[code.load("settings", 4 + j * many + i) for i in range(many)] for j in range(2)]
        self.rtol, self.atol = (r * (self.n // len(r)) for r in rows)

    # ------------------------------------------------------------ numbers

    def larger(self, a: Value | float, b: Value | float) -> Value:
        """The larger of two numbers; of which b is taken when one is not a number."""
        return self.code.op("select", self.code.op("gt", a, b), a, b)

    def smaller(self, a: Value | float, b: Value | float) -> Value:
        return self.code.op("select", self.code.op("lt", a, b), a, b)

    def forward(self, value: Value) -> Value:
        """A difference of times, counted in the direction of the run."""
        return value if self.sign > 0 else self.code.op("neg", value)

    def mean_square(self, values: Sequence[Value], scale: Sequence[Value]) -> Value:
        code = self.code
        total: Value | None = None
        for v, s in zip(values, scale):
            ratio = code.op("div", v, s)
            total = code.op("mul", ratio, ratio) if total is None else code.op("fma", ratio, ratio, total)
        assert total is not None
        return code.op("mul", total, 1.0 / len(values)) if len(values) > 1 else total

    def scale(self, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        """atol + rtol max(|a|, |b|)."""
        code = self.code
        tops = [self.larger(code.op("abs", u), code.op("abs", v)) if u != v else code.op("abs", u)
                for u, v in zip(a, b)]  # fmt: skip
        return [code.op("fma", r, t, s) for r, t, s in zip(self.rtol, tops, self.atol)]

    # ------------------------------------------------------------ where a step ends

    def end(self, t: Value, h: Value, target: Value) -> tuple[Value, Value]:
        """Where a step of size h ends, which does not pass `target`, and whether it no longer moves t."""
        code = self.code
        room = self.forward(code.op("sub", target, t))
        size = self.smaller(h, self.longest)
        whole = code.op("ge", code.op("mul", size, 1.01), room)
        half = code.op("gt", code.op("mul", size, 2.0), room)
        cut = code.op("select", half, code.op("mul", room, 0.5), size)
        ahead = code.op("add", t, cut) if self.sign > 0 else code.op("sub", t, cut)
        if self.dyadic:
            ahead = self.notch(ahead, cut)
        end = code.op("select", whole, target, ahead)
        far = self.larger(code.op("abs", t), code.op("abs", end))
        step = code.op("abs", code.op("sub", end, t))
        still = code.op("le", step, code.op("mul", far, self.rounding(4e-15)))
        return end, code.op("and", still, code.op("ne", end, target))

    def notch(self, end: Value, size: Value) -> Value:
        """The nearest multiple of 2^-NOTCHES of the power of two below `size`:
        `ndl.runtime.stepping.pace`."""
        code = self.code
        mask = code.const(-(1 << 52) if self.double else -(1 << 23), "bits")
        power = code.op("real_of", code.op("bit_and", code.op("bits_of", size), mask))
        grain = code.op("mul", power, 2.0**-NOTCHES)
        return code.op("mul", code.op("round", code.op("div", end, grain)), grain)

    def rounding(self, double: float) -> float:
        """A few units of rounding of a time, in the kernel's precision."""
        return double if self.code.precision == "f64" else 2e-6

    # ------------------------------------------------------------ how large the next one is

    def log_error(self, square: Value) -> Value:
        """The binary logarithm of a squared error between 1e-20 and 1e20, to three digits."""
        return log2_coarse(self.code, self.smaller(self.larger(square, 1e-20), 1e20))

    def factor(self, log_error: Value, log_old: Value, accept: Value, again: Value, fine: Value) -> Value:
        """What the next step is, over this one: the PI rule when accepted, the I rule when rejected. The
        logarithms are those of squares."""
        code, beta = self.code, 0.2 / self.k if self.beta is None else self.beta
        remembered = code.op("mul", log_old, 0.5 * beta)
        good = code.op("fma", log_error, -0.5 * (1 / self.k - 0.75 * beta), remembered)
        bad = code.op("mul", log_error, -0.5 / self.k)
        grown = code.op("mul", exp2_coarse(code, code.op("select", accept, good, bad)), self.safety)
        grown = self.larger(grown, self.shrink)
        most = code.op("select", again, 1.0, self.grow)
        return code.op(
            "select",
            accept,
            self.smaller(grown, most),
            code.op("select", fine, self.smaller(grown, 0.9), 0.1),
        )

    # ------------------------------------------------------------ the first step

    def first_step(
        self, slope: Slope, t: Value, x: Sequence[Value], order: float
    ) -> tuple[Value, list[Value]]:
        """A first step from (t, x) and the slope there: Hairer, Nørsett, Wanner, algorithm after (4.14)."""
        code = self.code
        room = self.larger(self.forward(code.op("sub", self.t1, t)), 1e-300 if self.double else 1e-30)
        scale = self.scale(x, x)
        f0 = slope(t, x)
        d0, d1 = (code.op("sqrt", self.mean_square(v, scale)) for v in (list(x), f0))
        small = code.op("or", code.op("lt", d0, 1e-5), code.op("lt", d1, 1e-5))
        small = code.op("or", small, code.op("not", code.op("isfinite", d1)))
        guess = code.op("div", code.op("mul", d0, 0.01), d1)
        h0 = self.smaller(code.op("select", small, 1e-6, guess), room)
        step = self.forward(h0)
        moved = [code.op("fma", step, f, a) for f, a in zip(f0, x)]
        f1 = slope(code.op("add", t, step), moved)
        change = [code.op("sub", b, a) for a, b in zip(f0, f1)]
        d2 = code.op("div", code.op("sqrt", self.mean_square(change, scale)), h0)
        top = self.larger(d2, d1)
        flat = self.larger(1e-6, code.op("mul", h0, 1e-3))
        root = code.op("mul", code.op("log", code.op("div", 0.01, top)), 1 / (order + 1))
        h1 = code.op("select", code.op("le", top, 1e-15), flat, code.op("exp", root))
        h = self.smaller(self.smaller(code.op("mul", h0, 100.0), h1), room)
        usable = code.op("and", code.op("isfinite", h), code.op("gt", h, 0.0))
        h = code.op("select", usable, h, self.smaller(1e-6, room))
        if not self.double:
            # where times are in single precision, too, a step must still move them
            h = self.smaller(self.larger(h, code.op("mul", code.op("abs", t), 2 * self.rounding(0.0))), room)
        given = code.op("gt", self.first, 0.0)
        return code.op("select", given, self.smaller(self.first, room), h), f0

    @property
    def double(self) -> bool:
        return self.code.precision == "f64"
