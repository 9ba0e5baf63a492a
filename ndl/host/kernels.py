"""The kernels of a model: from its IR through the kernel IR to LLVM, each made once a process."""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.backends.llvm.printer import WIDTHS, print_llvm
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels import ode_adaptive, ode_adjoint, ode_fixed
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.explicit import ExplicitStepper, Tableau
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.implicit import ImplicitStepper
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.scalars import Unsupported
from ndl.compiler.kernels.stepped import SteppedMethod
from ndl.compiler.kernels.stepper import Stepper, Variant
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
                field = Field(Code("f64"), self.ir, checks=True)
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
        kernel, stepper = self.kernel(request)
        plain = expand(kernel)
        lanes = WIDTHS[kernel.precision]
        names = tuple(b.name for b in plain.buffers)
        program = Program(print_llvm(plain, lanes), plain.name, names, lanes)
        field = stepper.field
        weights = tuple(Weight(w.name, w.shape, w.each, w.offset) for w in field.weights.values())
        return Made(program, weights, field.size + stepper.width)

    def kernel(self, request: Request) -> tuple[Kernel, Stepper]:
        """The kernel IR of a request. Raises `Unsupported`."""
        variant = Variant(
            request.precision, request.adaptive, request.own, request.save, request.tape, request.sign,
            request.vector, request.grow,
        )  # fmt: skip
        code = Code(request.precision)
        field = Field(code, self.ir, request.own, checks=True)
        field.declare()
        stepper = stepper_of(code, field, request)
        if request.backward:
            kernel = ode_adjoint.backward(self.ir, stepper, variant)
        elif request.adaptive:
            kernel = ode_adaptive.forward(self.ir, stepper, variant)
        else:
            kernel = ode_fixed.forward(self.ir, stepper, variant)
        return verify(replace(kernel, name=_symbol(kernel.name))), stepper


def stepper_of(code: Code, field: Field, request: Request) -> Stepper:
    """The code of the method's steps. Raises `Unsupported`."""
    t = request.solver
    if isinstance(t, type):
        if t.IR is None:
            raise Unsupported(f"`{t.NAME}` was not compiled here")
        return SteppedMethod(code, field, t.IR, dict(request.options))
    tableau = Tableau(t.name, t.order, t.embedded, t.c, t.A, t.b, t.b_hat, t.dense)
    if t.implicit:
        return ImplicitStepper(code, field, tableau)
    return ExplicitStepper(code, field, tableau)


def _symbol(name: str) -> str:
    """A name that LLVM takes as it is."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_{ord(c):x}_" for c in name)
