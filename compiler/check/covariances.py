"""Laws of random fields: `normal(m, K)` with a covariance map K, or a kernel K(p, q), and `lognormal(m, K)`,
its exponential."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ndl.compiler.check.maps import Map, as_map
from ndl.compiler.check.values import Closure, DistV, FnV
from ndl.compiler.diagnostics import NDLError, fail
from ndl.compiler.source import Span
from ndl.compiler.types import Tensor

if TYPE_CHECKING:
    from ndl.compiler.check.evaluator import Evaluator

LAWS = ("normal", "lognormal")


def covariance_of(law: Any) -> Map | None:
    """The covariance map of a law that has one."""
    return as_map(law.args[1]) if isinstance(law, DistV) and len(law.args) > 1 else None


def kernel_of(map_: Map | None) -> Closure | None:
    """The function K(p, q) of two points that is written in the place of a covariance map."""
    if map_ is None or map_.op != "base" or len(map_.of) != 2 or not isinstance(map_.of[1], Closure):
        return None
    pattern = map_.of[1].expr.pattern
    return map_.of[1] if pattern.bracket == "(" and len(pattern.names) == 2 else None


def check_covariance(ev: Evaluator, name: str, law: Any, type_: Tensor | None, span: Span) -> None:
    """A covariance map belongs to `normal` or `lognormal` of a field, as the second argument."""
    maps = [isinstance(as_map(a), Map) for a in law.args] if isinstance(law, DistV) else []
    if not any(maps) or (maps[0] and isinstance(law.args[0], (Closure, FnV)) and not any(maps[1:])):
        return
    if law.law not in LAWS or len(maps) != 2 or not maps[1]:
        what = f"`{law.law}` has no such form with a linear map"
        ev.error(
            "NDL585", what, law.span or span, help="a random field is `normal(m, K)` or `lognormal(m, K)`"
        )
    elif type_ is not None and type_.on in (None, "time"):
        what = f"a covariance map is that of a random field, and `{name}` is {type_}"
        hint = f"write `{name}: R on Omega ~ …`, or a number as the second argument"
        ev.error("NDL585", what, law.span or span, help=hint)


def formula(map_: Map, number: Callable[[Any], Any], span: Span) -> tuple[Any, ...]:
    """A covariance as `ndl.runtime.random_fields` takes it. Raises `NDLError` for a map that is no function
    of `lap`."""
    if kernel_of(map_) is not None:
        return ("identity",)  # its waves are those of the kernel itself
    if map_.op == "base":
        if map_.name != "lap":
            raise no_function_of_lap(span)
        return ("lap",)
    return (map_.op, *(formula(m, number, span) if isinstance(m, Map) else number(m) for m in map_.of))


def no_function_of_lap(span: Span) -> NDLError:
    """A map that has other eigenfunctions than the Laplacian."""
    return fail(
        "NDL586",
        "the covariance of a random field is here a function of `lap` and `identity`",
        span,
        help="write it like `(identity - 0.01*lap)^-2`, or as a kernel, `(p, q) -> exp(-distance(p, q))`; "
        "other derivatives serve on `fourier` grids, in the draws and initial values of a model",
    )


def negative(span: Span, least: float) -> NDLError:
    """A map that is no covariance."""
    return fail(
        "NDL587",
        f"this map is no covariance: it multiplies a wave by {least:.3g}, which is negative",
        span,
        help="a covariance is a positive function of `-lap`, such as `(identity - lap)^-2`",
    )
