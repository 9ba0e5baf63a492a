"""Steps of fields by embedded pairs: beside the fields a step writes how large its error is at each point."""

from __future__ import annotations

from collections.abc import Sequence

from ndl.compiler.kernels.forms import Form
from ndl.compiler.kernels.grid_steps import Forward, GridStep, Rates, rows_of, step_of
from ndl.compiler.kernels.ir import Value
from ndl.compiler.kernels.points import Points
from ndl.compiler.kernels.sweeps import FIRST, STEP, Slot


def grid_pair(
    name: str, rates: Rates, c: Sequence[float], a: Sequence[Sequence[float]], b: Sequence[float],
    d: Sequence[float],
) -> GridStep:  # fmt: skip
    """The sweeps of a step with the explicit tableau (c, a, b), whose error is h sum d_i k_i.

    The slots after the driver's hold rtol and atol of each field. The last field that is written is, at each
    point, the sum over the fields of (error / (atol + rtol max(|x0|, |x1|)))^2. Raises `Unsupported`.
    """
    rates.statics.reserved = 2 * len(rates.rates)
    stages = 1 + max(j for j, w in enumerate(d) if w != 0)
    return step_of(name, rates, c, _Pair(rates, rows_of(a, b, stages), d))


class _Pair(Forward):
    """The stages of a step forwards, the last of which writes the error."""

    def __init__(self, rates: Rates, rows: Sequence[object], d: Sequence[float]) -> None:
        super().__init__(rates, rows)  # type: ignore[arg-type]
        self.d = d

    @property
    def fields(self) -> int:
        return len(self.rates.rates) + 1

    def kept(self, stage: int) -> bool:
        weighed = stage < len(self.rows) - 1 and stage < len(self.d) and self.d[stage] != 0
        return weighed or super().kept(stage)

    def writes(self, stage: int) -> tuple[str, ...]:
        found = super().writes(stage)
        return (*found, f"y{stage + 1}.{len(found)}") if stage == len(self.rows) - 1 else found

    def more(
        self, points: Points, stage: int, rates: Sequence[Form], ends: Sequence[Value]
    ) -> tuple[Value, ...]:
        if stage < len(self.rows) - 1:
            return ()
        code, origin = points.code, (0,) * len(self.rates.shape)
        total: Value | None = None
        for f, (rate, end) in enumerate(zip(rates, ends)):
            error = self.weighed(points, self.d, stage, f, rate)
            assert error is not None
            start = code.op("abs", points.read(self.state(0, f), origin))
            top = code.op("maximum", start, code.op("abs", end))
            rtol, atol = points.slot(Slot(FIRST + 2 * f)), points.slot(Slot(FIRST + 2 * f + 1))
            scale = code.op("fma", top, rtol, atol)
            share = code.op("div", code.op("mul", error, points.slot(STEP)), scale)
            square = code.op("mul", share, share)
            total = square if total is None else code.op("add", total, square)
        assert total is not None
        return (total,)


__all__ = ["grid_pair"]
