"""A program, loaded: checked once, compiled when it is first run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndl import edge
from ndl.applied import applied
from ndl.compiler.check import Checked, check_file
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import FileV, ModelV
from ndl.compiler.diagnostics import Diagnostic, NDLError, did_you_mean, fail
from ndl.compiler.source import NO_SPAN, Source, Span
from ndl.compiler.syntax import tree
from ndl.unplaced import FieldModel, on_grid

if TYPE_CHECKING:
    from ndl.compiler.ir.model import ModelIR
    from ndl.host.host import Host


@dataclass(frozen=True)
class Block:
    """A `solve` or `train` block: its kind, its name (unique in the file), its place."""

    kind: str
    name: str
    span: Span
    stmt: Any


@dataclass(frozen=True)
class TestResult:
    """One `test` block: `message` says what failed."""

    title: str
    span: Span
    passed: bool
    seconds: float
    message: str = ""
    diagnostic: Diagnostic | None = None


STAND_INS = ("fourier(8)", "uniform(9)")
"""Grids on which facts are derived where none is given: the first that fits the domains."""


class Named(dict[str, Any]):
    """Things by name; a name that is not there is answered with one that is near."""

    def __missing__(self, name: str) -> Any:
        known = ", ".join(f"`{n}`" for n in self) or "none"
        raise KeyError(f"there is no `{name}`: {did_you_mean(str(name), self) or f'the program has {known}'}")


class Program:
    """A checked file. Its models are classes; its blocks run; its tests are checked."""

    def __init__(
        self,
        checked: Checked,
        path: Path,
        found: Sequence[Diagnostic],
        bind: Mapping[str, Any] | None,
        allow_paths: Sequence[Path],
        overrides: Mapping[str, Any] | None,
    ) -> None:
        self.checked, self.path = checked, path
        self.diagnostics = list(found)
        self.bind, self.allow_paths = dict(bind or {}), tuple(allow_paths)
        self.overrides = {k: str(v) for k, v in (overrides or {}).items()}
        self.grid: str | None = None
        """Where fields of the models are stored, in the language's words; None where each use says it."""
        self._host: Host | None = None
        self._classes: dict[int, tuple[ModelV, Any]] = {}

    @classmethod
    def load(
        cls,
        path: Path | Source,
        *,
        import_paths: Sequence[Path] = (),
        bind: Mapping[str, Any] | None = None,
        allow_paths: Sequence[Path] = (),
        overrides: Mapping[str, Any] | None = None,
        grid: str | None = None,
    ) -> Program:
        """Check a file. Raises `NDLError` with all diagnostics when there are errors."""
        checked, found = check_file(path, import_paths=import_paths)
        if checked is None or any(d.severity == "error" for d in found):
            raise NDLError(found)
        file = Path(path.path) if isinstance(path, Source) else Path(path)
        program = cls(checked, file, found, bind, allow_paths, overrides)
        program.grid = grid
        program._check_overrides()
        program._check_bind()
        return program

    def _check_overrides(self) -> None:
        names = [b.name for b in self.runs]
        for key in self.overrides:
            run = key.partition(".")[0]
            if run not in names:
                raise fail(
                    "NDL516",
                    f"there is no run `{run}` to set `{key}` in",
                    NO_SPAN,
                    help=did_you_mean(run, names) or f"its runs are {', '.join(names) or 'none'}",
                )

    def _check_bind(self) -> None:
        """Every bound module is the place of an `extern net`, of this file or one that it uses."""
        items = self.checked.module.items
        known = [i.name for i in items if isinstance(i, tree.Extern)]
        if any(isinstance(i, tree.Use) for i in items):
            return
        for name in self.bind:
            if name not in known:
                raise fail(
                    "NDL358",
                    f"there is no `extern net {name}` to bind a module to",
                    NO_SPAN,
                    help=did_you_mean(name, known) or f"its extern nets are {', '.join(known) or 'none'}",
                )

    # ------------------------------------------------------------ what is in it

    @property
    def runs(self) -> list[Block]:
        """The `solve` and `train` blocks in the order of the file."""
        from ndl.host.names import stmt_name

        found: list[Block] = []
        for item in self.checked.module.items:
            if isinstance(item, (tree.Solve, tree.Train)):
                name = stmt_name(item)
                taken = [b.name for b in found]
                kind = "solve" if isinstance(item, tree.Solve) else "train"
                unique, k = name, 2
                while unique in taken:
                    unique, k = f"{name}-{k}", k + 1
                found.append(Block(kind, unique, item.span, item))
        return found

    @property
    def tests(self) -> list[tree.Test]:
        return [i for i in self.checked.module.items if isinstance(i, tree.Test)]

    @property
    def host(self) -> Host:
        if self._host is None:
            from ndl.host.host import Host

            self._host = Host(
                self.checked.module,
                file=str(self.path),
                allow=self.allow_paths,
                bind=self.bind,
                overrides=self.overrides,
            )
            self._host.compilation.program = self
        return self._host

    def _model_values(self) -> dict[str, ModelV]:
        """The models that the file declares, by name; those that need data or dimensions too. Fields stand on
        the program's grid, if it has one."""
        found = {}
        for name, value in self.checked.module.names.items():
            if isinstance(value, FileV) and value.kind == "alias":
                value = self.host.ev.file_value(value)
            if isinstance(value, ModelV):
                found[name] = value if self.grid is None else on_grid(self, value, self.grid)
        return found

    @property
    def models(self) -> dict[str, Any]:
        """The models as classes: `LotkaVolterra(alpha=0.5)` is an instance, an `nn.Module`. Those whose
        fields have no grid yet are `FieldModel`s."""
        return Named({n: self.class_of(m) for n, m in self._model_values().items()})

    @property
    def nets(self) -> dict[str, Any]:
        """The nets that the file names and gives a signature, as modules with their weights."""
        from ndl.compiler.check.values import NetV

        found: dict[str, Any] = {}
        for name, value in self.checked.module.names.items():
            if isinstance(value, FileV) and value.kind == "net":
                net = self.host.ev.file_value(value)
                if isinstance(net, NetV) and net.signature is not None:
                    found[name] = self.host.module_of(net, value.stmt.span)
        return found

    def remake(self, net: str, **options: Any) -> Any:
        """The net that the file calls so with other options, `remake("N", modes=24)`, as a module of
        its own: it begins with the weights that `N` has now, by name and wavenumber. Raises `NDLError` where
        there is no such net or option, or a weight has another shape (NDL478)."""
        from ndl.host.remade import remade

        return remade(self.host, self.checked.module.names.get(net), net, options)

    def class_of(self, model: ModelV, required: bool = False) -> Any:
        """The class of a model, which knows where it comes from: `ndl.solve` asks for it. One whose
        dimensions are open stands for a class of each, unless they are `required`."""
        from ndl.host.open_dims import OpenModel, open_dims

        if not required and open_dims(self.host.ev, model):
            return OpenModel(self, model)
        try:
            cls = self.host.compilation.model(model).cls
        except NDLError as error:
            if error.diagnostics[0].code != "NDL440":
                raise
            return FieldModel(self, model)
        if id(model) not in self._classes:
            self._classes[id(model)] = (model, applied(self.host, model, cls))
        cls = self._classes[id(model)][1]
        cls._ndl_source = (self, model)
        return cls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("checked", "path"):
            raise AttributeError(name)
        if hasattr(type(self), name):  # a property that failed: its own error, not that of a missing model
            return object.__getattribute__(self, name)
        values = self._model_values()
        if name in values:
            return self.class_of(values[name])
        raise AttributeError(f"{self.path.name} declares no model `{name}`")

    # ------------------------------------------------------------ running

    def run(
        self,
        name: str | None = None,
        *,
        out: Any = None,
        progress: bool = False,
        resume: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Run one block, or all: a `Solution` or a `TrainResult` for each. With `out`, results, the
        resolved settings and pictures are written there. Raises `NDLError`."""
        from ndl.host.run import run_block

        wanted = {**self.overrides, **{k: str(v) for k, v in (overrides or {}).items()}}
        if wanted != self.host.overrides:
            self.host.overrides = wanted
            self.host.named.clear()  # computed under other settings
        chosen = [b for b in self.runs if name is None or b.name == name]
        return [run_block(self.host, b, out, progress, resume) for b in chosen]

    def test(self, title: str | None = None) -> Iterator[TestResult]:
        """Run the `test` blocks whose titles contain `title`, one after the other."""
        from ndl.compiler.check.statements import run_block
        from ndl.host.run import TestContext

        for test in self.tests:
            if title is not None and title not in test.title:
                continue
            began = time.perf_counter()
            ev = self.host.evaluator()
            ev.context = TestContext(self.host)
            trouble: NDLError | None = None
            try:
                run_block(ev, test.body, Scope(self.checked.module.scope))
            except NDLError as error:
                trouble = error
            except Exception as error:  # a bug of ours fails this test, not those after it
                found = edge.diagnose(error, ("test", str(self.path)))
                if found.code == edge.INTERRUPTED_CODE:
                    raise
                trouble = NDLError([found])
            seconds = time.perf_counter() - began
            if trouble is None:
                yield TestResult(test.title, test.span, True, seconds)
            else:
                yield TestResult(test.title, test.span, False, seconds, str(trouble), trouble.diagnostics[0])

    # ------------------------------------------------------------ looking inside

    def python_source(self) -> str:
        """The program as a Python module that imports only torch and `ndl.runtime`."""
        from ndl.host.export import python_source

        return python_source(self)

    def ir(self, name: str) -> ModelIR:
        """The optimised IR of a model."""
        return self.host.compilation.model(self._model_values()[name]).optimized

    def ir_text(self, name: str) -> str:
        """The graphs of a model as text."""
        from ndl.host.export import ir_text

        return ir_text(self.ir(name))

    def facts(self, name: str) -> list[tuple[str, str]]:
        """What the compiler derived about a model, and what it chose because of it."""
        from ndl.compiler.passes.choose import choices
        from ndl.compiler.passes.facts.explain import explain
        from ndl.compiler.passes.fourier import described
        from ndl.compiler.passes.schemes import carried
        from ndl.host.kernels import backend_choice

        model, notes = self._model_values()[name], []
        if isinstance(self.class_of(model), FieldModel):
            model, note = self._placed(model, name)
            notes.append(("grid", note))
        compiled = self.host.compilation.model(model)
        modes = described(compiled.optimized)
        if modes is not None:
            notes.append(("Fourier space", modes))
        notes += [("scheme", text) for text in carried(compiled.optimized)]
        found = compiled.facts
        chosen = [(f"choice of {c.setting}", c.why) for c in choices(found)]
        made = list(model.origin.facts) if model.origin is not None else []
        backend = ("choice of backend", backend_choice(compiled.optimized))
        return [*notes, *made, *explain(found), *chosen, backend]

    def operator_facts(self) -> dict[str, list[tuple[str, str]]]:
        """What the compiler derives about the operators of fields of the file, by name."""
        from ndl.compiler.check.sets import of_fields
        from ndl.compiler.check.values import OperatorV
        from ndl.compiler.passes.facts.resolution import resolution_text

        found = self.checked.module.names.items()
        operators = {n: v for n, v in found if isinstance(v, OperatorV) and of_fields(v.decl)}
        return {n: [("resolution", resolution_text(v))] for n, v in operators.items()}

    def modes(self, name: str) -> str | None:
        """What of a model's rates is diagonal in Fourier space, in its own words; None where nothing is."""
        from ndl.compiler.passes.fourier import described

        model = self._model_values()[name]
        if isinstance(self.class_of(model), FieldModel):
            model, _ = self._placed(model, name)
        return described(self.host.compilation.model(model).optimized)

    def _placed(self, model: ModelV, name: str) -> tuple[ModelV, str]:
        """A field model on a grid: that of a run of it whose grid names a scheme, else one that fits its
        domains."""
        from ndl.unplaced import written_grids

        for grid in written_grids(self.checked.module.items, name):
            if "scheme" in grid:
                return on_grid(self, model, grid), f"`{grid}`, that of a run"
        placed, stand_in = self._stand_in(model)
        return placed, f"`{stand_in}` stands in for that of a run"

    def _stand_in(self, model: ModelV) -> tuple[ModelV, str]:
        for grid in STAND_INS[:-1]:
            try:
                placed = on_grid(self, model, grid)
                self.host.compilation.model(placed)
            except NDLError:
                continue
            return placed, grid
        return on_grid(self, model, STAND_INS[-1]), STAND_INS[-1]

    def kernel_text(self, name: str, method: str | None = None) -> str:
        """The kernel IR of a model's solve by a method (the chosen one), with the equations beside it.

        Raises `NDLError` when there is no such method or no kernel."""
        from ndl.host.kernels import kernel_text

        return kernel_text(self.host, self._model_values()[name], method)


def source_of(model: Any) -> tuple[Program, ModelV]:
    """The program and the declaration of a model's class. Raises TypeError for anything else."""
    cls = model if isinstance(model, type) else type(model)
    program, declared = getattr(model, "_ndl_source", None) or (None, None)
    if program is None or declared is None:
        where = "its `.model` is one" if hasattr(model, "model") else "take it from `program.models`"
        raise TypeError(f"{cls.__name__} is not a model of a loaded program; {where}")
    return program, declared


OF_FILES = {
    "write": 'here the solution writes itself: `solution.save("data.nc")`',
    "plot": 'here the solution draws itself: `solution.plot("x")`',
    "portion": 'a block `solve M(…) as name:` is run by `program.run("name")`',
}
"""What `solve` in Python does not do, and what does it."""


def solve_model(instance: Any, settings: Mapping[str, str]) -> Any:
    """Solve an instance with settings given as texts of the language. Who wants gradients in Python is taken
    to want many, step by step."""
    from ndl.host.objects import ModelObject
    from ndl.host.overrides import read
    from ndl.runtime.kernels.choose import MANY

    program, declared = source_of(instance)
    host = program.host
    values = {name: read(name, text, "setting ") for name, text in settings.items()}
    for name in OF_FILES.keys() & values.keys():
        what = f"`{name}` is a setting of `solve` blocks in a file"
        raise fail("NDL504", what, values[name].span, help=OF_FILES[name])
    spans = {name: (value, value.span) for name, value in values.items()}
    scope = program.checked.module.scope
    target = ModelObject(instance, declared)
    where = declared.decl.name_span
    repeats = MANY if settings.get("gradient", "none") != "none" else 1
    return host.guarded(
        lambda: host.solution(host.evaluator(), target, spans, scope, where, repeats=repeats), where
    )


def train_block(target: Any, name: str | None) -> tuple[Program, Block]:
    """The `train` block of a program (by name, if it has several) or of a model's class."""
    program, declared = (target, None) if isinstance(target, Program) else source_of(target)
    blocks = [b for b in program.runs if b.kind == "train" and name in (None, b.name)]
    if declared is not None:
        from ndl.host.training import block_of

        stmt = block_of(program.host, declared, declared.decl.name_span)
        blocks = [b for b in blocks if b.stmt is stmt]
    if len(blocks) != 1:
        known = ", ".join(b.name for b in program.runs if b.kind == "train") or "none"
        raise ValueError(f"name one of the train blocks; this program has {known}")
    return program, blocks[0]
