"""A class for each model: static description, construction, and a method for each thing a solver asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ndl.compiler.backends.torch.arrays import (
    Arrays,
    class_lines,
    docstring,
    fields_text,
    literal,
    local_array,
    tuple_lines,
)
from ndl.compiler.backends.torch.body import Body, Scope
from ndl.compiler.backends.torch.layout import broken
from ndl.compiler.backends.torch.names import LOCALS, Names, attributes
from ndl.compiler.backends.torch.operators import (
    Classes,
    constraint_fields,
    draw_entries,
    initial_text,
    members,
    net_fields,
    parameter_fields,
    part_lines,
    tidy,
)
from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Graph, Node
from ndl.compiler.ir.grid import Grid
from ndl.compiler.ir.model import FourierSpec, ModelIR, ObserveSpec, StateSpec
from ndl.compiler.ops.text import ATOM, at, call, items
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

STATE = "state"
"""The flat state as an argument, `x` elsewhere: a model may have a state of that name."""


class ModelPrinter:
    """Prints one model; `classes` prints and names the operators that it uses."""

    def __init__(self, model: ModelIR, classes: Classes, variants: Mapping[str, int], file: str) -> None:
        self.model, self.classes, self.variants, self.file = model, classes, variants, file
        self.arrays: Any = Arrays()
        self.scope_names = attributes()
        # constructor arguments come first, so that parameters and states keep their names
        self.members = members(model.params, model.parts, self.scope_names)
        self.states = {
            s.name: self.scope_names.claim(s.name, ("initial_", "raw_initial_", "unit_initial_"))
            for s in model.states
        }
        self.initial_graph = tidy(model.initial)
        self.initial = dict(self.initial_graph.outputs)

    # ------------------------------------------------------------ the class

    def lines(self, name: str) -> list[str]:
        model = self.model
        methods: list[list[str]] = [*self._initial_values()]
        if model.drift is not None:
            methods.append(self._packed("vector_field", model.drift, model.states))
            methods += self._jacobian()
            methods += [self._single(f"series_{order}", f) for order, f in model.series.items()]
        if model.diffusion is not None:
            methods.append(self._diffusion(model.diffusion))
        if model.correction is not None:
            methods.append(self._packed("correction", model.correction, model.states))
        for key, function in model.terms.items():
            methods.append(self._packed(self._method("term", key), function, model.states))
        for key, function in model.derived.items():
            methods.append(self._single(self._method("derived", key), function))
        for o in model.observes:
            for k, argument in enumerate(o.arguments):
                methods.append(self._single(self._method("observe", f"{o.name}_{k}"), argument))
        methods += [self._symbol(f) for f in model.fourier]
        if model.pace is not None:
            methods.append(self._single("transport_pace", model.pace))
        if model.energy is not None:
            methods.append(self._single("energy", model.energy))
        if model.measure is not None:
            methods.append(self._single("measure", model.measure))
        if model.laplacian is not None:
            methods.append(self._packed("laplacian", model.laplacian, model.states))
        methods += self._events()
        for k, require in enumerate(model.requires):
            methods.append(self._single(f"require_{k}", require.condition))
        if model.breaks is not None:
            methods.append(self._listed("breaks", model.breaks))
        if model.lags is not None and model.lags.outputs:
            methods.append(self._listed("lags", model.lags))
        methods += self._integrals()
        doc = docstring(model.doc or f"Model `{model.name}`.", model.equations)
        return class_lines(f"class {name}(Model):", doc, self._fields(), [self._setup(), *methods])

    def method(self, name: str, function: Function) -> list[str]:
        """A single method, whose constant arrays are made where they stand."""
        self.arrays = local_array(STATE)
        lines = self._single(name, function)
        lines[0] = lines[0].replace("(self,", "(self: Any,")
        return [part for line in lines for part in broken(line)]

    def _method(self, kind: str, name: str) -> str:
        return self.scope_names[f"{kind}_{name}"]

    def _fields(self) -> list[str]:
        """The static description that `ndl.runtime.model.Model` documents."""
        model = self.model
        fields = [f"NAME = {literal(model.name)}"]
        if self.file:
            fields.append(f"FILE = {literal(self.file)}")
        if model.equations:
            fields += tuple_lines("EQUATIONS", [literal(e) for e in model.equations])
        fields += tuple_lines("STATES", self._state_entries())
        fields += [*parameter_fields(model.params, self.members), *net_fields(self.members)]
        groups: dict[str, list[str]] = {
            "INPUTS": [
                fields_text("InputInfo", i.name, i.type.extents, on_time=i.on_time or None)
                for i in model.inputs
            ],
            "NOISES": [
                fields_text("NoiseInfo", n.name, (), size=n.size, shape_=n.shape or None, law=n.law)
                for n in model.noises
            ],
            "DRAWS": draw_entries(model.draws),
            "DELAYS": self._delay_entries(),
            "DERIVED": [self._derived_entry(name, f) for name, f in model.derived.items()],
            "TERMS": [self._term_entry(name) for name in model.terms],
            "EVENTS": [
                fields_text(
                    "EventInfo",
                    e.kind,
                    (),
                    text=e.text,
                    resets=e.resets or None,
                    column=e.column,
                    stop=e.stop or None,
                    why=e.why,
                    line=line_of(e.span),
                )
                for e in model.events
            ],
            "REQUIRES": [
                fields_text("RequireInfo", r.text, (), why=r.why, line=line_of(r.span))
                for r in model.requires
            ],
            "INTEGRALS": [f"IntegralInfo(volterra={i.upper is None})" for i in model.integrals],
            "OBSERVES": [
                fields_text("ObserveInfo", o.name, o.type.extents, law=o.law, methods=self._observed(o))
                for o in model.observes
            ],
            "OUTPUTS": [literal(o) for o in model.outputs],
            "GRIDS": [grid_entry(g) for g in model.grids],
            "FOURIER": [
                fields_text(
                    "FourierInfo",
                    f.term,
                    (),
                    state=f.state,
                    axes=f.axes,
                    method=self._symbol_name(f),
                    whole=f.whole or None,
                )
                for f in model.fourier
            ],
        }
        for key, entries in groups.items():
            if entries:
                fields += tuple_lines(key, entries)
        if model.breaks is not None:
            fields.append(f"BREAKS = {sum(size_of(n) for _, n in model.breaks.outputs)}")
        if model.pace is not None:
            fields.append("PACED = True")
        if model.noise_kind != "none":
            fields.append(f"NOISE_KIND = {literal(self._noise_kind())}")
        if model.sparsity is not None:
            fields.append(f"JACOBIAN_SPARSITY = {literal(tuple(sorted(model.sparsity)))}")
        if model.calculus != "ito":
            fields.append(f"CALCULUS = {literal(model.calculus)}")
        fields += constraint_fields(model.params, self.members)
        return fields

    def _state_entries(self) -> list[str]:
        entries, offset = [], 0
        for s in self.model.states:
            attribute = self.states[s.name]
            entries.append(
                fields_text(
                    "State",
                    s.name,
                    s.type.extents,
                    offset=offset or None,
                    algebraic=s.algebraic or None,
                    lower=None if s.lower is None else float(s.lower),
                    upper=None if s.upper is None else float(s.upper),
                    attribute=None if attribute == s.name else attribute,
                    line=line_of(s.span),
                    source=s.source,
                    by_step=s.by_step or None,
                    complex=s.complex or None,
                )
            )
            offset += s.size
        return entries

    def _derived_entry(self, name: str, function: Function) -> str:
        node = function.outputs[0][1]
        type_ = node.type if isinstance(node.type, Tensor) else Tensor()
        return fields_text(
            "DerivedInfo",
            name,
            type_.extents,
            kind=None if type_.kind == "R" else type_.kind,
            method=self._method("derived", name),
            noises=self._noises_read(function) or None,
        )

    def _observed(self, o: ObserveSpec) -> tuple[str, ...]:
        return tuple(self._method("observe", f"{o.name}_{k}") for k in range(len(o.arguments)))

    def _noises_read(self, function: Function) -> tuple[str, ...]:
        known = {n.name for n in self.model.noises}
        names = {n.attr("name") for n in function.graph if n.op == "input"}
        return tuple(n.name for n in self.model.noises if n.name in names & known)

    def _setup(self) -> list[str]:
        """`__init__`: values by keyword, weights, initial values, parts, constant arrays."""
        model = self.model
        arguments = [f"{self.members.params[p.name]}: Value = {initial_text(p)}" for p in model.params]
        starts = []
        for s in (s for s in model.states if s.source is None):
            node = self.initial.get(s.name)
            fixed = node is not None and self._fixed(s, node)
            arguments.append(f"{self.states[s.name]}: Value = {fixed or 'None'}")
            starts.append(f"{literal(s.name)}: {self.states[s.name]}")
        arguments.append("seed: int = 0")
        body = ["super().__init__(seed=seed)"]
        body += [f"self.define({literal(p.name)}, {self.members.params[p.name]})" for p in model.params]
        if starts:
            body.append(f"self.start({{{', '.join(starts)}}})")
        body += [
            line.strip() for line in part_lines(model.parts, self.members, self.classes, self.variants, "{0}")
        ]
        head = ["def __init__(", "    self,", "    *,", *(f"    {a}," for a in arguments), ") -> None:"]
        # the arrays are known once every method is printed, so they are added by `finish`
        return [*head, *(f"    {line}" for line in body), ARRAYS]

    def _term_entry(self, name: str) -> str:
        """With the nets that the term reads where some have weights for each visit."""
        by_use = [n for n, part in self.model.parts.items() if part.counted]
        nets = tuple(self.members.parts[n] for n in by_use if reads(self.model.terms[name], n))
        return fields_text("TermInfo", name, (), method=self._method("term", name), nets=nets or None)

    # ------------------------------------------------------------ methods

    def _scope(self, read: Mapping[str, str], taken: Sequence[str]) -> Scope:
        from ndl.compiler.ir.splice import part_of

        whole = Function(self.model.name, Graph(), (), (), params=self.model.params, parts=self.model.parts)
        return Scope(
            self.members.text,
            self.arrays,
            lambda name: len(part_of(whole, name).results),
            read,
            lambda name: f"self.input({literal(name)})",
            taken=taken,
        )

    def _body(
        self, function: Function, arguments: Sequence[str], flat: Sequence[tuple[str, str]] = ((STATE, ""),)
    ) -> tuple[Body, Function]:
        """A body whose inputs are read from arguments: `t`, noises, and states unpacked from the flat
        ones in `flat`, given with a prefix of their names."""
        function = tidy(function)
        names = Names([*LOCALS, *arguments])
        read: dict[str, str] = {a: a for a in arguments}
        used = {
            n.attr("name") for n in function.graph.needed([n for _, n in function.outputs]) if n.op == "input"
        }
        lines: list[str] = []
        for source, prefix in flat:
            lines += self._unpack(source, prefix, used, names, read)
        body = Body(function, self._scope(read, arguments), names)
        body.lines = lines
        return body, function

    def _unpack(
        self, source: str, prefix: str, used: set[str], names: Names, read: dict[str, str]
    ) -> list[str]:
        """Lines that name the states used, taken from the flat state once."""
        wanted = [s for s in self.model.states if prefix + s.name in used]
        for s in wanted:
            read[prefix + s.name] = names[prefix + s.name]
        if not wanted:
            return []
        scalars = all(s.type.rank == 0 for s in self.model.states)
        if scalars and len(wanted) == len(self.model.states) > 1:
            return [f"{', '.join(read[prefix + s.name] for s in wanted)} = {source}.unbind(-1)"]
        lines, offset = [], 0
        for s in self.model.states:
            if s in wanted:
                lines.append(f"{read[prefix + s.name]} = {piece(source, s, offset, self._total())}")
            offset += s.size
        return lines

    def _total(self) -> int:
        return sum(s.size for s in self.model.states)

    def _method_lines(self, name: str, arguments: Sequence[str], body: Body, result: str) -> list[str]:
        head = ", ".join(["self", *(f"{a}: Tensor" for a in arguments)])
        lines = [f"def {name}({head}) -> Tensor:", *(f"    {line}" for line in body.lines)]
        return [*lines, f"    return {result}"]

    def _packed(self, name: str, function: Function, states: Sequence[StateSpec]) -> list[str]:
        """A method (t, state) -> flat values, one for each state."""
        body, function = self._body(function, ["t", STATE])
        values = dict(function.outputs)
        missing = [s.name for s in states if s.name not in values]
        if missing:
            raise InternalError(f"`{name}` of `{self.model.name}` lacks `{missing[0]}`", "NDL903")
        result = self._flat(body, function, [values[s.name] for s in states])
        return self._method_lines(name, ["t", STATE], body, result)

    def _flat(self, body: Body, function: Function, nodes: Sequence[Node]) -> str:
        """Values side by side along the last axis, with the batch axes of the state."""
        full_batch = all(depends(function.graph, n, self.states) for n in nodes)
        if all(rank(n) == 0 for n in nodes):
            texts = [body.numeric(n) for n in nodes]
            if full_batch:
                return call("torch.stack", f"[{', '.join(texts)}]", "-1")
            return call("ops.pack", f"[{', '.join(texts)}]", STATE)
        texts = [flattened(body.full(n), rank(n)) for n in nodes]
        if full_batch:
            return texts[0] if len(texts) == 1 else call("torch.cat", f"[{', '.join(texts)}]", "-1")
        return call("ops.join", f"[{', '.join(texts)}]", STATE)

    def _single(self, name: str, function: Function, arguments: Sequence[str] = ("t", STATE)) -> list[str]:
        """A method with one value of its own shape, repeated along the batch axes of the state."""
        noises = self._noises_read(function)
        taken = Names([*LOCALS, *arguments])
        texts = {n: taken[n] for n in noises}
        body, function = self._body(function, [*arguments, *texts.values()])
        body.scope.read = {**body.scope.read, **texts}
        node = function.outputs[0][1]
        if depends(function.graph, node, self.states) or STATE not in arguments:
            result = body.full(node)
        else:
            result = call("ops.over", body.numeric(node), STATE, str(rank(node)))
        return self._method_lines(name, [*arguments, *texts.values()], body, result)

    def _symbol_name(self, f: FourierSpec) -> str:
        return self._method("symbol", f"{f.term}_{f.state}" if f.term else f.state)

    def _symbol(self, f: FourierSpec) -> list[str]:
        """What multiplies the Fourier modes of a state, of shape modes and one for each member."""
        body, function = self._body(f.symbol, [], ())
        return self._method_lines(self._symbol_name(f), [], body, body.full(function.outputs[0][1]))

    def _initial_values(self) -> list[list[str]]:
        """Initial values that are formulas of the parameters."""
        computed = {n: v for n, v in self.initial.items() if not self._fixed(self._state(n), v)}
        if not computed:
            return []
        function = replace(self.initial_graph, outputs=tuple(computed.items()))
        body, function = self._body(function, [], ())
        entries = [f"{literal(n)}: {body.full(v)}" for n, v in function.outputs]
        return [
            [
                "def initial_values(self) -> dict[str, Tensor]:",
                *(f"    {line}" for line in body.lines),
                f"    return {{{', '.join(entries)}}}",
            ]
        ]

    def _state(self, name: str) -> StateSpec:
        return next(s for s in self.model.states if s.name == name)

    def _fixed(self, s: StateSpec, node: Node) -> str | None:
        """A state's initial value where it is a number, else None."""
        if not s.complex:
            return constant_text_of(self.initial_graph.graph, node)
        number = node.op == "const" and s.type.rank == 1
        return literal(complex(*node.attr("value"))) if number else None

    def _noise_kind(self) -> str:
        """Diagonal noise pairs the i-th place of the state with the i-th noise; other pairings are
        matrices with one entry in a row, which commute as well."""
        kind = self.model.noise_kind
        return "commutative" if kind == "diagonal" and not self._aligned() else kind

    def _aligned(self) -> bool:
        if self.model.diffusion is None:
            return False
        sizes = [(s.name, s.size) for s in self.model.states]
        noises = [(n.name, n.size) for n in self.model.noises]
        wanted = [f"{s},{n}" for (s, _), (n, _) in zip(sizes, noises)]
        given = {name for name, _ in self.model.diffusion.outputs}
        return [k for _, k in sizes] == [k for _, k in noises] and given == set(wanted)

    def _diffusion(self, function: Function) -> list[str]:
        """[..., n] for diagonal noise, else a matrix in blocks, rows by states and columns by noises."""
        body, function = self._body(function, ["t", STATE])
        values = dict(function.outputs)
        if self.model.noise_kind == "diagonal" and self._aligned():
            pairs = [f"{s.name},{n.name}" for s, n in zip(self.model.states, self.model.noises)]
            result = self._flat(body, function, [values[p] for p in pairs])
            return self._method_lines("diffusion", ["t", STATE], body, result)
        blocks = []
        row = 0
        for s in self.model.states:
            column = 0
            for n in self.model.noises:
                node = values.get(f"{s.name},{n.name}")
                if node is not None:
                    diagonal = self.model.noise_kind == "diagonal"
                    blocks.append(f"({row}, {column}, {self._block(body, node, s, n.size, diagonal)})")
                column += n.size
            row += s.size
        columns = sum(n.size for n in self.model.noises)
        result = call("ops.blocks", f"[{', '.join(blocks)}]", str(self._total()), str(columns), STATE)
        return self._method_lines("diffusion", ["t", STATE], body, result)

    def _block(self, body: Body, node: Node, s: StateSpec, noises: int, diagonal: bool) -> str:
        """A pair's diffusion as a matrix [..., places of the state, components of the noise]."""
        text = body.full(node)
        if rank(node) == 0:
            return f"{at(text, ATOM)}[..., None, None]"
        if diagonal:
            return call("torch.diag_embed", flattened(text, rank(node)))
        if rank(node) == 2:
            return text
        return call("ops.reshape", text, str(rank(node)), f"({s.size}, {noises})")

    def _jacobian(self) -> list[list[str]]:
        """A method from the symbolic derivative where there is one; else the runtime differentiates."""
        function = self.model.jacobian
        return [] if function is None else [self._single("jacobian", function)]

    def _events(self) -> list[list[str]]:
        methods = []
        for k, event in enumerate(self.model.events):
            if event.guard is not None:
                methods.append(self._single(f"guard_{k}", event.guard))
            if event.period is not None:
                methods.append(self._single(f"period_{k}", event.period, ()))
            if event.reset is not None and event.resets:
                methods.append(self._reset(k, event.reset, event.resets))
        return methods

    def _reset(self, k: int, function: Function, resets: Sequence[str]) -> list[str]:
        """The flat state with the places of some states replaced."""
        body, function = self._body(function, ["t", STATE])
        values = dict(function.outputs)
        pieces, offset = [], 0
        for s in self.model.states:
            if s.name in resets:
                node = values[s.name]
                text = body.full(node)
                pieces.append(flattened(text, rank(node)))
            else:
                pieces.append(f"{STATE}[..., {offset}:{offset + s.size}]")
            offset += s.size
        result = call("ops.join", f"[{', '.join(pieces)}]", STATE)
        return self._method_lines(f"reset_{k}", ["t", STATE], body, result)

    def _listed(self, name: str, function: Function) -> list[str]:
        """A method with all outputs of a function side by side."""
        body, function = self._body(function, ["t", STATE])
        result = self._flat(body, function, [n for _, n in function.outputs])
        return self._method_lines(name, ["t", STATE], body, result)

    def _delay_entries(self) -> list[str]:
        lags = [] if self.model.lags is None else [name for name, _ in self.model.lags.outputs]
        return [
            fields_text(
                "DelayInfo",
                d.state,
                (),
                constant=d.constant or None,
                place=lags.index(f"lag{k}") if f"lag{k}" in lags else None,
                text=d.span.text,
                line=line_of(d.span),
            )
            for k, d in enumerate(self.model.delays)
        ]

    def _integrals(self) -> list[list[str]]:
        methods = []
        for k, integral in enumerate(self.model.integrals):
            body, function = self._body(integral.kernel, ["t", "s", STATE])
            result = body.full(function.outputs[0][1])
            methods.append(self._method_lines(f"kernel_{k}", ["t", "s", STATE], body, result))
            bounds: dict[str, Function | None] = {"lower": integral.lower, "upper": integral.upper}
            for name, bound in bounds.items():
                if bound is not None:
                    methods.append(self._single(f"{name}_{k}", bound, ("t",)))
        if self.model.forcing is not None:
            methods.append(self._forcing(self.model.forcing))
        return methods

    def _forcing(self, function: Function) -> list[str]:
        names = [f"integral{k}" for k in range(len(self.model.integrals))]
        body, function = self._body(function, ["t", *names], ())
        values = dict(function.outputs)
        texts = [flattened(body.full(values[s.name]), s.type.rank) for s in self.model.states]
        unpack = [f"    {', '.join(names)}{',' if len(names) == 1 else ''} = integrals"] if names else []
        return [
            "def forcing(self, t: Tensor, integrals: Sequence[Tensor]) -> Tensor:",
            *unpack,
            *(f"    {line}" for line in body.lines),
            f"    return {call('ops.concat', '[' + ', '.join(texts) + ']', '-1', '1')}",
        ]

    def finish(self, lines: list[str]) -> list[str]:
        """The lines with the constant arrays put where `__init__` makes them."""
        made = [line for d in self.arrays.definitions() for line in broken(f"        {d}")]
        found: list[str] = []
        for line in lines:
            found += made if line.strip() == ARRAYS else [line]
        return found


