"""Reductions over the batch: of one sample alone they are the identity (0 for the
variance, 1 for the size)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from ndl.compiler.ops.rules import numeric, tensors
from ndl.compiler.ops.table import Attributes, Op, register
from ndl.compiler.ops.text import call
from ndl.compiler.types import Tensor, Type


def _rule(types: Any, attributes: Attributes) -> Type:
    what = "a reduction over the batch"
    found = tensors(types, what)
    numeric(found, what)
    return found[0]


def _rank(types: Any) -> str:
    return str(types[0].rank if isinstance(types[0], Tensor) else 0)


def _same(x: Any) -> Any:
    return x


def _none(x: Any) -> Any:
    return x * 0


def _text(name: str, texts: Sequence[str], types: Sequence[Type], attributes: Attributes) -> str:
    return call(f"ops.{name}", texts[0], _rank(types))


for _name, _reference in {"batch_mean": _same, "batch_sum": _same, "batch_var": _none}.items():
    register(
        Op(
            _name,
            _rule,
            _reference,
            partial(_text, _name),
        )
    )


def _size_rule(types: Any, attributes: Attributes) -> Type:
    tensors(types, "the size of a batch")
    return Tensor("R")


def _one(x: Any) -> Any:
    import torch

    return torch.ones((), dtype=torch.float64)


register(
    Op("batch_size", _size_rule, _one, lambda texts, types, a: call("ops.batch_size", texts[0], _rank(types)))
)
