"""The reference interpreter: one sample, float64 torch, one op after the other. The oracle of all else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ndl.compiler.ir.errors import InternalError
from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.splice import part_of
from ndl.compiler.ops.table import lookup
from ndl.compiler.types import Tensor as TensorType

if TYPE_CHECKING:
    from torch import Tensor

Callables = Mapping[str, Callable[..., Any]]


def interpret(
    function: Function,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Any] | None = None,
    paths: Callables | None = None,
    callables: Callables | None = None,
) -> dict[str, Tensor]:
    """The outputs of a function by name.

    `weights` maps names to tensors, and the names of parts to such mappings, or has dotted names.
    `paths` are called with (t, order), `callables` with their operands; a callable's Jacobian is
    taken by automatic differentiation.
    """
    run = Interpreter(function, inputs, weights or {}, paths or {}, callables or {})
    return {name: run.value(node) for name, node in function.outputs}


class Interpreter:
    """Values of the nodes of one function, computed as they are asked for."""

    def __init__(
        self,
        function: Function,
        inputs: Mapping[str, Any],
        weights: Mapping[str, Any],
        paths: Callables,
        callables: Callables,
    ) -> None:
        self.function, self.inputs, self.weights = function, inputs, weights
        self.paths, self.callables = paths, callables
        self._values: dict[int, Any] = {}

    def value(self, node: Node) -> Any:
        for n in self.function.graph.needed([node]):
            if n.id not in self._values:
                self._values[n.id] = self._compute(n)
        return self._values[node.id]

    def _compute(self, node: Node) -> Any:
        operands = [self._values[i] for i in node.inputs]
        attrs = dict(node.attrs)
        if node.op == "const":
            return as_tensor(attrs["value"], node.type)
        if node.op == "input":
            return as_tensor(found(self.inputs, attrs["name"]), node.type)
        if node.op == "param":
            return as_tensor(found(self.weights, attrs["name"]), node.type)
        if node.op == "path":
            return self.paths[attrs["name"]](operands[0], attrs.get("order", 0))
        if node.op == "call":
            return self._call(attrs["instance"], attrs.get("index", 0), operands)
        if node.op == "apply":
            return self.callables[attrs["callee"]](*operands)
        if node.op == "apply_series":
            callee: Any = self.callables[attrs["callee"]]
            return callee.series(*operands, attrs["order"])
        if node.op in ("apply_phi", "apply_linear"):
            part: Any = self.callables[attrs["callee"]]
            return part.phi(attrs["order"], *operands) if "order" in attrs else part.linear_part(*operands)
        if node.op == "apply_transposed":
            linear: Any = self.callables[attrs["callee"]]
            return linear.transposed(*operands)
        if node.op == "apply_jac":
            return slope(self.callables[attrs["callee"]], attrs["wrt"], operands)
        return lookup(node.op).reference(*operands, **attrs)

    def _call(self, instance: str, index: int, operands: list[Any]) -> Any:
        part = part_of(self.function, instance)
        given = dict(zip((n.attr("name") for n in part.inputs), operands))
        inner = interpret(part, given, below(self.weights, instance), self.paths, self.callables)
        return list(inner.values())[index]


def found(values: Mapping[str, Any], name: str) -> Any:
    """A value by its name, or by a dotted name that descends into mappings."""
    if name in values:
        return values[name]
    head, _, rest = name.partition(".")
    if rest and head in values:
        return found(values[head], rest)
    raise InternalError(f"the interpreter is given no value for `{name}`")


def below(weights: Mapping[str, Any], instance: str) -> Mapping[str, Any]:
    """The weights of a part."""
    if instance in weights:
        inner: Mapping[str, Any] = weights[instance]
        return inner
    dot = instance + "."
    flat = {name[len(dot) :]: value for name, value in weights.items() if name.startswith(dot)}
    head, _, rest = instance.partition(".")
    return below(weights[head], rest) if rest and head in weights and not flat else flat


def as_tensor(value: Any, type_: Any) -> Any:
    """A number, nested tuples or a tensor in the precision of its kind."""
    import torch

    dtypes = {"R": torch.float64, "C": torch.complex128, "Z": torch.int64, "Bool": torch.bool}
    dtype = dtypes[type_.kind] if isinstance(type_, TensorType) else torch.float64
    return value.to(dtype) if isinstance(value, torch.Tensor) else torch.tensor(value, dtype=dtype)


def slope(function: Callable[..., Any], wrt: int, operands: list[Any]) -> Any:
    """The derivative of a callable by one argument, of shape out + in."""
    import torch

    def moved(x: Any) -> Any:
        return function(*operands[:wrt], x, *operands[wrt + 1 :])

    return torch.autograd.functional.jacobian(moved, operands[wrt], create_graph=True)  # type: ignore[no-untyped-call]


def newton(function: Function, guess: Any, captured: tuple[Any, ...]) -> Any:
    """The root of a function's first input near a guess; differentiable by what is captured."""
    import torch

    names = [n.attr("name") for n in function.inputs]

    def residual(z: Any, *rest: Any) -> Any:
        return next(iter(interpret(function, dict(zip(names, (z, *rest)))).values()))

    def step(z: Any, rest: tuple[Any, ...]) -> Any:
        J = torch.autograd.functional.jacobian(lambda x: residual(x, *rest), z.detach())  # type: ignore[no-untyped-call]
        return torch.linalg.solve(J.reshape(n, n), residual(z, *rest).reshape(n)).reshape(z.shape)

    z, n = guess.detach(), guess.numel()
    fixed = tuple(c.detach() for c in captured)
    for _ in range(100):
        dz = step(z, fixed).detach()
        z = z - dz
        if dz.norm() <= 1e-14 * (1 + z.norm()):
            break
    return z - step(z, captured)
