"""Points on lines and planes against networks put there by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_lib import models
from lessons_lib.data import Dataset
from lessons_lib.measures import landscape
from lessons_lib.measures.landscape import LandscapeError, along, filter_normalized, line, mixture, plane
from lessons_lib.theory import reparametrization


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(n=120):
    x = torch.randn(2 * n, 1, 10, generator=generator())
    y = torch.randint(3, (2 * n,), generator=generator(1))
    return Dataset("toy", x[:n], y[:n], x[n:], y[n:], 3)


def network(seed, batch_norm=True):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        norm = [nn.BatchNorm1d(8)] if batch_norm else []
        net = nn.Sequential(nn.Flatten(), nn.Linear(10, 8), *norm, nn.ReLU(), nn.Linear(8, 3))
        net.train()
        for _ in range(3):
            net(torch.randn(50, 10) * 2 + 1)  # running statistics of its own
    return net.eval()


@torch.no_grad()
def values(net, data):
    found = {}
    for name, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        outputs = net(x)
        found[f"{name}_loss"] = float(F.cross_entropy(outputs, y))
        found[f"{name}_accuracy"] = float((outputs.argmax(1) == y).float().mean())
    return found


def between(a, b, share_a, share_b):
    net = copy.deepcopy(a)
    states = a.state_dict(), b.state_dict()
    mixed = {
        name: share_a * value + share_b * states[1][name] if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    if "2.running_var" in mixed:
        mixed["2.running_var"] = a[2].running_var ** share_a * b[2].running_var ** share_b
    net.load_state_dict(mixed)
    return net.eval()


@pytest.mark.parametrize("curved", [False, True])
def test_line_against_networks_put_there_by_hand(curved):
    data, pairs = toy(), [(network(1), network(2)), (network(3), network(4))]
    alphas = [-0.5, 0.0, 0.3, 1.0, 1.7]
    found = line(*zip(*pairs, strict=True), alphas, data, curved=curved)
    assert dict(found.sizes) == {"pair": 2, "alpha": 5}
    for pair, (a, b) in enumerate(pairs):
        for alpha in alphas:
            shares = (1 - alpha, alpha)
            if curved:
                shares = np.cos(alpha * np.pi / 2), np.sin(alpha * np.pi / 2)
            expected = values(between(a, b, *shares), data)
            here = found.isel(pair=pair).sel(alpha=alpha)
            for name, value in expected.items():
                assert float(here[name]) == pytest.approx(value, rel=1e-4, abs=1e-6), (name, alpha)
    alone = line(*pairs[0], alphas, data, curved=curved)
    assert dict(alone.sizes) == {"alpha": 5}
    np.testing.assert_allclose(alone["test_loss"], found["test_loss"].isel(pair=0), rtol=1e-6)


def test_mixtures_against_networks_put_there_by_hand():
    nets, data = [network(seed, batch_norm=False) for seed in (1, 2, 3)], toy()
    shares = [[1, 0, 0], [0.2, 0.3, 0.5], [-0.5, 0.5, 1.0]]
    found = mixture(nets, shares, data)
    for point, share in enumerate(shares):
        there = copy.deepcopy(nets[0])
        weights = [list(net.parameters()) for net in nets]
        with torch.no_grad():
            for k, own in enumerate(there.parameters()):
                own.copy_(sum(part * each[k] for part, each in zip(share, weights, strict=True)))
        for name, value in values(there, data).items():
            assert found[name][point].item() == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("batch_norm", ["carry", "recompute"])
def test_a_mixture_of_two_is_a_line(batch_norm):
    a, b, data, alphas = network(1), network(2), toy(), np.array([-0.2, 0.5, 1.0])
    along_line = line(a, b, alphas, data, batch_norm=batch_norm)
    found = mixture([a, b], np.stack([1 - alphas, alphas], 1), data, batch_norm=batch_norm)
    np.testing.assert_allclose(found.test_loss, along_line.test_loss, rtol=1e-6)


def test_ends_are_the_networks_themselves():
    data, a, b = toy(), network(1), network(2)
    found = line(a, b, [0.0, 1.0], data)
    for alpha, net in ((0.0, a), (1.0, b)):
        for name, value in values(net, data).items():
            assert float(found[name].sel(alpha=alpha)) == pytest.approx(value, rel=1e-6)


def test_recomputed_statistics_are_those_of_the_training_set():
    data, a, b = toy(), network(1), network(2)
    found = line(a, b, [0.4], data, batch_norm="recompute")
    net = between(a, b, 0.6, 0.4)
    hidden = net[1](data.x_train.flatten(1)).detach()
    net[2].running_mean, net[2].running_var = hidden.mean(0), hidden.var(0)
    assert float(found["test_loss"][0]) == pytest.approx(values(net, data)["test_loss"], rel=1e-4)
    carried = line(a, b, [0.4], data)
    assert abs(float(found["test_loss"][0] - carried["test_loss"][0])) > 1e-3
    assert a[2].momentum == 0.1  # the networks are left alone


def test_statistics_of_a_large_set_are_measured_in_batches(monkeypatch):
    data, a, b = toy(), network(1), network(2)
    whole = line(a, b, [0.4], data, batch_norm="recompute")
    monkeypatch.setattr(landscape, "_ONE_BATCH", 10)
    monkeypatch.setattr(landscape, "_BATCH", len(data.x_train) // 2)
    halves = line(a, b, [0.4], data, batch_norm="recompute")
    net = between(a, b, 0.6, 0.4)
    hidden = [net[1](part.flatten(1)).detach() for part in data.x_train.split(len(data.x_train) // 2)]
    net[2].running_mean = sum(part.mean(0) for part in hidden) / 2
    net[2].running_var = sum(part.var(0) for part in hidden) / 2
    assert float(halves["test_loss"][0]) == pytest.approx(values(net, data)["test_loss"], rel=1e-4)
    assert float(halves["test_loss"][0]) == pytest.approx(float(whole["test_loss"][0]), rel=0.1)
    assert float(halves["test_loss"][0]) != float(whole["test_loss"][0])


def test_plane_and_along_against_networks_put_there_by_hand():
    data, net = toy(), network(5)
    size = models.parameter_count(net)
    directions = torch.randn(2, size, generator=generator(3))
    grid = plane(net, directions, [-0.2, 0.0, 0.1], [0.0, 0.3], data)
    rays = along(net, directions, [0.0, 0.1], data)
    weights = nn.utils.parameters_to_vector(net.parameters()).detach()
    for alpha in (-0.2, 0.0, 0.1):
        for beta in (0.0, 0.3):
            moved = copy.deepcopy(net)
            nn.utils.vector_to_parameters(weights + alpha * directions[0] + beta * directions[1], moved.parameters())
            here = grid.sel(alpha=alpha, beta=beta)
            for name, value in values(moved, data).items():
                assert float(here[name]) == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert dict(rays.sizes) == {"direction": 2, "distance": 2}
    np.testing.assert_allclose(
        rays["train_loss"].sel(direction=0, distance=0.1), grid["train_loss"].sel(alpha=0.1, beta=0.0), rtol=1e-5
    )


def test_many_points_are_cut_into_pieces_without_a_trace():
    data, a, b = toy(), network(1), network(2)
    alphas = np.linspace(-1, 2, 151)
    whole = line(a, b, alphas, data)["train_loss"]
    np.testing.assert_allclose(whole[::50], line(a, b, alphas[::50], data)["train_loss"], rtol=1e-5)


def test_filter_normalized_directions():
    net = network(6)
    directions = filter_normalized(net, 4, generator())
    weights, _, gamma, beta, readout, bias = directions.split([80, 8, 8, 8, 24, 3], dim=1)
    lengths = net[1].weight.detach().norm(dim=1).expand(4, -1)
    torch.testing.assert_close(weights.view(4, 8, 10).norm(dim=2), lengths)
    torch.testing.assert_close(readout.view(4, 3, 8).norm(dim=2), net[4].weight.detach().norm(dim=1).expand(4, -1))
    assert not gamma.any() and not beta.any() and not bias.any()
    # Rescaled networks meet the same functions.
    plain, data = network(7, batch_norm=False), toy()
    scaled = reparametrization.rescale(plain, (4.0, 0.25))
    rays = [along(n, filter_normalized(n, 3, generator(2)), [0.2, 0.6], data)["test_loss"] for n in (plain, scaled)]
    np.testing.assert_allclose(*rays, rtol=1e-5)


def test_bad_input():
    data, a = toy(), network(1)
    with pytest.raises(LandscapeError, match="must be 'carry' or 'recompute'"):
        line(a, a, [0.0], data, batch_norm="drop")
    with pytest.raises(LandscapeError, match="1 starts and 2 ends"):
        line([a], [a, a], [0.0], data)
    with pytest.raises(LandscapeError, match=r"must be \[points, 2 models\]"):
        mixture([network(1), network(2)], [[1, 0, 0]], toy())
    with pytest.raises(LandscapeError, match="different architectures"):
        mixture([network(1), network(1, batch_norm=False)], [[1, 0]], toy())
    with pytest.raises(LandscapeError, match="different architectures"):
        line(a, network(1, batch_norm=False), [0.0], data)
    with pytest.raises(LandscapeError, match="a direction has 131 numbers"):
        plane(a, torch.ones(2, 5), [0.0], [0.0], data)
    with pytest.raises(LandscapeError, match="directions are .number, weights."):
        along(a, torch.ones(131), [0.0], data)
