"""What a finished run says: a short summary for people, a mapping for machines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ndl.runtime.history import TrainResult
    from ndl.runtime.model import Model
    from ndl.runtime.repeats import Repeats
    from ndl.runtime.solution import Solution
    from ndl.runtime.varied import Varied

FEW = 6  # values of a tensor that a summary lists one by one


def result_json(result: Solution | TrainResult | Varied) -> dict[str, Any]:
    """The numbers of a result by name: loss and fitted values, or statistics and final values."""
    from ndl.runtime.history import TrainResult
    from ndl.runtime.portions import DataSet
    from ndl.runtime.varied import Varied

    if isinstance(result, DataSet):
        return {"data_set": result.row()}
    if isinstance(result, Varied):
        return {"trainings": result.rows()}
    if isinstance(result, TrainResult):
        seen = {} if result.validation is None else {"validation": _number(result.validation)}
        seen |= {"metrics": {k: _number(v) for k, v in result.metrics.items()}} if result.metrics else {}
        if result.repeats is not None:
            table = result.repeats
            seen["runs"] = [dict(row) for row in table.rows]
            seen |= {k: {n: getattr(table, k)(n) for n in table.names} for k in ("mean", "deviation")}
        return {"loss": _number(result.loss), "steps": result.steps, **seen, **fitted(result.model)}
    stats = {k: _number(getattr(result.stats, k)) for k in ("steps", "rejected", "evaluations")}
    final = {name: _number(result.final[name]) for name in result.names(derived=False)}
    return {"stats": stats, "final": final}


def fitted(model: Model | None) -> dict[str, dict[str, Any]]:
    """A model's own parameters and the initial values that were fitted; the weights of its nets, which
    nobody reads, are in the checkpoint."""
    if model is None or not hasattr(model, "initial_parameters"):
        return {"parameters": {}, "initial": {}}
    own = {p.name: _number(getattr(model, p.attribute or p.name)) for p in model.PARAMETERS if p.trainable}
    free = [name for name, tensor in model.initial_parameters().items() if tensor.requires_grad]
    return {"parameters": own, "initial": {name: _number(model.initial(name)) for name in free}}


def summary(kind: str, name: str, result: Solution | TrainResult | Varied) -> str:
    """A few lines: what was run, how it went, the values that matter."""
    found = result_json(result)
    if "data_set" in found:
        row = found["data_set"]
        return (
            f"{kind} {name}: {row['members']} members in {row['portions']} portions of {row['portion']}, "
            f"{row['made']} of them made in this run\n  data set = {row['path']}"
        )
    if "trainings" in found:
        rows = found["trainings"]
        return "\n".join([f"{kind} {name}: {len(rows)} trainings", *(_training(r) for r in rows)])
    if "loss" in found:
        values = found["parameters"] | {f"{k} at the start": v for k, v in found["initial"].items()}
        lines = getattr(getattr(result, "model", None), "lines", None)  # of a formula
        written = [f"  {line}" for line in lines()] if lines is not None else []
        first = f"{kind} {name}: loss {_short(found['loss'])}"
        first += f", validation {_short(found['validation'])}" if "validation" in found else ""
        return "\n".join([first, *written, *_table({**found.get("metrics", {}), **values})])
    stats = ", ".join(f"{_short(v)} {k}" for k, v in found["stats"].items())
    values = {f"{k} at the end": v for k, v in found["final"].items()}
    return "\n".join([f"{kind} {name}: {stats}", *_table(values)])


def _training(row: dict[str, Any]) -> str:
    """`missing = 0.3: accuracy 0.942 ± 0.013`."""
    place = ", ".join(f"{k} = {v}" for k, v in row["at"].items())
    measures = {k: v for k, v in row.items() if k != "at"}
    shown = [f"{k} {_spread(v['mean'], v.get('deviation', math.nan))}" for k, v in measures.items()]
    return f"  {place}: {', '.join(shown)}"


def print_repeats(found: Repeats) -> None:
    """The numbers of several runs as a table on standard output, with mean ± deviation below."""
    from rich.console import Console
    from rich.table import Table

    labels = [n for n in ("run", "seed", "fold") if found.rows[0][n] is not None]
    shown = Table(show_footer=True)
    for k, name in enumerate([*labels, *found.names]):
        spread = "" if name in labels else _spread(found.mean(name), found.deviation(name))
        shown.add_column(name, justify="right", footer="mean" if k == 0 else spread, no_wrap=True)
    for row in found.rows:
        shown.add_row(*(str(row[n]) for n in labels), *(f"{row[n]:.6g}" for n in found.names))
    Console().print(shown)


def _spread(mean: float, deviation: float) -> str:
    """`0.942 ± 0.013`, to two digits of the deviation."""
    if not (math.isfinite(mean) and math.isfinite(deviation)) or deviation == 0:
        return f"{mean:.4g}"
    places = 1 - math.floor(math.log10(deviation))
    if not 0 <= places <= 8:
        return f"{mean:.4g} ± {deviation:.2g}"
    return f"{mean:.{places}f} ± {deviation:.{places}f}"


def _number(value: Any) -> Any:
    """A tensor as a number or nested lists."""
    return value.detach().cpu().tolist() if hasattr(value, "detach") else value


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, complex):
        return f"{value.real:.6g}{value.imag:+.6g}i"
    if isinstance(value, list):
        flat = _flat(value)
        if len(flat) > FEW and isinstance(flat[0], complex):
            return f"of size {min(map(abs, flat)):.4g} to {max(map(abs, flat)):.4g} ({len(flat)} values)"
        if len(flat) > FEW:
            return f"{min(flat):.4g} to {max(flat):.4g} ({len(flat)} values)"
        return "[" + ", ".join(_short(v) for v in value) + "]"
    return str(value)


def _flat(value: Any) -> list[Any]:
    return [x for v in value for x in _flat(v)] if isinstance(value, list) else [value]


def _table(found: dict[str, Any]) -> list[str]:
    wide = max((len(k) for k in found), default=0)
    return [f"  {k:<{wide}} = {_short(v)}" for k, v in found.items()]
