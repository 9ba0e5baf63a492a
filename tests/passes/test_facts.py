"""Facts of models whose facts are known from books; and of near misses, of which they do not hold."""

import pytest
import torch
from formulas import E, model, stack, value
from ndl.compiler.ir.model import NoiseSpec
from ndl.compiler.passes.choose import choices, choose_gradient, choose_method
from ndl.compiler.passes.facts import derive, explain
from ndl.compiler.passes.facts.noise import noise_kind
from ndl.compiler.passes.noise_kind import with_noise_kind

W, V = NoiseSpec("W", 1, ()), NoiseSpec("V", 1, ())


def robertson(dae=False):
    def drift(t, a, b, c):
        one, two, three = 0.04 * a, 1e4 * b * c, 3e7 * b**2
        return {
            "a": -one + two,
            "b": one - two - three,
            "c": a + b + c - 1 if dae else three,
        }

    return model({"a": 1.0, "b": 0.0, "c": 0.0}, drift, algebraic=["c"] if dae else [])


def lorenz():
    return model(
        {"x": 1.0, "y": 1.0, "z": 1.0},
        lambda t, x, y, z, s, r, b: {"x": s * (y - x), "y": x * (r - z) - y, "z": x * y - b * z},
        params={"s": 10.0, "r": 28.0, "b": 8 / 3},
    )


def pendulum(friction=0.0):
    return model(
        {"theta": 1.0, "theta'": 0.0},
        lambda t, q, p: {"theta": p, "theta'": -9.81 * q.op("sin") - (friction * p if friction else 0)},
    )


def test_robertson():
    facts = derive(robertson())
    assert facts.equation.value == "ode" and facts.autonomous.value
    assert facts.stiff and choose_method(facts).value == "rodas5"
    assert [c.text for c in facts.conserved.value] == ["a + b + c"]
    assert facts.conserved.value[0].coefficients == (1, 1, 1)
    assert facts.sparsity.value == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1))
    assert [p.linear for p in facts.linear.value] == ["-0.04*a", "0.04*a", "0"]
    assert facts.wholly_linear.value is False


def test_robertson_as_a_dae():
    facts = derive(robertson(dae=True))
    assert facts.equation.value == "dae" and "`c`" in facts.equation.why
    assert facts.consistent.value is True
    assert choose_method(facts).value == "rodas5"


def test_a_dae_of_higher_index():
    # The constraint of a pendulum does not contain the multiplier.
    m = model(
        {"x": 1.0, "l": 0.0},
        lambda t, x, l: {"x": -l * x, "l": x**2 - 1},
        algebraic=["l"],
    )
    facts = derive(m)
    assert facts.consistent.value is False and "`l`" in facts.consistent.why


def test_two_constraints_that_are_matched_crosswise():
    m = model(
        {"y": 1.0, "z": 0.0, "x": 0.0},
        lambda t, y, z, x: {"y": z - x, "z": y * z - 1, "x": -x},
        algebraic=["y", "z"],
    )
    assert derive(m).consistent.value is True


def test_lorenz():
    facts = derive(lorenz())
    assert not facts.stiff and choose_method(facts).value == "tsit5"
    assert facts.conserved.value == () and facts.separable.value is None
    assert len(facts.sparsity.value) == 8 and (0, 2) not in facts.sparsity.value
    assert facts.linear.value[2].linear == "-b*z" and facts.linear.value[2].rest == "x*y"
    assert facts.linear.value[0].rest == "0"


def test_van_der_pol_is_stiff_for_large_mu_only():
    def vdp(mu):
        return model(
            {"x": 2.0, "v": 0.0}, lambda t, x, v, m: {"x": v, "v": m * (1 - x**2) * v - x}, params={"m": mu}
        )

    assert derive(vdp(1000.0)).stiff and not derive(vdp(1.0)).stiff


