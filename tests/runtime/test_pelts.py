"""The whole runtime on a model written by hand: table, constrained weights, solve, training, figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from ndl.runtime import plots
from ndl.runtime.batches import Batch
from ndl.runtime.data import table
from ndl.runtime.info import ParameterInfo, State
from ndl.runtime.optimizers import OptimizerSpec
from ndl.runtime.plots import Labels
from ndl.runtime.solve import solve
from ndl.runtime.train_settings import CheckpointPlan, TrainSettings
from ndl.runtime.training import Trainer
from ndl.runtime.weights import constrained
from problems import DOPRI5, Small, method
from torch import Tensor


class LotkaVolterra(Small):
    NAME = "LotkaVolterra"
    STATES = (State("prey", (), 0, lower=0.0), State("predator", (), 1, lower=0.0))
    PARAMETERS = tuple(ParameterInfo(n, lower=0.0) for n in ("alpha", "beta", "delta", "gamma"))
    DEFAULTS: ClassVar[dict[str, float]] = {
        "alpha": 0.55,
        "beta": 0.028,
        "delta": 0.024,
        "gamma": 0.8,
        "prey": 33.0,
        "predator": 6.0,
    }

    def __getattr__(self, name: str) -> Any:
        """A constrained weight is computed from its free image, as generated models do."""
        if name in ("alpha", "beta", "delta", "gamma"):
            return constrained(getattr(self, f"raw_{name}"), getattr(self, f"unit_{name}"), 0.0, None)
        return super().__getattr__(name)

    def vector_field(self, t: Tensor, x: Tensor) -> Tensor:
        prey, predator = x.unbind(-1)
        eaten = prey * predator
        return torch.stack(
            [self.alpha * prey - self.beta * eaten, self.delta * eaten - self.gamma * predator], -1
        )


def test_the_pelts_are_fitted_interrupted_and_drawn(tmp_path: Path) -> None:
    """The least-squares values are those of an independent optimiser (scipy's `least_squares`)."""
    pelts = Path(__file__).parents[1] / "data" / "lynx-hare.csv"
    data = table(pelts, time="year", prey="hare", predator="lynx")
    assert data.time is not None
    times = data.time.tolist()

    def trainer(steps: int) -> tuple[Trainer, LotkaVolterra]:
        model = LotkaVolterra()
        model.fit_initial()
        weights = {**model.weights(), **{f"initial {k}": p for k, p in model.initial_parameters().items()}}

        def loss(step: int, batch: Batch) -> dict[str, Tensor]:
            s = solve(
                model,
                span=(times[0], times[-1]),
                method=method(DOPRI5, rtol=1e-5, atol=1e-5),
                save=times,
                gradient="discrete",
            )
            return {n: (torch.log(s[n].values) - torch.log(data[n])) ** 2 for n in ("prey", "predator")}

        settings = TrainSettings(
            steps=steps,
            optimizer=OptimizerSpec("lbfgs", {"steps": 5}),
            checkpoint=CheckpointPlan(tmp_path / "checkpoints", every=1),
            progress="silent",
        )
        return Trainer(weights, loss, settings, model=model), model

    trainer(1)[0].run()
    again, model = trainer(2)
    result = again.run(resume=tmp_path / "checkpoints")
    assert abs(float(result.loss) - 0.096127) < 2e-5
    assert abs(float(model.alpha.detach()) - 0.5402) < 0.01
    assert len(result.history.loss) == 2 and list(result.history.terms) == ["prey", "predator"]

    fine = torch.linspace(times[0], times[-1], 200, dtype=torch.float64)
    run = solve(model, span=(times[0], times[-1]), method=method(DOPRI5, rtol=1e-8, atol=1e-8), save=fine)
    figure = plots.fit(
        data.time, data.columns, fine, {n: run[n] for n in ("prey", "predator")}, labels=Labels(time="year")
    )
    (axes,) = figure.axes
    by_kind = [line for line in axes.get_lines() if line.get_linestyle() == "None"]
    assert [len(line.get_xdata()) for line in by_kind] == [21, 21]
    states = plots.plot(run, kind="phase")
    assert states.axes[0].get_xlabel() == "prey" and states.axes[0].get_ylabel() == "predator"
