"""Tableaux as the sweeps of adaptive runs take them: their error, and values inside a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ndl.runtime.methods import Tableau


def error_of(tableau: Tableau) -> tuple[float, ...]:
    """The weights b - b_hat of a pair's error."""
    assert tableau.b_hat is not None
    out = np.zeros(tableau.stages)
    out[: len(tableau.b)] += tableau.b
    out[: len(tableau.b_hat)] -= tableau.b_hat
    return tuple(out.tolist())


@dataclass(frozen=True)
class Inside:
    """x(t + theta h) = x + h sum_i b_i(theta) k_i with the stages (c, a), b_i(theta) = sum_k powers[i][k]
    theta^(k+1); `used` are the stages whose weights are not 0 throughout."""

    c: tuple[float, ...]
    a: tuple[tuple[float, ...], ...]
    powers: np.ndarray

    @staticmethod
    def of(tableau: Tableau) -> Inside:
        """The tableau's own dense output; where it has none, the cubic Hermite interpolant."""
        if tableau.dense is not None:
            powers = np.zeros((tableau.stages, len(tableau.dense[0])))
            powers[: len(tableau.dense)] = tableau.dense
            return Inside(tableau.c, tableau.A, powers)
        # b_i (3 theta^2 - 2 theta^3), and the slopes at both ends; the last stage is at the step's end
        c, a = (*tableau.c, 1.0), (*tableau.A, tableau.b)
        b = np.zeros(len(c))
        b[: len(tableau.b)] = tableau.b
        powers = b[:, None] * np.array([0.0, 3.0, -2.0])
        powers[0] += (1.0, -2.0, 1.0)
        powers[-1] += (0.0, -1.0, 1.0)
        return Inside(c, a, powers)

    @property
    def used(self) -> list[int]:
        return [int(k) for k in np.nonzero(self.powers.any(1))[0]]

    def weights(self, theta: float) -> list[float]:
        """b_i(theta) of the stages `used`."""
        found = self.powers[self.used] @ theta ** np.arange(1, self.powers.shape[1] + 1)
        return [float(w) for w in found]


__all__ = ["Inside", "error_of"]