ARRAYS = "<arrays>"


def reads(function: Function, net: str) -> bool:
    """Whether a function applies a net, or reads its weights for a derivative."""
    nodes = function.graph.needed([node for _, node in function.outputs])
    return any(
        n.attr("instance") == net
        if n.op == "call"
        else n.op == "param" and n.attr("name").startswith(net + ".")
        for n in nodes
    )


def line_of(span: Span) -> int | None:
    return span.line if span.source.text else None


def rank(node: Node) -> int:
    return node.type.rank if isinstance(node.type, Tensor) else 0


def size_of(node: Node) -> int:
    total = 1
    for n in node.type.extents if isinstance(node.type, Tensor) else ():
        total *= n
    return total


def flattened(text: str, axes: int) -> str:
    """A value of some axes per sample as a vector."""
    if axes == 0:
        return f"{at(text, ATOM)}[..., None]"
    return str(text) if axes == 1 else f"{at(text, ATOM)}.flatten({-axes})"


def piece(source: str, s: StateSpec, offset: int, total: int) -> str:
    """A state's text, taken from the flat one."""
    if s.type.rank == 0:
        return f"{source}[..., {offset}]"
    whole = offset == 0 and s.size == total
    part = source if whole else f"{source}[..., {offset}:{offset + s.size}]"
    if s.type.rank == 1:
        return part
    return f"{part}.unflatten(-1, {items([str(n) for n in s.type.extents])})"


