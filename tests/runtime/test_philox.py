"""Philox against the vectors published with Random123, and the numbers made of its words."""

import torch
from ndl.runtime.draws import draw
from ndl.runtime.philox import normal_pair, philox, subkey, uniform53

KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def plain(counter, key):
    """Philox in Python's unbounded integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p, q = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
        c = [(q >> 32) ^ c[1] ^ k[0], q & 0xFFFFFFFF, (p >> 32) ^ c[3] ^ k[1], p & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return tuple(c)


def test_known_answers():
    for counter, key, expected in KNOWN:
        out = philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
        assert tuple(int(w) for w in out) == expected


def test_a_batch_is_its_elements():
    words = torch.randint(0, 2**32, (4, 50), generator=torch.Generator().manual_seed(0))
    key = subkey(-5, 2**40 + 3, 1)
    out = philox(tuple(words), key)
    for i in range(50):
        expected = plain(words[:, i].tolist(), [int(k) for k in key])
        assert tuple(int(w[i]) for w in out) == expected


def test_streams_seeds_and_uses_have_their_own_keys():
    keys = {
        tuple(int(w) for w in subkey(seed, stream, use))
        for seed in (0, 1, -1, 2**40)
        for stream in (0, 1, 2**33)
        for use in (1, 2)
    }
    assert len(keys) == 24


def test_uniforms_and_normals_have_their_laws():
    n = torch.arange(200_000)
    zero = torch.zeros_like(n)
    words = philox((n, zero, zero, zero), subkey(7, 0, 1))
    u = uniform53(words[0], words[1])
    assert float(u.min()) > 0 and float(u.max()) < 1
    edges = torch.histc(u, 20, 0, 1)
    assert float(((edges - 10_000) ** 2 / 10_000).sum()) < 45  # chi squared, 19 degrees: p = 7e-4
    a, b = normal_pair(words)
    for z in (a, b):
        assert abs(float(z.mean())) < 0.01
        assert abs(float(z.var()) - 1) < 0.015
        assert abs(float((z**4).mean()) - 3) < 0.12
    assert abs(float((a * b).mean())) < 0.01


def test_a_draw_depends_on_its_place_alone():
    both = draw("normal", (3,), seed=1, stream=4, sample=torch.arange(5), step=2)
    one = draw("normal", (3,), seed=1, stream=4, sample=3, step=2)
    assert torch.equal(both[3], one)
    assert not torch.equal(one, draw("normal", (3,), seed=1, stream=4, sample=3, step=3))
    assert not torch.equal(one, draw("normal", (3,), seed=1, stream=4, sample=3, step=2, turn=1))
    assert not torch.equal(one, draw("normal", (3,), seed=1, stream=5, sample=3, step=2))


def test_draws_are_differentiable_along_the_path():
    rate = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = draw("exponential", (), rate, seed=3, stream=0, sample=torch.arange(4))
    (slope,) = torch.autograd.grad(x.sum(), rate)
    torch.testing.assert_close(slope, (-x / rate).sum())
