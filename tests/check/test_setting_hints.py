"""What is misspelt in a setting is taken for what that setting wants."""

from __future__ import annotations

import pytest
from ndl.compiler.diagnostics import NDLError

import ndl

PROGRAM = """
const points = 11
domain Rod = interval(x in 0..1)

model Heat:
    state u: R on Rod = sin(pi*x)
    u' = lap(u)
    on boundary(Rod): u = 0

solve Heat:
    span   = 0..0.05
    grid   = uniform(11)
    method = rk4(h=0.001)
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("uniform(11)", "regular(11)", "`grid = uniform(65)`"),
        ("uniform(11)", "Fourier(11)", "did you mean `fourier`?"),
        ("uniform(11)", "uniform(point)", "did you mean `points`?"),
        ("uniform(11)", "uniform(11, scheme=weno)", "did you mean `weno5`?"),
        ("uniform(11)", "{Rd: uniform(11)}", "did you mean `Rod`?"),
        ("rk4(h=0.001)", "ode45()", "`tsit5(rtol=1e-6)`"),
        ("rk4(h=0.001)", "tsit()", "did you mean `tsit5`?"),
    ],
)
def test_hints_are_of_the_setting(old: str, new: str, words: str) -> None:
    with pytest.raises(NDLError) as caught:
        ndl.loads(PROGRAM.replace(old, new))
    (told,) = caught.value.diagnostics
    assert told.code == "NDL201" and words in str(told.help)


@pytest.mark.parametrize("equation", ["0 = lap(u) + 1", "minimize integral(0.5*dx(u)^2 - u, x in Rod)"])
def test_steps_for_what_does_not_move(equation: str) -> None:
    program = ndl.loads(PROGRAM.replace("u' = lap(u)", equation))
    with pytest.raises(NDLError) as caught:
        program.run()
    (told,) = caught.value.diagnostics
    assert "nothing of `Heat` moves" in told.message and "`newton(tol=1e-10)`" in str(told.help)


def test_models_of_results_are_solved_from_python() -> None:
    program = ndl.loads(
        """
model Decay:
    param k = 1.0
    state x = 1.0
    x' = -k*x

train Decay as fit:
    data   = solve(Decay(k=2), span=0..1, method=rk4(h=0.1), save=every 0.1)
    method = rk4(h=0.1)
    loss   = mean((x - data.x)^2)
    steps  = 2
"""
    )
    trained = ndl.train(program, "fit", progress=False)
    s = ndl.solve(trained.model, span=(0, 1), method="tsit5(rtol=1e-10, atol=1e-12)", save="end")
    k = float(trained.model.k.detach())
    assert k != 1.0 and abs(float(s.final.x) - 2.718281828459045**-k) < 1e-8
    again = ndl.solve(s.model, span=(0, 1), method="tsit5(rtol=1e-10, atol=1e-12)", save="end")
    assert float(again.final.x) == float(s.final.x)
    with pytest.raises(TypeError, match=r"its `\.model` is one"):
        ndl.solve(trained, span=(0, 1))  # type: ignore[arg-type]


def test_what_is_diagonal_under_noise_is_not_promised_to_a_method_that_sees_none() -> None:
    program = ndl.loads(
        """
domain Ring = periodic(x in 0..1)

model Still:
    state u: R on Ring = 0
    u' = 0.1*lap(u)

model Stirred:
    noise W: white on Ring
    state u: R on Ring = 0
    du = 0.1*lap(u)*dt + dW
""",
        grid="fourier(8)",
    )
    told = {name: dict(program.facts(name))["Fourier space"] for name in ("Still", "Stirred")}
    assert "`etdrk4(h=…)`" in told["Still"] and "etdrk4" not in told["Stirred"]
    assert "multiplies each mode by a number" in told["Stirred"]


def test_print_is_told_what_shows_values() -> None:
    with pytest.raises(NDLError) as caught:
        ndl.loads('test "a":\n    x = 3\n    print(x)\n')
    (told,) = caught.value.diagnostics
    assert told.code == "NDL201" and "an `assert` that fails shows its values" in str(told.help)
