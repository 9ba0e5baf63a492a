"""`reduce`, `truncate` and `prune`: functions from models to smaller models of the language.

`reduce(M, pod(rank=8), deim(points=12), snapshots=run, every=5)` projects the states on a POD basis and
interpolates the elementwise maps at a few places; `truncate(M, rank=r)` keeps r singular values of every
matrix that meets what changes; `prune(M, keep=0.25)` keeps the states that matter most. Each gives a model
with its own text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch

from ndl.compiler.check.applications import parts_of
from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.parts import declarations
from ndl.compiler.check.values import ListV, ModelV, Object, Unknown, Value, WordV, describe, is_number
from ndl.compiler.diagnostics import fail
from ndl.compiler.ir.graph import Node
from ndl.compiler.ir.model import ModelIR
from ndl.compiler.passes.reduction.affine import Affine
from ndl.compiler.passes.reduction.project import Operators, Stand, State, project
from ndl.compiler.passes.reduction.structure import Structure, extents, size_of, structure_of
from ndl.compiler.passes.reduction.write import Page, Variable, Writer, shape_text
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host import smaller
from ndl.host.builder import lift
from ndl.host.objects import ModelObject
from ndl.host.snapshots import Snapshots, snapshots_of
from ndl.runtime.bases import RULES, Basis, Choice, amplification, gappy, interpolation, pod

MEASURES = ("mean_zeros", "mean_size")


@dataclass(frozen=True)
class Origin:
    """What a smaller model knows of its making: facts for `ndl explain`, the states' basis [n, k], and the
    weights of the nets that it shares with the model it comes from."""

    facts: tuple[tuple[str, str], ...]
    basis: torch.Tensor | None
    shapes: tuple[tuple[int, ...], ...]
    nets: Mapping[str, Mapping[str, torch.Tensor]] = field(default_factory=dict)

    def settle(self, instance: Any) -> None:
        """Give an instance's nets the weights that they had in the model it comes from."""
        known = instance.nets()
        for name, state in self.nets.items():
            if name in known:
                known[name].load_state_dict(state)

    def attribute(self, name: str) -> Any:
        """`Fast.lift`, `Fast.project`; None for other names."""
        if self.basis is None or name not in ("lift", "project"):
            return None
        return Between(self, name)


class Between(Object):
    """`Fast.lift(z)`: the full state of reduced coordinates; `Fast.project(x)`: the coordinates of a full
    state. Leading axes (members, times) are kept; several states are one flat vector."""

    kind = "map between a model and its reduction"

    def __init__(self, origin: Origin, name: str) -> None:
        self.origin, self.name = origin, name

    def call(self, ev: Any, args: list[Any], options: dict[str, Any], span: Span) -> Any:
        if len(args) != 1:
            return ev.error("NDL322", f"`{self.name}` takes 1 argument, {len(args)} are given", span)
        v = ev.value(args[0], span)
        if isinstance(v, Unknown):
            return v
        basis, x = self.origin.basis, v.ref
        assert basis is not None
        shapes = self.origin.shapes
        single = shapes[0] if len(shapes) == 1 else (basis.shape[0],)
        given = (basis.shape[1],) if self.name == "lift" else single
        lead = x.ndim - len(given)
        if lead < 0 or tuple(x.shape[lead:]) != given:
            return ev.error("NDL307", f"`{self.name}` wants R{list(given)}, but is given {v.type}", span)
        if self.name == "lift":
            return lift((x.to(basis) @ basis.mT).reshape(*x.shape[:lead], *single))
        return lift(x.to(basis).reshape(*x.shape[:lead], basis.shape[0]) @ basis)


