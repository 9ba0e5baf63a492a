"""Binders: conditions, several indices, indices that run together, means over laws."""

from __future__ import annotations

from programs import check, refused

PROGRAM = """
const A = [[1.0, 2.0, 3.0], [4.0, 9.0, 6.0], [7.0, 8.0, 5.0]]
const v = [3.0, -1.0, 2.0, -5.0]
const T = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]

fn positive(x) = sum(x[i], i if x[i] > 0)
fn shares(x) = softmax(x[i], i)

model M:
    param B: R[3, 3] = [[1, 2, 3], [4, 9, 6], [7, 8, 5]]
    state x: R[4] = [3, -1, 2, -5]
    x' = 0*x
    kept = [positive(x), mean(x[i], i if x[i] > 0), prod(x[i], i if x[i] > 0), max(x[i], i if x[i] < 0)]
    more = [min(x[i], i if x[i] > 0), var(x[i], i if x[i] > 0), sum(x[k], k in 0..3 if x[k] > 0)]
    found = [argmax(x[i], i if x[i] < 3), argmin(x[i], i if x[i] > -5)]
    soft = softmax(x[i], i if x[i] > 0)
    place = argmax(B[i, j], i, j)
    both = softmax(B[i, j], i, j)
    rows = [softmax(B[i, j], j) for i]
    trace1 = sum(B[i, i], i)
    diagonal = [B[i, i] for i]
    turned = [B[2 - i, i] for i]
    upper = [B[i, j] for i, j if i < j]
    weighted = sum(B[i, i]*x[i], i in 0..2)
    deep = [sum(B[i, j]*B[j, j], j) for i]

test "a condition leaves members out":
    s = solve(M, span=0..1, method=rk4(h=1), save=end)
    assert max(abs(s.final.kept - [5, 2.5, 6, -1])) < 1e-12
    assert max(abs(s.final.more - [2, 0.25, 5])) < 1e-12
    assert max(abs(s.final.found - [2, 1])) < 1e-12
    assert max(abs(s.final.soft - [1/(1 + exp(-1)), 0, 1/(1 + exp(1)), 0])) < 1e-12
    assert positive(v) == 5
    assert any(v[i] > 1, i if v[i] < 0) == false and all(v[i] > 1, i if v[i] > 0)

test "several indices":
    s = solve(M, span=0..1, method=rk4(h=1), save=end)
    assert max(abs(s.final.place - [1, 1])) < 1e-12
    row, column = argmin(A[i, j], i, j)
    assert row == 0 and column == 0
    q, r, u = argmax(T[a, b, c]*(if a < 1 then 1 else 0), a, b, c)
    assert q == 0 and r == 1 and u == 1
    assert abs(sum(s.final.both) - 1) < 1e-12
    assert max(abs(s.final.both/s.final.both[0, 0] - [[exp(A[i, j] - 1) for j in 0..2] for i in 0..2])) < 1e-9
    assert max(abs([sum(s.final.rows[i, j], j) for i] - [1, 1, 1])) < 1e-12
    assert max(abs(shares([1.0, 2.0, 4.0]) - softmax([1.0, 2.0, 4.0]))) < 1e-15

test "indices of one tensor that run together":
    s = solve(M, span=0..1, method=rk4(h=1), save=end)
    assert abs(s.final.trace1 - trace(A)) < 1e-12
    assert max(abs(s.final.diagonal - [1, 9, 5])) < 1e-12
    assert max(abs(s.final.turned - [7, 9, 3])) < 1e-12
    assert max(abs(s.final.upper - [2, 3, 6])) < 1e-12
    assert abs(s.final.weighted - (3 - 9 + 10)) < 1e-12
    assert max(abs(s.final.deep - A @ [1.0, 9.0, 5.0])) < 1e-12
    assert max(abs([T[i, i, k] for i, k] - [[1, 2], [7, 8]])) < 1e-12
    assert max(abs([T[k, i, i] for k, i] - [[1, 4], [5, 8]])) < 1e-12
    assert sum(T[i, i, i], i) == 9

test "a gradient goes along the diagonal":
    g = grad(sum(solve(M, span=0..1, method=rk4(h=1), save=end).final.trace1), M.params)
    assert max(abs(g - [1, 0, 0, 0, 1, 0, 0, 0, 1])) < 1e-12
"""


def test_binders() -> None:
    check(PROGRAM)


