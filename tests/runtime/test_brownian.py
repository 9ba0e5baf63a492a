"""Brownian paths: their law, and that they are functions of time and of nothing else."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from ndl.runtime.brownian import BrownianPath
from scipy.stats import ks_2samp


def gap(a, b):
    return float((a - b).abs().max())


def test_final_values_do_not_depend_on_the_step():
    path = BrownianPath(3, 50, 2, 0, 1)
    sums = [path.increments(np.arange(n + 1) / n)[0].sum(0) for n in (64, 256)]
    assert gap(sums[0], sums[1]) < 1e-12
    assert gap(sums[0], path.at([1.0]).W[0]) < 1e-12


def test_increments_and_areas_compose():
    path = BrownianPath(3, 20, 1, 0, 2)
    fine = np.array([0.0, 0.1, 0.37, 0.9, 1.4, 2.0])
    dW, dZ = path.increments(fine)
    coarse, area = path.increments([0.0, 2.0])
    W = torch.cat([torch.zeros_like(dW[:1]), dW.cumsum(0)])[:-1]
    h = torch.from_numpy(np.diff(fine))[:, None, None]
    assert gap(dW.sum(0), coarse[0]) < 1e-12
    assert gap((dZ + h * W).sum(0), area[0]) < 1e-12


@pytest.mark.parametrize("step", [1 / 64, 0.01, 0.0123])
def test_steps_have_the_joint_law_of_increment_and_area(step):
    """Var dW = h, Var dZ = h^3/3, Cov = h^2/2, and steps are independent."""
    path = BrownianPath(11, 400, 1, 0, 4)
    dW, dZ = path.increments(np.arange(int(4 / step)) * step)
    n = dW.numel()
    near = 5 * (2 / n) ** 0.5
    assert abs(float(dW.mean())) < 5 * (step / n) ** 0.5
    assert abs(float((dW**2).mean()) / step - 1) < near
    assert abs(float((dZ**2).mean()) / (step**3 / 3) - 1) < near
    assert abs(float((dW * dZ).mean()) / (step**2 / 2) - 1) < near
    assert abs(float((dW[1:] * dW[:-1]).mean()) / step) < near
    assert abs(float((dZ[1:] * dW[:-1]).mean()) / step**2) < near


@pytest.mark.parametrize("ends", [(0, 0.2, 0.25), (0.125, 0.128, 0.13), (0.5, 0.50048828125, 0.501)])
def test_unequal_parts_have_the_conditional_law(ends):
    """The parts l + r = h of a cell, given its W and H: means, and the covariances of the rest, by the
    regression of independent (W_l, H_l, W_r, H_r) on W = W_l + W_r and on H."""
    many = 60_000
    dW, dZ = BrownianPath(17, many, 1, 0, 1).increments(np.array(ends))
    l, r = np.diff(ends)
    h = l + r
    W_l, W_r = dW[:, :, 0].numpy()
    H_l, H_r = (dZ[:, :, 0].numpy() / np.array([[l], [r]])) - np.stack([W_l, W_r]) / 2
    parts = np.stack([W_l, H_l, W_r, H_r])
    # H from the integral over the whole
    area = np.array([[r / h - 0.5 + l / (2 * h), l / h, r / (2 * h) - 0.5, r / h], [1.0, 0.0, 1.0, 0.0]])
    H, W = area @ parts
    prior = np.diag([l, l / 12, r, r / 12])
    whole = area @ prior @ area.T
    np.testing.assert_allclose(whole, np.diag([h / 12, h]), atol=1e-15)
    gain = prior @ area.T @ np.linalg.inv(whole)
    np.testing.assert_allclose(gain[0], [6 * l * r / h**2, l / h], atol=1e-12)
    np.testing.assert_allclose(gain[:, 0][[1, 3]], [(l / h) ** 2, (r / h) ** 2], atol=1e-12)
    rest = parts - gain @ np.stack([H, W])
    cov = prior - gain @ area @ prior
    size = np.sqrt(np.outer(np.diag(prior), np.diag(prior)))
    assert np.abs(rest @ rest.T / many - cov).max() < 5 * many**-0.5 * size.max()
    assert (np.abs(rest @ rest.T / many - cov) / size).max() < 5 * many**-0.5
    assert (
        np.abs(rest @ np.stack([H / (h / 12) ** 0.5, W / h**0.5]).T / many).T / np.sqrt(np.diag(prior))
    ).max() < 5 * many**-0.5


def test_a_bridge_has_the_conditional_law():
    """W(s) given W(1) is normal: mean s W(1), variance s(1 - s); no correlation is left with W(1)."""
    W = BrownianPath(5, 40_000, 1, 0, 1).at([0.3, 1.0]).W[:, :, 0]
    rest = W[0] - 0.3 * W[1]
    assert abs(float(rest.var()) / (0.3 * 0.7) - 1) < 0.035
    assert abs(float((rest * W[1]).mean())) < 0.012


def test_covariance_of_times_is_the_earlier_one():
    times = [0.2, 0.5, 1.3, 1023.0, 1500.0]
    W = BrownianPath(2, 20_000, 1, 0, 1500).at(times).W[:, :, 0]
    found = (W @ W.T / W.shape[1]).numpy()
    expected = np.minimum.outer(times, times)
    scale = np.sqrt(np.outer(times, times))
    assert np.abs((found - expected) / scale).max() < 0.05


def test_order_batch_and_route_do_not_matter():
    whole = BrownianPath(9, 30, (2, 1), 0, 10)
    some = BrownianPath(9, torch.tensor([4, 17]), (2, 1), 0, 10)
    times = np.array([7.7, 0.3, 10.0, 0.3, 1 / 3])
    a, b = whole.at(times), some.at(times[::-1])
    assert gap(a.W[:, [4, 17]], b.W.flip(0)) == 0
    each = some.each([7.7, 1 / 3])
    assert gap(each.W, torch.stack([a.W[0, 4], a.W[4, 17]])) < 1e-14
    assert gap(each.I, torch.stack([a.I[0, 4], a.I[4, 17]])) < 1e-13


def test_decimal_and_binary_steps_see_one_path():
    """Refined, asked backwards and one by one: the same values where the times are."""
    path = BrownianPath(21, 6, 2, -1, 2)
    fine = path.at(np.arange(-1000, 2001) * 0.001)
    for step in (0.1, 0.02, 0.005, 1 / 8, 1 / 40):
        k = np.arange(round(-1 / step), round(2 / step) + 1)
        found = path.at((k * step)[::-1])
        at = torch.from_numpy(np.rint(1000 * (1 + k * step)).astype(int)[::-1].copy())
        on = torch.from_numpy(np.abs(1000 * k * step - np.rint(1000 * k * step))[::-1].copy()) < 1e-9
        assert gap(found.W[on], fine.W[at][on]) < 1e-13
        assert gap(found.I[on], fine.I[at][on]) < 1e-11
    for t in (-0.3, 0.007, 1 / 64, 1.999):
        each, grid = path.each(np.full(6, t)), path.at([0.1, t, 1.7])
        assert gap(each.W, grid.W[1]) < 1e-13


def test_a_time_that_misses_a_point_by_rounding_is_the_point():
    path = BrownianPath(8, 5, 1, 0, 1)
    for t in (0.3, 0.003, 0.7):
        near = [np.nextafter(t, 0), t, np.nextafter(t, 1), 3 * (t / 3)]
        W = path.at(near).W
        assert gap(W[:1], W) == 0


def test_another_noise_does_not_change_the_first():
    alone = BrownianPath(9, 5, 2, 0, 1).at([0.4]).W
    joined = BrownianPath(9, 5, (2, 3), 0, 1).at([0.4]).W
    assert gap(alone, joined[..., :2]) == 0
    assert gap(joined[..., 0], joined[..., 2]) > 1e-3


def test_a_path_goes_on_behind_and_before_its_start():
    """W relative to t0, over root cells and to negative times; the increments are the same from any start."""
    early, late = BrownianPath(1, 8, 1, 0, 2000), BrownianPath(1, 8, 1, 1000, 2000)
    times = [1023.5, 1024.0, 2500.25]
    assert gap(late.at(times).W, early.at(times).W - early.at([1000.0]).W) < 1e-12
    W = BrownianPath(1, 20_000, 1, 0, 1).at([-2.0, -1.0, 0.0]).W[:, :, 0]
    assert float(W[2].abs().max()) == 0
    assert abs(float(((W[0] - W[1]) ** 2).mean()) - 1) < 0.05
    assert abs(float(((W[0] - W[1]) * W[1]).mean())) < 0.05


def test_paths_are_continuous_to_rounding():
    path = BrownianPath(4, 6, 1, 0, 1)
    t = 0.7300000001
    assert gap(path.at([t]).W, path.at([np.nextafter(t, 1)]).W) < 1e-11


def test_very_short_and_very_long_spans_have_the_law_too():
    for span in (1e-6, 3e8):
        dW, dZ = BrownianPath(6, 3000, 1, 0, span).increments(np.linspace(0, span, 5))
        h = span / 4
        assert abs(float((dW**2).mean()) / h - 1) < 0.08
        assert abs(float((dZ**2).mean()) / (h**3 / 3) - 1) < 0.08


def test_increments_and_areas_have_the_law_of_torchsde_s_brownian_interval():
    """Of 5,000 paths over three unequal steps: the same covariances, and the same marginal laws."""
    torchsde = pytest.importorskip("torchsde")
    many, times = 5_000, [0.0, 0.3, 0.45, 1.0]
    interval = torchsde.BrownianInterval(
        0.0, 1.0, size=(many, 1), dtype=torch.float64, entropy=3, levy_area_approximation="space-time"
    )
    interval(0.0, 1.0)  # the parts are then bridges, as ours are
    pairs = [interval(a, b, return_U=True) for a, b in pairwise(times)]
    theirs = torch.cat([x for pair in pairs for x in pair], 1).numpy()
    dW, dZ = BrownianPath(23, many, 1, 0, 1).increments(np.array(times))
    ours = torch.stack([dW[:, :, 0], dZ[:, :, 0]], 1).reshape(6, many).T.numpy()
    size = theirs.std(0)
    cov = [x.T @ x / many / np.outer(size, size) for x in (ours, theirs)]
    assert np.abs(cov[0] - cov[1]).max() < 6 * many**-0.5
    for a, b in zip(ours.T, theirs.T):
        assert ks_2samp(a, b).pvalue > 1e-4
