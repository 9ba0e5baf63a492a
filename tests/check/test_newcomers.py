"""What people write at first, and what they are told: code, words under the caret, advice."""

from __future__ import annotations

from typing import Any

import pytest
from ndl.compiler.diagnostics import Diagnostic, NDLError

import ndl


def told(text: str) -> Diagnostic:
    """The only error of a program, found when it is checked or when it runs."""
    with pytest.raises(NDLError) as caught:
        ndl.loads(text).run()
    (found,) = caught.value.diagnostics
    return found


IN_A_MODEL = [
    ("param a in 5..0 = 1", "NDL329", "5..0", "`in 0..5`"),
    ("param a in [0, 5] = 1", "NDL329", "[0, 5]", "`in lo..hi`"),
    ("param a: float = 1", "NDL303", "float", "write `R`"),
    ("param a: real = 1", "NDL303", "real", "write `R`"),
    ("y = k(x + 1)", "NDL320", "k(x + 1)", "`k*(x + 1)`"),
    ("y = A*v", "NDL301", "v", "`A @ v`"),
    ("y = np.sin(x)", "NDL201", "np", "stand by themselves"),
    ("y = pow(x, 2)", "NDL201", "pow", "`x^2`"),
    ("y = None", "NDL201", "None", "left out"),
    ("y = True", "NDL201", "True", "`true`"),
    ("y = x + normal(0, 1)", "NDL312", "normal(0, 1)", "`z ~ normal(0, 1)`"),
    ("y = k'", "NDL201", "k'", "`dx = f*dt + g*dW`"),
    ("when x < 0: x <- 1", "NDL421", "x < 0", "`when falling(x)`"),
    ("when x >= k: x <- 1", "NDL421", "x >= k", "`when rising(x - (k))`"),
    ("when falling(x): x' <- 1", "NDL423", "x'", "`x <- 1`"),
    ("x <- 1", "NDL401", "x <- 1", "`when`"),
]


@pytest.mark.parametrize(("line", "code", "words", "advice"), IN_A_MODEL, ids=[c[0] for c in IN_A_MODEL])
def test_mistakes_in_a_model(line: str, code: str, words: str, advice: str) -> None:
    others = "    param k = 1.0\n    const A = [[1, 2], [3, 4]]\n    const v = [1, 2]\n"
    with pytest.raises(NDLError) as caught:
        ndl.loads(f"model M:\n    state x = 1\n    {line}\n    x' = -x\n{others}")
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.line, found.span.text) == (code, 3, words)
    assert advice in str(found.help)


EQUATIONS = [
    ("x'(t) = -k*x", "NDL409", "x'(t)", "`x' = …`"),
    ("d(x)/dt = -k*x", "NDL409", "d(x)/dt", "`x' = …`"),
    ("diff(x, t) = -k*x", "NDL409", "diff(x, t)", "`x' = …`"),
    ("der(x) = -k*x", "NDL409", "der(x)", "`x' = …`"),
    ("x = -k*x", "NDL407", "x", "`x' = …`"),
    ("x' == -k*x", "NDL124", " == ", "`x' = -k*x`"),
    ("return -k*x", "NDL401", "return -k*x", "`x' = e`"),
    ("x' = -k*x\n    x(0) = 2", "NDL409", "x(0)", "`state x = 2`"),
]


@pytest.mark.parametrize(("line", "code", "words", "advice"), EQUATIONS, ids=[c[0] for c in EQUATIONS])
def test_equations_of_other_languages(line: str, code: str, words: str, advice: str) -> None:
    with pytest.raises(NDLError) as caught:
        ndl.loads(f"model M:\n    param k = 1.0\n    state x = 1\n    {line}\n")
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.text) == (code, words) and advice in str(found.help)


DECAY = """
model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x
"""
NOISY = """
model Noisy:
    state x = 1.0
    noise W: wiener
    dx = -x*dt + dW
"""

RUNS = [
    ("span = 0..1\n    method = rk4(dt=0.1)", "NDL501", "dt", "write `h`"),
    ('span = 0..1\n    method = "rk4"', "NDL503", '"rk4"', "`rk4()`"),
    ("span = 0..1\n    method = rk4", "NDL546", "method = rk4", "`rk4(h=0.01)`"),
    ("span = 0..1\n    saveat = 0.1", "NDL504", "saveat", "write `save`"),
    ("span = 0..1\n    save = every 0", "NDL546", "save = every 0", "None"),
    ("span = 0..1\n    seed = 1.5", "NDL518", "1.5", "None"),
    ("span = 0..1\n    max_steps = 10.5", "NDL518", "10.5", "None"),
    ("span = 0..1\n    save = [0, 7]", "NDL546", "save = [0, 7]", "None"),
]


@pytest.mark.parametrize(("settings", "code", "words", "advice"), RUNS, ids=[c[0] for c in RUNS])
def test_settings_of_a_run(settings: str, code: str, words: str, advice: str) -> None:
    found = told(f"{DECAY}\nsolve Decay:\n    {settings}\n")
    assert (found.code, found.span.text) == (code, words) and advice in str(found.help)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"rtol": 1e-6}, "`tsit5(rtol=…)`"),
        ({"t_eval": 1}, "write `save`"),
        ({"write": "x.nc"}, "`solution.save("),
        ({"portion": 64}, "`program.run("),
    ],
)
def test_settings_from_python(settings: dict[str, Any], advice: str) -> None:
    with pytest.raises(NDLError) as caught:
        ndl.solve(ndl.loads(DECAY).models["Decay"](), span=(0, 1), method="rk4(h=0.5)", **settings)
    (found,) = caught.value.diagnostics
    assert found.code == "NDL504" and advice in str(found.help)


