"""A whole generated module: operator classes, model classes, solvers, functions; and running it."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType

from ndl.compiler.backends.torch.arrays import docstring
from ndl.compiler.backends.torch.models import ModelPrinter
from ndl.compiler.backends.torch.operators import Classes
from ndl.compiler.backends.torch.solvers import solver_lines
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import ModelIR, SolverIR

HEAD = """\
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ndl.runtime import ops
from ndl.runtime.info import (
    DelayInfo,
    DerivedInfo,
    DrawInfo,
    EventInfo,
    FourierInfo,
    GridInfo,
    InputInfo,
    IntegralInfo,
    NoiseInfo,
    ObserveInfo,
    ParameterInfo,
    RequireInfo,
    State,
    TermInfo,
)
from ndl.runtime.methods import StepSolver, Tableau
from ndl.runtime.model import Model, Part
from ndl.runtime.banks import Bank
from ndl.runtime.formula_net import FormulaNet
from ndl.runtime.weights import Constrained, Extern

Value = Any
"""


More = Callable[[Mapping[str, str], Mapping[int, str], Classes], Sequence[Sequence[str]]]
"""Chunks of lines that follow a module's classes, from the names of models (by theirs) and of solvers (by
identity), and from the module's name space."""


def print_module(
    models: Sequence[ModelIR],
    solvers: Sequence[SolverIR] = (),
    operators: Sequence[Function] = (),
    file: str = "",
    doc: str = "",
    more: More | None = None,
    head: str = HEAD,
) -> str:
    """The Python source of a module. The same input gives the same text, byte for byte. `head` holds
    the imports that there may be."""
    classes = Classes()
    reserved = {m.name: classes.reserve(m.name) for m in models}
    variants = count_variants([*operators, *(p for m in models for p in m.parts.values())])
    for function in operators:
        classes.of(function, variants)
    chunks: list[list[str]] = []
    for m in models:
        printer = ModelPrinter(m, classes, variants, file)
        chunks.append(printer.finish(printer.lines(reserved[m.name])))
    called = {id(s): classes.reserve(s.name) for s in solvers}
    solver_chunks = [solver_lines(s, called[id(s)]) for s in solvers]
    extra = [list(lines) for lines in more(reserved, called, classes)] if more is not None else []
    title = doc or (f"Compiled by ndl from {file}." if file else "Compiled by ndl.")
    written = [*classes.lines, *chunks, *solver_chunks, *extra]
    parts = ["\n".join(docstring(title)) + "\n", used_head(written, head)]
    for chunk in written:
        parts.append("\n\n" + "\n".join(chunk) + "\n")
    return "\n".join(parts[:2]) + "".join(parts[2:])


def print_method(model: ModelIR, name: str, function: Function) -> str:
    """A function of (t, states) as a module with one method of the model, made after its class."""
    chunk = ModelPrinter(model, Classes(), {}, "").method(name, function)
    doc = "\n".join(docstring(f"Of `{model.name}`, compiled by ndl."))
    return f"{doc}\n\n{used_head([chunk])}\n\n" + "\n".join(chunk) + "\n"


def count_variants(functions: Iterable[Function]) -> dict[str, int]:
    """How many distinct functions bear each name, parts of parts included."""
    from ndl.compiler.ir.text import print_function

    found: dict[str, set[str]] = {}

    def walk(function: Function) -> None:
        found.setdefault(function.name, set()).add(print_function(function))
        for part in function.parts.values():
            walk(part)

    for function in functions:
        walk(function)
    return {name: len(contents) for name, contents in found.items()}


def used_head(chunks: Sequence[Sequence[str]], head: str = HEAD) -> str:
    """The imports that the classes need, no others."""
    import re

    words = set(re.findall(r"\w+", "\n".join("\n".join(c) for c in chunks)))
    lines: list[str] = []
    block: list[str] = []
    for line in head.splitlines():
        if block or line.endswith("("):
            block.append(line)
            if line == ")":
                names = [n.strip(" ,") for n in block[1:-1] if n.strip(" ,") in words]
                lines += import_lines(block[0].removesuffix(" ("), names)
                block = []
            continue
        lines += kept_import(line, words)
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


def kept_import(line: str, words: set[str]) -> list[str]:
    """An import with the names that are used; other lines as they are."""
    if line.startswith("from __future__"):
        return [line]
    if line == "Value = Any":
        return [line] if "Value" in words else []
    if line.startswith("from "):
        source, _, names = line.partition(" import ")
        used = [n for n in names.split(", ") if n in words or (n == "Any" and "Value" in words)]
        return [f"{source} import {', '.join(used)}"] if used else []
    if line.startswith("import "):
        return [line] if line.split()[-1] in words else []
    return [line]


def import_lines(source: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    short = f"{source} {', '.join(names)}"
    return [short] if len(short) <= 105 else [f"{source} (", *(f"    {n}," for n in names), ")"]


def compile_source(text: str, name: str) -> ModuleType:
    """Run a generated module's text and return the module; tracebacks show its lines."""
    path = f"<ndl {name}>"
    module = ModuleType(name)
    module.__file__ = path
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.modules[name] = module
    exec(compile(text, path, "exec"), module.__dict__)
    return module