def grid_entry(grid: Grid) -> str:
    """A grid as the runtime describes it."""
    if grid.mesh is not None:
        m, more = grid.mesh, f", reach={literal(grid.reach)}" if grid.reach else ""
        layout = f'(("mesh", {m.n}, 0.0, 0.0),)'
        names = literal(m.coordinates)
        return f"GridInfo({literal(grid.domain)}, {names}, {layout}{more}, mesh={literal(m.key)})"
    names = literal(tuple(a.coordinate for a in grid.axes))
    reach = f", reach={literal(grid.reach)}" if grid.reach else ""
    return f"GridInfo({literal(grid.domain)}, {names}, {literal(tuple(a.layout for a in grid.axes))}{reach})"


def constant_text_of(graph: Graph, node: Node) -> str | None:
    """The literal of a constant or repeated constant, else None."""
    from ndl.compiler.backends.torch.body import WRITTEN, constant_of, filled
    from ndl.compiler.ops.families.sources import constant_text

    source = node
    while source.op == "expand":
        source = graph.operands(source)[0]
    if source.op != "const":
        return None
    if source is node:
        return str(constant_text(node.attr("value")))
    entry = constant_of(graph, node)
    if entry is None or not isinstance(node.type, Tensor) or math.prod(node.type.extents) > WRITTEN:
        return None
    return str(constant_text(filled(entry, node.type.extents)))


def depends(graph: Graph, node: Node, states: Mapping[str, Any]) -> bool:
    """Whether a value is computed from a state, and so has the state's batch axes."""
    return any(n.op == "input" and n.attr("name") in states for n in graph.needed([node]))
