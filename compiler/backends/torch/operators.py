"""A class for each operator: its weights, its parts, and `forward`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ndl.compiler.backends.torch.arrays import (
    Arrays,
    class_lines,
    docstring,
    fields_text,
    literal,
    tuple_lines,
)
from ndl.compiler.backends.torch.body import Body, Scope
from ndl.compiler.backends.torch.names import GLOBALS, Names, attributes, class_name
from ndl.compiler.ir.graph import EXTERN, FORMULA, Function, ParamSpec
from ndl.compiler.ir.model import DrawSpec
from ndl.compiler.ir.splice import part_of
from ndl.compiler.ops.families.sources import constant_text
from ndl.compiler.passes.dce import eliminate_dead_code
from ndl.compiler.passes.fold import fold
from ndl.compiler.types import Tensor


@dataclass
class Members:
    """The attributes of a class: weights and parts by their users' names."""

    params: Mapping[str, str]
    parts: Mapping[str, str]
    nested: Mapping[str, Members]

    def text(self, name: str) -> str:
        """`self.f.W` for the dotted name of a weight or part."""
        return "self." + self.path(name)

    def path(self, name: str) -> str:
        if name in self.params:
            return self.params[name]
        if name in self.parts:
            return self.parts[name]
        for part in sorted(self.parts, key=len, reverse=True):
            if name.startswith(part + "."):
                return f"{self.parts[part]}.{self.nested[part].path(name[len(part) + 1 :])}"
        raise KeyError(name)


def constrained(p: ParamSpec) -> bool:
    return p.trainable and (p.lower is not None or p.upper is not None)


def members(
    params: Sequence[ParamSpec], parts: Mapping[str, Function], names: Names | None = None
) -> Members:
    """Attribute names in the order of the declarations."""
    scope = names or attributes()
    weights = {p.name: scope.claim(p.name, ("raw_", "unit_") if constrained(p) else ()) for p in params}
    modules = {name: scope[name] for name in parts}
    return Members(weights, modules, {n: members(f.params, f.parts) for n, f in parts.items()})


def parameter_fields(params: Sequence[ParamSpec], found: Members) -> list[str]:
    """`PARAMETERS = (…)`."""
    entries = [
        fields_text(
            "ParameterInfo",
            p.name,
            p.type.extents,
            lower=None if p.lower is None else float(p.lower),
            upper=None if p.upper is None else float(p.upper),
            trainable=None if p.trainable else False,
            kind=None if p.type.kind == "R" else p.type.kind,
            law=None
            if p.law is None
            else (p.law[0], tuple(float(a) if isinstance(a, int) else a for a in p.law[1])),
            attribute=None if found.params[p.name] == p.name else found.params[p.name],
            waves=p.waves or None,
        )
        for p in params
    ]
    return tuple_lines("PARAMETERS", entries) if entries else []


def net_fields(found: Members) -> list[str]:
    """`NETS = {…}`: the attributes of nets that are not called as the user calls them."""
    other = {name: attribute for name, attribute in found.parts.items() if name != attribute}
    return [f"NETS = {literal(other)}"] if other else []


def constraint_fields(params: Sequence[ParamSpec], found: Members) -> list[str]:
    """A reader for each constrained weight, of the value of its free image."""
    lines = []
    for p in params:
        if constrained(p):
            bounds = [f"lower={float(p.lower)!r}"] if p.lower is not None else []
            bounds += [f"upper={float(p.upper)!r}"] if p.upper is not None else []
            name = found.params[p.name]
            lines.append(f'{name} = Constrained("{name}", {", ".join(bounds)})')
    return lines


def initial_text(p: ParamSpec) -> str:
    """What a weight starts at: a literal, or None when it is drawn."""
    return "None" if p.init is None else constant_text(p.init)


