"""Layers of `std.nets` against their counterparts in torch, with copied weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from layers import agree, close, copy, nets, randn, slopes_agree
from torch import Tensor, nn

ours = partial(nets, "nets.ndl")
BATCH = 5


def both(name: str, twin: nn.Module, names: dict[str, str], *shapes: tuple[int, ...]) -> None:
    """A net and its twin on a batch."""
    net = ours()[name]
    copy(net, twin, names)
    net.zero_grad()
    agree(net, twin, *(randn(BATCH, *shape, seed=i) for i, shape in enumerate(shapes)))
    slopes_agree(net, twin, names)


# ---------------------------------------------------------------- dense


def test_linear_bilinear_and_mlp() -> None:
    both("linear", nn.Linear(3, 4), {"W": "weight", "b": "bias"}, (3,))
    both("bilinear", nn.Bilinear(2, 3, 4), {"W": "weight", "b": "bias"}, (2,), (3,))
    mlp = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2), nn.Tanh())
    names = {"linear": "0", "linear_2": "2", "linear_3": "4"}
    both("mlp", mlp, {f"{a}.{x}": f"{b}.{y}" for a, b in names.items() for x, y in WEIGHT}, (3,))


WEIGHT = (("W", "weight"), ("b", "bias"))


class Squash(nn.Module):
    """FFJORD's layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.gate, self.shift = nn.Linear(3, 4), nn.Linear(1, 4), nn.Linear(1, 4, bias=False)

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) * torch.sigmoid(self.gate(t[..., None])) + self.shift(t[..., None])
        return y


def test_concat_squash() -> None:
    names = {"linear.W": "layer.weight", "linear.b": "layer.bias", "gain": "gate.weight"}
    both("squash", Squash(), {**names, "offset": "gate.bias", "shift": "shift.weight"}, (), (3,))


# ---------------------------------------------------------------- recurrent

CELL = {"W": "weight_ih", "U": "weight_hh", "b": "bias_ih", "c": "bias_hh"}


def one_bias(module: nn.Module, suffix: str = "") -> Callable[[Any], Tensor]:
    return lambda m: getattr(m, f"bias_ih{suffix}") + getattr(m, f"bias_hh{suffix}")


def test_cells() -> None:
    both("gru_cell", nn.GRUCell(3, 4), CELL, (3,), (4,))
    x, h, c = randn(BATCH, 3), randn(BATCH, 4, seed=1), randn(BATCH, 4, seed=2)
    lstm, rnn = nn.LSTMCell(3, 4), nn.RNNCell(3, 4)
    for name, twin in (("lstm_cell", lstm), ("rnn_cell", rnn)):
        copy(ours()[name], twin, {"W": "weight_ih", "U": "weight_hh", "b": one_bias(twin)})
    agree(ours()["rnn_cell"], rnn, x, h)
    for k in (0, 1):
        agree(lambda *a, k=k: ours()["lstm_cell"](*a)[k], lambda x, h, c, k=k: lstm(x, (h, c))[k], x, h, c)


def test_layers_over_a_sequence() -> None:
    sequence = randn(BATCH, 6, 3)
    names: dict[str, Any] = {"cell.W": "weight_ih_l0", "cell.U": "weight_hh_l0"}
    for name, twin in (
        ("rnn", nn.RNN(3, 4, nonlinearity="relu", batch_first=True)),
        ("lstm", nn.LSTM(3, 4, batch_first=True)),
    ):
        copy(ours()[name], twin, {**names, "cell.b": one_bias(twin, "_l0")})
        agree(ours()[name], lambda x, f=twin: f(x)[0], sequence)
    gru = nn.GRU(3, 4, batch_first=True)
    names |= {"cell.b": "bias_ih_l0", "cell.c": "bias_hh_l0"}
    copy(ours()["gru"], gru, names)
    agree(ours()["gru"], lambda x: gru(x)[0], sequence)
    two = nn.GRU(3, 4, batch_first=True, bidirectional=True)
    back = {k.replace("cell", "gru_2.cell"): f"{v}_reverse" for k, v in names.items()}
    copy(ours()["both"], two, {k.replace("cell", "gru.cell"): v for k, v in names.items()} | back)
    agree(ours()["both"], lambda x: two(x)[0], sequence)


# ---------------------------------------------------------------- norms

AFFINE = {"gain": "weight", "shift": "bias"}


@pytest.mark.parametrize(
    ("name", "twin", "shape"),
    [
        ("layer_norm", nn.LayerNorm(6), (6,)),
        ("layer_norm_2", nn.LayerNorm((2, 3)), (2, 3)),
        ("group_norm", nn.GroupNorm(3, 6), (6,)),
        ("group_norm_2", nn.GroupNorm(2, 6), (6, 4, 3)),
    ],
)
def test_norms_of_a_sample(name: str, twin: nn.Module, shape: tuple[int, ...]) -> None:
    both(name, twin, AFFINE, shape)


