"""Names of generated code: those that the kernel gives, numbers for the rest."""

from __future__ import annotations

from ndl.compiler.backends.torch import names
from ndl.compiler.backends.torch.names import identifier, words

TAKEN = words(
    """
    BLOCK BUFFERS EVEN KERNEL PRECISION TILES WORKSPACE busy count desk done ended first float fresh grid
    lane_by_lane lanes launch live m num_stages num_warps portion programs queue queue_ptr rank stride tile tl
    torch triton work
    """
)
"""What every module says itself."""


class Names(names.Names):
    """Hands out names, each once: the same requests in the same order give the same names."""

    def __init__(self) -> None:
        super().__init__(TAKEN)
        self._numbers: dict[str, int] = {}

    def kept(self, wanted: str) -> str:
        """`wanted` as an identifier; helpers' names begin with `_`, so that others' do not."""
        return self.fresh(identifier(wanted).lstrip("_") or "x")

    def numbered(self, base: str) -> str:
        """`base` followed by its next number."""
        self._numbers[base] = n = self._numbers.get(base, -1) + 1
        return self.kept(f"{base}{n}")


def ascii_name(name: str) -> str:
    """A name that assemblers take too."""
    return "".join(c if c.isascii() else f"u{ord(c):x}" for c in identifier(name))
