"""Philox 4x32-10, a counter-based generator (Salmon, Moraes, Dror, Shaw 2011), and what is made of its words.

Every random number of a run is a pure function of a key and a counter: no state, no order of drawing. Words
are 32 bits in int64 tensors. The integers are the same on every device; the floats agree to a few units in
the last place.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

Words = tuple[Tensor, Tensor, Tensor, Tensor]
W = TypeVar("W", Tensor, int)


def philox(counter: tuple[W, W, W, W], key: tuple[W, W]) -> tuple[W, W, W, W]:
    """The four output words of each counter under a key; all arguments in 0..2^32 - 1, whole numbers or int64
    tensors, which are broadcast.

    A product of two words is taken modulo 2^64 by the signed multiplication; shift and mask then give its
    upper word all the same.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for turn in range(ROUNDS):
        if turn:
            k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = ((p1 >> 32) & MASK) ^ c1 ^ k0, ((p0 >> 32) & MASK) ^ c3 ^ k1
        c1, c3 = p1 & MASK, p0 & MASK
    return c0, c1, c2, c3


def subkey(seed: int, stream: int, domain: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """The key of one stream: the first two words of Philox of the stream's number under the seed.

    `domain` keeps the uses of the generator (paths, draws) apart. `seed` and `stream` are taken modulo 2^64.
    """
    counter = (stream & MASK, stream >> 32 & MASK, domain & MASK, 0)
    high, low, *_ = philox(counter, (seed & MASK, seed >> 32 & MASK))
    return (
        torch.tensor(high, dtype=torch.int64, device=device),
        torch.tensor(low, dtype=torch.int64, device=device),
    )


def uniform53(high: Tensor, low: Tensor) -> Tensor:
    """u = (53 bits + 1/2)/2^53 in (0, 1), from all of `high` and the upper 21 bits of `low`."""
    bits = (high << 21) | (low >> 11)
    return (bits.to(torch.float64) + 0.5) * 2.0**-53


def normal_pair(words: Words) -> tuple[Tensor, Tensor]:
    """Two independent standard normals by Box and Muller (1958): r cos(2 pi u2) and r sin(2 pi u2) with
    r = sqrt(-2 log u1), u1 of the first two words, u2 of the last two."""
    radius = torch.sqrt(-2.0 * torch.log(uniform53(words[0], words[1])))
    angle = uniform53(words[2], words[3]) * (2.0 * math.pi)
    return radius * torch.cos(angle), radius * torch.sin(angle)
