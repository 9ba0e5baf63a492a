"""Linear algebra on one square matrix (and a right-hand side)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ndl.compiler.ops.adjoint import conj, extents, fit, mul, op, scale, spread, zeros
from ndl.compiler.ops.adjoint import shape as shape_of
from ndl.compiler.ops.rules import Rule, common_domain, numeric, product_unit, promote, tensors
from ndl.compiler.ops.table import Attributes, Op, TypeRuleError, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Tensor, Type

if TYPE_CHECKING:
    from ndl.compiler.ir.graph import Graph, Node

Cotangents = list["Node | None"]


def square(x: Tensor, what: str) -> None:
    if x.rank != 2 or x.shape[0] != x.shape[1]:
        raise TypeRuleError(f"{what} needs a square matrix, and this is {x}", [0])


def matrix_rule(name: str, scalar: bool = False) -> Rule:
    def rule(types: Sequence[Type], attributes: Attributes) -> Type:
        (x,) = tensors(types, f"`{name}`")
        numeric([x], f"`{name}`")
        square(x, f"`{name}`")
        return Tensor(promote([x], "R"), () if scalar else x.shape, x.on)

    return rule


def transpose(graph: Graph, x: Node) -> Node:
    """The conjugate transpose of a matrix."""
    return conj(graph, op(graph, "permute", x, axes=(1, 0)))


def matmul(graph: Graph, a: Node, b: Node) -> Node:
    return op(graph, "matmul", a, b)


def torch_linalg(name: str) -> Callable[..., Any]:
    def reference(x: Any) -> Any:
        import torch

        return getattr(torch.linalg, name)(_divisible(x))

    return reference


def regular_linalg(name: str) -> Callable[..., Any]:
    """What some matrices do not have: nan for these."""

    def reference(x: Any) -> Any:
        import torch

        found, info = getattr(torch.linalg, f"{name}_ex")(_divisible(x))
        return torch.where((info == 0)[..., None, None], found, torch.nan)

    return reference


def _divisible(x: Any) -> Any:
    """A matrix of whole numbers as one of reals."""
    return x if x.is_floating_point() or x.is_complex() else x.double()


# ---------------------------------------------------------------- solve


def _solve_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    a, b = operands = tensors(types, "`solve`")
    numeric(operands, "`solve`")
    square(a, "`solve`")
    if b.rank not in (1, 2) or b.shape[0] != a.shape[1]:
        raise TypeRuleError(f"the right side of a linear system with {a} cannot be {b}", [0, 1])
    unit = product_unit(b, a, -1)
    return Tensor(promote(operands, "R"), b.shape, common_domain(operands, "`solve`"), unit)


def _solve_reference(a: Any, b: Any) -> Any:
    import torch

    a, b = _divisible(a), _divisible(b)
    wide = torch.promote_types(a.dtype, b.dtype)
    found, info = torch.linalg.solve_ex(a.to(wide), b.to(wide).reshape(*b.shape[:1], -1))
    return torch.where(info == 0, found, torch.nan).reshape(b.shape)


def _solve_text(texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    b = types[1]
    if isinstance(b, Tensor) and b.rank == 1:
        if texts[0].startswith("ops.apply_jac(") and texts[0].endswith(")"):
            # the derivative of a callable stays a map: it may know how to solve with it
            return call("ops.solve_jac", texts[0].removeprefix("ops.apply_jac(")[:-1], texts[1])
        return call("ops.solve", *texts)
    return call("ops.solve_columns", *texts)


def _solve_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    a, b = operands
    right = op(graph, "solve", transpose(graph, a), g)
    equation = "i,j->ij" if len(shape_of(b)) == 1 else "ik,jk->ij"
    outer = op(graph, "einsum", right, conj(graph, node), equation=equation)
    return [fit(graph, op(graph, "neg", outer), a), fit(graph, right, b)]


register(Op("solve", _solve_rule, _solve_reference, _solve_text, _solve_vjp, linear=(1,)))

# ---------------------------------------------------------------- functions of one matrix


def _inv_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    flipped = transpose(graph, node)
    return [fit(graph, op(graph, "neg", matmul(graph, matmul(graph, flipped, g), flipped)), operands[0])]


def _inverse_transpose(graph: Graph, x: Node) -> Node:
    return transpose(graph, op(graph, "inv", x))


def _det_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    factor = mul(graph, g, conj(graph, node))
    full = spread(graph, factor, shape_of(operands[0]))
    return [fit(graph, mul(graph, full, _inverse_transpose(graph, operands[0])), operands[0])]


def _logdet_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    full = spread(graph, g, shape_of(operands[0]))
    return [fit(graph, mul(graph, full, _inverse_transpose(graph, operands[0])), operands[0])]


def _expm_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """The Fréchet derivative at A^H along g: the corner of exp [[A^H, g], [0, A^H]]."""
    (a,) = operands
    n = extents(a)[0]
    flipped = transpose(graph, a)
    top = op(graph, "concat", flipped, g, axis=1)
    bottom = op(graph, "concat", zeros(graph, (n, n)), flipped, axis=1)
    block = op(graph, "expm", op(graph, "concat", top, bottom, axis=0))
    upper = op(graph, "slice", block, axis=0, start=0, stop=n)
    return [fit(graph, op(graph, "slice", upper, axis=1, start=n, stop=2 * n), a)]


def _cholesky_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    """L^-T Phi(L^T g) L^-1 made symmetric; Phi takes the lower half with its diagonal halved
    (Murray, Differentiation of the Cholesky decomposition, 2016)."""
    (a,) = operands
    n = extents(a)[0]
    half = tuple(tuple(1.0 if i > j else 0.5 if i == j else 0.0 for j in range(n)) for i in range(n))
    flipped = transpose(graph, node)
    inner = mul(graph, matmul(graph, flipped, g), graph.add("const", value=half))
    left = op(graph, "solve", flipped, inner)
    whole = transpose(graph, op(graph, "solve", flipped, transpose(graph, left)))
    both = op(graph, "add", whole, transpose(graph, whole))
    return [fit(graph, scale(graph, 0.5, both), a)]


def linalg_text(name: str) -> Callable[[Sequence[str], Sequence[Type], Attributes], str]:
    return lambda texts, types, a: call(name, *texts)


def _logdet_reference(x: Any) -> Any:
    import torch

    return torch.linalg.slogdet(_divisible(x)).logabsdet


for _name, _reference, _text, _vjp in (
    ("inv", regular_linalg("inv"), "ops.inverse", _inv_vjp),
    ("expm", torch_linalg("matrix_exp"), "torch.linalg.matrix_exp", _expm_vjp),
    ("cholesky", regular_linalg("cholesky"), "ops.cholesky", _cholesky_vjp),
):
    register(Op(_name, matrix_rule(_name), _reference, linalg_text(_text), _vjp))
register(
    Op(
        "det",
        matrix_rule("det", scalar=True),
        torch_linalg("det"),
        lambda texts, types, a: call("torch.linalg.det", *texts),
        _det_vjp,
    )
)
register(
    Op(
        "logdet",
        matrix_rule("logdet", scalar=True),
        _logdet_reference,
        lambda texts, types, a: call("torch.linalg.slogdet", *texts) + ".logabsdet",
        _logdet_vjp,
    )
)

# ---------------------------------------------------------------- diagonal


def _diag_rule(types: Sequence[Type], attributes: Attributes) -> Type:
    (x,) = tensors(types, "`diag`")
    if x.rank != 1:
        raise TypeRuleError(f"`diag` needs a vector, and this is {x}", [0])
    return Tensor(x.kind, (*x.shape, *x.shape), x.on, x.unit)


def _diag_reference(x: Any) -> Any:
    import torch

    return torch.diag(x)


def _diag_text(texts: Sequence[str], types: Sequence[Type], a: Attributes) -> str:
    """In a solver's step, whose vectors have no known length, it may meet a sparse Jacobian."""
    (x,) = types
    abstract = isinstance(x, Tensor) and any(n.constant is None for n in x.shape)
    return call("ops.diagonal" if abstract else "torch.diag_embed", *texts)


def _diag_vjp(graph: Graph, node: Node, operands: Sequence[Node], g: Node) -> Cotangents:
    return [fit(graph, op(graph, "einsum", g, equation="ii->i"), operands[0])]


register(
    Op(
        "diag",
        _diag_rule,
        _diag_reference,
        _diag_text,
        _diag_vjp,
        linear=(0,),
    )
)
