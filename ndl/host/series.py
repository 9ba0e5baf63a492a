"""The Taylor series of a model's solution as torch code, made once for each order that a method asks for."""

from __future__ import annotations

from typing import Any

from ndl.compiler.backends.torch.module import compile_source, print_method
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.ir.series import NoSeries
from ndl.compiler.passes.series import series_function


class SeriesOf:
    """Makes the series of one model, as `ndl.runtime.model.SeriesSource`."""

    def __init__(self, ir: ModelIR) -> None:
        self.ir = ir
        self._made: dict[int, Any] = {}

    def make(self, order: int) -> Any:
        if order not in self._made:
            self._made[order] = self._make(order)
        return self._made[order]

    def _make(self, order: int) -> Any:
        name = f"series_{order}"
        try:
            text = series_text(self.ir, order)
        except NoSeries as reason:
            return str(reason)
        return vars(compile_source(text, f"ndl_generated_{self.ir.name}_{name}"))[name]


def series_text(ir: ModelIR, order: int) -> str:
    """A module with the method. Raises `NoSeries`."""
    return print_method(ir, f"series_{order}", series_function(ir, order))
