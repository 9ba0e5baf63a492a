"""Models, nets and solvers of a program as Python classes, each compiled once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ndl.compiler.backends.torch.module import compile_source, print_module
from ndl.compiler.backends.torch.names import Names
from ndl.compiler.check.evaluator import Evaluator, TypeBuilder
from ndl.compiler.check.operators import header_dims
from ndl.compiler.check.parts import arguments_of, written_parts
from ndl.compiler.check.values import MethodV, ModelV, OperatorV, SolverV, Value, WordV, is_known
from ndl.compiler.diagnostics import Sink, fail
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import ModelIR, SolverIR
from ndl.compiler.lower.mesh_space import Reading
from ndl.compiler.lower.models import lower_model
from ndl.compiler.lower.solvers import lower_solver, option_values
from ndl.compiler.passes.facts.derive import derive
from ndl.compiler.passes.facts.facts import Facts
from ndl.compiler.passes.facts.noise import noise_kind
from ndl.compiler.passes.pipeline import Options, optimize
from ndl.compiler.source import Span
from ndl.host.field_kernels import FieldKernels
from ndl.host.kernels import Kernels
from ndl.host.series import SeriesOf
from ndl.host.solver_data import Given


@dataclass
class Compiled:
    """One model: its IR, its class and its facts."""

    ir: ModelIR
    cls: Any
    source: str
    optimized: ModelIR
    _facts: list[Facts] = field(default_factory=list)

    @property
    def facts(self) -> Facts:
        if not self._facts:
            self._facts.append(derive(self.ir))
        return self._facts[0]


def register_meshes(ir: ModelIR) -> None:
    """Hand the tables that generated code names to the runtime."""
    from ndl.compiler.geometry import store
    from ndl.runtime import meshes

    register_sets()
    for grid in ir.grids:
        if grid.mesh is not None and grid.mesh.key not in store.POINTS:
            meshes.register(store.MESHES[grid.mesh.key])


def printed_function(function: Function) -> Callable[..., Any]:
    """A function without weights, of values with any leading axes."""
    from ndl.runtime.weights import Part

    text = print_module([], operators=[function])
    module = compile_source(text, f"ndl_generated_{function.name}_{id(function)}")
    classes = [v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Part)]
    made: Callable[..., Any] = next(c for c in classes if c.__module__ == module.__name__)()
    return made


def register_sets() -> None:
    """Hand the boundaries and sets that a program names to the runtime."""
    from ndl.compiler.geometry import store
    from ndl.compiler.geometry.surfaces import volumes
    from ndl.runtime import meshes, sets

    for key, points in store.POINTS.items():
        meshes.register_points(key, points)
    for key, values in store.ARRAYS.items():
        meshes.register_array(key, values)
    for key, surface in store.SURFACES.items():
        if key not in sets.SURFACES:
            own = None if surface.curves is None else printed_function(surface.curves)
            sets.register_surface(key, surface, own)
    for key, region in store.REGIONS.items():
        sets.register_region(key, region, None if region.corners is None else volumes(region.corners))


class Compilation:
    """What a program has compiled so far."""

    def __init__(self, sink: Sink, file: str, options: Options | None = None) -> None:
        self.sink, self.file = sink, file
        self.options = options or Options()
        self.models: dict[Any, Compiled] = {}
        self.solvers: dict[Any, Any] = {}
        self.modules: list[ModuleType] = []
        self.keys: dict[int, tuple[ModelV, Any]] = {}
        self.bind: Mapping[str, Any] = {}
        self.read: Reading | None = None
        """Where a file lies that a program names, if it may be read."""
        self.checker = Evaluator(TypeBuilder(), Sink())
        self.program: Any = None
        """Whose models these are, for `ndl.solve`."""

    # ------------------------------------------------------------ models

    def key(self, model: ModelV) -> Any:
        """Applications that differ only in run-time values share a class."""
        if id(model) not in self.keys:  # the model is kept, so that no other value gets its id
            self.keys[id(model)] = model, self._key(model)
        return self.keys[id(model)][1]

    def _key(self, model: ModelV) -> Any:
        options = {p.name for p in model.decl.options}
        written = written_parts(self.checker, model)
        chosen = tuple(
            (k, v if is_known(v) else id(v))
            for k, v in sorted(model.values.items())
            if k in options or self._is_dim(model, k) or k in written
        )
        shapes = tuple(str(v.type) if isinstance(v, Value) else id(v) for v in model.data)
        found = arguments_of(self.checker, model)[0] if header_dims(model.decl, model.module.scope) else {}
        dims = tuple((k, v) for k, v in found.items() if k not in options)
        return id(model.decl), chosen, shapes, dims, model.grid

    def loaded(self, text: str, name: str) -> ModuleType:
        """A generated module, whose `extern` nets are what Python has bound."""
        module = compile_source(text, f"ndl_generated_{len(self.modules)}_{name}")
        if "Extern" in vars(module):
            from ndl.runtime.weights import Extern

            module.__dict__["Extern"] = lambda net: self.bind[net] if net in self.bind else Extern(net)
        return module

    @staticmethod
    def _is_dim(model: ModelV, name: str) -> bool:
        return name in header_dims(model.decl, model.module.scope)

    def model(self, model: ModelV) -> Compiled:
        key = self.key(model)
        if key not in self.models:
            ir = lower_model(model, self.sink, self.read)
            if ir.noises and ir.noise_kind in ("general", "scalar"):
                ir = refine_noise(ir)
            optimized = optimize(ir, self.options)
            text = print_module([optimized], file=self.file)
            register_meshes(optimized)
            module = self.loaded(text, ir.name)
            self.modules.append(module)
            cls = self._class(module, ir.name)
            if ir.grids:
                cls.FIELDS = FieldKernels(optimized)
            else:
                cls.KERNELS = Kernels(optimized)
            cls.SERIES = SeriesOf(optimized)
            cls.DIFFERENTIATED = differentiated(optimized)
            cls._ndl_source = (self.program, model)
            self.models[key] = Compiled(ir, cls, text, optimized)
        return self.models[key]

    @staticmethod
    def _class(module: ModuleType, name: str) -> Any:
        from ndl.runtime.model import Model

        for value in vars(module).values():
            if (
                isinstance(value, type)
                and issubclass(value, Model)
                and name == value.NAME
                and value is not Model
            ):
                return value
        raise LookupError(name)

    # ------------------------------------------------------------ nets

    def operator(self, function: Function) -> Any:
        """The `nn.Module` class of an operator's function."""
        register_sets()
        text = print_module([], operators=[function], file=self.file)
        module = self.loaded(text, function.name)
        self.modules.append(module)
        from ndl.runtime.weights import Part

        classes = [
            v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Part) and v is not Part
        ]
        own = [c for c in classes if c.__module__ == module.__name__]
        return own[-1]

    # ------------------------------------------------------------ solvers

    def solver_ir(
        self, solver: SolverV, given: Mapping[str, Any] | None = None, data: Mapping[str, str] | None = None
    ) -> SolverIR:
        return lower_solver(solver, self.sink, given, data)

    def solver(
        self, solver: SolverV, given: Mapping[str, Any] | None = None, data: Mapping[str, str] | None = None
    ) -> Any:
        """A `Tableau`, or a class of step solvers, one for each choice of its counts and form of its data."""
        given = {k: smallest(v) for k, v in (given or {}).items()}
        values = option_values(solver, self.sink, given) if solver.decl.options else {}
        counts = tuple((k, v) for k, v in values.items() if type(v) is int)
        key = id(solver.decl), counts, tuple((data or {}).items())
        if key not in self.solvers:
            ir = self.solver_ir(solver, given, data)
            names = Names([])
            text = print_module([], [ir])
            module = compile_source(text, f"ndl_generated_solver_{ir.name}")
            self.solvers[key] = next(
                v
                for k, v in vars(module).items()
                if k.startswith(names[ir.name])
                or k == ir.name
                or getattr(v, "NAME", None) == ir.name
                or getattr(v, "name", None) == ir.name
            )
            if isinstance(self.solvers[key], type):
                self.solvers[key].IR = ir
        return self.solvers[key]

    def method(
        self,
        method: MethodV,
        kind: str,
        options: dict[str, Any],
        parts: dict[str, Any],
        data: Mapping[str, Given] | None = None,
    ) -> Any:
        """A runtime method; `kind` chooses among solvers of one name; `data` is what a solver is given before
        its options."""
        from ndl.runtime.methods import Method, Tableau

        solver, data = self.choose(method, kind), data or {}
        made = self.solver(solver, options, {k: d.form for k, d in data.items()})
        if isinstance(made, Tableau):
            return Method(method.name, solver.decl.kind, made, options, parts)
        own = {k: options[k] for k in list(options) if k in made.OPTIONS}
        stepper = made(**own)
        stepper.data = {k: d.value for k, d in data.items()}
        return Method(method.name, solver.decl.kind, stepper, options, parts)

    def choose(self, method: MethodV, kind: str) -> SolverV:
        for s in method.solvers:
            if s.decl.kind == kind:
                return s
        return method.solvers[0]


