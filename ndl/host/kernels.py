"""The kernels of a model: from its IR through the kernel IR to LLVM, each made once a process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ndl.compiler.backends.llvm.lanes import WIDTHS, lanes_of
from ndl.compiler.backends.llvm.printer import NORMALS, print_llvm
from ndl.compiler.backends.triton import print_module
from ndl.compiler.check.values import MethodV
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.model import ModelIR, SolverIR
from ndl.compiler.kernels import event_adjoint, ode_adaptive, ode_adjoint, ode_fixed, stretches, turns, undo
from ndl.compiler.kernels.arrays import has_arrays
from ndl.compiler.kernels.code import Code
from ndl.compiler.kernels.driven import NoisyStepper
from ndl.compiler.kernels.events import unwatched
from ndl.compiler.kernels.explicit import ExplicitStepper, Tableau
from ndl.compiler.kernels.field import Field
from ndl.compiler.kernels.fuse import fuse
from ndl.compiler.kernels.implicit import ImplicitStepper
from ndl.compiler.kernels.ir import Kernel, Unsupported
from ndl.compiler.kernels.kept import NOTHING, Kept, wanted
from ndl.compiler.kernels.math import expand
from ndl.compiler.kernels.noisy import NoisyMethod, NoisyStep, NoisyTableau
from ndl.compiler.kernels.numbered import numbered
from ndl.compiler.kernels.passes import simplify
from ndl.compiler.kernels.splitting import (
    LARGEST_EXACT,
    ExactFlow,
    Flow,
    HeldFlow,
    SplitStepper,
    SteppedFlow,
    exact_name,
    exact_shares,
)
from ndl.compiler.kernels.stepped import SteppedMethod
from ndl.compiler.kernels.stepper import Stepper, Variant
from ndl.compiler.kernels.text import show
from ndl.compiler.kernels.verify import verify
from ndl.compiler.passes.choose import choose_method
from ndl.runtime import methods
from ndl.runtime.kernels.choose import MANY
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.request import Made, Part, PathUse, Request, Weight


class Kernels:
    """Makes the kernels of one model, as `ndl.runtime.kernels.request.KernelSource`."""

    def __init__(self, ir: ModelIR, portable: bool = False) -> None:
        """`portable`: the text of a kernel is the same whatever machine it is made on."""
        self.ir, self.portable = ir, portable
        self._made: dict[Request, Made | str] = {}
        self._kept: dict[Request, Kept] = {}
        self._nets = False
        self._weights: tuple[tuple[str, tuple[int, ...]], ...] | str | None = None
        self._read: frozenset[str] = frozenset()

    def weights(self) -> tuple[tuple[str, tuple[int, ...]], ...] | str:
        if self._weights is None:
            try:
                if self.ir.counted:
                    raise Unsupported("its nets have weights for each step")
                if self.ir.without_body:
                    raise Unsupported("a net comes from Python, or is a formula that is to be found")
                field = Field(Code("f64"), self.ir, checks=True, watches=True)
                field.declare()
                self._nets = field.nets
                self._weights = tuple((w.name, w.shape) for w in field.weights.values())
                self._read = frozenset(field.drivers.read)
            except Unsupported as reason:
                self._weights = str(reason)
        return self._weights

    def paths(self) -> tuple[PathUse, ...]:
        self.weights()  # which finds out what the equations read
        return tuple(PathUse(i.name, i.name in self._read) for i in self.ir.inputs if i.on_time)

    def make(self, request: Request) -> Made | str:
        if request not in self._made:
            try:
                self._made[request] = self._make(request)
            except Unsupported as reason:
                self._made[request] = str(reason)
        return self._made[request]

    def _make(self, request: Request) -> Made:
        kept = self.kept(request)
        kernel, field, stepper = self.kernel(request, kept)
        names = tuple(b.name for b in kernel.buffers)
        sums = tuple(b.name for b in kernel.buffers if b.kind == "sum")
        layers = [w.shape for w in field.weights.values() if w.whole and len(w.shape) == 2]
        lanes = WIDTHS[kernel.precision] if self.portable else lanes_of(kernel, layers)
        on_gpu = request.target == "triton"
        text = triton_text(kernel, request.tf32) if on_gpu else llvm_text(kernel, lanes)
        program = Program(text, kernel.name, names, request.target, lanes, sums)
        weights = tuple(Weight(w.name, w.shape, w.each, w.offset, w.whole) for w in field.weights.values())
        n = field.size
        past = field.past.width if field.past else (0, 0)
        return Made(program, weights, n + stepper.width, kept.width, stepper.memory, n + stepper.holds, past)

    def kept(self, request: Request) -> Kept:
        """The arrays of a step that a run leaves to its derivative."""
        self.weights()
        if not (self._nets and request.keep and (request.tape or request.backward)) or request.undone:
            return NOTHING  # a run that is undone leaves nothing but its end
        if self.ir.delays or (not request.stretch and (self.ir.events or self._located(request))):
            return NOTHING  # steps that end where the state says so are differentiated on a way of their own
        backward = replace(request, backward=True, tape=False)
        if backward not in self._kept:
            self._kept[backward] = wanted(self.kernel(backward, None)[0])
        return self._kept[backward]

    def kernel(self, request: Request, kept: Kept | None = NOTHING) -> tuple[Kernel, Field, Stepper]:
        """The kernel IR of a request, its weights, and the steps. Raises `Unsupported`."""
        variant = Variant(
            request.precision, request.adaptive, request.own, request.save, request.tape, request.sign,
            request.vector, request.grow, kept, request.drivers, request.undone, request.trail, request.beta,
        )  # fmt: skip
        code = Code(request.precision)
        watches = not request.stretch
        more = split_fields(self.ir, request)
        field = Field(code, self.ir, request.own, checks=True, watches=watches, **more)
        field.declare()
        if request.drivers and request.noise:
            raise Unsupported("gradients of paths go by methods without noise")
        make = noisy_stepper_of if request.noise else split_stepper_of if request.parts else stepper_of
        stepper = numbered(make(field, request))
        if field.drawing and request.drivers:
            raise Unsupported("draws for each step beside gradients of paths are torch's")
        known = isinstance(stepper, ExplicitStepper | SteppedMethod) and stepper.straight
        if request.drivers and not known:
            raise Unsupported("gradients of paths go by explicit methods alone")
        if field.past:
            self._refuse_past(request, stepper)
        if request.backward and request.undone:
            kernel = undo.backward(self.ir, stepper, variant)
        elif request.stretch:
            if self._located(request):
                raise Unsupported("checkpoints past located discontinuities are torch's")
            make_stretch = stretches.backward if request.backward else stretches.forward
            kernel = make_stretch(self.ir, stepper, variant)
        elif request.backward and (self.ir.events or self._located(request)):
            kernel = event_adjoint.backward(self.ir, stepper, variant)
        elif request.backward and request.adaptive and (kept is None or kept.width):
            kernel = turns.backward(self.ir, stepper, variant)
        elif request.backward:
            kernel = ode_adjoint.backward(self.ir, stepper, variant)
        elif request.adaptive or request.watch:
            kernel = ode_adaptive.forward(self.ir, stepper, variant)
        else:
            kernel = ode_fixed.forward(self.ir, stepper, variant)
        return _named(kernel), field, stepper

    def _refuse_past(self, request: Request, stepper: Stepper) -> None:
        """Raise `Unsupported` for what has no past in kernels."""
        # what methods for noise remember is at first the state, whatever the past
        remembers = stepper.memory > 0 and not request.noise
        for found, why in (
            (request.stretch or request.trail, "checkpoints of equations with delays are torch's"),
            (request.drivers, "gradients of paths beside delays are torch's"),
            (request.backward and remembers, f"`{stepper.name}` remembers more than the state"),
        ):
            if found:
                raise Unsupported(why)

    def _located(self, request: Request) -> bool:
        """Whether discontinuities are located."""
        drawing = any(d.per == "step" for d in self.ir.draws)
        return request.adaptive and self.ir.breaks is not None and not drawing


def stepper_of(field: Field, request: Request | Part) -> Stepper:
    """The code of the method's steps. Raises `Unsupported`."""
    code, t = field.code, request.solver
    assert t is not None
    if isinstance(t, type):
        if t.IR is None:
            raise Unsupported(f"`{t.NAME}` was not compiled here")
        return SteppedMethod(code, field, t.IR, dict(request.options))
    if t.implicit:
        return ImplicitStepper(code, field, tableau_of(t))
    return ExplicitStepper(code, field, tableau_of(t))


