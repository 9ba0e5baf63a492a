"""The optimisers of torch.optim by their lower-case names, with checked options.

`adam(lr=1e-3, decay=1e-4, schedule=cosine(1e-6), warmup=100, clip=1)` is
`OptimizerSpec("adam", {...})`. The options are those of the torch class, and, for all of them: `decay`
(torch's `weight_decay`), `schedule`, `warmup` (steps), `clip` (largest norm of the
gradient) and `clip_value` (largest of its components).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from ndl.runtime.errors import SettingError, did_you_mean
from ndl.runtime.schedules import Factor, Plateau, ScheduleSpec
from torch import Tensor

# Sparse gradients never arise here; the rest would change what a run computes only in speed.
LEFT_OUT = frozenset({"sparseadam"})
HIDDEN = frozenset({"params", "maximize", "foreach", "capturable", "differentiable", "fused"})
COMMON = ("decay", "schedule", "warmup", "clip", "clip_value")
ALIASES: Mapping[str, tuple[str, Mapping[str, str], Mapping[str, Any]]] = {
    "momentum": ("sgd", {"beta": "momentum"}, {"momentum": 0.9}),
}
RENAMED: Mapping[str, Mapping[str, str]] = {"lbfgs": {"steps": "max_iter"}}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"lbfgs": {"line_search_fn": "strong_wolfe"}}


@cache
def classes() -> dict[str, type[torch.optim.Optimizer]]:
    """Lower-case name -> class, of everything in torch.optim that takes dense gradients."""
    found = {}
    for name, value in vars(torch.optim).items():
        is_one = isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
        if is_one and value is not torch.optim.Optimizer and name.lower() not in LEFT_OUT:
            found[name.lower()] = value
    return dict(sorted(found.items()))


def names() -> tuple[str, ...]:
    """All optimisers that a program can name."""
    return tuple(sorted({*classes(), *ALIASES}))


def options(name: str) -> dict[str, Any]:
    """The options of an optimiser with their defaults (`inspect.Parameter.empty` for none)."""
    target, renamed, preset = ALIASES.get(name, (name, {}, {}))
    signature = inspect.signature(classes()[target].__init__).parameters
    found = {k: p.default for k, p in signature.items() if k not in HIDDEN and k != "self"}
    found.update(DEFAULTS.get(target, {}))
    found.update(preset)
    renames = {**renamed, **RENAMED.get(target, {})}
    for mine, theirs in renames.items():
        found[mine] = found[theirs]
    if "weight_decay" in found:
        found["decay"] = found["weight_decay"]
    return {**found, "schedule": None, "warmup": 0, "clip": None, "clip_value": None}


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimiser by name; `groups` gives parameters (or all below a prefix) options of their own."""

    name: str = "adam"
    options: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        if self.name not in names():
            raise SettingError(
                f"there is no optimiser `{self.name}`",
                code="NDL511",
                help=did_you_mean(self.name, names()) or f"optimisers are {', '.join(names())}",
            )
        known = options(self.name)
        for option in [*self.options, *(o for _, group in self.groups for o in group)]:
            if option not in known:
                raise SettingError(
                    f"the `optimizer`, `{self.name}`, has no option `{option}`",
                    code="NDL511",
                    help="write `lr`"
                    if option == "learning_rate"
                    else did_you_mean(option, known) or f"its options are {', '.join(known)}",
                )

    @property
    def lr(self) -> float:
        return float(self.options.get("lr", _number(options(self.name).get("lr", 1.0))))

    @property
    def clip(self) -> float | None:
        value = self.options.get("clip")
        return None if value is None else float(value)

    @property
    def clip_value(self) -> float | None:
        value = self.options.get("clip_value")
        return None if value is None else float(value)

    def schedule(self) -> Factor | Plateau | None:
        """The schedule, after the warm-up if there is one."""
        spec = self.options.get("schedule")
        if isinstance(spec, str):
            spec = ScheduleSpec(spec)
        steps = int(self.options.get("warmup", 0))
        if steps and spec is not None and spec.name == "inverse_sqrt":
            spec = ScheduleSpec("inverse_sqrt", {"warmup": steps})
        elif steps:
            spec = ScheduleSpec("warmup", {"steps": steps, "then": spec})
        return None if spec is None else spec.build(self.lr)

    def build(self, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """The torch optimiser over named leaves; LBFGS takes the strong Wolfe line search by default."""
        target = ALIASES.get(self.name, (self.name,))[0]
        made = classes()[target]
        rest = dict(parameters)
        groups: list[dict[str, Any]] = []
        for pattern, own in self.groups:
            chosen = {n: p for n, p in rest.items() if matches(pattern, n)}
            if not chosen:
                raise SettingError(
                    f"no fitted parameter is called `{pattern}`", help=did_you_mean(pattern, parameters)
                )
            groups.append({"params": list(chosen.values()), **self._translate(own, False)})
            rest = {n: p for n, p in rest.items() if n not in chosen}
        if rest:
            groups.insert(0, {"params": list(rest.values())})
        try:
            return made(groups, **self._translate(self.options, True))
        except (ValueError, TypeError) as error:
            raise SettingError(f"the `optimizer`, `{self.name}`, refuses its options: {error}") from error

    def _translate(self, mine: Mapping[str, Any], whole: bool) -> dict[str, Any]:
        """Options as the torch class calls them."""
        target, renamed, preset = ALIASES.get(self.name, (self.name, {}, {}))
        renames = {**renamed, **RENAMED.get(target, {}), "decay": "weight_decay"}
        theirs: dict[str, Any] = {**DEFAULTS.get(target, {}), **preset} if whole else {}
        for key, value in mine.items():
            if key in COMMON and key != "decay":
                continue
            # torch wants `betas` to be of one type, and `[0, 0.9]` is not
            theirs[renames.get(key, key)] = tuple(map(float, value)) if isinstance(value, list) else value
        return theirs


def matches(pattern: str, name: str) -> bool:
    """Whether `name` is the parameter `pattern` or lies below it (`net` has `net.layer.W`)."""
    return name == pattern or name.startswith(pattern + ".")


def select(patterns: Sequence[str] | None, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The named parameters that a list of names or prefixes takes; None takes all."""
    if patterns is None:
        return dict(parameters)
    for pattern in patterns:
        if not any(matches(pattern, name) for name in parameters):
            raise SettingError(
                f"there is no parameter `{pattern}` to fit",
                help=did_you_mean(pattern, parameters) or f"parameters are {', '.join(parameters)}",
            )
    return {n: p for n, p in parameters.items() if any(matches(pattern, n) for pattern in patterns)}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | Tensor) else 1.0