def test_separable_second_order():
    facts = derive(pendulum())
    assert facts.separable.value.positions == ("theta",)
    assert facts.separable.value.momenta == ("theta'",)
    assert choose_method(facts).value == "tsit5"  # mentioned, not chosen
    assert any("leapfrog" in text for heading, text in explain(facts) if heading == "separable")
    assert derive(pendulum(friction=0.1)).separable.value is None


def test_separation_of_vectors_and_of_an_odd_ring():
    two = model({"q": (1.0, 0.0), "p": (0.0, 1.0)}, lambda t, q, p: {"q": p, "p": -q})
    assert derive(two).separable.value.momenta == ("p",)
    ring = model({"a": 1.0, "b": 1.0, "c": 1.0}, lambda t, a, b, c: {"a": b, "b": c, "c": a})
    assert derive(ring).separable.value is None


def test_linear_models():
    m = model({"x": 1.0, "y": 0.0}, lambda t, x, y, k: {"x": k * (y - x), "y": -x / 2 + 1}, params={"k": 2.0})
    facts = derive(m)
    assert facts.wholly_linear.value is True
    assert [p.linear for p in facts.linear.value] == ["-k*x + k*y", "-0.5*x"]
    assert facts.linear.value[1].rest == "1"
    timed = derive(model({"x": 1.0}, lambda t, x: {"x": -t * x}))
    assert timed.linear.value[0].linear == "0" and not timed.autonomous.value


def test_conserved_sums_of_a_reaction_network():
    # A + B ⇌ C: a + c and b + c are kept, with a rational ratio when two B are used.
    def drift(t, a, b, c, k, r):
        rate = k * a * b**2 - r * c
        return {"a": -rate, "b": -2 * rate, "c": rate}

    facts = derive(model({"a": 1.0, "b": 1.0, "c": 0.0}, drift, params={"k": 1.0, "r": 0.5}))
    vectors = {c.coefficients for c in facts.conserved.value}
    assert len(vectors) == 2
    for a, b, c in vectors:
        assert -a - 2 * b + c == 0


def test_noise_that_does_not_cancel_breaks_a_sum():
    def kept(sign):
        return model(
            {"x": 1.0, "y": 1.0},
            lambda t, x, y: {"x": -x + y, "y": x - y},
            lambda t, x, y: {"x,W": x * y, "y,W": sign * x * y},
            [W],
        )

    assert [c.text for c in derive(kept(-1.0)).conserved.value] == ["x + y"]
    assert derive(kept(1.0)).conserved.value == ()


@pytest.mark.parametrize(
    "diffusion, noises, kind, method",
    [
        (lambda t, x, y: {"x,W": 1 + t * 0, "y,V": t}, [W, V], "additive", "sra1"),
        (lambda t, x, y: {"x,W": x, "y,W": x * y}, [W], "scalar", "milstein"),
        (lambda t, x, y: {"x,W": x, "y,V": y * y}, [W, V], "diagonal", "milstein"),
        (lambda t, x, y: {"x,W": y, "y,V": x}, [W, V], "general", "euler_maruyama"),
        (lambda t, x, y: {"x,W": x, "x,V": 2 * x, "y,V": y, "y,W": 3 * y}, [W, V], "commutative", "milstein"),
        (lambda t, x, y: {"x,W": x, "x,V": y}, [W, V], "general", "euler_maruyama"),
    ],
)
def test_kinds_of_noise(diffusion, noises, kind, method):
    m = model({"x": 1.0, "y": 1.0}, lambda t, x, y: {"x": -x, "y": -y}, diffusion, noises)
    facts = derive(m)
    assert facts.equation.value == "sde"
    assert facts.noise.value == kind
    assert choose_method(facts).value == method


def test_general_noise_in_stratonovich_form():
    m = model(
        {"x": 1.0, "y": 1.0},
        lambda t, x, y: {"x": -x, "y": -y},
        lambda t, x, y: {"x,W": y, "y,V": x},
        [W, V],
        calculus="stratonovich",
    )
    assert choose_method(derive(m)).value == "euler_heun"


