"""Some members of a family: a view of a model whose weights and inputs keep only chosen leading rows."""

from __future__ import annotations

from typing import Any, TypeVar

from ndl.runtime.model import Model
from ndl.runtime.weights import Part, put, view
from torch import Tensor

ModelT = TypeVar("ModelT", bound=Model)


def select_members(model: ModelT, rows: Tensor, count: int) -> ModelT:
    """A view of a family of `count` members with the members `rows [m]` (int64) in that order.

    What has no member axis is shared. A path on time that differs by member offers `select(rows)`.
    """
    twin: ModelT = _select(model, rows, count)
    given: list[Any] = [*model.INPUTS, *model.DRAWS]
    for info in given:
        key = f"_input_{info.name}"
        value = twin._buffers.get(key)
        if value is not None and value.ndim > len(info.shape) and value.shape[0] == count:
            twin._buffers[key] = value.index_select(0, rows)
    twin._given = {name: _select_path(value, rows) for name, value in model._given.items()}
    return twin


def is_family(model: Model) -> bool:
    """Whether some weight or constant input has a member axis, so that a subset needs `select_members`."""
    try:
        return bool(model.member_shape()) or any(hasattr(v, "select") for v in model._given.values())
    except AttributeError:
        return False


def _select_path(path: Any, rows: Tensor) -> Any:
    return path.select(rows) if not isinstance(path, Tensor) and hasattr(path, "select") else path


def _select(module: Any, rows: Tensor, count: int) -> Any:
    twin = view(module)
    for name, below in module._modules.items():
        if below is not None:
            twin._modules[name] = _select(below, rows, count)
    if isinstance(module, Part):
        for p in module.PARAMETERS:
            # values that `Part.prepared` has put in the place of constrained weights
            held = module.__dict__.get(p.attribute or p.name)
            if isinstance(held, Tensor) and held.ndim > len(p.shape) and held.shape[0] == count:
                twin.__dict__[p.attribute or p.name] = held.index_select(0, rows)
        for p in module.PARAMETERS:
            for key in (
                p.attribute or p.name,
                f"raw_{p.attribute or p.name}",
                f"unit_{p.attribute or p.name}",
            ):
                weight = module._parameters.get(key)
                value: Any = module._buffers.get(key) if weight is None else weight
                if value is not None and value.ndim > len(p.shape) and value.shape[0] == count:
                    put(twin, key, value.index_select(0, rows))
    return twin
