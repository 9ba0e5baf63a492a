"""The kernels of a model: from its IR through the kernel IR to LLVM, each made once a process."""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.backends.llvm.printer import WIDTHS, print_llvm
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels import ode_adaptive, ode_fixed
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.explicit import Tableau
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.fuse import fuse
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.scalars import Unsupported
from ndl.compiler.kernels.verify import verify
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.request import Made, Request, Weight


class Kernels:
    """Makes the kernels of one model, as `ndl.runtime.kernels.request.KernelSource`."""

    def __init__(self, ir: ModelIR) -> None:
        self.ir = ir
        self._made: dict[Request, Made | str] = {}
        self._weights: tuple[tuple[str, tuple[int, ...]], ...] | str | None = None

    def weights(self) -> tuple[tuple[str, tuple[int, ...]], ...] | str:
        if self._weights is None:
            try:
                field = Field(Code("f64"), self.ir)
                field.declare()
                self._weights = tuple((w.name, w.shape) for w in field.weights.values())
            except Unsupported as reason:
                self._weights = str(reason)
        return self._weights

    def make(self, request: Request) -> Made | str:
        if request not in self._made:
            try:
                self._made[request] = self._make(request)
            except Unsupported as reason:
                self._made[request] = str(reason)
        return self._made[request]

    def _make(self, request: Request) -> Made:
        kernel, field = self.kernel(request)
        plain = expand(kernel)
        lanes = WIDTHS[kernel.precision]
        names = tuple(b.name for b in plain.buffers)
        sums = tuple(b.name for b in plain.buffers if b.kind == "sum")
        program = Program(print_llvm(plain, lanes), plain.name, names, lanes, sums)
        weights = tuple(Weight(w.name, w.shape, w.each, w.offset, w.whole) for w in field.weights.values())
        return Made(program, weights)

    def kernel(self, request: Request) -> tuple[Kernel, Field]:
        """The kernel IR of a request. Raises `Unsupported`."""
        t = request.tableau
        tableau = Tableau(t.name, t.order, t.embedded, t.c, t.A, t.b, t.b_hat, t.dense)
        if request.adaptive:
            variant = ode_adaptive.Variant(
                request.precision, request.own, request.save, request.tape, request.sign, request.vector
            )
            if request.backward:
                kernel, field = ode_adaptive.backward(self.ir, tableau, variant)
            else:
                kernel, field = ode_adaptive.forward(self.ir, tableau, variant, request.grow)
        elif request.backward:
            kernel, field = ode_fixed.backward(
                self.ir, tableau, precision=request.precision, own=request.own, save=request.save
            )
        else:
            kernel, field = ode_fixed.forward(
                self.ir, tableau, precision=request.precision, own=request.own, save=request.save,
                tape=request.tape,
            )  # fmt: skip
        return verify(fuse(replace(kernel, name=_symbol(kernel.name)))), field


def _symbol(name: str) -> str:
    """A name that LLVM takes as it is."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_{ord(c):x}_" for c in name)
