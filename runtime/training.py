"""The training loop: players move in turn, phases run in turn, and any moment can be gone on from.

A run is a function of (parameters, data, settings): batches belong to (seed, epoch), schedules to the
step, random numbers to the saved state of the generator. So a resumed run equals an uninterrupted one bit
for bit on a CPU. The loop knows nothing of models: it moves named leaf tensors to lower a callable.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from ndl.runtime import checkpoints, train_state
from ndl.runtime.averages import Average
from ndl.runtime.batches import Batch, Batches, chunks, split
from ndl.runtime.checkpoints import CheckpointStore
from ndl.runtime.errors import SettingError, TrainFailure, TrainInterrupted
from ndl.runtime.history import History, Record, TrainResult
from ndl.runtime.interrupts import Interrupts, Overdue
from ndl.runtime.metrics import Metrics
from ndl.runtime.movers import Mover, movers
from ndl.runtime.observers import Observer
from ndl.runtime.progress import Progress, progress
from ndl.runtime.schedules import Plateau
from ndl.runtime.train_settings import Loss, TrainSettings, ValidatePlan
from ndl.runtime.watching import Watch, mean_loss
from torch import Tensor


class Trainer:
    """Fits named leaf tensors to a loss.

    parameters  name -> leaf tensor with gradient
    loss        (step, batch) -> a tensor (its mean is taken) or terms by name (their sum is the loss)
    samples     extent of the data's sample axis, if it has one
    portion     samples that are read together, where they are on disk
    memory      name -> tensor that the loss or `after_step` changes in place; kept in checkpoints
    validate    loss for the held-out samples or for other data; `loss` itself if None
    metrics     what is measured besides, of what is held out or else of all samples
    observers   are told of every step and look
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
        portion: int | None = None,
        memory: Mapping[str, Tensor] | None = None,
        validate: Loss | None = None,
        metrics: Metrics | None = None,
        observers: Sequence[Observer] = (),
        model: Any = None,
        after_step: Callable[[int], None] | None = None,
        report: Progress | None = None,
        grace: float = 10.0,
    ) -> None:
        self.grace = grace
        self.parameters, self.loss, self.settings = dict(parameters), loss, settings
        self.samples, self.portion = samples, portion
        self.memory, self.validate = dict(memory or {}), validate
        self.model, self.after_step, self.observers = model, after_step, tuple(observers)
        self.watch = Watch(metrics)
        self.average = None if settings.average is None else Average(settings.average, self.parameters)
        self.report = report if report is not None else progress(settings.progress)
        self.phases = settings.stretches()
        self.batches, self.held = self._plan_batches()
        self.lengths = [p.settings.length(b.count) for p, b in zip(self.phases, self.batches)]
        self.total = sum(self.lengths)
        folder = settings.checkpoint.folder
        self.store = CheckpointStore(Path(folder), settings.checkpoint.keep) if folder is not None else None
        self.record = Record()
        self.step, self._begun = 0, False
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
                at = train_state.check(self, loaded)
            elif self.store is not None:
                self.store.fresh()
            self.report.start(self.total, 0 if loaded is None else int(loaded.data["step"]))
            try:
                for k in range(at, len(self.phases)):
                    team = self._team(k)
                    if loaded is not None:
                        train_state.restore(self, loaded, team)
                        loaded = None
                    if self.watch.stopped:
                        break
                    self._begin()
                    self._stretch(k, team, interrupts)
            except Overdue:
                raise self._given_up(interrupts.name or "a signal") from None
            finally:
                self.report.finish()
                for observer in self.observers:
                    observer.finish()
            return self._result(time.monotonic() - began)

    def _begin(self) -> None:
        """Tell the observers once where the run begins."""
        if not self._begun:
            self._begun = True
            for observer in self.observers:
                observer.start(self.step)

    def _stretch(self, k: int, team: list[Mover], interrupts: Interrupts) -> None:
        """The rest of phase k."""
        phase, batches = self.phases[k], self.batches[k]
        start = sum(self.lengths[:k])
        while self.step < start + self.lengths[k] and not self.watch.stopped:
            local = self.step - start
            epoch, index = batches.at(local)
            batch = Batch(self.step, self.total, epoch, index, phase=k)
            values: dict[str, float] = {}
            for mover in team:
                if local % mover.player.every == 0:
                    self._move(mover, local, self.lengths[k], batch, values, len(team) > 1)
            self.record.add(values)
            self.step += 1
            if self.after_step is not None:
                self.after_step(self.step)
            if self.average is not None:
                ends = (local + 1) % max(1, batches.count) == 0
                self.average.update(self.step, self.total, ends)
            for observer in self.observers:
                observer.step(self.step, values)
            self._look(k, team, local + 1)
            done = self.step == self.total or self.watch.stopped
            if done or self._due():
                self._save(k, team)
            if interrupts.name is not None and not done:
                interrupts.settle()
                self._stop(interrupts.name, k, team)
            shown = values.get(f"loss/{team[0].player.name}", math.nan)
            seen = self.record.validation[-1] if self.record.validation else None
            self.report.update(self.step, shown, seen, phase.name)

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

    def _look(self, k: int, team: list[Mover], local: int) -> None:
        """Validate and measure when it is time, by the averaged parameters where there are any."""
        plan = self.phases[k].settings.validate
        if plan is None and self.watch.metrics is None:
            return
        given = self.phases[k].settings.measure_every if plan is None else plan.every
        every = given or max(1, self.batches[k].count)
        if local % every and local != self.lengths[k]:
            return
        with nullcontext() if self.average is None else self.average.applied():
            batches = self._held_batches(k)
            if plan is not None:
                value = mean_loss(self.validate or team[0].loss, batches)
                self.record.validation.append(value)
                self.record.validation_steps.append(self.step)
            if self.watch.metrics is not None:
                self.record.measured(self.step, self.watch.measure(batches))
            if plan is not None:
                for mover in team:
                    if isinstance(mover.schedule, Plateau):
                        mover.schedule.observe(value)
                self.watch.judge(plan, self.record, self.step, self._everything)
        for observer in self.observers:
            observer.look(self.step, self.record)

    def _held_batches(self, k: int) -> list[Batch]:
        """What phase k is looked at by: held-out samples, other data, or else the training's own."""
        settings = self.phases[k].settings
        plan, held = settings.validate, self.held[k]
        other = plan is not None and plan.other is not None
        if plan is None:
            held = self.batches[k].chosen
        indices = chunks(held, settings.batch)
        return [Batch(self.step, self.total, 0, i, training=False, phase=k, other=other) for i in indices]

    def _result(self, seconds: float) -> TrainResult:
        watch = self.watch
        if watch.best:
            with torch.no_grad():
                for name, tensor in self._everything().items():
                    tensor.copy_(watch.best[name])
        elif self.average is not None:
            self.average.put(self.average.weights)
        k = self.phases_at(max(0, self.step - 1))
        batches = self._held_batches(k)
        checked = self.phases[k].settings.validate is not None
        team = self._team(k)
        validation = mean_loss(self.validate or team[0].loss, batches) if checked else None
        return TrainResult(
            loss=torch.tensor(self._final_loss(k, team), dtype=torch.float64),
            history=History.of(self.record),
            model=self.model,
            steps=self.step,
            checkpoint=self.saved,
            best_step=watch.best_step if watch.best else None,
            seconds=seconds,
            stopped=watch.stopped,
            validation=None if validation is None else torch.tensor(validation, dtype=torch.float64),
            metrics={} if watch.metrics is None else watch.measure(batches),
        )

    def _final_loss(self, k: int, team: list[Mover]) -> float:
        """The first player's loss at the final parameters, over all batches of an epoch; when the last
        phase was shorter than an epoch, over as many batches as it had."""
        batches = self.batches[k]
        turns = range(min(batches.count, self.lengths[k]))
        indices = [batches.at(turn)[1] for turn in turns]
        own = [Batch(self.step, self.total, 0, i, training=False, phase=k) for i in indices]
        return mean_loss(team[0].loss, own)

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
        self.saved = self.store.save(self.step, train_state.capture(self, k, team))
        self._saved_at = time.monotonic()

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
            if plan is not None:
                self.watch.check(plan)
                chosen, out = held_out(plan, self.samples, self.settings.seed, chosen)
            own = out is None or plan is None or plan.other is not None
            whole = phase.settings.batch is None and own
            rows = None if whole else chosen
            found.append(Batches(rows, phase.settings.batch, self.settings.seed, self.portion))
            held.append(out)
        return found, held


def held_out(
    plan: ValidatePlan, samples: int | None, seed: int, chosen: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """The samples to train on (`chosen`, less what is held out) and those to validate on."""
    if plan.other is not None:
        return chosen, torch.arange(plan.other) if plan.other else None
    if plan.fraction is None and plan.held is None:
        return chosen, None
    if samples is None:
        raise SettingError(
            "`validate` holds out samples, but the data is a single sample",
            help="give a table of its own to validate on: `validate = table(…)`",
        )
    if plan.fraction is not None:
        return split(samples, plan.fraction, seed)
    out = torch.tensor(plan.held, dtype=torch.int64)
    stays = torch.ones(samples, dtype=torch.bool)
    stays[out] = False
    return torch.nonzero(stays).flatten(), out
