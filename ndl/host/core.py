"""What a run of a program has: its instances, its settings, values of the language for the runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ndl.compiler.check.evaluator import Evaluator
from ndl.compiler.check.modules import Module
from ndl.compiler.check.scope import Scope
from ndl.compiler.check.values import (
    UNKNOWN,
    ListV,
    ModelV,
    TupleV,
    Unknown,
    Value,
    WordV,
)
from ndl.compiler.diagnostics import NDLError, Sink
from ndl.compiler.source import Span
from ndl.compiler.syntax import tree
from ndl.host.builder import EagerBuilder
from ndl.host.compiled import Compilation
from ndl.host.masked import nothing_missing
from ndl.host.objects import NetObject, PathObject
from ndl.host.sample import Every, batched
from ndl.host.settled import Settled


class Core:
    """Runs one program. Instances, classes and named runs are kept: each is made once."""

    def __init__(
        self,
        module: Module,
        *,
        file: str = "",
        allow: tuple[Path, ...] = (),
        bind: Mapping[str, Any] | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        from ndl.runtime.paths import PathPolicy

        self.module, self.file = module, file
        self.sink = Sink()
        self.compilation = Compilation(self.sink, Path(file).name)
        self.policy = PathPolicy.for_file(file or "program.ndl", tuple(str(a) for a in allow))
        self.compilation.read = self.policy.read
        self.bind = self.compilation.bind = dict(bind or {})
        self.overrides = dict(overrides or {})
        self.instances: dict[int, tuple[ModelV, Any]] = {}
        self.nets: dict[Any, Any] = {}
        self.on_grids: dict[Any, tuple[ModelV, ModelV]] = {}
        self.settled = Settled()
        self.named: dict[int, Any] = {}
        self.differentiating = 0
        self.naming = ""  # the name of the model that is being made by `model NAME = …`
        self.sample: Every | None = None
        """The sample of a batch that a loss speaks of, where all are computed at once."""
        self.run_precision = False
        """Whether runs have the precision of their model: in a training."""
        self.run_device = torch.device("cpu")
        """Where runs are that name no device, and what is made for them: in a training its own."""
        self.run_seed = 0
        """The seed of runs that name none: in a training another one for each step."""
        self.ev = self.evaluator()

    def evaluator(self) -> Evaluator:
        host: Any = self
        ev = Evaluator(EagerBuilder(host), self.sink, strict=True)
        ev.host = host
        return ev

    def call(
        self, ev: Evaluator, name: str, args: list[Any], options: dict[str, Any], e: tree.Call, scope: Scope
    ) -> Any:
        handler = getattr(self, f"_{name}", None)
        if handler is None:
            return ev.not_lowered(f"`{name}`", e.span)
        return self.guarded(lambda: handler(ev, args, options, e), e.span)

    def guarded(self, run: Any, span: Span, place: Callable[[Any], Span] | None = None) -> Any:
        """What the runtime refuses, as a diagnostic at the place that asked for it, or where `place` says."""
        from ndl.host.failures import diagnostic_of
        from ndl.runtime.errors import RunError

        try:
            return run()
        except NDLError:
            raise
        except RunError as error:
            raise NDLError([diagnostic_of(error, span if place is None else place(error))]) from error

    # ------------------------------------------------------------ values for the runtime

    def given(self, value: Any, span: Span) -> Any:
        """A value for a model, of a batch those of all samples: a tensor, a path or a module."""
        if isinstance(value, PathObject):
            return value.path
        if isinstance(value, NetObject):
            return value.module
        found = self.ev.value(value, span)
        if isinstance(found, Unknown):
            return found
        nothing_missing(found, "what a model is given", span)
        return self.whole(found.ref)

    def whole(self, x: torch.Tensor) -> torch.Tensor:
        """What a tensor is for all samples of a batch, `[samples, ...]`."""
        if self.sample is None or not batched(x):
            return x
        kept: torch.Tensor = self.sample.outside(lambda values: values, x)
        return kept

    def number(self, value: Any) -> Any:
        """A plain number, tuple or tensor for the runtime."""
        value = self.ev.known(value)
        if isinstance(value, Value):
            return value.ref
        if isinstance(value, (ListV, TupleV)):
            v = self.ev.value(value, Span())
            return v.ref if isinstance(v, Value) else UNKNOWN
        return value

    def word(self, value: Any, default: str) -> str:
        return value.name if isinstance(value, WordV) else default if value is None else str(value)

    def option(self, value: Any) -> Any:
        """An option of a method for the runtime."""
        if isinstance(value, WordV):
            from ndl.runtime.quadrature import read_rule

            inner = f"({int(self.number(value.args[0]))})" if value.args else ""
            return read_rule(value.name + inner)
        found = self.number(value)
        return float(found) if isinstance(found, torch.Tensor) and found.ndim == 0 else found
