"""Models whose fields have no grid yet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.values import ModelV
from ndl.compiler.syntax import tree

if TYPE_CHECKING:
    from ndl.session import Program


class FieldModel:
    """A model that becomes a class when its fields are given a grid: `Heat.on("uniform(65)")`.

    Called with values it is the same model with those, `Heat(nu=0.1)`, whose `on` gives an instance.
    `ndl.solve` takes it together with the setting `grid`.
    """

    def __init__(self, program: Program, model: ModelV, values: dict[str, Any] | None = None) -> None:
        self._program, self._model, self._values = program, model, values

    def __call__(self, **values: Any) -> FieldModel:
        return FieldModel(self._program, self._model, {**(self._values or {}), **values})

    def on(self, grid: str | None) -> Any:
        """The model's class, or with values an instance, on a grid in the words of the language.

        Raises `NDLError` for a grid that does not fit the model's domains, or for none."""
        placed = self._model if grid is None else on_grid(self._program, self._model, grid)
        cls = self._program.host.compilation.model(placed).cls
        cls._ndl_source = (self._program, placed)
        return cls if self._values is None else cls(**self._values)

    def __repr__(self) -> str:
        return f"<model {self._model.decl.name}, whose fields need a grid>"


def on_grid(program: Program, model: ModelV, grid: str) -> ModelV:
    """The model with its fields on a grid. Raises `NDLError`."""
    from ndl.host.overrides import read

    host, where = program.host, model.decl.name_span
    value = read("grid", grid, "setting ")
    found: ModelV = host.guarded(
        lambda: host.gridded(host.evaluator(), model, value, where, program.checked.module.scope), where
    )
    return found


def written_grids(items: Iterable[tree.Stmt], model: str) -> list[str]:
    """The grids of a file's runs of a model, as they are written."""
    found = []
    for item in items:
        if not isinstance(item, tree.Solve) or item.target.span.text.split("(")[0].strip() != model:
            continue
        for stmt in item.settings:
            if isinstance(stmt, tree.Assign) and [t.span.text for t in stmt.targets] == ["grid"]:
                found.append(" ".join(stmt.value.span.text.split()))
    return found


def has_fields(decl: tree.Model) -> bool:
    """Whether a model declares a state on a domain."""
    states = [s for s in decl.body if isinstance(s, tree.Declare) and s.keyword == "state"]
    return any(isinstance(item.type, tree.FieldType) for s in states for item in s.items)
