"""Complex states by their real and imaginary parts.

A state `psi: C[n]` becomes the real state `psi: R[n, 2]`, and every function of the model arithmetic of
reals, so that solvers, kernels and derivatives see nothing new. What has no rule in `complex_rules` is
computed from complex numbers that the op `pair` joins.
"""

from __future__ import annotations

from dataclasses import replace

from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import ModelIR, ObserveSpec, StateSpec
from ndl.compiler.ops.families.elementwise import constant_of
from ndl.compiler.passes.complex_rules import RULES, Arithmetic, Parts, by_linearity, even_power
from ndl.compiler.passes.fourier import with_fourier
from ndl.compiler.passes.noise_kind import matrices
from ndl.compiler.passes.pipeline import map_functions
from ndl.compiler.passes.rewrite import Rewriter
from ndl.compiler.types import Dim, Tensor

PAST = "past "


def with_real_parts(model: ModelIR) -> ModelIR:
    """The model without complex states; what of it is diagonal in Fourier space is found before."""
    names = frozenset(s.name for s in model.states if s.type.kind == "C")
    if not names:
        return model
    model = with_fourier(model)
    if model.diffusion is not None:
        model = _with_noise(model, names)

    def run(function: Function) -> Function:
        return Split(function, names).function()

    def observe(o: ObserveSpec) -> ObserveSpec:
        return replace(o, arguments=tuple(map(run, o.arguments)))

    apart = replace(model, parts={}, diffusion=None, fourier=())  # these are split already, or have no states
    return replace(
        map_functions(apart, run),
        states=tuple(map(in_two, model.states)),
        observes=tuple(map(observe, model.observes)),
        parts=model.parts,
        diffusion=model.diffusion,
        fourier=model.fourier,
    )


def _with_noise(model: ModelIR, names: frozenset[str]) -> ModelIR:
    """The diffusion with rows for both parts: a noise that meets a complex number moves two reals."""
    assert model.diffusion is not None
    function = model.diffusion
    kind = model.noise_kind
    if kind == "diagonal":
        function, kind = matrices(model, function), "general"
    made = Split(function, names, diffusion=True).function()
    return replace(model, diffusion=made, noise_kind=kind)


def in_two(state: StateSpec) -> StateSpec:
    """A complex state as a real one, its last axis for the real and the imaginary part."""
    if state.type.kind != "C":
        return state
    return replace(state, type=doubled(state.type), complex=True)


def doubled(type_: Tensor) -> Tensor:
    return Tensor("R", (*type_.shape, Dim.of(2)), type_.on, type_.unit)


class Split:
    """One function, node by node."""

    def __init__(self, function: Function, names: frozenset[str], diffusion: bool = False) -> None:
        """`diffusion`: outputs are pairs `state,noise`, the noise along the last axis."""
        self.old, self.names, self.diffusion = function, names, diffusion
        self.target = Rewriter(function.graph)
        self.reals = Arithmetic(self.target)
        self.parts: dict[int, Parts] = {}
        """Of the nodes of the old graph that are complex."""

    def function(self) -> Function:
        inputs = tuple(self._input(n) for n in self.old.inputs)
        outputs = []
        for name, node in self.old.outputs:
            self._visit(node)
            outputs.append((name, self._output(name, node)))
        return replace(self.old, graph=self.target.graph, inputs=inputs, outputs=tuple(outputs))

    def _output(self, name: str, node: Node) -> Node:
        """A state's value in two, any other one as a complex number where it is one."""
        state = name.rpartition(",")[0] if self.diffusion else name
        if node.id not in self.parts and state not in self.names:
            return self.target.image[node.id]
        parts = self.parts.get(node.id) or (self.target.image[node.id], None)
        if state not in self.names:
            return self.reals.joined(parts)
        assert isinstance(node.type, Tensor)
        rank = node.type.rank
        return self.target.add(
            "stack", self.reals.both(parts, node.type), axis=rank - 1 if self.diffusion and rank else rank
        )

    def _input(self, node: Node) -> Node:
        if node.id not in self.target.image:
            self._leaf(node)
        return self.target.image[node.id]

    def _leaf(self, node: Node) -> None:
        """What is read: a state, or its past, in two; anything else as it is."""
        name = str(node.attr("name", ""))
        past = node.op == "path" and name.startswith(PAST)
        stored = past or (node.op == "input" and name in self.names)
        if not isinstance(node.type, Tensor) or node.type.kind != "C" or not stored:
            operands = [self._whole(n) for n in self.old.graph.operands(node)]
            self.target.image[node.id] = self.target.add(
                node.op, operands, type=node.type, span=node.span, hint=node.hint, **dict(node.attrs)
            )
            return
        operands = [self._whole(n) for n in self.old.graph.operands(node)]
        made = self.target.add(
            node.op, operands, type=doubled(node.type), span=node.span, hint=node.hint, **dict(node.attrs)
        )
        self.target.image[node.id] = made
        at = node.type.rank
        self.parts[node.id] = (
            self.target.add("index", [made], axis=at, at=0),
            self.target.add("index", [made], axis=at, at=1),
        )

    def _whole(self, node: Node) -> Node:
        """A node of the old graph as one value, complex where it is complex."""
        return self.reals.joined(self.parts[node.id]) if node.id in self.parts else self.target.image[node.id]

    def _visit(self, root: Node) -> None:
        for node in self.old.graph.needed([root]):
            if node.id in self.target.image or node.id in self.parts:
                continue
            kind = node.type.kind if isinstance(node.type, Tensor) else ""
            square = self._even_power(node)
            if square is not None:
                self.target.image[node.id] = square
            elif any(i in self.parts for i in node.inputs):
                self._combined(node, kind)
            else:
                self._leaf(node)
                if kind == "C" and node.id not in self.parts:
                    self.parts[node.id] = self._taken_apart(node)

    def _even_power(self, node: Node) -> Node | None:
        """`abs(z)^2` of a complex z."""
        if node.op != "pow":
            return None
        base, exponent = self.old.graph.operands(node)
        z = self.parts.get(base.inputs[0]) if base.op == "abs" else None
        return None if z is None else even_power(self.reals, constant_of(self.old.graph, exponent), z)

    def _taken_apart(self, node: Node) -> Parts:
        """A complex value that is none of a state's: a number, a weight, what a call gives."""
        image = self.target.image[node.id]
        if node.op == "const" and isinstance(node.attr("value"), complex):
            return self.reals.number(node.attr("value"))
        return self.target.add("real", [image]), self.target.add("imag", [image])

    def _combined(self, node: Node, kind: str) -> None:
        """An op with complex operands."""
        operands: list[Parts] = [self.parts.get(i) or (self.target.image[i], None) for i in node.inputs]
        rule = RULES.get(node.op, by_linearity)
        found = rule(self.reals, node, operands, self.old.graph.operands(node))
        if found is None:
            joined = [self._whole(n) for n in self.old.graph.operands(node)]
            made = self.target.add(node.op, joined, type=node.type, span=node.span, **dict(node.attrs))
            if kind != "C":
                self.target.image[node.id] = made
                return
            found = self.target.add("real", [made]), self.target.add("imag", [made])
        if kind == "C":
            self.parts[node.id] = found
        else:
            assert isinstance(node.type, Tensor)
            self.target.image[node.id] = found[0] or self.reals.zero(node.type.extents)
