"""Symbolic regression by regularised evolution.

Several populations of expression trees. In each birth the best of a few (a tournament) is changed, or
crossed with the best of a few others, and the oldest dies; between rounds some members migrate. A tree
counts by its structure, hashed in canonical form: its constants are fitted by Gauss–Newton steps (by
gradient steps where the loss is no sum of squares) when the structure is first met. Of the best tree of each
size, the front, the one with the largest -dlog(loss)/dsize is chosen.

Sources: Real, Aggarwal, Huang, Le (2019), AAAI 33, 4780–4789, for the evolution; Cranmer (2023), arXiv
2305.01582.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np
from ndl.runtime.errors import SettingError
from ndl.runtime.formulas import (
    PRIMITIVES,
    Array,
    C,
    Tree,
    canonical,
    constants,
    number,
    places,
    replaced,
    size,
    subtree,
    values,
    with_slopes,
)

Genome = tuple[Tree, ...]
"""A tree for each result that is searched for jointly."""


@dataclass(frozen=True)
class Settings:
    """population     trees in each of `populations` mutations      births in each population in a round
    tournament     how many compete for being the parent crossover      share of births from two parents
    migration      share of a population that is replaced by trees of the front and of the others, after a
    round descent        steps for the constants of a new structure, from each of `starts` places parsimony
    what a node costs, in shares of the variance that a constant leaves select         `score`, or `loss` for
    the front's end with the least loss and cost of size
    """

    population: int = 30
    populations: int = 8
    mutations: int = 30
    tournament: int = 5
    crossover: float = 0.15
    migration: float = 0.1
    descent: int = 12
    starts: int = 2
    parsimony: float = 1e-3
    select: str = "score"

    def __post_init__(self) -> None:
        for name in ("population", "populations", "mutations", "tournament", "descent", "starts"):
            if getattr(self, name) < 1:
                raise SettingError(f"`{name}` of `evolution` is {getattr(self, name)}; it is at least 1")
        for name in ("crossover", "migration"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"`{name}` of `evolution` is a share from 0 to 1")
        if self.select not in ("score", "loss"):
            raise SettingError("`select` of `evolution` is `score` or `loss`")


class Judge(Protocol):
    """The loss as a function of a genome's values."""

    @property
    def scale(self) -> float:
        """The least loss of constants: what losses are compared with."""
        ...

    def fit(self, genome: Genome, start: Array, steps: int) -> tuple[float, Array]:
        """The loss after fitting the constants from a start, and the constants."""
        ...

    def loss(self, genome: Genome, c: Array) -> float: ...


@dataclass(frozen=True)
class Squares:
    """sum_i weights_i (f(X_i) - target_i)^2 + rest, of one tree; fitted by damped Gauss–Newton steps."""

    X: Array
    target: Array
    weights: Array
    rest: float = 0.0

    @property
    def scale(self) -> float:
        total = self.weights.sum()
        mean = (self.weights * self.target).sum() / total if total else 0.0
        return float((self.weights * (self.target - mean) ** 2).sum())

    def loss(self, genome: Genome, c: Array) -> float:
        with np.errstate(all="ignore"):
            f = values(genome[0], self.X, c)
            found = float((self.weights * (f - self.target) ** 2).sum())
        return found if math.isfinite(found) else math.inf

    def fit(self, genome: Genome, start: Array, steps: int) -> tuple[float, Array]:
        c, best, damping = start, self.loss(genome, start), 1e-3
        if not len(c):
            return best, c
        w = np.sqrt(self.weights)
        for _ in range(steps):
            with np.errstate(all="ignore"):
                f, slopes = with_slopes(genome[0], self.X, c)
                J = np.stack([np.broadcast_to(w * s, w.shape) for s in slopes], 1)
                r = np.broadcast_to(w * (f - self.target), w.shape)
                A, g = J.T @ J, J.T @ r
            if not (np.isfinite(A).all() and np.isfinite(g).all()):
                break
            trial, loss = c, best
            for _ in range(4):
                lead = np.diag(A).copy()
                lead[lead <= 0] = 1e-12
                try:
                    trial = c - np.linalg.solve(A + damping * np.diag(lead), g)
                except np.linalg.LinAlgError:
                    break
                loss = self.loss(genome, trial)
                if loss < best:
                    damping = max(damping / 10, 1e-12)
                    break
                damping *= 10
            if not loss < best:
                break
            gain, best, c = best - loss, loss, trial
            if gain <= 1e-10 * best:
                break
        return best, c


