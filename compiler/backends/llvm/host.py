"""The vector registers of this machine: how large they are, and how many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Registers:
    """`count` vector registers of `bytes` each."""

    bytes: int
    count: int


@cache
def registers() -> Registers:
    """Those that code compiled here has: AVX-512, AVX, NEON, or what every machine has."""
    import llvmlite.binding as binding

    if binding.get_process_triple().startswith(("aarch64", "arm64")):
        return Registers(16, 32)
    features = binding.get_host_cpu_features()
    if features.get("avx512f"):
        return Registers(64, 32)
    return Registers(32 if features.get("avx") else 16, 16)
