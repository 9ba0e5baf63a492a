"""The training loop: players move in turn, phases run in turn, and any moment can be gone on from.

A run is a function of (parameters, data, settings): batches belong to (seed, epoch), schedules to the
step, random numbers to the saved state of the generator. So a resumed run equals an uninterrupted one bit
for bit on a CPU. The loop knows nothing of models: it moves named leaf tensors to lower a callable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ndl.runtime import checkpoints
from ndl.runtime.batches import Batch, Batches, chunks, split
from ndl.runtime.checkpoints import Checkpoint, CheckpointStore
from ndl.runtime.errors import CheckpointError, SettingError, TrainFailure, TrainInterrupted
from ndl.runtime.history import History, Record, TrainResult
from ndl.runtime.interrupts import Interrupts, Overdue
from ndl.runtime.movers import Mover, evaluate, movers
from ndl.runtime.progress import Progress, progress
from ndl.runtime.schedules import Plateau
from ndl.runtime.train_settings import Loss, TrainSettings, differences
from torch import Tensor


class Trainer:
    """Fits named leaf tensors to a loss.

    parameters  name -> leaf tensor with gradient
    loss        (step, batch) -> a tensor (its mean is taken) or terms by name (their sum is the loss)
    samples     extent of the data's sample axis, if it has one
    memory      name -> tensor that the loss or `after_step` changes in place; kept in checkpoints
    validate    loss for the held-out samples or for other data; `loss` itself if None
    grace       seconds that a step may still take after Ctrl-C
    after_step  called with the number of steps done, before a checkpoint is written
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        loss: Loss,
        settings: TrainSettings,
        *,
        samples: int | None = None,
        memory: Mapping[str, Tensor] | None = None,
        validate: Loss | None = None,
        model: Any = None,
        after_step: Callable[[int], None] | None = None,
        report: Progress | None = None,
        grace: float = 10.0,
    ) -> None:
        self.grace = grace
        self.parameters, self.loss, self.settings = dict(parameters), loss, settings
        self.samples, self.memory, self.validate = samples, dict(memory or {}), validate
        self.model, self.after_step = model, after_step
        self.report = report if report is not None else progress(settings.progress)
        self.phases = settings.stretches()
        self.batches, self.held = self._plan_batches()
        self.lengths = [p.settings.length(b.count) for p, b in zip(self.phases, self.batches)]
        self.total = sum(self.lengths)
        folder = settings.checkpoint.folder
        self.store = CheckpointStore(Path(folder), settings.checkpoint.keep) if folder is not None else None
        self.record = Record()
        self.step = 0
        self.best: dict[str, Tensor] = {}
        self.best_loss, self.best_step = math.inf, 0
        self.saved: Path | None = None
        self._saved_at = time.monotonic()

    # ------------------------------------------------------------ the loop

    def run(self, resume: str | Path | None = None) -> TrainResult:
        """Train to the end; `resume` goes on from a checkpoint or the latest of a folder."""
        began = time.monotonic()
        cuda = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=cuda), Interrupts(self.grace) as interrupts:
            torch.manual_seed(self.settings.seed)
            at = 0
            loaded = None
            if resume is not None:
                loaded = checkpoints.load(resume)
                at = self._check(loaded)
            elif self.store is not None:
                self.store.fresh()
            self.report.start(self.total, 0 if loaded is None else int(loaded.data["step"]))
            try:
                for k in range(at, len(self.phases)):
                    team = self._team(k)
                    if loaded is not None:
                        self._restore(loaded, team)
                        loaded = None
                    self._stretch(k, team, interrupts)
            except Overdue:
                raise self._given_up(interrupts.name or "a signal") from None
            finally:
                self.report.finish()
            return self._result(time.monotonic() - began)

    def _stretch(self, k: int, team: list[Mover], interrupts: Interrupts) -> None:
        """The rest of phase k."""
        phase, batches = self.phases[k], self.batches[k]
        start = sum(self.lengths[:k])
        while self.step < start + self.lengths[k]:
            local = self.step - start
            epoch, index = batches.at(local)
            batch = Batch(self.step, self.total, epoch, index)
            values: dict[str, float] = {}
            for mover in team:
                if local % mover.player.every == 0:
                    self._move(mover, local, self.lengths[k], batch, values, len(team) > 1)
            self.record.add(values)
            self.step += 1
            if self.after_step is not None:
                self.after_step(self.step)
            self._look(k, team, local + 1, values)
            last = self.step == start + self.lengths[k]
            if self.step == self.total or self._due():
                self._save(k, team)
            if interrupts.name is not None and self.step < self.total:
                interrupts.settle()
                self._stop(interrupts.name, k, team)
            shown = values.get(f"loss/{team[0].player.name}", math.nan)
            seen = self.record.validation[-1] if self.record.validation else None
            self.report.update(self.step, shown, seen, phase.name)
            if last:
                return

    def _move(
        self, mover: Mover, local: int, length: int, batch: Batch, values: dict[str, float], several: bool
    ) -> None:
        try:
            loss, terms, rate = mover.move(local, length, batch)
        except TrainFailure as failure:
            raise self._last_good(failure) from failure.__cause__
        name = mover.player.name
        values[f"loss/{name}"] = loss
        for term, value in terms.items():
            values[f"term/{name}.{term}" if several else f"term/{term}"] = value
        values.setdefault("rate", rate)
        first = next((v for v in self.record.series.get(f"loss/{name}", []) if not math.isnan(v)), loss)
        bound = self.settings.diverged * (1 + abs(first))
        if (-loss if mover.player.maximize else loss) > bound:
            raise self._last_good(
                TrainFailure(
                    f"training diverged in step {self.step + 1}: the loss is {loss:.4g}, after "
                    f"{first:.4g} in the first step",
                    step=self.step + 1,
                    term=name,
                    help="try a smaller learning rate, or `clip`",
                )
            )
        if isinstance(mover.schedule, Plateau) and not self._validates(self.phases_at(self.step)):
            mover.schedule.observe(loss)

    # ------------------------------------------------------------ validation

    def phases_at(self, step: int) -> int:
        """The phase that the step (from 0) belongs to."""
        for k in range(len(self.phases)):
            if step < sum(self.lengths[: k + 1]):
                return k
        return len(self.phases) - 1

    def _validates(self, k: int) -> bool:
        return self.phases[k].settings.validate is not None

    def _look(self, k: int, team: list[Mover], local: int, values: Mapping[str, float]) -> None:
        """Validate when it is time; keep the parameters if they are the best so far."""
        plan = self.phases[k].settings.validate
        if plan is None:
            return
        every = plan.every or max(1, self.batches[k].count)
        if local % every and local != self.lengths[k]:
            return
        value = self._mean(self.validate or team[0].loss, chunks(self.held[k], self.phases[k].settings.batch))
        self.record.validation.append(value)
        self.record.validation_steps.append(self.step)
        for mover in team:
            if isinstance(mover.schedule, Plateau):
                mover.schedule.observe(value)
        if plan.keep_best and value < self.best_loss:
            self.best_loss, self.best_step = value, self.step
            self.best = {n: p.detach().clone() for n, p in self._everything().items()}

    def _result(self, seconds: float) -> TrainResult:
        if self.best:
            with torch.no_grad():
                for name, tensor in self._everything().items():
                    tensor.copy_(self.best[name])
        return TrainResult(
            loss=torch.tensor(self._final_loss(), dtype=torch.float64),
            history=History.of(self.record),
            model=self.model,
            steps=self.step,
            checkpoint=self.saved,
            best_step=self.best_step if self.best else None,
            seconds=seconds,
        )

    def _final_loss(self) -> float:
        """The first player's loss at the final parameters, over all batches of an epoch; when the last
        phase was shorter than an epoch, over as many batches as it had."""
        k = len(self.phases) - 1
        batches = self.batches[k]
        turns = range(min(batches.count, self.lengths[k]))
        return self._mean(self._team(k)[0].loss, [batches.at(turn)[1] for turn in turns])

    def _mean(self, loss: Loss, indices: Sequence[Tensor | None]) -> float:
        """The mean of a loss over samples, taken in batches; gradients stay on, for a loss may use them."""
        total, weight = 0.0, 0
        for index in indices:
            batch = Batch(self.step, self.total, 0, index, training=False)
            n = 1 if index is None else len(index)
            total += n * float(evaluate(loss, self.step, batch)[0].detach())
            weight += n
        return total / weight

    # ------------------------------------------------------------ checkpoints

    def _due(self) -> bool:
        plan = self.settings.checkpoint
        if plan.every is not None:
            return self.step % plan.every == 0
        return time.monotonic() - self._saved_at >= plan.seconds

    def _save(self, k: int, team: list[Mover]) -> None:
        """Write a checkpoint of sound parameters; unsound ones end the run instead."""
        for name, p in self.parameters.items():
            if not bool(torch.isfinite(p).all()):
                raise self._last_good(
                    TrainFailure(
                        f"the parameter `{name}` is not finite after step {self.step}",
                        step=self.step,
                        term=name,
                        help="try a smaller learning rate, or `clip`",
                    )
                )
        if self.store is None:
            return
        tensors: dict[str, Tensor] = {f"parameter/{n}": p for n, p in self.parameters.items()}
        tensors.update({f"memory/{n}": m for n, m in self.memory.items()})
        tensors.update(self.record.tensors())
        tensors["random/cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random/cuda"] = torch.cuda.get_rng_state()
        optimizers = []
        for mover in team:
            optimizers.append(
                checkpoints.pack(mover.optimizer.state_dict(), tensors, f"optimizer/{mover.player.name}")
            )
        data = {
            "step": self.step,
            "phase": k,
            "settings": self.settings.describe(),
            "versions": checkpoints.versions(),
            "history": list(self.record.series),
            "optimizers": optimizers,
            "schedules": [
                checkpoints.pack(m.schedule.state() if isinstance(m.schedule, Plateau) else None, tensors, "")
                for m in team
            ],
            "best": {"step": self.best_step, "loss": checkpoints.pack(self.best_loss, tensors, "")},
        }
        self.saved = self.store.save(self.step, Checkpoint(data, tensors, self.best))
        self._saved_at = time.monotonic()

    def _check(self, loaded: Checkpoint) -> int:
        """Refuse a checkpoint of something else; the phase it stands in."""
        here = {n: list(p.shape) for n, p in self.parameters.items()}
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
        changed = differences(loaded.data["settings"], self.settings.describe())
        if changed:
            raise CheckpointError(
                f"the checkpoint `{loaded.path}` was made with another `{changed[0]}`",
                help="only `steps` and `epochs` may change when a run goes on; start anew for the rest",
            )
        step = int(loaded.data["step"])
        if step > self.total:
            raise CheckpointError(
                f"the checkpoint `{loaded.path}` is {step} steps along, past the {self.total} asked for"
            )
        phase = int(loaded.data["phase"])
        done = step == sum(self.lengths[: phase + 1])
        return phase + 1 if done and phase + 1 < len(self.phases) else phase

    def _restore(self, loaded: Checkpoint, team: list[Mover]) -> None:
        """Put everything back: parameters, memory, optimisers, schedules, histories, random state."""
        data, tensors = loaded.data, loaded.tensors
        try:
            with torch.no_grad():
                for name, p in self.parameters.items():
                    p.copy_(tensors[f"parameter/{name}"])
                for name, m in self.memory.items():
                    m.copy_(tensors[f"memory/{name}"])
            self.step = int(data["step"])
            if self.phases_at(min(self.step, self.total - 1)) == int(data["phase"]):
                for mover, state, schedule in zip(team, data["optimizers"], data["schedules"]):
                    mover.restore(checkpoints.unpack(state, tensors))
                    if isinstance(mover.schedule, Plateau):
                        mover.schedule.restore(checkpoints.unpack(schedule, tensors))
            self.record = Record.restore(tensors, data["history"], self.step)
            self.best, self.best_step = loaded.best, int(data["best"]["step"])
            self.best_loss = float(checkpoints.unpack(data["best"]["loss"], tensors))
            torch.set_rng_state(tensors["random/cpu"])
            if "random/cuda" in tensors and torch.cuda.is_available():
                torch.cuda.set_rng_state(tensors["random/cuda"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint `{loaded.path}` is damaged: {error}") from error
        self.saved = loaded.path

    def _stop(self, signal: str, k: int, team: list[Mover]) -> None:
        self._save(k, team)
        kept = f"; its state is in `{self.saved}`" if self.saved else "; nothing was saved"
        help = "go on with `--resume`" if self.saved else "name a folder for checkpoints to be able to go on"
        where = str(self.saved) if self.saved else None
        raise TrainInterrupted(
            f"training was stopped by {signal} after step {self.step} of {self.total}{kept}",
            step=self.step,
            checkpoint=where,
            help=help,
        )

    def _given_up(self, signal: str) -> TrainInterrupted:
        """Step `self.step + 1` did not end: what it has changed so far is not worth keeping."""
        saved = self.store.latest if self.store is not None else None
        return TrainInterrupted(
            f"training was stopped by {signal} inside step {self.step + 1}, which did not end"
            + (f"; the last checkpoint is `{saved}`" if saved else "; nothing was saved"),
            step=self.step,
            checkpoint=str(saved) if saved else None,
            help="go on with `--resume`" if saved else None,
        )

    def _last_good(self, failure: TrainFailure) -> TrainFailure:
        """The same failure, naming the last good checkpoint: one after which a step succeeded. One that
        holds the very parameters that failed is taken back."""
        saved = self.store.back_to(self.step - 1) if self.store is not None else None
        failure.checkpoint = str(saved) if saved else None
        note = f"the last good checkpoint is `{saved}`" if saved else "no checkpoint was written before"
        failure.notes = (*failure.notes, note)
        return failure

    # ------------------------------------------------------------ set-up

    def _team(self, k: int) -> list[Mover]:
        return movers(self.phases[k].settings, self.parameters, self.loss)

    def _everything(self) -> dict[str, Tensor]:
        return {**self.parameters, **{f"memory/{n}": m for n, m in self.memory.items()}}

    def _plan_batches(self) -> tuple[list[Batches], list[Tensor | None]]:
        """For each phase its batches and the samples held out of them."""
        found: list[Batches] = []
        held: list[Tensor | None] = []
        for phase in self.phases:
            plan, out = phase.settings.validate, None
            chosen = None if self.samples is None else torch.arange(self.samples)
            if plan is not None and plan.fraction is not None:
                if self.samples is None:
                    raise SettingError(
                        "`validate` holds out samples, but the data is a single sample",
                        help="give a table of its own to validate on",
                    )
                chosen, out = split(self.samples, plan.fraction, self.settings.seed)
            whole = phase.settings.batch is None and out is None
            found.append(Batches(None if whole else chosen, phase.settings.batch, self.settings.seed))
            held.append(out)
        return found, held