@dataclass(frozen=True)
class Anything:
    """A loss of the values of several trees together; `value_and_slope` gives it and its derivative by the
    values [outputs, N]. Constants by gradient steps, each as long as it helps."""

    X: Array
    scale: float
    value_and_slope: Callable[[Array, bool], tuple[float, Array | None]]

    def _values(self, genome: Genome, c: Array) -> Array:
        rows, at = [], 0
        for tree in genome:
            k = constants(tree)
            rows.append(np.broadcast_to(values(tree, self.X, c[at : at + k]), self.X.shape[1:]))
            at += k
        return np.stack(rows)

    def loss(self, genome: Genome, c: Array) -> float:
        with np.errstate(all="ignore"):
            F = self._values(genome, c)
        if not np.isfinite(F).all():
            return math.inf
        found = self.value_and_slope(F, False)[0]
        return found if math.isfinite(found) else math.inf

    def fit(self, genome: Genome, start: Array, steps: int) -> tuple[float, Array]:
        c, best, rate = start, self.loss(genome, start), 0.1
        if not len(c) or not math.isfinite(best):
            return best, c
        for _ in range(steps):
            with np.errstate(all="ignore"):
                slope = self.value_and_slope(self._values(genome, c), True)[1]
                assert slope is not None
                parts, at = list[float](), 0
                for row, tree in zip(slope, genome):
                    k = constants(tree)
                    _, own = with_slopes(tree, self.X, c[at : at + k])
                    parts += [float((row * s).sum()) for s in own]
                    at += k
            g = np.array(parts)
            if not np.isfinite(g).all() or not g.any():
                break
            for _ in range(8):
                trial = c - rate * g
                loss = self.loss(genome, trial)
                if loss < best:
                    c, best, rate = trial, loss, 2 * rate
                    break
                rate /= 4
            else:
                break
        return best, c


@dataclass(frozen=True)
class Found:
    """A member of the front: the genome, its constants, its size and loss."""

    genome: Genome
    constants: Array
    size: int
    loss: float


@dataclass
class Member:
    genome: Genome
    cost: float