def test_commutativity_that_needs_an_identity():
    # Columns along rotations by one angle commute: both are multiples of (-y, x) with a radial factor.
    def diffusion(t, x, y):
        r2 = x**2 + y**2
        return {"x,W": -y, "y,W": x, "x,V": -y * r2, "y,V": x * r2}

    m = model({"x": 1.0, "y": 0.5}, lambda t, x, y: {"x": -x, "y": -y}, diffusion, [W, V])
    assert derive(m).noise.value == "commutative"


def test_drift_correction_as_text():
    m = model(
        {"x": 1.0},
        lambda t, x, s: {"x": -x},
        lambda t, x, s: {"x,W": s * x},
        [W],
        {"s": 0.4},
    )
    facts = derive(m)
    assert facts.correction.value == (("x", "-0.5*s^2*x"),)
    assert "stratonovich" in facts.correction.why


def test_discontinuities():
    m = model(
        {"x": 1.0, "v": 0.0},
        lambda t, x, v, k: {"x": v, "v": x.op("gt", 0.0).op("select", -k * x, v.op("abs")) + k.op("abs")},
        params={"k": 2.0},
    )
    facts = derive(m)
    assert [b.op for b in facts.breaks.value] == ["abs", "select"]
    assert derive(lorenz()).breaks.value == ()


def test_a_net_is_known_by_what_it_reads():
    def drift(t, x, y):
        graph = x.graph
        called = graph.add("call", [y.node], type=x.node.type, instance="net", index=0)
        return {"x": E(graph, called), "y": -y}

    facts = derive(model({"x": 1.0, "y": 1.0}, drift))
    assert facts.sparsity.value == ((0, 1), (1, 1))
    assert facts.stiffness.value is None and choose_method(facts).value == "tsit5"
    assert "rodas5" in choose_method(facts).why


def test_large_states_say_so():
    facts = derive(model({"x": tuple([1.0] * 100)}, lambda t, x: {"x": -x}))
    assert facts.sparsity.value is None and "100 components" in facts.sparsity.why


def test_a_model_without_rates():
    facts = derive(model({"x": 1.0}, None))
    assert facts.equation.value == "recurrence" and choose_method(facts).value is None


def test_explanations_read():
    told = dict(explain(derive(robertson())))
    assert told["conserved"] == "the rates cancel in `a + b + c`"
    assert told["Jacobian"] == "7 of 9 entries of the Jacobian are not 0, by symbolic derivatives"
    assert told["sparsity"] == "a  × × ×\nb  × × ×\nc  · × ·"
    for choice in choices(derive(robertson())):
        assert choice.value is not None and f"`{choice.value}`" in choice.why


def test_gradients():
    assert choose_gradient(derive(lorenz())).value == "discrete"
    assert choose_gradient(derive(lorenz()), "reversible_heun").value == "reversible"


def test_vector_noise_kinds():
    def diffusion(t, x):
        return {"x,W": stack(stack(x[0], x[0] * 0), stack(x[1] * 0, x[1]))}

    m = model({"x": (1.0, 2.0)}, lambda t, x: {"x": -x}, diffusion, [NoiseSpec("W", 2, (2,))])
    assert derive(m).noise.value == "diagonal"


@pytest.mark.parametrize(
    "diffusion, kind, shape",
    [
        (lambda t, x: {"x,W": x * x}, "diagonal", [2]),
        (lambda t, x: {"x,W": stack(x[1], x[0])}, "general", [2, 2]),
        (lambda t, x: {"x,W": stack(t, t * 2)}, "additive", [2, 2]),
    ],
)
def test_the_form_of_the_equations_is_corrected_by_the_facts(diffusion, kind, shape):
    noises = [NoiseSpec("W", 2, (2,))]
    m = model({"x": (1.0, 2.0)}, lambda t, x: {"x": -x}, diffusion, noises, noise_kind="diagonal")
    refined = with_noise_kind(m)
    assert refined.noise_kind == kind
    (found,) = value(refined.diffusion, t=3.0, x=[1.0, 2.0]).values()
    assert list(torch.tensor(found).shape) == shape
    assert noise_kind(refined).value == kind