def noisy_stepper_of(field: Field, request: Request) -> Stepper:
    """The same for an equation with noise."""
    t = request.solver
    method: NoisyMethod
    if isinstance(t, methods.Tableau):
        method = NoisyTableau(field, tableau_of(t))
    elif t.IR is None:
        raise Unsupported(f"`{t.NAME}` was not compiled here")
    else:
        method = NoisyStep(field, t.IR, dict(request.options))
    grid = not (request.adaptive or request.watch) and (request.undone or not request.backward)
    return NoisyStepper(field, method, grid, request.inside, request.stepped)


def split_fields(ir: ModelIR, request: Request) -> dict[str, Any]:
    """What a splitting's field has more: terms, and the matrices of exact flows."""
    terms = tuple(p.name for p in request.parts if p.name)
    if not terms:
        return {}
    n = sum(s.size for s in ir.states)
    exact = [p.solver is None for p in request.parts]
    drawn = {d.name for d in ir.draws if d.per == "step"}
    for part in request.parts:
        term = ir.terms.get(part.name)
        if part.solver is None and term and any(n.attr("name", "") in drawn for n in term.graph):
            raise Unsupported(f"the exponential of `{part.name}` has draws for each step")
    if any(exact) and n > LARGEST_EXACT:
        raise Unsupported(f"an exponential of {n} states is too large")
    groups = (0, 1) if request.uneven else (0,)
    ways = (1.0, -1.0) if request.undone and request.backward else (1.0,)
    made = tuple(
        (exact_name(request.parts[k].name, share, g), (n, n + 1))
        for way in ways
        for k, share in exact_shares(_split_ir(request), exact, way)
        for g in groups
    )
    return {"terms": terms, "made": made}