def test_instance_norm() -> None:
    names = {f"groupNorm.{own}": theirs for own, theirs in AFFINE.items()}
    both("instance_norm", nn.InstanceNorm1d(3, affine=True), names, (3, 5))


def test_rms_norm() -> None:
    both("rms_norm", nn.RMSNorm(6, eps=1e-8), {"gain": "weight"}, (6,))


@pytest.mark.parametrize(
    ("name", "twin", "shape"),
    [("batch_norm", nn.BatchNorm1d(3), (3,)), ("batch_norm_2", nn.BatchNorm2d(3, momentum=0.3), (3, 2, 4))],
)
def test_batch_norm_in_training_and_use(name: str, twin: nn.Module, shape: tuple[int, ...]) -> None:
    net, twin = ours()[name], twin.double()
    copy(net, twin, AFFINE)
    for step in range(3):
        net.train(), twin.train()
        x = 2 * randn(7, *shape, seed=step) + 1
        agree(net, twin, x)
        net.settle()
        close(net.m, twin.running_mean)
        close(net.v, twin.running_var)
        net.eval(), twin.eval()
        agree(net, twin, x)


# ---------------------------------------------------------------- dropout


def test_dropout_in_training_and_use() -> None:
    net = ours()["dropout"]
    x = torch.ones(20, 2, 500, dtype=torch.float64)
    assert torch.equal(net(x), x)
    net.train()
    y = net(x)
    net.eval()
    close(y[y != 0], torch.full_like(y[y != 0], 1 / 0.8))
    assert abs(float(y.mean()) - 1) < 0.02
    assert not torch.equal(y[0], y[1])


def test_a_dropped_channel_is_dropped_whole() -> None:
    net = ours()["channel_dropout"].train()
    y = net(torch.ones(10, 400, 3, dtype=torch.float64))
    net.eval()
    assert torch.equal(y[..., 0], y[..., 1]) and torch.equal(y[..., 0], y[..., 2])
    assert abs(float((y == 0).double().mean()) - 0.25) < 0.03


# ---------------------------------------------------------------- convolutions

KERNEL = {"K": "weight", "b": "bias"}


@pytest.mark.parametrize(
    ("name", "twin", "shape"),
    [
        ("conv1", nn.Conv1d(3, 4, 3, padding=1), (3, 8)),
        ("conv1_round", nn.Conv1d(3, 4, 5, padding=2, padding_mode="circular"), (3, 8)),
        ("conv1_mirror", nn.Conv1d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 8)),
        ("conv2", nn.Conv2d(2, 4, 3, stride=2, dilation=2, padding=1), (2, 7, 6)),
        ("conv3", nn.Conv3d(2, 3, 3, padding=1), (2, 4, 3, 5)),
        ("back1", nn.ConvTranspose1d(3, 2, 2, stride=2), (3, 5)),
        ("back2", nn.ConvTranspose2d(4, 2, 3, 2, 1, 1, groups=2), (4, 3, 4)),
        ("back3", nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 2, 3, 2)),
    ],
)
def test_convolutions(name: str, twin: nn.Module, shape: tuple[int, ...]) -> None:
    both(name, twin, KERNEL, shape)


def test_convolution_in_groups() -> None:
    both("conv2_groups", nn.Conv2d(4, 6, 3, padding=1, groups=2, bias=False), {"K": "weight"}, (4, 5, 6))


def test_pooling() -> None:
    x = randn(BATCH, 2, 6, 4)

    def twin(x: Tensor, *sizes: int) -> Tensor:
        return torch.stack([nn.functional.max_pool2d(x, *sizes), nn.functional.avg_pool2d(x, *sizes)], 1)

    agree(ours()["pooled"], lambda x: twin(x, 2), x)
    agree(ours()["pooled_wide"], lambda x: twin(x, 3, 1, 1), x)


# ---------------------------------------------------------------- attention, embeddings, U-shaped nets


def third(name: str, k: int) -> Callable[[Any], Tensor]:
    return lambda m: m.get_parameter(name).chunk(3)[k]


def projections(at: str = "", ours: str = "") -> dict[str, Any]:
    """The weights of an attention of torch by those of the library's."""
    found: dict[str, Any] = {f"{ours}out.W": f"{at}out_proj.weight", f"{ours}out.b": f"{at}out_proj.bias"}
    for k, name in enumerate(("query", "key", "value")):
        found[f"{ours}{name}.W"] = third(f"{at}in_proj_weight", k)
        found[f"{ours}{name}.b"] = third(f"{at}in_proj_bias", k)
    return found


