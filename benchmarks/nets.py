"""Dense nets with the same weights for everybody, and gradients in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Net:
    """Affine maps of these sizes with tanh between them; weights are uniform on ±1/sqrt(inputs), float32."""

    sizes: tuple[int, ...]
    seed: int

    @cached_property
    def weights(self) -> list[npt.NDArray[np.float32]]:
        """W [out, in] and b [out] of each layer in turn."""
        rng = np.random.default_rng(self.seed)
        found = []
        for n, m in zip(self.sizes, self.sizes[1:]):
            found.append(rng.uniform(-(n**-0.5), n**-0.5, (m, n)).astype(np.float32))
            found.append(rng.uniform(-(n**-0.5), n**-0.5, m).astype(np.float32))
        return found

    def leaves(self, dtype: Any = None) -> list[Any]:
        """The weights as tensors that want a gradient."""
        import torch

        return [torch.tensor(w, dtype=dtype or torch.float32, requires_grad=True) for w in self.weights]


def in_torch(leaves: Sequence[Any], x: Any) -> Any:
    """The net at x [..., in]."""
    from torch.nn.functional import linear

    pairs = list(zip(leaves[::2], leaves[1::2]))
    for w, b in pairs[:-1]:
        x = linear(x, w, b).tanh()
    return linear(x, *pairs[-1])


def in_jax(leaves: Sequence[Any], x: Any) -> Any:
    import jax.numpy as jnp

    pairs = list(zip(leaves[::2], leaves[1::2]))
    for w, b in pairs[:-1]:
        x = jnp.tanh(x @ w.T + b)
    w, b = pairs[-1]
    return x @ w.T + b


def module(leaves: Iterable[Any]) -> Any:
    """The weights as a module that is the net, for libraries that look for parameters in one."""
    import torch

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.leaves = torch.nn.ParameterList([w.detach().clone() for w in leaves])

        def forward(self, x: Any) -> Any:
            return in_torch(list(self.leaves), x)

    return Field()


def learnable(model: Any) -> list[Any]:
    """The weights of the nets of an NDL model, in the order of its text."""
    return [p for p in model.parameters() if p.requires_grad]


def into_ndl(model: Any, nets: Iterable[Net]) -> Any:
    """The model, with these weights in its nets, which stand in this order."""
    import torch

    weights = [w for net in nets for w in net.weights]
    with torch.no_grad():
        for leaf, w in zip(learnable(model), weights, strict=True):
            leaf.copy_(torch.from_numpy(w))
    return model


def flat(gradients: Iterable[Any]) -> npt.NDArray[np.float64]:
    """Gradients by the weights as one vector."""
    return np.concatenate([np.asarray(g, dtype=np.float64).reshape(-1) for g in gradients])


def distance(found: Any, reference: Any) -> float:
    """The relative distance of two vectors."""
    return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))
