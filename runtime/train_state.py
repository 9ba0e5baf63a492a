"""The state of a training as a checkpoint, and back: parameters, memory, averages, optimisers, schedules,
histories, the best parameters so far, the state of the random generators."""

from __future__ import annotations

from typing import Any

import torch
from ndl.runtime import checkpoints
from ndl.runtime.checkpoints import Checkpoint
from ndl.runtime.errors import CheckpointError
from ndl.runtime.history import Record
from ndl.runtime.movers import Mover
from ndl.runtime.schedules import Plateau
from ndl.runtime.train_settings import differences
from torch import Tensor


def capture(trainer: Any, k: int, team: list[Mover]) -> Checkpoint:
    """Everything that the rest of the run depends on, in phase k."""
    tensors: dict[str, Tensor] = {f"parameter/{n}": p for n, p in trainer.parameters.items()}
    tensors.update({f"memory/{n}": m for n, m in trainer.memory.items()})
    tensors.update(trainer.record.tensors())
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    if trainer.average is not None:
        tensors.update({f"average/{n}": a for n, a in trainer.average.weights.items()})
    optimizers = [
        checkpoints.pack(m.optimizer.state_dict(), tensors, f"optimizer/{m.player.name}") for m in team
    ]
    plateaus = [m.schedule.state() if isinstance(m.schedule, Plateau) else None for m in team]
    data = {
        "step": trainer.step,
        "phase": k,
        "settings": trainer.settings.describe(),
        "versions": checkpoints.versions(),
        "history": list(trainer.record.series),
        "metrics": list(trainer.record.metrics),
        "optimizers": optimizers,
        "schedules": [checkpoints.pack(p, tensors, "") for p in plateaus],
        "best": {
            "step": trainer.watch.best_step,
            "loss": checkpoints.pack(trainer.watch.best_value, tensors, ""),
        },
        "average": 0 if trainer.average is None else trainer.average.count,
        "stopped": trainer.watch.stopped,
    }
    return Checkpoint(data, tensors, trainer.watch.best)


def check(trainer: Any, loaded: Checkpoint) -> int:
    """Refuse a checkpoint of something else; the phase it stands in."""
    here = {n: list(p.shape) for n, p in trainer.parameters.items()}
    there = {
        n.removeprefix("parameter/"): list(t.shape)
        for n, t in loaded.tensors.items()
        if n.startswith("parameter/")
    }
    if here != there:
        odd = sorted(n for n in {*here, *there} if here.get(n) != there.get(n))
        raise CheckpointError(
            f"the checkpoint `{loaded.path}` is of another model: `{odd[0]}` is "
            f"{there.get(odd[0], 'absent')} there and {here.get(odd[0], 'absent')} here"
        )
    changed = differences(loaded.data["settings"], trainer.settings.describe())
    if changed:
        raise CheckpointError(
            f"the checkpoint `{loaded.path}` was made with another `{changed[0]}`",
            help="only `steps` and `epochs` may change when a run goes on; start anew for the rest",
        )
    step = int(loaded.data["step"])
    if step > trainer.total:
        raise CheckpointError(
            f"the checkpoint `{loaded.path}` is {step} steps along, past the {trainer.total} asked for"
        )
    phase = int(loaded.data["phase"])
    done = step == sum(trainer.lengths[: phase + 1])
    return phase + 1 if done and phase + 1 < len(trainer.phases) else phase


def restore(trainer: Any, loaded: Checkpoint, team: list[Mover]) -> None:
    """Put everything back."""
    data, tensors = loaded.data, loaded.tensors
    try:
        with torch.no_grad():
            for name, p in trainer.parameters.items():
                p.copy_(tensors[f"parameter/{name}"])
            for name, m in trainer.memory.items():
                m.copy_(tensors[f"memory/{name}"])
        trainer.step = int(data["step"])
        if trainer.phases_at(min(trainer.step, trainer.total - 1)) == int(data["phase"]):
            for mover, state, schedule in zip(team, data["optimizers"], data["schedules"]):
                mover.restore(checkpoints.unpack(state, tensors))
                if isinstance(mover.schedule, Plateau):
                    mover.schedule.restore(checkpoints.unpack(schedule, tensors))
        trainer.record = Record.restore(tensors, data["history"], trainer.step, data["metrics"])
        watch = trainer.watch
        watch.best, watch.best_step = loaded.best, int(data["best"]["step"])
        watch.best_value = float(checkpoints.unpack(data["best"]["loss"], tensors))
        watch.stopped = bool(data["stopped"])
        if trainer.average is not None:
            trainer.average.count = int(data["average"])
            names = trainer.parameters if trainer.average.count else ()
            trainer.average.weights = {n: tensors[f"average/{n}"] for n in names}
        torch.set_rng_state(tensors["random/cpu"])
        if "random/cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random/cuda"])
    except (KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint `{loaded.path}` is damaged: {error}") from error
    trainer.saved = loaded.path
