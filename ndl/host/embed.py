"""A program as a Python module that holds the kernels of its solves: `ndl compile --target cpu|triton`.

The module is that of the torch target, with the kernels as texts behind the models' classes and a function
for each model that runs a batch. Which kernels: those of the methods that the file's solves name, or of the
methods asked for, where every trajectory has parameters of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch

from ndl.compiler.backends.torch.arrays import docstring, literal
from ndl.compiler.backends.torch.module import HEAD, print_module
from ndl.compiler.backends.torch.names import Names
from ndl.compiler.backends.torch.operators import Classes
from ndl.compiler.check.applications import as_method
from ndl.compiler.check.values import MethodV, ModelV
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.compiled import Compiled
from ndl.host.kernels import Kernels
from ndl.host.overrides import read
from ndl.runtime.chance import with_draws
from ndl.runtime.errors import RunError
from ndl.runtime.kernels.choose import kernel_run
from ndl.runtime.kernels.found import NoKernel
from ndl.runtime.kernels.request import Made, PathUse, Request
from ndl.runtime.methods import Method, StepSolver
from ndl.runtime.problem import Problem
from ndl.unplaced import on_grid

if TYPE_CHECKING:
    from ndl.session import Program

PRECISIONS = {"float64": torch.float64, "float32": torch.float32}

IMPORTS = """\
from ndl.runtime.kernels.cpu_engine import Program
from ndl.runtime.kernels.embedded import Embedded, run_batch
from ndl.runtime.kernels.request import Made, Request, Weight
"""

KERNEL_HEAD = (
    HEAD.replace("import StepSolver, Tableau", "import Method, StepSolver, Tableau")
    .replace("from ndl.runtime.methods", f"{IMPORTS}from ndl.runtime.methods")
    .replace(
        "from ndl.runtime.weights", "from ndl.runtime.solution import Solution\nfrom ndl.runtime.weights"
    )
)
"""What these modules may import."""

ARGUMENTS = ("model", "span", "save", "rtol", "atol", "h", "method", "ensemble", "seed", "gradient", "device")
"""What a model's function takes besides values."""

OWN = 16
"""Numbers up to which a parameter is one of each trajectory's own; larger ones all share."""

DEFAULT_STEP = 0.01
"""The step with which kernels of fixed steps are made; it is not part of them."""


@dataclass(frozen=True)
class Options:
    """What is to be embedded. `methods` are texts of the language; without one, those of the file's solves
    or the one that NDL would choose."""

    target: str
    methods: tuple[str, ...] = ()
    model: str | None = None
    precision: str = "float64"
    gradient: bool = False


