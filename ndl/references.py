"""References of what a program names: a solver's are in its docstring in the standard library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from ndl.compiler.source import Source, Span
from ndl.compiler.syntax import tree

SETTINGS = ("method", "optimizer")
OPTIMIZERS = {
    "adam": "Kingma, Ba: Adam: a method for stochastic optimization. ICLR 2015, arXiv:1412.6980",
    "adamw": "Loshchilov, Hutter: Decoupled weight decay regularization. ICLR 2019, arXiv:1711.05101",
    "rmsprop": "Tieleman, Hinton: Lecture 6.5, RMSProp. Coursera, 2012",
    "adagrad": "Duchi, Hazan, Singer: Adaptive subgradient methods. JMLR 12 (2011) 2121–2159",
    "lbfgs": "Liu, Nocedal: On the limited memory BFGS method. Mathematical Programming 45 (1989) 503–528",
}


def references(file: tree.File) -> dict[str, str]:
    """Name → reference, in the order of first mention."""
    library = library_solvers()
    found: dict[str, str] = {}
    for name in method_names(file):
        text = library.get(name) or OPTIMIZERS.get(name)
        if text:
            found.setdefault(name, text)
    return found


def library_solvers() -> dict[str, str]:
    """The solvers of the standard library with their docstrings."""
    from ndl.compiler.check.modules import stdlib_folder
    from ndl.compiler.syntax.parser import load_source, parse

    found: dict[str, str] = {}
    for path in sorted((stdlib_folder() / "solvers").glob("*.ndl")):
        parsed, _ = parse(load_source(str(path))[0])
        for item in parsed.items:
            if isinstance(item, tree.Solver) and item.doc:
                found.setdefault(item.name, _dedent(item.doc))
    return found


def method_names(file: tree.File) -> Iterator[str]:
    """Names that stand as, or in, the value of `method` or `optimizer`: `strang(a: rk4)` gives both."""
    for node in walk(file.items):
        for inner in walk(_setting(node)):
            if isinstance(inner, tree.Name):
                yield inner.id


def _setting(node: object) -> tree.Expr | None:
    """The value, when a node sets a method or an optimizer: in a block or as an argument."""
    if isinstance(node, tree.Arg) and node.name in SETTINGS:
        return node.value
    if isinstance(node, tree.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, tree.Name) and target.id in SETTINGS:
            return node.value
    return None


def walk(node: Any) -> Iterator[Any]:
    """Every node at and below one, in the order of the text."""
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, tuple):
            stack.extend(reversed(here))
        elif is_dataclass(here) and not isinstance(here, (Span, Source)):
            yield here
            stack.extend(getattr(here, f.name) for f in reversed(fields(here)))


def _dedent(doc: str) -> str:
    return "\n".join(line.strip() for line in doc.strip().splitlines())
