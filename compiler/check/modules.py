"""Modules: files, imports, private names, cycles, the standard library and its prelude."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from ndl.compiler.check.scope import Deferred, Scope
from ndl.compiler.check.values import UNKNOWN, FileV, FnV, ModelV, ModuleV, OperatorV, SolverV
from ndl.compiler.diagnostics import Sink, did_you_mean
from ndl.compiler.source import Source, Span
from ndl.compiler.syntax import tree
from ndl.compiler.syntax.parser import load_source, parse

DECLARED = re.compile(r"^(?:solver|operator|fn|model|domain)\s+([^\W\d]\w*)", re.MULTILINE)
USED = re.compile(r"^use std\.(\w+)", re.MULTILINE)
STDLIB = Path(__file__).resolve().parents[2] / "stdlib"


@cache
def stdlib_folder() -> Path:
    """The folder of the standard library, installed or in a checkout."""
    try:
        import ndl.stdlib

        return Path(ndl.stdlib.__file__ or "").resolve().parent
    except ImportError:
        return STDLIB


@dataclass(eq=False)
class Module:
    """A file (or a folder of the library, whose files' exports are all its own) with its names."""

    path: Path
    files: list[tree.File]
    names: dict[str, Any] = field(default_factory=dict)
    imported: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)
    folder: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        return self.files[0].source

    @property
    def items(self) -> Iterator[tree.Stmt]:
        return (item for f in self.files for item in f.items)

    def exports(self) -> dict[str, Any]:
        return {n: v for n, v in {**self.folder, **self.names}.items() if not n.startswith("_")}


