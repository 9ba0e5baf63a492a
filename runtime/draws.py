"""Random values of programs: pure functions of (seed, stream, sample, step, turn, place in the value).

Every number of a value has its own Philox counter (sample, step, turn, place) under the key of its stream, so
that a value does not depend on batch, device or order. Laws with a pathwise derivative are differentiable in
their arguments: the random number is made first and carried through the law's transformation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from ndl.runtime.info import DrawInfo
from ndl.runtime.laws import LAWS, Law, Numbers, another, numbers, uniforms
from ndl.runtime.philox import MASK, normal_pair, philox, subkey
from ndl.runtime.random_fields import places
from torch import Tensor

DOMAIN = 2
"""The draws' part of the generator; see `philox.subkey`."""
WAVES = "waves"
"""The law of a draw that is the normals behind a random field; its argument is how many axes count waves."""


def draw(
    law: str,
    shape: Sequence[int] = (),
    *arguments: Any,
    seed: int,
    stream: int,
    sample: Any = 0,
    step: Any = 0,
    turn: Any = 0,
    dtype: torch.dtype = torch.float64,
    device: Any = None,
    places: Tensor | None = None,
) -> Tensor:
    """A value of `law(*arguments)`, `[..., *shape]`, leading axes those of `sample`, `step`, `turn` together.

    `stream` is the draw's place in the program. Arguments broadcast against the value from the right.
    `places` numbers the entries of the value, in order if it is not given. Raises `SettingError` for an
    unknown law or wrong arguments.
    """
    checked = Law(law, tuple(arguments))
    where = torch.device(device) if device is not None else torch.device("cpu")
    lead = [torch.as_tensor(v, dtype=torch.int64, device=where) & MASK for v in (sample, step, turn)]
    lead = [v.reshape((*v.shape, *[1] * len(shape))) for v in lead]
    place = torch.arange(prod(shape), dtype=torch.int64) if places is None else places
    place = place.to(where).reshape(tuple(shape))
    counter = (lead[0], lead[1], lead[2], place)
    words = philox(counter, subkey(seed, stream, DOMAIN, where))

    def again(k: int) -> tuple[Tensor, Tensor]:
        return uniforms(philox(counter, subkey(seed, another(stream, k), DOMAIN, where)))

    given = [_argument(a, where) for a in checked.arguments]
    value: Tensor = LAWS[law][0](Numbers(*uniforms(words), normal_pair(words)[0], again), *given)
    return value.to(dtype)


def _argument(a: Any, device: torch.device) -> Any:
    """An argument of a law in full precision; the name of a set stays."""
    if isinstance(a, str):
        return a
    found = a if isinstance(a, Tensor) else torch.tensor(a, dtype=torch.float64)
    return found.to(device) if found.is_floating_point() else found.to(device, torch.float64)


def stream_of(info: DrawInfo) -> int:
    """The stream of a draw's numbers."""
    return int.from_bytes(hashlib.sha256((info.stream or info.name).encode()).digest()[:4], "big")


@dataclass(frozen=True)
class Chance:
    """Where a run's draws come from: its seed, and the step of training (0 outside)."""

    seed: int = 0
    step: int = 0
    first: int = 0  # the number of the first sample, where a batch is computed in pieces

    def value(self, info: DrawInfo, sample: Any, turn: Any = 0) -> torch.Tensor:
        """The draw of the members `sample` in their turns, `[..., *shape]`; what a member of a family has
        is that of the family alone, by the law's own streams."""
        member = torch.as_tensor(sample, dtype=torch.int64) + self.first
        if info.law == WAVES:
            return self._waves(info, member, turn)
        if info.per == "member" and info.law != "members":
            law = Law(info.law, info.arguments)
            return law.at(member, info.shape, seed=self.seed, stream=info.name, step=self.step)
        stream = stream_of(info)
        where = {
            "seed": self.seed,
            "stream": stream,
            "sample": sample + self.first,
            "step": self.step,
            "turn": turn,
        }
        if info.law == "members":
            values = torch.as_tensor(info.arguments[0], dtype=torch.float64)
            if info.per == "sample":
                member = torch.floor(draw("uniform", **where) * len(values)).to(torch.int64)
            return values[member % len(values)]
        return draw(info.law, info.shape, *info.arguments, **where)

    def _waves(self, info: DrawInfo, member: torch.Tensor, turn: Any) -> torch.Tensor:
        """Standard normals for the waves of a random field, numbered alike on every grid."""
        place = places(info.shape, info.arguments[0])
        if info.per == "member":
            return numbers(member, info.shape, self.seed, info.name, self.step, place).z
        return draw(
            "normal",
            info.shape,
            seed=self.seed,
            stream=stream_of(info),
            sample=member,
            step=self.step,
            turn=turn,
            places=place,
        )