LAWS = """
model M:
    param m = 0.5, s = 0.3, p = 0.3, w: R[3] = [1, 2, 1], r = 2.0
    state x = 0.0
    x' = 0
    decay = expect(exp(-z), z ~ exponential(r))
    means = [expect(z^2, z ~ normal(m, s)), expect(z, z ~ lognormal(m, s)), decay]
    sums = [expect(exp(z), z ~ bernoulli(p)), expect(z^2, z ~ categorical(w)), expect(z, z ~ laplace(m, s))]
    shape = expect(z^3, z ~ gamma(2.5, r))
    joint = expect(z*y^2 + y, z ~ uniform(0, r), y ~ normal(m, s))

test "closed forms":
    assert abs(expect(z^4, z ~ normal()) - 3) < 1e-12
    assert abs(expect(cos(z), z ~ normal(1, 2)) - cos(1)*exp(-2)) < 1e-12
    assert abs(expect(z, z ~ lognormal(0.5, 0.3)) - exp(0.5 + 0.045)) < 1e-12
    assert abs(expect(z^2, z ~ lognormal(0.5, 0.3)) - exp(1 + 0.18)) < 1e-12
    assert abs(expect(exp(z), z ~ uniform(1, 3)) - (exp(3) - exp(1))/2) < 1e-12
    assert abs(expect(z, z ~ loguniform(1, 10)) - 9/log(10)) < 1e-12
    assert abs(expect(exp(-z), z ~ exponential(2)) - 2/3) < 1e-12
    assert abs(expect(z^3, z ~ exponential(2)) - 6/8) < 1e-12
    assert abs(expect(z^2, z ~ laplace(1, 2)) - 9) < 1e-11
    assert abs(expect(abs(z - 1), z ~ laplace(1, 2)) - 2) < 1e-11
    assert abs(expect(z^3, z ~ gamma(2.5, 2)) - 2.5*3.5*4.5/8) < 1e-12
    assert abs(expect(1/(1 + z), z ~ gamma(1)) - 0.5963473623231941) < 1e-6
    assert abs(expect(exp(-z), z ~ gamma(0.5, 3)) - (3/4)^0.5) < 1e-12
    assert abs(expect(z^3, z ~ beta(2, 3)) - 2*3*4/(5*6*7)) < 1e-13
    assert abs(expect(z, z ~ beta(0.5, 0.5)) - 0.5) < 1e-13
    assert abs(expect(z^2, z ~ beta(0.5, 0.5)) - 0.375) < 1e-13
    assert abs(expect(exp(z), z ~ beta(1, 1)) - (exp(1) - 1)) < 1e-13
    assert abs(expect(z, z ~ bernoulli(0.3)) - 0.3) < 1e-15
    assert abs(expect(z^2, z ~ categorical([1.0, 2.0, 1.0])) - 1.5) < 1e-15
    assert abs(expect(z^2, z ~ choice([1.0, 2.0, 3.0])) - 14/3) < 1e-14
    assert abs(expect(z^2, z ~ poisson(3)) - 12) < 1e-12
    assert abs(expect(0.5^z, z ~ poisson(40)) - exp(-20)) < 1e-14

test "arguments that the run computes, and their gradients":
    s = solve(M, span=0..1, method=rk4(h=1), save=end)
    f = s.final
    assert max(abs(f.means - [0.25 + 0.09, exp(0.545), 2/3])) < 1e-12
    assert max(abs(f.sums - [0.7 + 0.3*exp(1), 1.5, 0.5])) < 1e-12
    assert abs(f.shape - 2.5*3.5*4.5/8) < 1e-12
    assert abs(f.joint - (0.34 + 0.5)) < 1e-12
    g = grad(solve(M, span=0..1, method=rk4(h=1), save=end).final.joint, M.params)
    assert max(abs(g - [2*0.5 + 1, 2*0.3, 0, 0, 0, 0, 0.34/2])) < 1e-12
    h = grad(solve(M, span=0..1, method=rk4(h=1), save=end).final.sums[0], M.params)
    assert abs(h[2] - (exp(1) - 1)) < 1e-12
"""


def test_means_over_laws() -> None:
    check(LAWS)


TENSORS = """
const L = [[1.0, -2.0], [0.3, 0.1], [2.0, 5.0]]
const k = [0, 1, 0]

fn surprise(x, j) = log(sum(exp(x))) - x[j]

test "functions of tensors look at each entry of a comprehension by itself":
    assert max(abs([cross_entropy(L[i], k[i]) - surprise(L[i], k[i]) for i])) < 1e-14
    assert abs(mean(cross_entropy(L[i], k[i]), i) - cross_entropy(L, k)) < 1e-14
    assert [accuracy(L[i], k[i]) for i] == [1, 0, 0] and [size(L[i]) for i] == [2, 2, 2]
    assert max(abs([rms(L[i]) - sqrt(mean(L[i]^2)) for i])) < 1e-14
    assert rms([1, 7]) == 5 and median([1, 4]) == 2.5 and quantile([1, 3], 0.25) == 1.5
    assert smooth_l1([3, 4], [1, 4]) == 0.75 and rel_l2([3, 1], [3, 4]) == 0.6
    assert cross_entropy([0, 0], 1) == log(2)
    assert [sort(L[i])[0] for i] == [min(L[i]) for i] and [median(L[i]) for i] == [mean(L[i]) for i]
    assert [smooth_l1(L[i], L[j]) for i, j][0, 2] == smooth_l1(L[0], L[2])
    a = [rel_l2(L[i], L[j]) for j, i]
    assert max(abs(a - [[norm(L[i] - L[j])/norm(L[j]) for i] for j])) < 1e-14
"""


def test_functions_of_tensors() -> None:
    check(TENSORS)


def test_mistakes_are_named() -> None:
    rule = refused('test "t":\n    assert expect(z, z ~ student(3)) < 1\n')
    assert (rule.code, rule.span.text) == ("NDL365", "student(3)")
    start = "model M:\n    param a = 2.0\n    state x = 1.0\n"
    shape = refused(start + "    x' = expect(z, z ~ gamma(a, 1))\n")
    assert (shape.code, shape.span.text) == ("NDL349", "gamma(a, 1)")
    kept = refused("model M:\n    state x: R[3] = 1\n    y = [x[i] for i if x[i] > 0]\n    x' = -x\n")
    assert (kept.code, kept.span.text) == ("NDL327", "x[i] > 0")
    low = refused('test "t":\n    assert expect(z, z ~ gamma(-1, 1)) < 1\n')
    assert low.code == "NDL366"