def differentiated(ir: ModelIR) -> frozenset[str]:
    """The nets whose weights the equations read by themselves, and not by calling the net."""
    functions = [ir.initial, ir.drift, ir.diffusion, ir.forcing, ir.correction, ir.pace, ir.energy]
    functions += [*ir.derived.values(), *ir.terms.values()]
    read = {
        str(node.attr("name")).partition(".")[0]
        for f in functions
        if f is not None
        for node in f.graph.needed([n for _, n in f.outputs])
        if node.op == "param" and "." in str(node.attr("name"))
    }
    return frozenset(read & set(ir.parts))


def smallest(value: Any) -> Any:
    """Of an option with a value for each state, the smallest."""
    if isinstance(value, Mapping):
        return min(map(float, value.values()))
    return float(value.min()) if getattr(value, "ndim", 0) else value


def refine_noise(ir: ModelIR) -> ModelIR:
    """The kind of noise by its facts where the form of the equations does not tell."""
    from dataclasses import replace

    found = noise_kind(ir).value
    order = ("none", "additive", "scalar", "commutative", "general")
    return replace(ir, noise_kind=found) if found in order else ir


def operator_function(op: OperatorV, types: list[Any], ev: Any, name: str) -> Function:
    """An operator lowered for a net that stands outside a model."""
    from ndl.compiler.lower.operators import lower_operator

    return lower_operator(op, types, ev, name)


def unsupported(what: str, span: Span) -> Exception:
    return fail("NDL490", f"{what} is not yet lowered", span)


__all__ = ["Compilation", "Compiled", "WordV", "operator_function", "unsupported"]