def test_embedding() -> None:
    twin = nn.Embedding(5, 2)
    copy(ours()["embedding"], twin, {"W": "weight"})
    copy(ours()["one_row"], twin, {"W": "weight"})
    at = torch.tensor([[0, 4, 4], [1, 2, 3]])
    agree(ours()["embedding"], twin, at)
    slopes_agree(ours()["embedding"], twin, {"W": "weight"})
    agree(ours()["one_row"], twin, at[:, 0])


def test_attention_to_another_sequence() -> None:
    twin = nn.MultiheadAttention(4, 2, kdim=6, vdim=6, batch_first=True).double()
    names = projections()
    names |= {f"{n}.W": f"{n[0]}_proj_weight" for n in ("query", "key", "value")}
    copy(ours()["attention"], twin, names)
    agree(ours()["attention"], lambda x, y: twin(x, y, y)[0], randn(BATCH, 3, 4), randn(BATCH, 5, 6, seed=1))


def test_causal_attention() -> None:
    twin = nn.MultiheadAttention(4, 2, batch_first=True).double()
    copy(ours()["causal"], twin, projections(ours="attention."))
    mask = torch.ones(5, 5).triu(1).bool()
    agree(ours()["causal"], lambda x: twin(x, x, x, attn_mask=mask)[0], randn(BATCH, 5, 4))


@pytest.mark.parametrize(("name", "first"), [("layer_first", True), ("layer_last", False)])
def test_transformer_layers(name: str, first: bool) -> None:
    twin = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True, norm_first=first)
    names = projections("self_attn.", "selfAttention.attention.")
    for k, part in enumerate(("_Rows", "_Rows_2")):
        names |= {f"{part}.norm.gain": f"norm{k + 1}.weight", f"{part}.norm.shift": f"norm{k + 1}.bias"}
    for k, part in enumerate(("linear", "linear_2")):
        at = f"feedforward.f.{part}"
        names |= {f"{at}.W": f"linear{k + 1}.weight", f"{at}.b": f"linear{k + 1}.bias"}
    copy(ours()[name], twin, names)
    agree(ours()[name], twin, randn(BATCH, 5, 4))


class UNet(nn.Module):
    """The same net as the library's, written by hand, on `axes` axes."""

    def __init__(self, inputs: int, outputs: int, width: int, levels: int, axes: int) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
        back = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[axes - 1]
        self.pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[axes - 1](2)
        conv = partial(kind, kernel_size=3, padding=1)
        self.conv, self.conv_2 = conv(inputs, width), conv(width, width)
        if levels:
            self.uNet = UNet(width, 2 * width, 2 * width, levels - 1, axes)
            self.convTransposed = back(2 * width, width, 2, stride=2)
            self.conv_3, self.conv_4 = conv(2 * width, width), conv(width, width)
        self.last = kind(width, outputs, 1)
        self.levels = levels

    def forward(self, x: Tensor) -> Tensor:
        act = nn.functional.silu
        h = act(self.conv_2(act(self.conv(x))))
        if self.levels:
            low = self.uNet(self.pool(h))
            h = torch.cat([h, self.convTransposed(act(low))], 1)
            h = act(self.conv_4(act(self.conv_3(h))))
        y: Tensor = self.last(h)
        return y


@pytest.mark.parametrize(
    ("name", "levels", "shape"),
    [("shaped_u", 2, (2, 8)), ("shaped_u2", 1, (2, 4, 6)), ("shaped_u3", 1, (2, 2, 4, 2))],
)
def test_u_shaped_nets(name: str, levels: int, shape: tuple[int, ...]) -> None:
    axes = len(shape) - 1
    twin = UNet(2, 3, 2, levels, axes)
    names = {}
    for theirs, _ in twin.named_parameters():
        deepest = theirs.startswith("uNet." * levels)
        last = f"conv{axes}d_3" if deepest else f"conv{axes}d_5"
        own = theirs.replace("weight", "K").replace("bias", "b").replace("last", last)
        own = re.sub(r"\b(uNet|convTransposed|conv)(?=[._])", rf"\g<1>{axes}d", own)
        names[own] = theirs
    both(name, twin, names, shape)


class Skip(nn.Module):
    """x + W2 relu(W1 x + b1) + b2."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.inner(x)
        return y


def test_a_residual_layer() -> None:
    names = {"mlp.linear": "inner.0", "mlp.linear_2": "inner.2"}
    both("residual", Skip(), {f"{a}.{x}": f"{b}.{y}" for a, b in names.items() for x, y in WEIGHT}, (3,))


def test_dropout_in_use_and_the_scale_in_training_are_those_of_torch() -> None:
    net, twin = ours()["dropout"], nn.Dropout(0.2)
    x = randn(4, 2, 500)
    close(net.eval()(x), twin.eval()(x))
    for module in (net, twin):
        y = module.train()(x)
        kept = y != 0
        close(y[kept], x[kept] / 0.8)
        assert abs(float(kept.double().mean()) - 0.8) < 0.03
    net.eval()
