"""Reading the text form of functions back: the inverse of `text.print_function`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Graph, Node, ParamSpec
from ndl.compiler.types import Dim, Map, Tensor, Tuple, Type

TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<ref>%\d+)|(?P<region>@\d+)
    |(?P<number>[+-]?(?:inf\b|nan\b|\d+(?:\.\d+)?(?:e[+-]?\d+)?))
    |(?P<arrow>->)|(?P<word>[^\W\d]\w*)|(?P<punct>[()\[\]{},:=*/^+-]))""",
    re.VERBOSE,
)

WORDS: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    "inf": float("inf"),
    "nan": float("nan"),
}


def parse_function(text: str) -> Function:
    """The function whose text this is. Raises InternalError with the line that is wrong."""
    lines = [line for line in text.split("\n") if line.strip()]
    function, rest = _function(lines, 0, 0)
    if rest != len(lines):
        raise InternalError(f"text after the function: {lines[rest].strip()}", "NDL904")
    return function


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _function(lines: list[str], start: int, indent: int) -> tuple[Function, int]:
    head = Line(lines[start])
    head.word("function")
    name, doc, per = head.string(), "", ""
    graph = Graph()
    params: list[ParamSpec] = []
    parts: dict[str, Function] = {}
    regions: dict[str, Function] = {}
    inputs: list[Node] = []
    outputs: list[tuple[str, Node]] = []
    at = start + 1
    while at < len(lines) and _depth(lines[at]) > indent:
        line = Line(lines[at])
        at += 1
        kind, token = line.peek()
        if kind == "ref":
            line.node(graph, regions)
        elif token == "doc":
            line.word("doc")
            doc = line.string()
        elif token == "per":
            line.word("per")
            per = line.string()
        elif token == "param":
            params.append(line.param())
        elif token == "part":
            line.word("part")
            key = line.string()
            parts[key], at = _function(lines, at, _depth(lines[at]))
        elif token == "region":
            line.word("region")
            key = line.take("region")
            regions[key], at = _function(lines, at, _depth(lines[at]))
        elif token == "inputs":
            line.word("inputs")
            inputs = [graph[i] for i in line.references()]
        elif token == "return":
            line.word("return")
            key = line.string()
            line.mark("=")
            outputs.append((key, graph[int(line.take("ref")[1:])]))
        else:
            raise line.wrong()
    made = Function(name, graph, tuple(inputs), tuple(outputs), tuple(params), parts, doc, per=per)
    return made, at


