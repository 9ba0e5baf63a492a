"""Names that people bring from other languages and libraries, and what stands for them here."""

from __future__ import annotations

NAMES = {
    "every": "`every` is followed by a positive number: `every 0.1`",
    "print": "an `assert` that fails shows its values, and `ndl run` shows quantities of a model, `y = e`",
    "read_csv": '`table("file.csv", time="t", x="x")` reads a table',
    "loadtxt": '`table("file.csv", time="t", x="x")` reads a table',
    "mse": "write it out: `mean((x - data.x)^2)`",
    "MSE": "write it out: `mean((x - data.x)^2)`",
    "range": "an interval of integers is `0..9`, a loop `for i in 0..9`",
    "arange": "numbers with a step are `0..1 by 0.1`",
    "array": "a list is a tensor: `[1, 2, 3]`",
    "pow": "a power is written `x^2`",
    "fabs": "write `abs(x)`",
    "arctan": "write `atan(x)`",
    "arcsin": "write `asin(x)`",
    "arccos": "write `acos(x)`",
    "arctan2": "write `atan2(y, x)`",
    "laplacian": "write `lap(u)`",
    "laplace_operator": "write `lap(u)`",
    "odeint": "a `solve` block runs a model: `solve M:` with `span` and `method`",
    "solve_ivp": "a `solve` block runs a model: `solve M:` with `span` and `method`",
    "randn": "a draw is a statement: `z ~ normal(0, 1)`; noise in time is `noise W: wiener`",
    "rand": "a draw is a statement: `z ~ uniform(0, 1)`",
    "random": "a draw is a statement: `z ~ uniform(0, 1)`; noise in time is `noise W: wiener`",
    "delay": "the state `x` at an earlier time is `x(t - tau)`",
    "None": "what is not given is left out",
    "self": "names stand by themselves: `k`, not `self.k`",
}
"""What is said of an unknown name."""

MODULES = ("np", "numpy", "math", "torch", "jnp", "jax", "scipy", "tf", "nn", "plt", "pd", "pandas")
for _module in MODULES:
    NAMES[_module] = "functions and constants stand by themselves: `sin(x)`, `exp(x)`, `pi`, `mean(x)`"

TYPES = dict.fromkeys(("float", "double", "real", "float32", "float64", "number"), "R") | {
    "int": "Z",
    "integer": "Z",
    "complex": "C",
    "bool": "Bool",
    "boolean": "Bool",
}
"""Types of other languages."""

OPTIONS = {
    "max_step": "hmax",
    "dtmax": "hmax",
    "maxstep": "hmax",
    "first_step": "h0",
    "dt": "h",
    "dt0": "h0",
    "step": "h",
    "step_size": "h",
    "stepsize": "h",
    "reltol": "rtol",
    "abstol": "atol",
    "tol": "rtol",
    "learning_rate": "lr",
    "hidden": "width",
    "hidden_size": "width",
    "units": "width",
    "layers": "depth",
    "activation": "act",
}
"""Options of methods, optimizers and nets."""

SETTINGS = {
    "tspan": "span",
    "t_span": "span",
    "t": "span",
    "time": "span",
    "iterations": "steps",
    "iters": "steps",
    "maxiter": "steps",
    "max_iter": "steps",
    "trajectories": "ensemble",
    "samples": "ensemble",
    "n": "ensemble",
    "batch_size": "batch",
    "saveat": "save",
    "t_eval": "save",
    "solver": "method",
    "integrator": "method",
    "output": "write",
    "parameters": "fit",
    "params": "fit",
    "opt": "optimizer",
    "optimiser": "optimizer",
}
"""Settings of `solve` and `train`."""


def instead(name: str, known: object, table: dict[str, str]) -> str | None:
    """A help line that offers what stands for a foreign name, where it is known here."""
    found = table.get(name)
    return f"write `{found}`" if found is not None and found in known else None  # type: ignore[operator]
