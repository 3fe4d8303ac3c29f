"""Mutual information by bins and by noise, the bottleneck's curve and the gradient's signal, against brute force."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import sph_harm_y
from sklearn.metrics import mutual_info_score
from torch import nn

from lessons_lib.data import Dataset
from lessons_lib.measures import information as info
from lessons_lib.models import mlp
from lessons_lib.training import fit

TASK = info.sphere_task()


def rng(seed=0):
    return np.random.default_rng(seed)


def layers(*shape, seed=0, spread=0.7):
    return np.tanh(spread * rng(seed).standard_normal(shape)).astype(np.float32)


def h(p):
    """Entropy in bits of a coin."""
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)


def counted(rows):
    """Entropy in bits of a list of hashable things, from a dictionary of counts."""
    counts = Counter(rows)
    return -sum(c / len(rows) * math.log2(c / len(rows)) for c in counts.values())


# ------------------------------------------------------------------------------------------ the task


def test_task_is_balanced_and_says_as_much_as_asked():
    assert TASK.inputs.shape == (4096, 12) and len(set(map(tuple, TASK.inputs.tolist()))) == 4096
    assert abs(TASK.labels.float().mean() - 0.5) < 0.05
    p = TASK.probability
    assert h(p.mean()) - np.mean([h(each) for each in p]) == pytest.approx(0.99, abs=1e-6)
    assert ((p > 0.5) == TASK.labels.numpy().astype(bool)).all()


def test_score_is_the_power_spectrum_in_spherical_harmonics():
    x, y, z = info.icosahedron().T
    angles = np.arccos(z), np.arctan2(y, x)
    pattern = TASK.inputs.numpy() / 2
    expected = sum(
        c * 4 * math.pi / (2 * degree + 1) * abs(pattern @ sph_harm_y(degree, order, *angles)) ** 2
        for degree, c in enumerate((1.0, 0.7, -0.9), start=1)
        for order in range(-degree, degree + 1)
    )
    assert np.allclose(TASK.score, expected)


def test_a_rotation_of_the_icosahedron_changes_no_label():
    points, turn = info.icosahedron(), 2 * math.pi / 5
    axis = points[0]
    cross = np.cross(np.eye(3), axis)
    rotation = np.cos(turn) * np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * np.outer(axis, axis)
    distance = np.linalg.norm((points @ rotation)[:, None] - points[None], axis=-1)
    place = distance.argmin(1)
    assert distance.min(1).max() < 1e-9 and (place != np.arange(12)).sum() == 10
    code = ((TASK.inputs.numpy()[:, place] > 0) << np.arange(12)).sum(1)
    assert np.array_equal(TASK.score[code], TASK.score)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"information": 1.5}, "asked for 1.5"), ({"coefficients": (0.0,)}, "one score")],
)
def test_impossible_tasks_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        info.sphere_task(**arguments)


# ------------------------------------------------------------------------------------------ bins


def test_entropy_counts():
    rows = rng().integers(0, 40, (3, 2, 500))
    expected = [[counted(row.tolist()) for row in pair] for pair in rows]
    assert np.allclose(info.entropy(rows), expected)
    assert info.entropy(np.arange(64)) == pytest.approx(6) and info.entropy(np.zeros(64, int)) == 0


@pytest.mark.parametrize("span", [(-1.0, 1.0), "global", "epoch", "adaptive"])
def test_binned_information_is_that_of_a_dictionary_and_of_sklearn(span):
    t, y = layers(3, 2, 300, 3), rng(1).integers(0, 3, 300)
    found, codes = info.binned_information(t, y, bins=4, span=span), info.bin_codes(t, 4, span)
    for at in np.ndindex(3, 2):
        cells = [tuple(row) for row in codes[at].tolist()]
        assert found.x[at] == pytest.approx(counted(cells))
        named = [hash(cell) for cell in cells]
        assert found.y[at] == pytest.approx(mutual_info_score(y, named) / math.log(2))


def test_conventions_put_the_bins_where_they_say():
    t = np.array([[[0.0], [0.5], [1.0]], [[0.0], [2.0], [4.0]]])  # [epochs, n, neurons]
    assert info.bin_codes(t, 4, (0, 1)).squeeze(-1).tolist() == [[0, 2, 3], [0, 8, 16]]
    assert info.bin_codes(t, 4, "global").squeeze(-1).tolist() == [[0, 0, 1], [0, 2, 3]]
    assert info.bin_codes(t, 4, "epoch").squeeze(-1).tolist() == [[0, 2, 3], [0, 2, 3]]
    one = np.array([0.0] * 50 + [1, 2, 3, 100, 1000]).reshape(-1, 1)
    assert Counter(info.bin_codes(one, 3, "adaptive")[:, 0].tolist()) == {0: 51, 1: 2, 2: 2}
    assert info.bin_codes(np.ones((5, 2)), 7, "epoch").max() == 0


def test_a_global_range_belongs_to_one_network():
    t = layers(4, 2, 100, 3)
    larger = t.copy()
    larger[:, 1] *= 50
    assert np.array_equal(info.bin_codes(t, 9, "global")[:, 0], info.bin_codes(larger, 9, "global")[:, 0])


def test_many_neurons_and_bins_are_kept_apart():
    codes = rng().integers(0, 100, (4096, 40))
    codes[2048:] = codes[:2048]
    assert info.entropy(info.symbols(codes)) == pytest.approx(11)
    with pytest.raises(ValueError, match="a layer of 4096 neurons; at most 4095"):
        info.symbols(np.zeros((1, 4096), int))


def test_information_cannot_grow_by_processing():
    t, y = layers(800, 4), rng(3).integers(0, 2, 800)
    codes = info.bin_codes(t, 6)
    fine = info.binned_information(codes.astype(float), y, bins=6, span=(0, 6))
    for coarse in (codes // 2, codes[:, :2], codes.sum(1, keepdims=True)):
        other = info.binned_information(coarse.astype(float), y, bins=1, span=(0, 1))
        assert other.x < fine.x and other.y < fine.y
        assert other.y <= info.deterministic_bound(other.x, counted(y.tolist())) + 1e-12


def test_labels_that_know_nothing_give_the_known_bias_only():
    cells = 32
    t = (rng().integers(0, cells, (200, 4096, 1)) + 0.5) / cells
    found = info.binned_information(t, rng(1).integers(0, 2, 4096), bins=cells, span=(0, 1)).y
    assert found.mean() == pytest.approx((cells - 1) / (2 * 4096 * math.log(2)), rel=0.1)  # Miller and Madow 1955


@pytest.mark.parametrize(
    ("t", "options", "message"),
    [
        (np.zeros((5, 2)), {"span": "wide"}, "'wide'.*global, epoch, adaptive"),
        (np.zeros((5, 2)), {"span": (1, 1)}, "lower to a higher"),
        (np.zeros((5, 2)), {"span": "global"}, "epochs"),
        (np.zeros((5, 2)), {"bins": 0}, "bins=0"),
        (np.full((5, 2), np.nan), {}, "10 of 10 activations are not finite"),
        (np.zeros((6, 2)), {}, r"\[6, 2\] and labels \[5\]"),
    ],
)
def test_binning_refuses_what_it_cannot_bin(t, options, message):
    with pytest.raises(ValueError, match=message):
        info.binned_information(t, np.zeros(5, int), **options)


# ------------------------------------------------------------------------------------------ noise


def mixture_information(centres, noise):
    """I(X; T) in bits for equally likely centres on a line, by numerical integration."""
    centres = np.asarray(centres, dtype=float)

    def minus_p_log_p(t):
        p = np.exp(-((t - centres) ** 2) / (2 * noise**2)).mean() / (noise * math.sqrt(2 * math.pi))
        return -p * math.log2(p) if p > 0 else 0.0

    ends = centres.min() - 9 * noise, centres.max() + 9 * noise
    whole = quad(minus_p_log_p, *ends, limit=400, points=np.unique(centres))[0]
    return whole - 0.5 * math.log2(2 * math.pi * math.e * noise**2)


@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0])
def test_pairwise_bounds_enclose_the_entropy_of_a_mixture(noise):
    centres, y = np.array([-1.0, -0.9, 0.1, 0.4, 0.5, 1.0]), np.array([0, 0, 0, 1, 1, 1])
    found = info.pairwise_information(centres[:, None], y, noise)
    truth = mixture_information(centres, noise)
    assert found.lower.x <= truth <= found.upper.x
    given = np.mean([mixture_information(centres[y == label], noise) for label in (0, 1)])
    assert found.lower.y <= truth - given <= found.upper.y
    assert found.upper.x - found.lower.x < 1


def test_pairwise_bounds_are_exact_for_clusters_far_apart_and_for_none():
    t, y = np.repeat(np.eye(4) * 100, 8, axis=0), np.tile([0, 1], 16)
    far = info.pairwise_information(np.stack([t, 0 * t]), y, 0.1)
    for bound in far:
        assert np.allclose(bound.x, [2, 0], atol=1e-4) and np.allclose(bound.y, 0, atol=1e-4)
    told = info.pairwise_information(t, np.repeat([0, 0, 1, 1], 8), 0.1)
    assert told.lower.y == pytest.approx(1, abs=1e-4) and told.upper.y == pytest.approx(1, abs=1e-4)


def test_pairwise_bounds_in_the_papers_formula_by_loops():
    t, y = layers(2, 40, 3), rng(1).integers(0, 3, 40)
    found = info.pairwise_information(t, y, 0.4)
    for c, plane in ((8, found.lower), (2, found.upper)):
        for layer, value in zip(t, plane.x, strict=True):
            means = [np.mean([math.exp(-sum((a - b) ** 2) / (c * 0.16)) for b in layer]) for a in layer]
            assert value == pytest.approx(-np.mean(np.log2(means)), abs=1e-4)


def test_linear_gaussian_information_is_that_of_a_correlation_and_adds_up():
    weight = torch.tensor([[3.0, 4.0, 0.0]])
    found = info.gaussian_information(weight, [0], 2.0)
    assert found == pytest.approx(0.5 * math.log2((4 + 25) / (4 + 16)))
    assert info.gaussian_information(weight, [2], 2.0) == pytest.approx(0)
    many = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(0))
    parts = info.gaussian_information(many, slice(0, 2), 0.7)
    only_rest = many.clone()
    only_rest[..., :2] = 0  # the chain rule: I(T; X) = I(T; part) + I(T; rest | part)
    rest = info.gaussian_information(only_rest, slice(None), 0.7)
    assert torch.allclose(info.gaussian_information(many, slice(None), 0.7), parts + rest)


@pytest.mark.parametrize("noise", [0.0, -1.0])
def test_without_noise_there_is_no_estimate(noise):
    with pytest.raises(ValueError, match="not defined"):
        info.pairwise_information(np.zeros((4, 1)), np.zeros(4, int), noise)
    with pytest.raises(ValueError, match="not defined"):
        info.gaussian_information(torch.ones(1, 1), slice(None), noise)


# ------------------------------------------------------------------------------------------ the bound


def test_bottleneck_of_a_noisy_bit_is_mrs_gerbers_curve():
    flip = 0.1
    joint = np.array([[1 - flip, flip], [flip, 1 - flip]]) / 2
    found = info.information_bottleneck(joint, [1.05, 2.0, 3.0, 8.0])
    assert found.x[0] < 1e-6 and 0.05 < found.x[1] < found.x[2] < found.x[3] < 1
    for x, y in zip(*found, strict=True):
        e = brentq(lambda p, x=x: h(p) - (1 - x), 0, 0.5)
        assert y == pytest.approx(1 - h(e * (1 - flip) + (1 - e) * flip), abs=1e-4)


def test_bottleneck_of_a_deterministic_rule_is_its_corner():
    joint = np.array([[2, 0], [1, 0], [0, 3], [0, 2]]) / 8
    found = info.information_bottleneck(joint, [1.5, 5.0, 50.0])
    assert np.allclose(found.x, h(3 / 8), atol=1e-3) and np.allclose(found.y, h(3 / 8), atol=1e-3)
    assert info.deterministic_bound([0.5, 3.0], h(3 / 8)).tolist() == [0.5, h(3 / 8)]


def test_bottleneck_wants_a_distribution():
    with pytest.raises(ValueError, match="sum to 1"):
        info.information_bottleneck(np.ones((3, 2)), [2.0])


# ------------------------------------------------------------------------------------------ the gradient


def gradients(signal, noise, batches, weights=4000, seed=0):
    return signal + noise * torch.randn(batches, weights, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("signal", [0.5, 2.0])
def test_signal_to_noise_is_mean_over_deviation(signal):
    assert info.signal_to_noise(gradients(signal, 0.5, 400)) == pytest.approx(2 * signal, rel=0.02)


@pytest.mark.parametrize("batches", [4, 16, 64])
def test_without_signal_it_stays_at_its_floor(batches):
    assert info.signal_to_noise(gradients(0.0, 3.0, batches)) == pytest.approx(batches**-0.5, rel=0.05)


def toy():
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(1))
    y = (x[:, 0] > 0).long()
    return Dataset("toy", x, y, x, y, 2)


def test_hook_records_the_ratio_of_each_layer_and_epoch():
    seen = []
    hook = info.SignalToNoise(4)
    fit(
        lambda: mlp(3, 5, 2, activation=nn.Tanh), toy(), seeds=[1, 2, 3], epochs=2, batch_size=10, lr=0.5,
        momentum=0.0, hooks=[hook, lambda step: seen.append(step.ensemble.flat_grad.clone())],
    )  # fmt: skip
    assert hook.ratio.shape == (2, 3, 2) and hook.floor == 0.5
    steps = torch.stack(seen).reshape(2, 4, 3, -1)  # epoch, batch, member, weight
    for layer, part in enumerate((slice(0, 20), slice(20, 32))):
        expected = info.signal_to_noise(steps[..., part].transpose(1, 2))
        assert np.allclose(hook.ratio[..., layer], expected, rtol=1e-3)


def test_one_batch_has_no_deviation():
    with pytest.raises(ValueError, match="make the batches smaller"):
        info.SignalToNoise(1)
    with pytest.raises(ValueError, match="2 or more batches"):
        info.signal_to_noise(torch.zeros(1, 5))
