"""Solvers: a tableau is data, a step is a class."""

from __future__ import annotations

from collections.abc import Mapping

from ndl.compiler.backends.torch.arrays import class_lines, docstring, literal, local_array
from ndl.compiler.backends.torch.body import Body, Scope
from ndl.compiler.backends.torch.names import LOCALS, Names
from ndl.compiler.backends.torch.operators import tidy
from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.model import SolverIR
from ndl.compiler.ops.families.sources import constant_text

VECTORS = ("x", "y", "u")
"""What a step may call its unknown."""


def solver_lines(solver: SolverIR, name: str) -> list[str]:
    """The definition of a solver in a generated module."""
    return tableau_lines(solver, name) if solver.c else step_lines(solver, name)


def decimal(value: object) -> str:
    """A coefficient as the nearest float."""
    return repr(float(value))  # type: ignore[arg-type]


def row(values: tuple[object, ...]) -> str:
    inside = ", ".join(decimal(v) for v in values)
    return f"({inside}{',' if len(values) == 1 else ''})"


def tableau_lines(solver: SolverIR, name: str) -> list[str]:
    dense = solver.dense
    lines = [
        f"{name} = Tableau(",
        f"    {literal(solver.name)},",
        f"    order={decimal(solver.order)},",
        f"    embedded={'None' if solver.embedded is None else decimal(solver.embedded)},",
        f"    c={row(solver.c)},",
        "    A=(",
        *(f"        {row(a)}," for a in solver.a),
        "    ),",
        f"    b={row(solver.b)},",
        f"    b_hat={'None' if solver.b_hat is None else row(solver.b_hat)},",
    ]
    if dense is not None:
        lines += ["    dense=(", *(f"        {row(d)}," for d in dense), "    ),"]
    return [*lines, ")"]


def step_lines(solver: SolverIR, name: str) -> list[str]:
    """A class that extends `ndl.runtime.methods.StepSolver`."""
    if solver.step is None:
        raise InternalError(f"solver `{solver.name}` has neither a tableau nor a step", "NDL903")
    fields = [
        f"NAME = {literal(solver.name)}",
        f"KIND = {literal(solver.kind)}",
        f"ORDER = {decimal(solver.order)}",
    ]
    if solver.embedded is not None:
        fields.append(f"EMBEDDED = {decimal(solver.embedded)}")
    if solver.options:
        entries = ", ".join(f"{literal(k)}: {option(v)}" for k, v in solver.options.items())
        fields.append(f"OPTIONS = {{{entries}}}")
    if solver.data:
        fields.append(f"DATA = {literal(solver.data)}")
    fields.append(f"ARGUMENTS = {literal(solver.arguments)}")
    if solver.kind == "sde":
        fields += [f"CALCULUS = {literal(solver.calculus)}", f"NOISE = {literal(solver.noise)}"]
    carried = [n.removeprefix("state:") for n, _ in solver.step.outputs if n.startswith("state:")]
    previous = earlier_values(solver)
    if previous:
        entries = ", ".join(f"{literal(k)}: {v}" for k, v in previous.items())
        fields.append(f"PREVIOUS = {{{entries}}}")
    started = [n for n in carried if n in solver.states]
    methods = [method_lines(solver, f"start_{n}", solver.states[n], False) for n in started]
    methods.append(method_lines(solver, "step", solver.step, True))
    if solver.size is not None:
        methods.append(method_lines(solver, "size", solver.size, False))
    if solver.stiffness is not None:
        methods.append(method_lines(solver, "stiffness", solver.stiffness, False))
    if solver.merit is not None:
        methods.append(method_lines(solver, "merit", solver.merit, False))
    if solver.until is not None:
        methods.append(method_lines(solver, "until", solver.until, False))
    if carried:
        # after the methods that it refers to
        starts = ", ".join(f"{literal(n)}: {f'start_{n}' if n in started else 'None'}" for n in carried)
        methods.append([f"STATES = {{{starts}}}"])
    doc = docstring(solver.doc or f"Solver `{solver.name}`.")
    return class_lines(f"class {name}(StepSolver):", doc, fields, methods)


