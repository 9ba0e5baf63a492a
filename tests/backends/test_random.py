"""Random functions: the printed module is the interpreter, in values and gradients; passes change nothing."""

from __future__ import annotations

import torch
from graphs import random_function, values
from hypothesis import given, settings
from hypothesis import strategies as st
from ndl.compiler.backends.torch import compile_source, print_module
from ndl.compiler.ir.autodiff import pullback
from ndl.compiler.ir.graph import Function
from ndl.compiler.ir.interpret import interpret
from ndl.compiler.ir.reader import parse_function
from ndl.compiler.ir.text import print_function
from ndl.compiler.ir.verify import verify
from ndl.compiler.passes.cse import eliminate_common_subexpressions
from ndl.compiler.passes.dce import eliminate_dead_code
from ndl.compiler.passes.fold import fold
from torch import Tensor

SEEDS = st.integers(0, 2**32 - 1)
BATCH = 3


def run(function: Function, inputs: dict[str, Tensor], weights: dict[str, Tensor]) -> list[Tensor]:
    """The interpreter on each sample of a batch."""
    rows = [
        list(interpret(function, {k: v[i] for k, v in inputs.items()}, weights).values())
        for i in range(BATCH)
    ]
    return [torch.stack(column) for column in zip(*rows)]


def same(a: list[Tensor], b: list[Tensor], tolerance: float = 1e-10) -> None:
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_printed_module_is_the_interpreter(seed: int) -> None:
    function = random_function(seed)
    verify(function)
    source = print_module([], operators=[function])
    part = next(v for k, v in vars(compile_source(source, "random_module")).items() if k == "random")()
    inputs, weights = values(function, seed, BATCH)
    leaves = [*inputs.values(), *weights.values()]
    for leaf in leaves:
        leaf.requires_grad_(True)
    for name, weight in weights.items():
        part._parameters.pop(name)
        part._buffers[name] = weight
    wanted = run(function, inputs, weights)
    # what depends on weights alone has no batch axis
    printed = [y.expand(w.shape) for y, w in zip(part(*inputs.values()), wanted, strict=True)]
    same(printed, wanted)
    scales = torch.linspace(0.5, 1.5, len(wanted))
    slopes = [
        torch.autograd.grad(
            sum((s * y).sum() for s, y in zip(scales, ys)), leaves, allow_unused=True, materialize_grads=True
        )
        for ys in (printed, wanted)
    ]
    same(list(slopes[0]), list(slopes[1]))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_passes_change_no_value(seed: int) -> None:
    function = random_function(seed)
    inputs, weights = values(function, seed, BATCH)
    wanted = run(function, inputs, weights)
    for change in (eliminate_common_subexpressions, eliminate_dead_code, fold):
        changed = change(function)
        verify(changed)
        same(run(changed, inputs, weights), wanted, 1e-13)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_text_round_trip(seed: int) -> None:
    function = random_function(seed)
    text = print_function(function)
    again = parse_function(text)
    assert print_function(again) == text
    assert list(again.graph) == list(function.graph)
    assert again.params == function.params
    assert again.inputs == function.inputs
    assert again.outputs == function.outputs


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_pullback_is_the_gradient_of_the_interpreter(seed: int) -> None:
    function = random_function(seed, 10)
    graph, output = function.graph, function.outputs[-1][1]
    g = graph.add("input", type=output.type, name="g")
    found = pullback(graph, output, g, function.inputs)
    used = [(n, c) for n, c in zip(function.inputs, found) if c is not None]
    inputs, weights = values(function, seed, 1)
    sample = {k: v[0].requires_grad_(True) for k, v in inputs.items()}
    y = interpret(function, sample, weights)[function.outputs[-1][0]]
    weight = torch.linspace(0.5, 1.5, max(y.numel(), 1), dtype=torch.float64).reshape(y.shape)
    outputs = tuple((n.attr("name"), c) for n, c in used)
    slopes = interpret(Function("g", graph, (*function.inputs, g), outputs), {**sample, "g": weight}, weights)
    leaves = [sample[name] for name in slopes]
    if leaves:
        wanted = torch.autograd.grad((weight * y).sum(), leaves, allow_unused=True, materialize_grads=True)
        same([s.detach() for s in slopes.values()], list(wanted), 1e-9)
