"""Classes of models that a file applies to values: `model Fast = reduce(…)`, `model Three = M(k=3)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndl.compiler.check.values import ModelV
    from ndl.host.host import Host


def applied(host: Host, model: ModelV, cls: Any) -> Any:
    """A class of its own, whose instances begin with the values of the application; `cls` without any."""
    known = {p.name for p in cls.PARAMETERS} | {s.name for s in cls.STATES} | {i.name for i in cls.INPUTS}
    given = {k for k in model.values if k in known} | {d.name for d in model.decl.data[: len(model.data)]}
    if not given and model.origin is None:
        return cls
    made = host.instance(model)
    names = {p.name: p.attribute or p.name for p in cls.PARAMETERS}
    names |= {s.name: s.attribute or s.name for s in cls.STATES}
    numbers = {names[k]: host.number(v) for k, v in model.values.items() if k in names}
    inputs = {k: v for k, v in made._given.items() if k in known}

    def start(self: Any, *args: Any, **chosen: Any) -> None:
        begun = {} if args else {k: _fresh(v) for k, v in numbers.items()}
        cls.__init__(self, *args, **{**begun, **chosen})
        if model.origin is not None:
            model.origin.settle(self)
        for name, value in inputs.items():
            self._bind(name, value)

    space = {"__init__": start, "__doc__": cls.__doc__, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), space)


def _fresh(value: Any) -> Any:
    """A value that no other instance has."""
    return value.detach().clone() if hasattr(value, "detach") else value