class Reducer:
    """One application of such a function."""

    def __init__(self, host: Any, ev: Evaluator, word: str, target: Any, e: tree.Call) -> None:
        self.host, self.ev, self.word, self.e = host, ev, word, e
        model = target.source if isinstance(target, ModelObject) else target
        if not isinstance(model, ModelV):
            raise fail("NDL508", f"`{word}` wants a model, not {describe(target)}", e.span)
        self.model: ModelV = model
        self.name = model.decl.name
        self.instance = host.instance(target)
        self.compiled = host.compilation.model(model)
        self.ir: ModelIR = self.compiled.optimized
        self._refuse()
        self.parts = parts_of(ev, model.decl)
        assert self.ir.drift is not None
        self.structure: Structure = structure_of(self.ir.drift, self.name)
        weights = {k: v.detach().double() for k, v in self.instance.values().items()}
        self.affine = Affine(self.structure, weights)
        self.states = list(self.ir.states)
        self.kept, names = smaller.kept(self.parts, self._roots())
        self.page = Page(smaller.taken_names(self.parts, model, names))

    def _refuse(self) -> None:
        """What a model may not have."""
        ir = self.ir
        for there, what in (
            (ir.drift is None or ir.integrals, "an equation that is no rate"),
            (ir.noises, "noise"),
            (any(s.algebraic for s in ir.states), "an algebraic equation"),
            (ir.events, "events"),
            (ir.delays or any(s.source for s in ir.states), "memory of the past"),
            (len(declarations(self.ev, self.model)) > 1, "parts"),
            (self.model.laws or self.model.members, "a family"),
            (ir.without_body, "nets that come from Python, or formulas that are to be found"),
            (ir.counted, "nets with weights for each step"),
        ):
            if there:
                raise fail(
                    "NDL672",
                    f"`{self.word}` serves models whose states have rates alone; `{self.name}` has {what}",
                    self.e.span,
                )

    # ------------------------------------------------------------ variables

    def sources(self, stands: Mapping[str, Stand]) -> tuple[dict[int, Stand], dict[str, Variable]]:
        """Stands and variables of the inputs; those of states are given by name."""
        found: dict[int, Stand] = {}
        variables: dict[str, Variable] = {}
        for node in self.structure.sources:
            name = str(node.attr("name"))
            if name in stands and node.op == "input":
                found[node.id] = stands[name]
                continue
            text = name + "'" * int(node.attr("order", 0)) if node.op == "path" else name
            shape = extents(node)
            found[node.id] = Stand(text, shape)
            variables[text] = Variable(text, shape, "Z")
        return found, variables

    def region_names(self) -> dict[int, str]:
        return {r.root.id: self.page.fresh("h") for r in self.structure.regions}

    # ------------------------------------------------------------ the result

    def finish(
        self,
        operators: Operators,
        variables: dict[str, Variable],
        rates: Mapping[str, tuple[int, ...]],
        draft: smaller.Draft,
        origin: Origin,
        rank: int | None = None,
        own: tuple[str, ...] = (),
    ) -> ModelV:
        """The model of some operators: `rates` are the extents of its states, `own` the names of states that
        stay as they are."""
        writer = Writer(self.structure.graph, self.page, variables, rank)
        writer.maps(operators)
        for name, shape in rates.items():
            text, _ = writer.sum(operators.rates[name], {name.rstrip("'"): "L", name: "L"})
            self._rate(name, smaller.unflattened(text, shape))
        draft.page = self.page
        lines = [smaller.as_text(s) for s in self.kept]
        text = smaller.text_of(draft, self.model.decl, lines)
        decl = smaller.declaration(text, draft.name)
        return self._applied(decl, origin)

    def _rate(self, name: str, text: str) -> None:
        self.page.equation(name + "'", text)

    def _roots(self) -> set[str]:
        """What is kept as it is written: derived quantities, what initial values need, and inputs that rates
        read."""
        items = [i for orders in self.parts.states.values() for i in orders.values()]
        starts = [v for i in items for v in (i.value, i.law) if v is not None]
        read = {str(n.attr("name")) for n in self.structure.sources}
        return {*self.parts.derived, *smaller.names_in(starts), *read}

    def _applied(self, decl: tree.Model, origin: Origin) -> ModelV:
        """The declaration with the values of its operators, and those of what is kept."""
        parts = parts_of(self.ev, decl)
        names = {*parts.params, *parts.consts, *parts.inputs, *parts.nets, *(p.name for p in decl.options)}
        names |= {"seed", *parts.states}
        values = {k: v for k, v in self.model.values.items() if k in names}
        trained = self.instance.values()
        for name in (*parts.params, *parts.consts):
            if name in trained:
                values[name] = lift(trained[name].detach())
        values |= {k: lift(v) if isinstance(v, torch.Tensor) else v for k, v in self.page.values.items()}
        nets = {
            n: {k: v.detach().clone() for k, v in net.state_dict().items()}
            for n, net in self.instance.nets().items()
            if n in parts.nets
        }
        return ModelV(
            decl, self.model.module, values, data=self.model.data, origin=replace(origin, nets=nets)
        )

    def given_starts(self) -> dict[str, Any]:
        """Initial values that an application or a fit has set."""
        found = {}
        for s in self.states:
            stored = self.instance.initial(s.name)
            if stored is not None:
                found[s.name] = lift(stored.detach())
        return found

    def title(self, kind: str) -> str:
        return self.host.naming or f"{self.name}{kind}"


