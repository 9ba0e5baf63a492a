"""What a run leaves behind can be read back, and no run touches another's."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from pathlib import Path

import pytest
import torch
from ndl.runtime import checkpoints, results
from ndl.runtime.batches import Batch
from ndl.runtime.errors import CheckpointError
from ndl.runtime.optimizers import OptimizerSpec
from ndl.runtime.schedules import ScheduleSpec
from ndl.runtime.train_settings import TrainSettings, ValidatePlan
from ndl.runtime.training import Trainer
from torch import Tensor, nn


def test_two_runs_of_one_second_have_two_folders(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, 12, 0, 5)
    made = [results.new_run(tmp_path, "fit", now) for _ in range(3)]
    assert [p.name for p in made] == ["2026-03-01_12-00-05", "2026-03-01_12-00-05_2", "2026-03-01_12-00-05_3"]
    assert all(p.is_dir() for p in made)


def test_a_training_run_can_be_read_back(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, dtype=torch.float64)
    x = torch.randn(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(step: int, batch: Batch) -> dict[str, Tensor]:
        rows = x if batch.index is None else x[batch.index]
        return {"fit": (model(rows) - rows.sum(-1, keepdim=True)) ** 2, "size": model.weight**2}

    optimizer = OptimizerSpec("adam", {"lr": 0.1, "schedule": ScheduleSpec.of("cosine", 1e-3)})
    settings = TrainSettings(
        steps=6, optimizer=optimizer, validate=ValidatePlan(0.25, every=3), progress="silent"
    )
    parameters = dict(model.named_parameters())
    result = Trainer(parameters, loss, settings, samples=12, model=model).run()
    results.write_settings(tmp_path, {"train": settings, "inf": float("inf")})
    results.write_training(tmp_path, result, {"weight": model.weight, "odd": torch.tensor(float("nan"))})
    numbers = json.loads((tmp_path / "results.json").read_text())
    assert numbers["loss"] == float(result.loss) and numbers["fitted"]["weight"] == model.weight.tolist()
    assert numbers["fitted"]["odd"] is None
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["loss"]) for r in rows] == result.history.loss.tolist()
    assert [float(r["fit"]) + float(r["size"]) for r in rows] == pytest.approx(result.history.loss.tolist())
    assert [r["validation"] != "" for r in rows] == [False, False, True] * 2
    weights = checkpoints.read_tensors(tmp_path / "model.safetensors")
    assert torch.equal(weights["weight"], model.weight)
    saved = json.loads((tmp_path / "settings.json").read_text())
    assert saved["settings"]["train"]["optimizer"]["options"]["schedule"]["name"] == "cosine"
    assert saved["settings"]["inf"] == "inf" and saved["versions"]["torch"] == torch.__version__
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError):
        checkpoints.read_tensors(tmp_path / "model.safetensors")