@dataclass
class Search:
    """A search for one genome; a function of the judge, the settings and the seed."""

    judge: Judge
    variables: int
    primitives: tuple[str, ...]
    largest: int
    settings: Settings
    seed: int
    outputs: int = 1
    known: dict[Genome, tuple[float, Array]] = field(default_factory=dict)
    best: dict[int, Found] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        s = self.settings
        self.islands = [
            [self._member(self._random()) for _ in range(s.population)] for _ in range(s.populations)
        ]

    # ------------------------------------------------------------ trees

    def _leaf(self) -> Tree:
        if self.rng.random() < 0.35:
            return C
        return ("x", int(self.rng.integers(self.variables)))

    def _grown(self, nodes: int) -> Tree:
        """A random tree of at most so many nodes."""
        fitting = [p for p in self.primitives if PRIMITIVES[p].arity < nodes]
        if not fitting:
            return self._leaf()
        p = PRIMITIVES[fitting[int(self.rng.integers(len(fitting)))]]
        if p.arity == 1:
            return (p.name, self._grown(nodes - 1))
        left = int(self.rng.integers(1, nodes - 1))
        return (p.name, self._grown(left), self._grown(nodes - 1 - left))

    def _random(self) -> Genome:
        return tuple(self._grown(int(self.rng.integers(1, self.largest + 1))) for _ in range(self.outputs))

    def _place(self, tree: Tree) -> tuple[int, ...]:
        every = list(places(tree))
        return every[int(self.rng.integers(len(every)))]

    def _mutated(self, tree: Tree) -> Tree:
        """A tree changed at one place."""
        at = self._place(tree)
        here = subtree(tree, at)
        leaf = here[0] in ("x", "c")
        kind = int(self.rng.integers(6))
        room = self.largest - size(tree) + size(here)
        if kind == 0 and not leaf:  # another operation of as many operands
            same = [p for p in self.primitives if PRIMITIVES[p].arity == len(here) - 1]
            return replaced(tree, at, (same[int(self.rng.integers(len(same)))], *here[1:]))
        if kind == 1 and not leaf:  # an operand in the place of the operation
            return replaced(tree, at, here[int(self.rng.integers(1, len(here)))])
        if kind == 2 and len(here) == 3:  # operands change places
            return replaced(tree, at, (here[0], here[2], here[1]))
        if kind in (3, 4):  # an operation around it
            p = PRIMITIVES[self.primitives[int(self.rng.integers(len(self.primitives)))]]
            if p.arity == 1:
                return replaced(tree, at, (p.name, here))
            other = self._grown(max(1, min(3, room - size(here) - 1)))
            pair = (here, other) if self.rng.random() < 0.5 else (other, here)
            return replaced(tree, at, (p.name, *pair))
        return replaced(tree, at, self._grown(max(1, int(self.rng.integers(1, max(2, room + 1))))))

    def _crossed(self, a: Tree, b: Tree) -> Tree:
        return replaced(a, self._place(a), subtree(b, self._place(b)))

    # ------------------------------------------------------------ judgement

    def _member(self, genome: Genome) -> Member:
        genome = tuple(map(canonical, genome))
        loss, _ = self.judged(genome)
        nodes = sum(map(size, genome))
        scale = self.judge.scale or 1.0
        return Member(genome, loss / scale + self.settings.parsimony * nodes)

    def judged(self, genome: Genome) -> tuple[float, Array]:
        """Loss and constants of a structure, worked out when it is first met."""
        if genome not in self.known:
            count = sum(map(constants, genome))
            best, c = math.inf, np.ones(count)
            for k in range(self.settings.starts if count else 1):
                start = np.ones(count) if k == 0 else self.rng.normal(0, 2, count)
                loss, fitted = self.judge.fit(genome, start, self.settings.descent)
                if loss < best:
                    best, c = loss, fitted
            self.known[genome] = best, c
            nodes = sum(map(size, genome))
            if nodes not in self.best or best < self.best[nodes].loss:
                self.best[nodes] = Found(genome, c, nodes, best)
        return self.known[genome]

    # ------------------------------------------------------------ rounds

    def _parent(self, island: list[Member]) -> Member:
        chosen = self.rng.integers(len(island), size=self.settings.tournament)
        return min((island[int(k)] for k in chosen), key=lambda m: m.cost)

    def _child(self, island: list[Member]) -> Genome:
        parent = self._parent(island).genome
        k = int(self.rng.integers(self.outputs))
        for _ in range(10):
            if self.rng.random() < self.settings.crossover:
                new = self._crossed(parent[k], self._parent(island).genome[k])
            else:
                new = self._mutated(parent[k])
            if size(new) <= self.largest:
                return (*parent[:k], new, *parent[k + 1 :])
        return parent

    def round(self) -> float:
        """Births in every population, then migration; the least loss so far."""
        s = self.settings
        for island in self.islands:
            for _ in range(s.mutations):
                island.append(self._member(self._child(island)))
                island.pop(0)  # the oldest
        front = self.front()
        for k, island in enumerate(self.islands):
            for i in range(len(island)):
                if self.rng.random() < s.migration:
                    other = self.islands[int(self.rng.integers(len(self.islands)))] if k % 2 else None
                    island[i] = (
                        self._parent(other)
                        if other is not None
                        else self._member(front[int(self.rng.integers(len(front)))].genome)
                    )
        return front[-1].loss

    def front(self) -> list[Found]:
        """The best of each size, where a larger one has a smaller loss."""
        found: list[Found] = []
        for nodes in sorted(self.best):
            if math.isfinite(self.best[nodes].loss) and (not found or self.best[nodes].loss < found[-1].loss):
                found.append(self.best[nodes])
        if not found:
            raise SettingError("no formula of these primitives has a finite loss here")
        return found

    def chosen(self, penalty: float = 0.0) -> Found:
        """The member of the front that is chosen, with constants of few digits; `penalty`: what the loss
        itself asks for a node."""
        front = self.front()
        if penalty or self.settings.select == "loss":
            return self.rounded(min(front, key=lambda f: f.loss + penalty * f.size))
        bound = 1.5 * front[-1].loss + self.floor
        return self.rounded(front[best_score(front, self.floor, bound)])

    @property
    def floor(self) -> float:
        """Losses below are 0: what rounding leaves."""
        return 1e-18 * self.judge.scale + 1e-300

    def rounded(self, f: Found) -> Found:
        """Fewest digits that cost less than a hundredth of the loss."""
        bound = 1.01 * f.loss + self.floor
        for digits in range(1, 13):
            c = np.array([float(f"{x:.{digits}g}") for x in f.constants])
            loss = self.judge.loss(f.genome, c)
            if loss <= bound:
                return Found(f.genome, c, f.size, loss)
        return f


def scores(front: Sequence[Found], floor: float) -> list[float]:
    """-dlog(loss)/dsize along the front; 0 for its first member."""
    found = [0.0]
    for a, b in pairwise(front):
        gain = math.log(max(a.loss, floor)) - math.log(max(b.loss, floor))
        found.append(gain / (b.size - a.size))
    return found


def best_score(front: Sequence[Found], floor: float, bound: float = math.inf) -> int:
    """The largest score among losses up to a bound; of equal ones, the smaller formula."""
    found = scores(front, floor)
    return max((k for k in range(len(front)) if front[k].loss <= bound), key=lambda k: (found[k], -k))


__all__ = ["Anything", "Found", "Search", "Settings", "Squares", "best_score", "number", "scores"]