def option(value: object) -> str:
    """An option's default; words and calls are kept as text."""
    if isinstance(value, bool | int | float | complex | tuple) or value is None:
        return constant_text(value)
    name, arguments = getattr(value, "name", None), getattr(value, "args", ())
    if name is None:
        return literal(str(value))
    return literal(f"{name}({', '.join(map(str, arguments))})" if arguments else str(name))


def earlier_values(solver: SolverIR) -> dict[str, int]:
    """The largest k of `prev(name, k)` for each name."""
    found: dict[str, int] = {}
    for function in (solver.step, solver.until):
        for node in function.graph if function is not None else ():
            if node.op == "input" and str(node.attr("name")).startswith("prev:"):
                _, name, k = node.attr("name").split(":")
                found[name] = max(found.get(name, 0), int(k))
    return dict(sorted(found.items()))


def others_called(function: Function, known: Mapping[str, str]) -> list[str]:
    """The callables of a step that are none of its arguments: what a solver is given, the Laplacian."""
    nodes = function.graph.needed([n for _, n in function.outputs])
    called = dict.fromkeys(n.attr("callee") for n in nodes)
    return [str(name) for name in called if name is not None and name not in known]


def method_lines(solver: SolverIR, name: str, function: Function, step: bool) -> list[str]:
    """A method whose arguments are those of the step; carried states and earlier values by name."""
    function = tidy(function)
    names = Names([*LOCALS, "extras", "prev"])
    fixed = list(solver.arguments)
    read = {a: names[a] for a in fixed}
    vector = next((read[a] for a in VECTORS if a in read), names["x"])
    lines: list[str] = []
    for node in function.graph.needed([n for _, n in function.outputs]):
        if node.op != "input" or node.attr("name") in read:
            continue
        key = str(node.attr("name"))
        if key.startswith("state:"):
            read[key] = names[key.removeprefix("state:")]
            lines.append(f"{read[key]} = extras[{literal(key.removeprefix('state:'))}]")
        elif key.startswith("prev:"):
            _, of, k = key.split(":")
            read[key] = names[f"{of}_before_{k}"]
            lines.append(f'{read[key]} = extras["prev"][{literal(of)}][{int(k) - 1}]')
        elif key.startswith("data:"):
            of = key.removeprefix("data:")
            read[key] = names[of]
            lines.append(f"{read[key]} = ops.array(self.data[{literal(of)}], {vector})")
        elif key in solver.options:
            read[key] = names[key]
            lines.append(f"{read[key]} = ops.array(self.options[{literal(key)}], {vector})")
        else:
            read[key] = names[key]
            lines.append(f"{read[key]} = extras[{literal(key)}]")
    for callee in others_called(function, read):
        read[callee] = names[callee]
        place = "self.data" if callee in solver.data else "extras"
        lines.append(f"{read[callee]} = {place}[{literal(callee)}]")
    scope = Scope(
        lambda n: f"self.{n}",
        local_array(vector),
        lambda n: 1,
        read,
        lambda n: f"extras[{literal(n)}]",
        {"n": f"{vector}.shape[-1]", "m": f"{read.get('dW', vector)}.shape[-1]"},
    )
    body = Body(function, scope, names)
    body.lines = lines
    values = {n: body.full(node) for n, node in function.outputs}
    arguments = ", ".join(["self", *(f"{read[a]}: Any" for a in fixed), "**extras: Any"])
    if not step:
        (result,) = values.values()
        return [
            f"def {name}({arguments}) -> Tensor:",
            *(f"    {x}" for x in body.lines),
            f"    return {result}",
        ]
    carried = {n.removeprefix("state:"): v for n, v in values.items() if n.startswith("state:")}
    entries = ", ".join(f"{literal(n)}: {v}" for n, v in carried.items())
    result = f"{values['x']}, {values.get('error', 'None')}, {{{entries}}}"
    return [
        f"def {name}({arguments}) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:",
        *(f"    {line}" for line in body.lines),
        f"    return {result}",
    ]
