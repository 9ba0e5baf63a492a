"""Trouble at run time that is the user's to mend: a code, a message, notes and help, without a span.

The front door adds the place in the file where one is known. Codes: NDL5xx settings, NDL6xx data, paths,
training and checkpoints. A message is lower case, without a full stop; code stands in backticks.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class RunError(Exception):
    """Base of what a run can refuse or fail with; printed as `message`, then notes, then help."""

    default_code = "NDL600"

    def __init__(
        self, message: str, *, code: str | None = None, help: str | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.code = code or self.default_code
        self.message = message
        self.help = help
        self.notes = tuple(notes)
        super().__init__(message)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.message}"]
        lines.extend(f"  = {note}" for note in self.notes)
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class SettingError(RunError):
    """A setting of `solve` or `train` names something unknown or out of range."""

    default_code = "NDL546"


class MissingInput(RunError, ValueError):
    """An input of a model has been given nothing."""

    default_code = "NDL575"

    def __init__(self, model: str, name: str, on_time: bool, noise: bool = False) -> None:
        if noise:
            super().__init__(
                f"an equation of `{model}` reads the value of its noise `{name}`, not its differential",
                help=f"write `dx = f*dt + g*d{name}`; a state that is its path is `dz = d{name}`",
            )
            return
        value = "path(t -> sin(t))" if on_time else "1.0"
        super().__init__(
            f"`{model}` needs a {'path' if on_time else 'value'} for its input `{name}`",
            help=f"write `{model}({name}={value})` where it is solved; in a `train` a column or a definition "
            f"`{name} = …` feeds it",
        )


class ArgumentsError(RunError, TypeError):
    """A model's class, or an instance, is called with what it does not take."""

    default_code = "NDL576"


class DataError(RunError):
    """A table cannot be read: NDL610 file, 611 column, 612 cell, 613 time axis, 614 missing extra."""

    default_code = "NDL610"


class PathError(RunError):
    """A path outside the folders that a file may use."""

    default_code = "NDL620"


class CheckpointError(RunError):
    """A checkpoint is missing, damaged or belongs to something else."""

    default_code = "NDL640"


class TrainFailure(RunError):
    """Training cannot go on: the step, the loss term at fault and the last good checkpoint."""

    default_code = "NDL630"

    def __init__(
        self,
        message: str,
        *,
        step: int,
        term: str | None = None,
        checkpoint: str | None = None,
        help: str | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(message, help=help, notes=notes)
        self.step = step
        self.term = term
        self.checkpoint = checkpoint


class TrainInterrupted(RunError):
    """Training was asked to stop (Ctrl-C, SIGTERM) after `step` steps; its state is in `checkpoint`."""

    default_code = "NDL631"

    def __init__(self, message: str, *, step: int, checkpoint: str | None, help: str | None = None) -> None:
        super().__init__(message, help=help)
        self.step = step
        self.checkpoint = checkpoint


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A help line that offers the nearest known name, if one is near."""
    candidates = sorted(set(known))
    folded = {c.lower(): c for c in reversed(candidates)}
    best = folded.get(name.lower())
    if best is None:
        close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
        best = close[0] if close else None
    return f"did you mean `{best}`?" if best else None