class Classes:
    """The operator classes of one module: a class for each distinct function, named by shape."""

    def __init__(self) -> None:
        self._names = Names(GLOBALS)
        self._by_content: dict[str, str] = {}
        self.lines: list[list[str]] = []

    def reserve(self, name: str) -> str:
        return self._names.fresh(class_name(name))

    def of(self, function: Function, variants: Mapping[str, int]) -> str:
        """The class of a function, printed at its first use. `variants` counts the specialisations of
        each name; one of several carries its shapes in its name."""
        from ndl.compiler.ir.text import print_function

        content = print_function(function)
        if content not in self._by_content:
            for part in function.parts.values():
                if part.doc not in (EXTERN, FORMULA):
                    self.of(part, variants)
            base = class_name(function.name)
            if variants.get(function.name, 1) > 1:
                base += "".join(f"_{n}" for n in signature(function))
            name = self._names.fresh(base)
            self._by_content[content] = name
            self.lines.append(self._print(function, name, variants))
        return self._by_content[content]

    def _print(self, function: Function, name: str, variants: Mapping[str, int]) -> list[str]:
        found = members(function.params, function.parts)
        arrays = Arrays()
        forward = forward_method(function, found, arrays)
        setup = ['def __init__(self, *, seed: int = 0, path: str = "") -> None:']
        setup.append("    super().__init__(seed=seed, path=path)")
        for p in function.params:
            value = "" if p.init is None else f", {constant_text(p.init)}"
            setup.append(f"    self.define({literal(p.name)}{value})")
        setup += part_lines(function.parts, found, self, variants, "self.place({0})")
        setup += [f"    {line}" for line in arrays.definitions()]
        methods = [setup] if len(setup) > 2 else []
        methods.append(forward)
        doc = docstring(function.doc or f"`{function.name}` of the model file.")
        fields = [
            *parameter_fields(function.params, found),
            *net_fields(found),
            *(tuple_lines("DRAWS", draw_entries(function.draws)) if function.draws else []),
            *constraint_fields(function.params, found),
            *kinds_field(function),
        ]
        return class_lines(f"class {name}(Part):", doc, fields, methods)


def kinds_field(function: Function) -> list[str]:
    """`KINDS = (…)`, where not all data are real."""
    kinds = tuple(node.type.kind for node in function.inputs if isinstance(node.type, Tensor))
    return [] if all(k == "R" for k in kinds) else [f"KINDS = {literal(kinds)}"]


def draw_entries(draws: Sequence[DrawSpec]) -> list[str]:
    """`DRAWS = (…)`."""
    return [
        fields_text(
            "DrawInfo",
            d.name,
            d.type.extents,
            law=d.law,
            arguments=d.arguments,
            per=d.per,
            event=d.event,
            stream=d.stream or None,
        )
        for d in draws
    ]


def part_lines(
    parts: Mapping[str, Function],
    found: Members,
    classes: Classes,
    variants: Mapping[str, int],
    place: str,
) -> list[str]:
    """Construction of parts; equal parts share a class and have weights of their own."""
    lines = []
    for name, part in parts.items():
        if part.doc == EXTERN:
            made = f"Extern({literal(name)})"
        elif part.doc == FORMULA:
            made = f"FormulaNet({literal(name)}, {formula_shape(part)})"
        else:
            where = f"seed=seed, path={place.format(literal(name))}"
            of = classes.of(part, variants)
            made = f"Bank({of}, {where}, per={literal(part.per)})" if part.per else f"{of}({where})"
        lines.append(f"    self.{found.parts[name]} = {made}")
    return lines


def formula_shape(part: Function) -> str:
    """Of how many numbers a formula is, and how many it gives; None: a number."""
    result = part.outputs[0][1].type
    assert isinstance(result, Tensor)
    return f"{len(part.inputs)}, {result.extents[0] if result.rank else None}"


def signature(function: Function) -> list[int]:
    """The extents of a function's inputs and outputs, for the name of a specialisation."""
    nodes = [*function.inputs, *(n for _, n in function.outputs)]
    return [n for node in nodes if isinstance(node.type, Tensor) for n in node.type.extents]


def tidy(function: Function) -> Function:
    """What is printed: constants folded, equal values shared, dead code gone."""
    return eliminate_dead_code(fold(function))


def forward_method(function: Function, found: Members, arrays: Arrays) -> list[str]:
    function = tidy(function)
    scope = Scope(
        found.text, arrays, lambda name: len(part_of(function, name).results), {}, lambda name: name
    )
    body = Body(function, scope)
    arguments = [body.names[n.attr("name")] for n in function.inputs]
    scope.read = {n.attr("name"): a for n, a in zip(function.inputs, arguments)}
    results = [body.full(n) for _, n in function.results]
    remembered = [f"self.remember({literal(name)}, {body.full(n)})" for name, n in function.memory]
    given = len(arguments) - len(function.draws)
    drawn = arguments[given:]
    head = ", ".join(
        ["self", *(f"{a}: Tensor" for a in arguments[:given]), *(f"{a}: Tensor | None = None" for a in drawn)]
    )
    first = function.inputs[0].type if function.inputs else None
    rank = first.rank if isinstance(first, Tensor) else 0
    prologue = [
        f"{a} = self.drawn({literal(d.name)}, {arguments[0]}, {rank}, {a})"
        for a, d in zip(drawn, function.draws)
    ]
    kind = "Tensor" if len(results) == 1 else f"tuple[{', '.join(['Tensor'] * len(results))}]"
    return [
        f"def forward({head}) -> {kind}:",
        *(f"    {line}" for line in [*prologue, *body.lines, *remembered]),
        f"    return {', '.join(results)}",
    ]