class Loader:
    """Loads files and what they import, each once; findings go to one sink."""

    def __init__(self, sink: Sink, import_paths: Iterable[Path] = (), builtins: Scope | None = None) -> None:
        self.sink = sink
        self.import_paths = [Path(p) for p in import_paths]
        self.modules: dict[Path, Module] = {}
        self.loading: list[Path] = []
        self.via: dict[Path, tree.Use] = {}  # the import that each file being loaded is at
        self.builtins = builtins if builtins is not None else Scope()
        self._prelude: Scope | None = None

    def load(self, source: Source, path: Path) -> Module:
        """The module of a text that is already in memory."""
        return self._build(path, [source])

    def load_path(self, path: Path) -> Module | None:
        """The module of a file or of a folder of the library; None when it cannot be read."""
        path = path.resolve()
        if path in self.modules:
            return self.modules[path]
        if path.is_dir():
            return self._folder(path)
        source, found = load_source(str(path))
        for diagnostic in found:
            self.sink.add(diagnostic)
        return self._build(path, [source])

    def _folder(self, path: Path) -> Module:
        """A folder of the library: its files are read only when one of their names is wanted."""
        module = Module(path, [])
        self.modules[path] = module
        where: dict[str, list[Path]] = {}
        for file in sorted(path.glob("*.ndl")):
            for name in DECLARED.findall(file.read_text(encoding="utf-8")):
                where.setdefault(name, []).append(file)
        for name, files in where.items():
            module.folder[name] = Deferred(partial(self._member, files, name))
        return module

    def _member(self, files: list[Path], name: str) -> Any:
        """A name's value; a solver may be written for several kinds in several files."""
        found = [m.names[name] for m in map(self.load_path, dict.fromkeys(files)) if m and name in m.names]
        if len(found) > 1 and all(isinstance(f, tuple) for f in found):
            return tuple(s for f in found for s in f)
        return found[0] if found else None

    def _build(self, path: Path, sources: list[Source]) -> Module:
        self.loading.append(path)
        files = []
        for source in sources:
            file, found = parse(source)
            for diagnostic in found:
                self.sink.add(diagnostic)
            files.append(file)
        module = Module(path, files)
        imports = Scope(self._outer(path))
        imports.names = module.imported  # shared: names are entered while the file is read
        module.scope = Scope(imports)
        module.scope.names = module.names
        self.modules[path] = module
        for item in module.items:
            if isinstance(item, tree.Use):
                self._use(module, item)
            else:
                self._declare(module, item)
        self.loading.pop()
        return module

    def _outer(self, path: Path) -> Scope:
        """What a file sees without importing: the prelude, in a folder of the library its other files too.
        What the prelude itself is made of sees the builtins in its place."""
        library = stdlib_folder()
        if library not in path.parents:
            return self.prelude()
        if path.parent == library:
            return self.builtins
        text = (library / "prelude.ndl").read_text(encoding="utf-8")
        below = path.parent.name in USED.findall(text)
        return Scope(self.builtins if below else self.prelude(), self._folder_names(path.parent))

    def _folder_names(self, path: Path) -> dict[str, Any]:
        found = self.load_path(path)
        return dict(found.folder) if found else {}

    def prelude(self) -> Scope:
        """The names of `std.prelude`: nets and solvers that need no import."""
        if self._prelude is None:
            self._prelude = Scope(self.builtins)
            folder = stdlib_folder()
            file = folder / "prelude.ndl"
            if file.exists():
                module = self.load_path(file)
                if module is not None:
                    self._prelude.names.update(module.imported)
                    self._prelude.names.update(module.exports())
        return self._prelude

    def _declare(self, module: Module, item: tree.Stmt) -> None:
        """Enter a declaration under its name; a solver's name may serve several kinds."""
        value: Any = None
        if isinstance(item, tree.Fn):
            value = FnV(item, module)
        elif isinstance(item, tree.Operator):
            value = OperatorV(item, module)
        elif isinstance(item, tree.Model):
            value = ModelV(item, module)
        elif isinstance(item, tree.Solver):
            value = (*module.names.get(item.name, ()), SolverV(item, module))
            if len(value) > 1 and len({s.decl.kind for s in value}) < len(value):
                self._twice(module, item.name, item.name_span)
                return
            module.names[item.name] = value
            module.spans[item.name] = item.name_span
            return
        elif isinstance(item, tree.ModelAlias):
            value = FileV("alias", item, None, module)
        elif isinstance(item, tree.DomainDecl):
            value = FileV("domain", item, None, module)
        elif isinstance(item, (tree.Net, tree.Extern)):
            value = FileV("net" if isinstance(item, tree.Net) else "extern", item, None, module)
        elif isinstance(item, tree.Declare):
            for declared in item.items:
                self.enter(
                    module, declared.name, FileV(item.keyword, item, declared, module), declared.name_span
                )
            return
        elif isinstance(item, (tree.Solve, tree.Train)):
            if item.alias is not None:
                kind = "solve" if isinstance(item, tree.Solve) else "train"
                self.enter(module, item.alias, FileV(kind, item, None, module), item.span)
            return
        else:
            return
        self.enter(module, item.name, value, item.name_span)

    def enter(self, module: Module, name: str, value: Any, span: Span) -> None:
        """Give a name to a value in a module, once."""
        if name in module.spans:
            self._twice(module, name, span)
            return
        module.names[name] = value
        module.spans[name] = span

    def _twice(self, module: Module, name: str, span: Span) -> None:
        first = module.spans.get(name)
        where = f" (first on line {first.line})" if first else ""
        self.sink.error(
            "NDL202", f"`{name}` is declared twice{where}", span, help="give one of them another name"
        )

    # ------------------------------------------------------------ imports

    def _use(self, module: Module, item: tree.Use) -> None:
        self.via[module.path] = item
        target = self._resolve(module, item)
        if target is None:
            return
        if target in self.loading:
            self._cycle(target, item)
            for used in item.names:
                module.imported[used.alias or used.name] = UNKNOWN
            return
        found = self.load_path(target)
        if found is None:
            return
        if item.alias is not None:
            module.imported[item.alias] = ModuleV(found)
        elif not item.names:
            module.imported[item.path.replace("/", ".").split(".")[-1]] = ModuleV(found)
        for used in item.names:
            self._import_name(module, found, used, item)

    def _import_name(self, module: Module, found: Module, used: tree.UseName, item: tree.Use) -> None:
        stem = item.path.split("/")[-1].split(".")[-1]
        if used.name.startswith("_"):
            self.sink.error(
                "NDL206",
                f"`{used.name}` is private to `{stem}`",
                used.span,
                notes=("names that start with `_` are not exported",),
                help=f"use what `{stem}` exports, or rename it there without the `_`",
            )
            module.imported[used.alias or used.name] = UNKNOWN
            return
        exports = {**found.imported, **found.exports()} if found.path.stem == "prelude" else found.exports()
        if used.name not in exports and used.name not in found.spans:
            self.sink.error(
                "NDL205",
                f"`{stem}` has no `{used.name}`",
                used.span,
                help=did_you_mean(used.name, exports)
                or f"it exports {', '.join(sorted(exports)) or 'nothing'}",
            )
            module.imported[used.alias or used.name] = UNKNOWN
            return
        module.imported[used.alias or used.name] = exports.get(used.name)

    def _resolve(self, module: Module, item: tree.Use) -> Path | None:
        """The file or library folder that a path names."""
        tried: list[Path] = []
        if item.path.startswith("."):
            tried.append(module.path.parent / f"{item.path}.ndl")
        else:
            parts = item.path.split(".")
            roots = [stdlib_folder()] if parts[0] == "std" else [module.path.parent, *self.import_paths]
            rest = parts[1:] if parts[0] == "std" else parts
            for root in roots:
                tried.extend([root.joinpath(*rest).with_suffix(".ndl"), root.joinpath(*rest)])
        for path in tried:
            if path.is_file() or (path.is_dir() and any(path.glob("*.ndl"))):
                return path.resolve()
        help = None
        if item.path.startswith("std"):
            known = [f"std.{p.stem}" for p in stdlib_folder().iterdir() if not p.name.startswith("_")]
            help = did_you_mean(item.path, known)
        elif tried:
            known = [f"./{p.stem}" for p in tried[0].parent.glob("*.ndl")]
            help = did_you_mean(item.path, known)
        self.sink.error("NDL203", f"there is no module `{item.path}`", item.path_span, help=help)
        return None

    def _cycle(self, target: Path, item: tree.Use) -> None:
        start = self.loading.index(target)
        ring = [p.name for p in self.loading[start:]] + [target.name]
        self.sink.error(
            "NDL204",
            f"the imports form a cycle: {' → '.join(ring)}",
            self.via.get(target, item).path_span,
            help="move what both need into a third module",
        )