@pytest.mark.parametrize(
    ("text", "name", "advice"),
    [
        ("model M:\n    param a\n    state x = 1\n    x' = -a*x\n", "a", "`param a = …`"),
        ("model M:\n    const a: R, b = 2\n    state x = 1\n    x' = -a*x\n", "a", "`const a = …`"),
        ("const a\n", "a", "`const a = …`"),
        ("operator F(x: R[n]) -> R[n]:\n    param W: R[n, n]\n    return W@x\n", "W", "`param W = …`"),
    ],
)
def test_what_has_no_value(text: str, name: str, advice: str) -> None:
    with pytest.raises(NDLError) as caught:
        ndl.loads(text)
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.text) == ("NDL414", name) and advice in str(found.help)


@pytest.mark.parametrize(
    ("rate", "advice"),
    [
        ("diff(x[0]^2, x[0])", "`jac(x[0]^2, x)[0]`"),
        ("diff(x[0]^2, 2*x[0])", "`g(2*x[0])`"),
        ("jac(x, 1.0)[0]", "fn g(z)"),
    ],
)
def test_derivatives_by_what_is_no_name(rate: str, advice: str) -> None:
    with pytest.raises(NDLError) as caught:
        ndl.loads(f"model M:\n    state x: R[2] = [1, 2]\n    x' = {rate}*x\n")
    assert caught.value.diagnostics[0].code == "NDL353" and advice in str(caught.value.diagnostics[0].help)


def test_a_net_of_open_dimensions() -> None:
    text = "model M:\n    net f: R[1] -> R[k] = MLP(width=4)\n    state x = 1\n    x' = sum(f([x]))\n"
    with pytest.raises(NDLError) as caught:
        ndl.loads(text).models["M"]()
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.text) == ("NDL308", "f([x])") and "dimension `k` of `f`" in found.message


def test_a_span_in_the_first_line_of_a_run() -> None:
    found = told(f"{DECAY}\nsolve Decay for t in 0..1\n")
    assert (found.code, found.span.text) == ("NDL136", "for") and "`span = 0..10`" in str(found.help)


def test_a_model_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="did you mean `Decay`"):
        ndl.loads(DECAY).models["decay"]


def test_half_a_member() -> None:
    settings = "span = 0..1\n    method = euler_maruyama(h=0.5)\n    ensemble = 2.5"
    found = told(f"{NOISY}\nsolve Noisy:\n    {settings}\n")
    assert (found.code, found.span.text) == ("NDL518", "2.5") and "whole number" in found.message


def test_a_noise_is_no_value() -> None:
    text = NOISY.replace("dx = -x*dt + dW", "dx = (W - x)*dt + dW")
    found = told(f"{text}\nsolve Noisy:\n    span = 0..1\n    method = euler_maruyama(h=0.5)\n")
    assert found.code == "NDL575" and "`dz = dW`" in str(found.help)


def test_times_with_a_step_are_saved() -> None:
    text = f"{DECAY}\nsolve Decay:\n    span = 0..1\n    method = rk4(h=0.1)\n    save = 0..1 by 0.1\n"
    s: Any = ndl.loads(text).run()[0]
    assert s.t.tolist() == pytest.approx([k / 10 for k in range(11)], abs=1e-15)


TRAININGS = [
    ("optimizer", '"adam"', "NDL511", '"adam"', "`adam(lr=0.01)`"),
    ("optimizer", "adam(learning_rate=0.1)", "NDL511", "optimizer = adam(learning_rate=0.1)", "write `lr`"),
    ("optimizer", "adam(lr=-1)", "NDL546", "optimizer = adam(lr=-1)", "None"),
    ("fit", "k, x", "NDL520", "x", "`initial states`"),
    ("iterations", "5", "NDL504", "iterations", "write `steps`"),
    ("metrics", "mse(x, data.x)", "NDL201", "mse", "`mean((x - data.x)^2)`"),
]


@pytest.mark.parametrize(("name", "value", "code", "words", "advice"), TRAININGS)
def test_settings_of_a_training(name: str, value: str, code: str, words: str, advice: str) -> None:
    data = "solve(Decay(k=2), span=0..1, method=rk4(h=0.5), save=every 0.5)"
    loss = f"    data = {data}\n    method = rk4(h=0.5)\n    loss = mean((x - data.x)^2)\n"
    found = told(f"{DECAY}\ntrain Decay:\n{loss}    {name} = {value}\n")
    assert (found.code, found.span.text) == (code, words) and advice in str(found.help)


def test_a_column_that_is_not_there_is_no_failure_of_a_step() -> None:
    data = "solve(Decay(k=2), span=0..1, method=rk4(h=0.5), save=every 0.5)"
    found = told(
        f"{DECAY}\ntrain Decay:\n    data = {data}\n    method = rk4(h=0.5)\n    loss = mean(data.y)\n"
    )
    assert found.code == "NDL611" and "`y`" in found.message


DATA = 'data = table("d.csv", time="t", x="x")'
ONCE = [
    f"def Decay():\n    x' = -x\n\ntrain Decay:\n    {DATA}\n    loss = mean(x)\n",
    f"{DECAY}\ntrain decay:\n    {DATA}\n    loss = mean((x - data.x)^2)\n",
    f"{NOISY}\nsolve Noisy:\n    method = heun(h=0.1)\n    span = 0..1\n".replace("W: wiener", "W = wiener"),
    f"{DECAY}\nsolve Decay:\n    span = 0 to 5\n",
    f"{DECAY}\nmodel M:\n    state u(x) = 0\n    u' = lap(u)\n",
]


@pytest.mark.parametrize("text", ONCE)
def test_one_mistake_is_told_once(text: str) -> None:
    told(text)