@dataclass
class Line:
    """One line, read token by token."""

    text: str
    at: int = 0

    def wrong(self) -> InternalError:
        return InternalError(f"IR text at column {self.at + 1}: {self.text.strip()}", "NDL904")

    def peek(self) -> tuple[str, str]:
        found = TOKEN.match(self.text, self.at)
        if found is None or found.lastgroup is None:
            return "end", ""
        return found.lastgroup, found.group(found.lastgroup)

    def take(self, kind: str) -> str:
        found = TOKEN.match(self.text, self.at)
        if found is None or found.lastgroup != kind:
            raise self.wrong()
        self.at = found.end()
        return found.group(kind)

    def word(self, expected: str) -> None:
        if self.take("word") != expected:
            raise self.wrong()

    def mark(self, expected: str) -> None:
        if self.take("arrow" if expected == "->" else "punct") != expected:
            raise self.wrong()

    def next_is(self, text: str) -> bool:
        """Step over a token if it is this one."""
        if self.peek()[1] != text or self.peek()[0] == "string":
            return False
        self.take(self.peek()[0])
        return True

    def string(self) -> str:
        found: str = json.loads(self.take("string"))
        return found

    def references(self) -> list[int]:
        found = [int(self.take("ref")[1:])]
        while self.next_is(","):
            found.append(int(self.take("ref")[1:]))
        return found

    def node(self, graph: Graph, regions: dict[str, Function]) -> None:
        id_ = int(self.take("ref")[1:])
        hint = self.string() if self.peek()[0] == "string" else ""
        self.mark("=")
        op = self.take("word")
        self.mark("(")
        operands: list[Node] = []
        attrs: dict[str, Any] = {}
        while not self.next_is(")"):
            if self.peek()[0] == "ref":
                operands.append(graph[int(self.take("ref")[1:])])
            else:
                name = self.take("word")
                self.mark("=")
                attrs[name] = self.value(regions)
            self.next_is(",")
        self.mark(":")
        if id_ != len(graph):
            raise self.wrong()
        graph.add(op, operands, type=self.type(), hint=hint, **attrs)

    def param(self) -> ParamSpec:
        self.word("param")
        name = self.string()
        self.mark(":")
        type_ = self.type()
        if not isinstance(type_, Tensor):
            raise self.wrong()
        found: dict[str, Any] = {}
        while self.peek()[0] == "word":
            key = self.take("word")
            self.mark("=")
            found[key] = self.value({})
        return ParamSpec(
            name,
            type_,
            found.get("init"),
            found.get("law"),
            found.get("lower"),
            found.get("upper"),
            not found.get("fixed", False),
            waves=found.get("waves", ()),
        )

    def value(self, regions: dict[str, Function]) -> Any:
        kind, token = self.peek()
        if kind == "string":
            return self.string()
        if kind == "region":
            return regions[self.take("region")]
        if kind == "number":
            return self.number()
        if token == "(":
            return self.entries(regions)
        word = self.take("word")
        if word in WORDS:
            return {"none": None, "true": True, "false": False, "inf": float("inf"), "nan": float("nan")}[
                word
            ]
        self.mark("(")
        if word == "dim":
            dim = self.dim()
            self.mark(")")
            return dim
        real = self.value(regions)
        self.mark(",")
        imaginary = self.value(regions)
        self.mark(")")
        return complex(real, imaginary)

    def number(self) -> int | float:
        text = self.take("number")
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)

    def entries(self, regions: dict[str, Function]) -> Any:
        self.mark("(")
        found = []
        while not self.next_is(")"):
            found.append(self.value(regions))
            self.next_is(",")
        return tuple(found)

    def dim(self) -> Dim:
        total = Dim()
        while True:
            term = Dim.of(int(self.take("number")))
            while self.next_is("*"):
                name = Dim.of(self.string())
                for _ in range(int(self.take("number")) if self.next_is("^") else 1):
                    term = term * name
            total = total + term
            if not self.next_is("+"):
                return total

    def type(self) -> Type:
        if self.next_is("("):
            return Tuple(tuple(self._types(")")))
        kind = self.take("word")
        if kind == "map":
            self.mark("(")
            params = [] if self.peek()[1] == "->" else [self.type()]
            while self.next_is(","):
                params.append(self.type())
            self.mark("->")
            result = self.type()
            self.mark(")")
            return Map(tuple(params), result)
        shape: list[Dim] = []
        if self.next_is("["):
            shape.append(self.dim())
            while self.next_is(","):
                shape.append(self.dim())
            self.mark("]")
        unit = self._unit() if self.next_is("{") else None
        on = None
        if self.peek() == ("word", "on"):
            self.word("on")
            on = self.string()
        return Tensor(kind, tuple(shape), on, unit)

    def _types(self, end: str) -> list[Type]:
        found: list[Type] = []
        while not self.next_is(end):
            found.append(self.type())
            self.next_is(",")
        return found

    def _unit(self) -> tuple[tuple[str, Fraction], ...]:
        """A unit up to its closing brace; a power may be a fraction."""
        end = self.text.index("}", self.at)
        factors: dict[str, Fraction] = {}
        pattern = r"([*/]?)([^\W\d]\w*|1)(?:\^(-?\d+(?:/\d+)?(?![\w]))?)?"
        for sign, name, power in re.findall(pattern, self.text[self.at : end]):
            if name != "1":
                factors[name] = Fraction(power or 1) * (-1 if sign == "/" else 1)
        self.at = end + 1
        return tuple(sorted(factors.items()))
