"""The kernels of a model: from its IR through the kernel IR to LLVM, each made once a process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.backends.llvm.printer import WIDTHS, print_llvm
from ndl.compiler.backends.triton import print_module
from ndl.compiler.check.values import MethodV
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.kernels import ode_adaptive, ode_adjoint, ode_fixed, sde_fixed
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.events import unwatched
from ndl.compiler.kernels.explicit import ExplicitStepper, Tableau
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.fuse import fuse
from ndl.compiler.kernels.implicit import ImplicitStepper
from ndl.compiler.kernels.ir import Kernel
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.noisy import NoisyStep
from ndl.compiler.kernels.passes import simplify
from ndl.compiler.kernels.scalars import Unsupported
from ndl.compiler.kernels.stepped import SteppedMethod
from ndl.compiler.kernels.stepper import Stepper, Variant
from ndl.compiler.kernels.text import show
from ndl.compiler.kernels.verify import verify
from ndl.compiler.passes.choose import choose_method
from ndl.runtime import methods
from ndl.runtime.kernels.choose import MANY
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
                field = Field(Code("f64"), self.ir, checks=True, watches=True)
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
        kernel, field, width = self.kernel(request)
        names = tuple(b.name for b in kernel.buffers)
        sums = tuple(b.name for b in kernel.buffers if b.kind == "sum")
        lanes = WIDTHS[kernel.precision]
        text = triton_text(kernel) if request.target == "triton" else llvm_text(kernel, lanes)
        program = Program(text, kernel.name, names, request.target, lanes, sums)
        weights = tuple(Weight(w.name, w.shape, w.each, w.offset, w.whole) for w in field.weights.values())
        return Made(program, weights, width)

    def kernel(self, request: Request) -> tuple[Kernel, Field, int]:
        """The kernel IR of a request, its weights, the tape's rows for each step. Raises `Unsupported`."""
        variant = Variant(
            request.precision, request.adaptive, request.own, request.save, request.tape, request.sign,
            request.vector, request.grow,
        )  # fmt: skip
        code = Code(request.precision)
        watches = not (request.noise or request.backward)
        field = Field(code, self.ir, request.own, checks=True, watches=watches)
        field.declare()
        if request.noise:
            return self.noisy(field, request, variant)
        stepper = stepper_of(code, field, request)
        if request.backward:
            kernel = ode_adjoint.backward(self.ir, stepper, variant)
        elif request.adaptive or request.watch:
            kernel = ode_adaptive.forward(self.ir, stepper, variant)
        else:
            kernel = ode_fixed.forward(self.ir, stepper, variant)
        return _named(kernel), field, field.size + stepper.width

    def noisy(self, field: Field, request: Request, variant: Variant) -> tuple[Kernel, Field, int]:
        """The same for an equation with noise."""
        solver = request.solver
        if not isinstance(solver, type) or solver.IR is None:
            raise Unsupported("its method was not compiled here")
        method = NoisyStep(field, solver.IR, dict(request.options))
        make = sde_fixed.backward if request.backward else sde_fixed.forward
        return _named(make(self.ir, method, variant)), field, sde_fixed.width(method)


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


def backend_choice(ir: ModelIR) -> str:
    """What runs a model's solves, and why."""
    found = Kernels(ir).weights()
    reason = found if isinstance(found, str) else unwatched(ir)
    if reason:
        return f"torch, since no kernel serves it: {reason}"
    if ir.events or (ir.breaks is not None and not ir.noises):
        what = "its events" if ir.events else "its discontinuities, where they are located,"
        return (
            f"one kernel for a whole solve of {MANY} trajectories or more, but torch for gradients through "
            f"{what} and for fewer trajectories, where compiling costs more than it brings"
        )
    return (
        f"one kernel for a whole solve of {MANY} trajectories or more (with noise, for fixed steps); "
        "torch for fewer, where compiling costs more than it brings"
    )


def kernel_text(host: Any, model: Any, method: str | None) -> str:
    """The kernel IR of a solve as text. Raises `NDLError`."""
    compilation = host.compilation
    compiled = compilation.model(model)
    name = method or choose_method(compiled.facts).value or ""
    solvers = host.module.scope.find(name)
    where = model.decl.name_span
    if not isinstance(solvers, tuple) or not solvers:
        raise fail("NDL503", f"there is no method `{name}`", where)
    made = compilation.solver(compilation.choose(MethodV(solvers, {}), "ode"))
    if isinstance(made, methods.Tableau):
        adaptive, options = made.b_hat is not None, ()
    else:
        adaptive, options = made.EMBEDDED is not None, tuple(sorted(made.OPTIONS.items()))
    watch = bool(compiled.optimized.events)
    request = Request(made, adaptive, "f64", frozenset(), save=True, tape=False, options=options, watch=watch)
    try:
        return show(Kernels(compiled.optimized).kernel(request)[0])
    except Unsupported as reason:
        raise fail("NDL510", f"no kernel serves this run: {reason}", where) from None


def llvm_text(kernel: Kernel, lanes: int) -> str:
    """A kernel as LLVM IR. Maps of arrays are closed, so that nothing leaves them: those kernels stay."""
    plain = expand(kernel)
    return print_llvm(plain if has_arrays(kernel) else simplify(plain), lanes)


def triton_text(kernel: Kernel) -> str:
    """A kernel as a Triton module. Raises `Unsupported` for arrays, which that printer does not know."""
    if has_arrays(kernel):
        raise Unsupported("nets are not yet printed for Triton")
    return print_module(kernel)


def has_arrays(kernel: Kernel) -> bool:
    """Whether some value is an array."""
    instrs = (i for _, block in kernel.blocks() for i in block.walk())
    return any(v.type.startswith("array") for i in instrs for v in i.results)


def _named(kernel: Kernel) -> Kernel:
    return verify(fuse(replace(kernel, name=_symbol(kernel.name))))


def _symbol(name: str) -> str:
    """A name that LLVM takes as it is."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_{ord(c):x}_" for c in name)
