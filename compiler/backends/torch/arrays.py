"""Constant arrays of a generated class: stored once, as buffers that follow the module's device."""

from __future__ import annotations

import inspect
from typing import Any

from ndl.compiler.backends.torch.layout import broken
from ndl.compiler.ops.families.sources import constant_text
from ndl.compiler.types import Tensor

DTYPES = {"R": "torch.float64", "C": "torch.complex128", "Z": "torch.int64", "Bool": "torch.bool"}


class Made(str):
    """An array that is computed where a class makes it, instead of written out."""


class Arrays:
    """Collects the arrays that a class's methods read, equal ones once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def __call__(self, value: Any, type_: Tensor) -> str:
        key = (value if isinstance(value, Made) else constant_text(value), type_.kind)
        return f"self.{self._names.setdefault(key, f'_array_{len(self._names)}')}"

    def definitions(self) -> list[str]:
        """Lines of `__init__`."""
        return [
            f'self.register_buffer("{name}", {_made(text, kind)}, persistent=False)'
            for (text, kind), name in self._names.items()
        ]


def _made(text: str, kind: str) -> str:
    return text if isinstance(text, Made) else f"torch.tensor({text}, dtype={DTYPES[kind]})"


def local_array(like: str) -> Any:
    """For functions without a module: an array is made where it stands."""

    def array(value: Any, type_: Tensor) -> str:
        if isinstance(value, Made):
            return f"{value}.to({like})"
        return f"ops.array({constant_text(value)}, {like})"

    return array


def class_lines(head: str, doc: list[str], fields: list[str], methods: list[list[str]]) -> list[str]:
    """A class: its docstring, fields and methods, each a list of unindented lines."""
    lines = [head, *(f"    {line}".rstrip() for line in doc)]
    if fields:
        lines += ["", *(f"    {line}" for line in fields)]
    for method in methods:
        lines += ["", *(f"    {part}".rstrip() for line in method for part in broken(line))]
    return lines


def docstring(text: str, more: tuple[str, ...] = ()) -> list[str]:
    """A docstring's lines, with what follows the text set apart and indented."""
    safe = inspect.cleandoc(text).strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    body = safe.splitlines() or [""]
    if body[-1].endswith('"'):
        body[-1] += " "
    extra = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in more]
    if not extra and len(body) == 1:
        return [f'"""{body[0]}"""']
    if not safe and extra:
        return [f'"""{extra[0]}', *extra[1:], '"""'] if len(extra) > 1 else [f'"""{extra[0]}"""']
    return [f'"""{body[0]}', *body[1:], *([""] if extra else []), *(f"    {e}" for e in extra), '"""']


def fields_text(class_: str, name: str, shape: tuple[int, ...], /, **given: Any) -> str:
    """`ParameterInfo("W", (2, 3), lower=0.0)`, leaving out what is None."""
    parts = [literal(name), repr(shape)]
    while parts and parts[-1] == "()":
        parts.pop()
    parts += [f"{k.rstrip(chr(95))}={literal(v)}" for k, v in given.items() if v is not None]
    return f"{class_}({', '.join(parts)})"


def literal(value: Any) -> str:
    """A Python literal, strings in double quotes."""
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return "(" + ", ".join(map(literal, value)) + ("," if len(value) == 1 else "") + ")"
    return constant_text(value)


def tuple_lines(name: str, entries: list[str]) -> list[str]:
    """`NAME = (…)`, on one line if it fits."""
    inside = ", ".join(entries) + ("," if len(entries) == 1 else "")
    if len(name) + len(inside) < 96:
        return [f"{name} = ({inside})"]
    return [f"{name} = (", *(f"    {e}," for e in entries), ")"]
