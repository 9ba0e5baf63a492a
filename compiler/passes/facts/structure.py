"""Facts about who depends on whom: kind of equation, autonomy, sparsity, separability, index."""

from __future__ import annotations

from ndl.compiler.ir.graph import Function, Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.facts.facts import Fact, Separation
from ndl.compiler.passes.facts.view import View
from ndl.compiler.passes.jacobian import drift_jacobian


def equation_kind(model: ModelIR) -> Fact[str]:
    algebraic = [state.name for state in model.states if state.algebraic]
    if model.forcing is not None:
        fixed = any(integral.upper is not None for integral in model.integrals)
        limits = "between fixed limits (Fredholm)" if fixed else "up to `t` (Volterra)"
        return Fact("integral", f"`{model.states[0].name}(t) = …` has an integral {limits}")
    if model.drift is None:
        return Fact("recurrence", "states are only reset, at events")
    if algebraic:
        return Fact("dae", f"`0 = …` determines {listed(algebraic)}, which has no rate")
    if model.diffusion is not None and model.diffusion.outputs:
        return Fact("sde", f"{listed([n.name for n in model.noises])} drives the states")
    return Fact("ode", "every state has a rate and nothing is random")


def listed(names: list[str] | tuple[str, ...]) -> str:
    """`a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}" if quoted else ""


def autonomous(model: ModelIR) -> Fact[bool]:
    """Do rates depend on t, by name or along a path?"""
    nodes = [*needed(model.drift), *needed(model.diffusion)]
    paths = list(dict.fromkeys(str(node.attr("name")) for node in nodes if node.op == "path"))
    if paths:
        return Fact(False, f"{listed(paths)} drives the states")
    if any(node.op == "input" and node.attr("name") == "t" for node in nodes):
        return Fact(False, "`t` stands in a right-hand side")
    return Fact(True, "no right-hand side depends on `t`")


def needed(function: Function | None) -> list[Node]:
    """The nodes of a function that its outputs depend on."""
    return [] if function is None else function.graph.needed([node for _, node in function.outputs])


def sparsity(view: View) -> Fact[tuple[tuple[int, int], ...] | None]:
    """Entries of the Jacobian that are not identically 0; by derivatives where there are formulas."""
    n = len(view.names)
    exact = drift_jacobian(view.model)
    if exact is not None:
        pattern = tuple(exact.sparsity)
        how = "by symbolic derivatives"
    else:
        pattern = tuple((i, j) for i, reads in enumerate(view.reads) for j in sorted(reads))
        how = "by who reads whom"
    return Fact(pattern, f"{len(pattern)} of {n * n} entries of the Jacobian are not 0, {how}")


def separation(view: View) -> Fact[Separation | None]:
    """Two groups of states whose rates depend on the other group alone.

    The dependences between different states must form a graph that two colours suffice for.
    """
    if any(view.algebraic):
        return Fact(None, "an algebraic equation ties the states together")
    order = [state.name for state in view.model.states]
    if len(order) < 2:
        return Fact(None, "one state cannot be separated")
    edges: dict[str, set[str]] = {name: set() for name in order}
    for i, reads in enumerate(view.reads):
        for j in sorted(reads):
            if view.owners[i] == view.owners[j]:
                return Fact(None, f"the rate of `{view.names[i]}` depends on `{view.names[j]}` itself")
            edges[view.owners[i]].add(view.owners[j])
            edges[view.owners[j]].add(view.owners[i])
    colour: dict[str, int] = {}
    for start in order:
        colour.setdefault(start, 0)
        open_ = [start]
        while open_:
            name = open_.pop()
            for other in sorted(edges[name]):
                if other not in colour:
                    colour[other] = 1 - colour[name]
                    open_.append(other)
                elif colour[other] == colour[name]:
                    return Fact(None, f"`{name}` and `{other}` depend on each other and on a third state")
    positions = tuple(name for name in order if colour[name] == 0)
    momenta = tuple(name for name in order if colour[name] == 1)
    if not momenta:
        return Fact(None, "no rate depends on another state")
    why = f"the rates of {listed(positions)} depend only on {listed(momenta)}, and the reverse"
    return Fact(Separation(positions, momenta), why)


def consistency(view: View) -> Fact[bool | None]:
    """Index 1: the algebraic equations can be solved for the algebraic states, by structure.

    True when a perfect matching pairs each residual with an algebraic component that it reads.
    """
    rows = [i for i, algebraic in enumerate(view.algebraic) if algebraic]
    if not rows:
        return Fact(None, "there is no algebraic equation")
    partner: dict[int, int] = {}

    def assign(row: int, tried: set[int]) -> bool:
        for j in sorted(view.reads[row] & set(rows) - tried):
            tried.add(j)
            if j not in partner or assign(partner[j], tried):
                partner[j] = row
                return True
        return False

    for row in rows:
        if not assign(row, set()):
            left = [view.names[j] for j in rows if j not in partner]
            return Fact(
                False,
                f"no algebraic equation is left to determine {listed(left)}: the index is higher than 1, or "
                "an equation repeats another",
            )
    names = listed([view.names[j] for j in rows])
    return Fact(
        True, f"each algebraic equation determines one of {names}: index 1, initial values are solved for"
    )