def split_stepper_of(field: Field, request: Request) -> Stepper:
    """The steps of a splitting."""
    flows: list[Flow] = []
    for part in request.parts:
        if not part.name:
            flows.append(HeldFlow(field, part.moves, part.inside))
        elif part.solver is None:
            flows.append(ExactFlow(field, part.name, request.uneven))
        else:
            inner = stepper_of(field.part(part.name), part)
            flows.append(SteppedFlow(inner, part.steps))
    return SplitStepper(field, _split_ir(request), flows)


def _split_ir(request: Request) -> SolverIR:
    solver = request.solver
    if not isinstance(solver, type) or solver.IR is None:
        raise Unsupported("its method was not compiled here")
    return solver.IR  # type: ignore[no-any-return]


def tableau_of(t: methods.Tableau) -> Tableau:
    """A tableau of the runtime as kernels take it."""
    return Tableau(t.name, t.order, t.embedded, t.c, t.A, t.b, t.b_hat, t.dense)


def backend_choice(ir: ModelIR) -> str:
    """What runs a model's solves, and why."""
    if ir.grids:
        from ndl.host.field_kernels import field_choice

        return field_choice(ir)
    found = Kernels(ir).weights()
    reason = found if isinstance(found, str) else unwatched(ir)
    if reason:
        return f"torch, since no kernel serves it: {reason}"
    many = (
        f"one kernel for a whole solve of {MANY} trajectories or more, all steps of a training counted, "
        "for long runs, and for gradients in Python"
    )
    return f"{many}; torch for others, where compiling costs more than it brings"


def kernel_text(host: Any, model: Any, method: str | None) -> str:
    """The kernel IR of a solve as text. Raises `NDLError`."""
    from ndl.host.field_kernels import field_choice

    compilation = host.compilation
    compiled = compilation.model(model)
    if compiled.ir.grids:
        raise fail(
            "NDL578",
            f"`{model.decl.name}` has fields, and `--kernel` shows kernels of states without a grid",
            model.decl.name_span,
            notes=(f"solves of it are run by {field_choice(compiled.optimized)}",),
            help="`ndl show --ir` prints its rates",
        )
    name = method or choose_method(compiled.facts).value or ""
    solvers = host.module.scope.find(name)
    where = model.decl.name_span
    if not isinstance(solvers, tuple) or not solvers:
        raise fail("NDL503", f"there is no method `{name}`", where)
    noise = bool(compiled.ir.noises)
    made = compilation.solver(compilation.choose(MethodV(solvers, {}), "sde" if noise else "ode"))
    if isinstance(made, methods.Tableau):
        adaptive, options = made.b_hat is not None, ()
    else:
        adaptive = made.EMBEDDED is not None and not noise
        options = tuple(sorted(made.OPTIONS.items()))
    watch = bool(compiled.optimized.events or compiled.optimized.delays)
    request = Request(
        made, adaptive, "f64", frozenset(), save=True, tape=False, options=options, watch=watch, noise=noise
    )
    try:
        return show(Kernels(compiled.optimized).kernel(request)[0])
    except Unsupported as reason:
        raise fail("NDL546", f"no kernel serves this run: {reason}", where) from None


def llvm_text(kernel: Kernel, lanes: int) -> str:
    """A kernel as LLVM IR. Maps of arrays are closed, so that nothing leaves them: those kernels stay."""
    plain = expand(kernel, keep=NORMALS)
    return print_llvm(plain if has_arrays(kernel) else simplify(plain), lanes)


def triton_text(kernel: Kernel, tf32: bool = False) -> str:
    """A kernel as a Triton module. Raises `Unsupported` for arrays that are too wide for it."""
    return print_module(kernel, tf32=tf32)


def _named(kernel: Kernel) -> Kernel:
    return verify(fuse(replace(kernel, name=_symbol(kernel.name))))


def _symbol(name: str) -> str:
    """A name that LLVM takes as it is."""
    return "".join(c if c.isascii() and (c.isalnum() or c == "_") else f"_{ord(c):x}_" for c in name)