@dataclass
class Run:
    """A model with the methods by which it is solved, and its kernels."""

    compiled: Compiled
    noise_step: float | None = None
    methods: list[Method] = field(default_factory=list)
    kernels: dict[Request, Made] = field(default_factory=dict)
    irs: dict[int, SolverIR] = field(default_factory=dict)
    """Of the methods' solvers, by identity."""

    @property
    def names(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        found = Kernels(self.compiled.optimized).weights()
        assert not isinstance(found, str)
        return found

    @property
    def paths(self) -> tuple[PathUse, ...]:
        return Kernels(self.compiled.optimized).paths()


def kernel_source(program: Program, options: Options) -> str:
    """The module. The same program gives the same text, byte for byte. Raises `NDLError` where there is
    nothing to embed, with the reason."""
    runs = list(_runs(program, options))
    solvers: dict[int, SolverIR] = {}
    for run in runs:
        for method in run.methods:
            solver = _solver(method)
            solvers[id(solver)] = run.irs[id(solver)]
    printer = _Printer(runs, solvers, options)
    doc = program.checked.module.files[0].doc or ""
    note = f"Compiled by ndl from {program.path.name}, with its kernels: `backend = {options.target}`."
    return print_module(
        [r.compiled.optimized for r in runs],
        list(solvers.values()),
        file=program.path.name,
        doc=f"{doc}\n\n{note}" if doc else note,
        more=printer.chunks,
        head=KERNEL_HEAD,
    )


def _solver(method: Method) -> Any:
    """What requests name: a tableau, or a step solver's class."""
    return type(method.solver) if isinstance(method.solver, StepSolver) else method.solver


# ---------------------------------------------------------------- which kernels


def _runs(program: Program, options: Options) -> Iterator[Run]:
    """The models to embed, each with its kernels."""
    values = program._model_values()
    if options.model is not None:
        values = {options.model: values[options.model]}
    if not values:
        raise fail("NDL546", f"`{program.path.name}` declares no model to make a kernel of", Span())
    solved = _solved(program, values)
    for name, model in values.items():
        if solved and options.model is None and name not in solved:
            continue
        found = solved.get(name, _Solved(model))
        applied = found.model
        if program.grid is not None:
            applied = on_grid(program, applied, program.grid)
        run = Run(program.host.compilation.model(applied), found.noise_step)
        if run.compiled.optimized.grids:
            raise fail(
                "NDL546",
                f"the kernels of `{name}`, whose states are fields, are not written into modules",
                model.decl.name_span,
                help="they are made when it is run, with `backend = cpu` or `backend = triton`; without "
                "`--target` the module is for torch",
            )
        for method in _methods(program, applied, options, found.methods):
            runtime = program.host.method(program.host.ev, applied, method, {}, model.decl.name_span)
            chosen = program.host.compilation.choose(method, runtime.kind)
            run.irs[id(_solver(runtime))] = program.host.compilation.solver_ir(chosen)
            _make(run, runtime, options, model.decl.name_span)
            run.methods.append(runtime)
        yield run


@dataclass
class _Solved:
    """A model as the first solve of it applies it, and its `noise_step`; the methods that all name."""

    model: ModelV
    methods: list[tree.Expr] = field(default_factory=list)
    noise_step: float | None = None


def _solved(program: Program, values: Mapping[str, ModelV]) -> dict[str, _Solved]:
    """The models of the file's solves as applied there first."""
    found: dict[str, _Solved] = {}
    scope = program.checked.module.scope
    for block in program.runs:
        if block.kind != "solve":
            continue
        target = program.host.ev.eval(block.stmt.target, scope)
        name = next(
            (n for n, v in values.items() if isinstance(target, ModelV) and v.decl is target.decl), ""
        )
        if name:
            settings = program.host.settings_of(block.stmt.settings, block.name)
            if name not in found:
                given = {
                    k: program.host.ev.eval(v, scope) for k, (v, _) in settings.items() if k == "noise_step"
                }
                found[name] = _Solved(target, noise_step=program.host.noise_step(given, settings))
            found[name].methods += [settings["method"][0]] if "method" in settings else []
    return found


def _methods(
    program: Program, model: ModelV, options: Options, named: Sequence[tree.Expr]
) -> Iterator[MethodV]:
    host = program.host
    exprs = [read(f"method={text}", text, "--") for text in options.methods] or list(named)
    if not exprs:
        yield host.default_method(model)
    for e in exprs:
        value = as_method(host.ev, host.ev.eval(e, program.checked.module.scope), e.span)
        if not isinstance(value, MethodV):
            raise fail("NDL503", f"there is no method `{e.span.text}`", e.span)
        yield value


def _make(run: Run, method: Method, options: Options, where: Span) -> None:
    """Add the kernels of a method to a run's."""
    source = _Recorder(Kernels(run.compiled.optimized, portable=True))
    try:
        request = _request(run, method, options, source)
        wanted = [request]
        if options.gradient:
            keep = (request.adaptive or not request.watch) and request.target == "cpu"
            taped = replace(request, keep=keep)
            wanted += [replace(taped, tape=True), replace(taped, backward=True)]
        for r in wanted:
            made = source.make(r)
            if isinstance(made, str):
                raise NoKernel(made)
            run.kernels[r] = made
    except NoKernel as reason:
        message = f"`{run.compiled.ir.name}` by `{method.name}` has no kernel: {reason}"
        raise fail(
            "NDL546", message, where, help="`ndl compile` without `--target` writes a module for torch"
        ) from None
    except RunError as error:
        raise fail("NDL546", str(error), where) from None


class _Recorder:
    """Passes requests on and keeps the last."""

    def __init__(self, source: Kernels) -> None:
        self.source = source
        self.request: Request | None = None

    def weights(self) -> tuple[tuple[str, tuple[int, ...]], ...] | str:
        return self.source.weights()

    def paths(self) -> tuple[PathUse, ...]:
        return self.source.paths()

    def make(self, request: Request) -> Made | str:
        self.request = request
        return self.source.make(request)


def _request(run: Run, method: Method, options: Options, source: _Recorder) -> Request:
    """What a run of a batch by this method asks for. Raises `NoKernel`."""
    compiled = run.compiled
    names = source.weights()
    if isinstance(names, str):
        raise NoKernel(names)
    solver = method.solver
    embedded = solver.b_hat if not isinstance(solver, StepSolver) else solver.EMBEDDED
    fixed = {"h", "steps"} & method.options.keys() or embedded is None or compiled.ir.noises
    given = {**method.options, **({"h": DEFAULT_STEP, "steps": None} if fixed else {})}
    model = compiled.cls.make({})
    shapes = {i.name: i.shape for i in model.INPUTS} | {p.name: p.shape for p in model.PARAMETERS}
    inputs = {i.name: torch.zeros(1, *i.shape) for i in model.INPUTS}
    own = {
        name: model.weight_value(name).detach()[None]
        for name, _ in names
        if name in shapes and name not in inputs and math.prod(shapes[name]) <= OWN
    }
    problem = Problem.make(
        with_draws(model.bind(**inputs, **own), 1, 0),
        span=(0.0, DEFAULT_STEP),
        method=replace(method, options=given),
        save=[0.0, DEFAULT_STEP],
        precision=PRECISIONS[options.precision],
        noise_step=None if run.noise_step is None else DEFAULT_STEP,
    )
    setattr(problem.model, "KERNELS", source)  # noqa: B010  (of this instance alone)
    kernel_run(problem, options.target)
    assert source.request is not None
    return source.request


# ---------------------------------------------------------------- text


class _Printer:
    """The chunks that follow the classes."""

    def __init__(self, runs: Sequence[Run], irs: Mapping[int, SolverIR], options: Options) -> None:
        self.runs, self.irs, self.options = runs, irs, options

    def chunks(
        self, models: Mapping[str, str], solvers: Mapping[int, str], classes: Classes
    ) -> list[list[str]]:
        """Texts, kernels and the function of each model."""
        self.called = {key: solvers[id(ir)] for key, ir in self.irs.items()}
        found: list[list[str]] = []
        for run in self.runs:
            cls = models[run.compiled.ir.name]
            texts = {}
            for request, made in run.kernels.items():
                texts[request] = classes.reserve(made.program.symbol.upper())
                found.append([f"{texts[request]} = {quoted(made.program.text)}"])
            found.append(self.kernels(run, cls, texts))
            alone = len(self.runs) == 1
            name = classes.reserve("solve" if alone else f"solve_{cls.lower()}")
            found.append(Front(run, cls, name, self.options, self.method).lines())
        return found

    def kernels(self, run: Run, cls: str, texts: Mapping[Request, str]) -> list[str]:
        lines = [f"{cls}.KERNELS = Embedded(", f"    {code(run.names)},", "    ("]
        for request, made in run.kernels.items():
            lines += ["        (", f"            {self.request(request)},"]
            p = made.program
            of = ", ".join([texts[request], *map(code, (p.symbol, p.buffers, p.target, p.lanes, p.sums))])
            lines += ["            Made(", f"                Program({of}),", "                ("]
            fields = [(w.name, w.shape, w.each, w.offset, w.whole) for w in made.weights]
            lines += [f"                    Weight({', '.join(map(code, f))})," for f in fields]
            lines += ["                ),", f"                {made.width},"]
            lines += [f"                {code(n)}," for n in (made.kept, made.memory, made.held, made.past)]
            lines += ["            ),", "        ),"]
        on_time = tuple((use.name, use.read) for use in run.paths)
        return [*lines, "    ),", *([f"    {code(on_time)},"] if on_time else []), ")"]

    def request(self, r: Request) -> str:
        """A request as code: what differs from its defaults."""
        always = ("adaptive", "precision", "save", "tape")
        words = [f"own=frozenset({code(tuple(sorted(r.own)))})"]
        for f in fields(r):
            value = getattr(r, f.name)
            if f.name not in ("solver", "own") and (f.name in always or value != f.default):
                words.append(f"{f.name}={code(value)}")
        return f"Request({self.called[id(r.solver)]}, {', '.join(words)})"

    def method(self, method: Method) -> str:
        """A method as code."""
        name = self.called[id(_solver(method))]
        solver = method.solver
        if isinstance(solver, StepSolver):
            changed = {k: v for k, v in solver.options.items() if v != type(solver).OPTIONS.get(k)}
            name = f"{name}({', '.join(f'{k}={code(v)}' for k, v in changed.items())})"
        options = {k: v for k, v in method.options.items() if v is not None}
        return f"Method({code(method.name)}, {code(method.kind)}, {name}, {code(options)})"


@dataclass
class Front:
    """The function that runs a batch of a model."""

    run: Run
    cls: str
    name: str
    options: Options
    method: Any

    def lines(self) -> list[str]:
        model = self.run.compiled.cls
        names = Names({*ARGUMENTS, "METHODS"})
        kinds = {
            "parameters": [p.name for p in model.PARAMETERS],
            "initial values": [s.name for s in model.STATES if not s.source],
            "inputs": [i.name for i in model.INPUTS],
        }
        values = {name: names[name] for found in kinds.values() for name in found}
        methods: dict[str, Method] = {}
        for m in self.run.methods:
            methods.setdefault(m.name, m)
        first = next(iter(methods))
        arguments = [
            f"model: {self.cls} | None = None",
            "*",
            "span: tuple[float, float]",
            *(f"{v}: Any = None" for v in values.values()),
            'save: Any = "end"',
            f"method: str = {code(first)}",
            "rtol: float | None = None",
            "atol: float | None = None",
            "h: float | None = None",
            "ensemble: int | None = None",
            "seed: int = 0",
            *(['gradient: str = "none"'] if self.options.gradient else []),
            'device: Any = "auto"',
        ]
        given = ", ".join(f"{code(k)}: {v}" for k, v in values.items())
        settings = ["span=span", "save=save", "ensemble=ensemble", "seed=seed", "device=device"]
        settings += ["gradient=gradient"] if self.options.gradient else []
        step = self.run.noise_step
        settings += [] if step is None else [f"noise_step={code(step)}"]
        precision = f"precision=torch.{self.options.precision}"
        return [
            f"def {self.name}(",
            *(f"    {a}," for a in arguments),
            ") -> Solution:",
            *(f"    {d}".rstrip() for d in docstring(self.about(kinds, list(methods)))),
            "    methods = {",
            *(f"        {code(k)}: {self.method(m)}," for k, m in methods.items()),
            "    }",
            f"    values = {{{given}}}",
            '    options = {"rtol": rtol, "atol": atol, "h": h}',
            "    return run_batch(",
            f"        {self.cls}() if model is None else model,",
            "        values,",
            "        methods[method],",
            "        options,",
            f'        target="{self.options.target}",',
            f"        {precision},",
            *(f"        {s}," for s in settings),
            "    )",
        ]

    def about(self, kinds: Mapping[str, Sequence[str]], methods: Sequence[str]) -> str:
        """What the function says of itself."""
        ir = self.run.compiled.ir
        paces = {"steps of each one's own" if r.adaptive else "fixed steps `h`" for r in self.run.kernels}
        where = "a Triton kernel" if self.options.target == "triton" else "a kernel on the CPU"
        named = " or ".join(f"`{m}`" for m in methods)
        values = " and ".join(f"{kind} ({', '.join(names)})" for kind, names in kinds.items() if names)
        lines = [
            f"Solve a batch of `{ir.name}` by {named} with {' or '.join(sorted(paces))}, in {where}:",
            "",
            *(f"    {e}" for e in ir.equations),
            "",
            f"{values[:1].upper()}{values[1:]} are numbers or tensors `[B]`, one for each",
            "trajectory; those left out are the model's. `span` is (start, end); `save` is \"end\",",
            '("every", dt) or times `[S]`. Saved values of the solution are tensors `[B, S]` by name, the',
            "last ones `solution.final`.",
        ]  # fmt: skip
        if self.run.noise_step is not None:
            lines += [
                f"Steps are whole steps of the noise, {self.run.noise_step:g}, whose increments are drawn."
            ]
        if self.options.gradient:
            lines += ['With `gradient="discrete"` they can be differentiated, by a kernel too.']
        return "\n".join(lines)


def code(value: Any) -> str:
    """Names, numbers, and tuples and dictionaries of them, as code."""
    if isinstance(value, tuple):
        return f"({', '.join(map(code, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{code(k)}: {code(v)}' for k, v in value.items())}}}"
    return literal(value) if isinstance(value, str) else repr(value)


def quoted(text: str) -> str:
    """A text as a literal over several lines."""
    safe = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""\\\n{safe}"""' if not safe.endswith('"') else f'"""\\\n{safe[:-1]}\\""""'


__all__ = ["Options", "code", "kernel_source", "quoted"]
