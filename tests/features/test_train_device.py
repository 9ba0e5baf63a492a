"""`device` in a `train` holds for targets, data, draws and constants.

Tensors of the device `meta` have no values but a place, and refuse to meet those of another."""

from pathlib import Path

import pytest
import torch
from ndl.runtime.batches import Batch

import ndl
from ndl.host import targets, training
from ndl.host.loss import Loss

ROWS = "x,y\n" + "\n".join(f"{k % 3},{k % 5}" for k in range(8)) + "\n"

REGRESSION = """
net f: R -> R = MLP(width=4, depth=2)

train f as fit:
    data = table("rows.csv", x="x", y="y")
    z ~ normal(0, 0.1)
    loss = mean([1.0, 2.0]*(f(data.x + z) - data.y)^2)
    optimizer = adam(1e-2)
    steps = 1
    device = DEVICE
"""


def program(folder: Path, device: str) -> ndl.Program:
    (folder / "rows.csv").write_text(ROWS)
    (folder / "fit.ndl").write_text(REGRESSION.replace("DEVICE", device))
    return ndl.load(folder / "fit.ndl")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ndl.NDLError, match="no GPU that PyTorch can use") as caught:
        program(tmp_path, "cuda").run()
    assert "device = auto" in str(caught.value)


def test_everything_is_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda x: False if x.is_meta else truth(x))
    monkeypatch.setattr(training, "device_of", lambda session: torch.device("meta"))
    places = []

    def one_step(session: training.Session, *_: object) -> None:
        session.device = training.device_of(session)
        precision = targets.precision_of(session)
        targets.read_data(session, precision)
        targets.make_targets(session, 0, precision)
        loss = Loss(session, precision, 0)
        value = loss(0, Batch(0, 1, index=torch.arange(4)))
        value.backward()
        places.extend([value.device, *(p.grad.device for p in session.nets["f"].parameters())])
        raise InterruptedError

    monkeypatch.setattr(training, "single", one_step)
    with pytest.raises(InterruptedError):
        program(tmp_path, "auto").run()
    assert len(places) > 1 and {p.type for p in places} == {"meta"}