# ---------------------------------------------------------------- reduce


def reduce_model(host: Any, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> ModelV:
    """`reduce(M, pod(…), deim(…), snapshots=…, every=…)`."""
    if not args:
        raise fail("NDL322", "`reduce` wants a model and `pod(…)`", e.span)
    r = Reducer(host, ev, "reduce", args[0], e)
    words = {a.name: a for a in args[1:] if isinstance(a, WordV)}
    if (
        "pod" not in words
        or set(words) - {"pod", "gappy", *RULES}
        or len(words) < len(args) - 1
        or len(words) > 2
    ):
        raise fail(
            "NDL673",
            "`reduce` takes a model, `pod(…)` and perhaps `deim(…)`, `qdeim(…)` or `gappy(…)`",
            e.span,
            help="write `reduce(M, pod(rank=8), deim(points=12), snapshots=run)`",
        )
    rule = next((n for n in ("gappy", *RULES) if n in words), None)
    shots = snapshots_of(r, options)
    basis = pod(shots.states.mT, choice(host, words["pod"], "rank", e.span))
    names = {s.name: s for s in r.states}
    z = r.page.fresh("z")
    blocks = torch.split(basis.vectors, [s.size for s in r.states])
    stands, variables = r.sources({n: Stand(z, (basis.rank,), b) for n, b in zip(names, blocks)})
    variables[z] = Variable(z, (basis.rank,), "A")
    points: dict[int, torch.Tensor] = {}
    facts = [("reduction", _reduction_fact(r, basis))]
    region_names = r.region_names()
    for region in r.structure.regions:
        root, name = region.root, region_names[region.root.id]
        n = size_of(root)
        if rule is None:
            stands[root.id] = Stand(name, extents(root) and (n,))
            continue
        want, many = places(host, words[rule], e.span)
        u = pod(shots.maps[root.id].mT, want)
        if n <= max(u.rank, many or 0) or not extents(root):
            stands[root.id] = Stand(name, extents(root) and (n,))
            facts.append((f"map {name}", f"{_written(root)} is kept at all its {n} places"))
            continue
        p = RULES[rule](u.vectors) if many is None else gappy(u.vectors, max(many, u.rank))
        stands[root.id] = Stand(name, (len(p),), interpolation(u.vectors, p))
        points[root.id] = p
        facts.append((f"map {name}", _map_fact(root, u, p, rule)))
    operators = project(r.affine, [State(z, basis.vectors)], stands, points)
    title = r.title("Reduced")
    draft = smaller.Draft(title, f"{r.name} in {basis.rank} coordinates.", page=r.page)
    starts = smaller.starts(r.parts, r.states, r.page, r.given_starts())
    v = r.page.parameter("V", basis.vectors, "const")
    joined = starts[0] if len(starts) == 1 else f"concat({', '.join(starts)})"
    draft.states.append(f"state {z}: R[{basis.rank}] = {v}.T @ {joined}")
    draft.lifted = _lifted(r, v, z)
    origin = Origin(tuple(facts), basis.vectors, tuple(s.type.extents for s in r.states))
    return r.finish(operators, variables, {z: (basis.rank,)}, draft, origin)


def places(host: Any, word: WordV, span: Span) -> tuple[Choice, int | None]:
    """What a rule for points chooses the basis by, and the number of points if it is another:
    `gappy(points=24, rank=12)`, or half as many vectors as points."""
    if word.name != "gappy":
        return choice(host, word, "points", span), None
    rest = dict(word.options)
    given = word.args or ([rest.pop("points")] if "points" in rest else ())
    many = choice(host, WordV("gappy", tuple(given)), "points", span).rank
    assert many is not None
    vectors = Choice(rank=(many + 1) // 2)
    if rest:
        vectors = choice(host, WordV("gappy", (), rest), "rank", span)
    if vectors.rank is not None and vectors.rank > many:
        raise fail("NDL673", f"`gappy` with {vectors.rank} vectors needs as many points or more", span)
    return vectors, many


def choice(host: Any, word: WordV, whole: str, span: Span) -> Choice:
    """`pod(rank=8)`, `pod(energy=0.999)`, `pod(tol=1e-3)`; a bare number is the first of these."""
    given = dict(word.options)
    if word.args:
        given[whole] = word.args[0]
    known = (whole, "energy", "tol")
    if len(given) != 1 or next(iter(given)) not in known:
        raise fail("NDL673", f"`{word.name}` takes one of {whole}, energy and tol", span)
    (key, value), *_ = given.items()
    x = host.number(value)
    good = is_number(x) and (float(x).is_integer() and x >= 1 if key == whole else 0 < float(x) <= 1)
    if not good:
        what = "a whole number from 1" if key == whole else "a number from 0 to 1"
        raise fail("NDL673", f"`{key}` of `{word.name}` is {what}", span)
    if key == whole:
        return Choice(rank=int(x))
    return Choice(energy=float(x)) if key == "energy" else Choice(tol=float(x))


def _lifted(r: Reducer, v: str, z: str) -> list[str]:
    """The states of the full model, as quantities derived from the reduced one."""
    found, start = [], 0
    for s in r.states:
        rows = v if len(r.states) == 1 else f"{v}[{start}:{start + s.size}]"
        start += s.size
        if not s.name.endswith("'"):
            found.append(f"{s.name} = {smaller.unflattened(f'{rows} @ {z}', s.type.extents)}")
    return found


def _written(root: Node) -> str:
    text = " ".join(root.span.text.split())
    return f"`{text}`" if text else f"`{root.op}`"


def _reduction_fact(r: Reducer, basis: Basis) -> str:
    n = sum(s.size for s in r.states)
    return (
        f"{n} states of `{r.name}` in {basis.rank} coordinates by POD; the snapshots' relative error is "
        f"{basis.missed:.3g}"
    )


def _map_fact(root: Node, u: Basis, p: torch.Tensor, rule: str) -> str:
    return (
        f"{_written(root)} at {len(p)} of its {size_of(root)} places by {rule}; ||(P^T U)^-1|| is "
        f"{amplification(u.vectors, p):.4g}, the factor from the error of the best approximation "
        f"({u.missed:.3g} of the snapshots) to that of the interpolation"
    )


# ---------------------------------------------------------------- truncate, prune


def plain(r: Reducer) -> tuple[dict[int, Stand], dict[str, Variable]]:
    """Every base stands for itself."""
    own = {s.name: Stand(s.name, s.type.extents) for s in r.states}
    stands, variables = r.sources(own)
    for s in r.states:
        variables[s.name] = Variable(s.name, s.type.extents, "A")
    for root, name in r.region_names().items():
        node = r.structure.graph[root]
        stands[root] = Stand(name, extents(node) and (size_of(node),))
    return stands, variables


def truncate_model(
    host: Any, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call
) -> ModelV:
    """`truncate(M, rank=r)`: every matrix between what changes by its best approximation of rank r."""
    if len(args) != 1 or set(options) != {"rank"}:
        wrong = "`truncate` takes a model and `rank`"
        raise fail("NDL673", wrong, e.span, help="write `truncate(M, rank=8)`")
    rank = host.number(options["rank"])
    if not is_number(rank) or not float(rank).is_integer() or rank < 1:
        raise fail("NDL673", "`rank` is a whole number from 1", e.span)
    r = Reducer(host, ev, "truncate", args[0], e)
    stands, variables = plain(r)
    n, start, states = sum(s.size for s in r.states), 0, []
    unit = torch.eye(n, dtype=torch.float64)
    for s in r.states:
        states.append(State(s.name, unit[:, start : start + s.size]))
        start += s.size
    operators = project(r.affine, states, stands, {})
    draft = smaller.Draft(r.title("Truncated"), f"{r.name} with matrices of rank {int(rank)}.", page=r.page)
    draft.states = _own_states(r)
    fact = f"matrices of `{r.name}` by {int(rank)} singular values each"
    origin = Origin((("truncation", fact),), None, ())
    shapes = {s.name: s.type.extents for s in r.states}
    return r.finish(operators, variables, shapes, draft, origin, rank=int(rank))


def _own_states(r: Reducer) -> list[str]:
    """The states as they were written, with their initial values."""
    starts = smaller.starts(r.parts, r.states, r.page, r.given_starts())
    found = []
    for s, start in zip(r.states, starts):
        shape = shape_text(s.type.extents)
        found.append(f"state {s.name}: {shape} = {smaller.unflattened(start, s.type.extents)}")
    return found


def prune_model(host: Any, ev: Evaluator, args: list[Any], options: dict[str, Any], e: tree.Call) -> ModelV:
    """`prune(M, keep=0.25, by=mean_zeros)`: the components of the states that matter most, the others 0."""
    if len(args) != 1 or "keep" not in options:
        raise fail("NDL673", "`prune` takes a model and `keep`", e.span, help="write `prune(M, keep=0.25)`")
    r = Reducer(host, ev, "prune", args[0], e)
    shots = snapshots_of(r, {k: v for k, v in options.items() if k not in ("keep", "by")})
    by = options.get("by", WordV("mean_size"))
    if not isinstance(by, WordV) or by.name not in MEASURES:
        raise fail("NDL673", f"`by` of `prune` is {' or '.join(MEASURES)}", e.span)
    n = sum(s.size for s in r.states)
    count = _count(host, options["keep"], n, e.span)
    chosen = kept_components(shots, by.name, count)
    left = torch.eye(n, dtype=torch.float64)[:, chosen]
    z = r.page.fresh("z")
    blocks = torch.split(left, [s.size for s in r.states])
    stands, variables = r.sources({s.name: Stand(z, (count,), b) for s, b in zip(r.states, blocks)})
    variables[z] = Variable(z, (count,), "A")
    for root, name in r.region_names().items():
        node = r.structure.graph[root]
        stands[root] = Stand(name, extents(node) and (size_of(node),))
    operators = project(r.affine, [State(z, left)], stands, {})
    draft = smaller.Draft(r.title("Pruned"), f"{count} of the {n} components of {r.name}.", page=r.page)
    starts = smaller.starts(r.parts, r.states, r.page, r.given_starts())
    v = r.page.parameter("V", left, "const")
    joined = starts[0] if len(starts) == 1 else f"concat({', '.join(starts)})"
    draft.states.append(f"state {z}: R[{count}] = {v}.T @ {joined}")
    draft.lifted = _lifted(r, v, z)
    fact = f"{count} of the {n} components of the states of `{r.name}`, by {by.name}; the others are 0"
    origin = Origin((("pruning", fact),), left, tuple(s.type.extents for s in r.states))
    return r.finish(operators, variables, {z: (count,)}, draft, origin)


def _count(host: Any, value: Any, n: int, span: Span) -> int:
    """`keep`: a share, or a number of components."""
    keep = host.number(value)
    if isinstance(keep, float) and 0 < keep < 1:
        return max(1, round(keep * n))
    if is_number(keep) and float(keep).is_integer() and 1 <= keep <= n:
        return int(keep)
    raise fail("NDL673", f"`keep` of `prune` is a share below 1 or a number of the {n} components", span)


def kept_components(shots: Snapshots, by: str, count: int) -> torch.Tensor:
    """Those with the fewest zeros, or the largest mean size, in the snapshots; in order."""
    x = shots.states
    score = (x != 0).double().mean(0) if by == "mean_zeros" else x.abs().mean(0)
    return torch.sort(torch.argsort(score, descending=True, stable=True)[:count]).values


__all__ = ["ListV", "Value", "prod", "prune_model", "reduce_model", "truncate_model"]
