"""Lengths, transitions, regions and dichotomies against sampling, brute force and formulas."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.ensemble import Ensemble
from lessons_lib.measures import trajectory
from lessons_lib.models import gaussian_mlp, mlp

SQUARE = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])


def net(*sizes, activation=nn.ReLU, sigma_w=2.0, sigma_b=0.3, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return gaussian_mlp(*sizes, sigma_w=sigma_w, sigma_b=sigma_b, activation=activation).double()


def inputs(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def along(vertices, n):
    """Points of the polygon, n to an edge, and its last."""
    share = np.arange(n)[:, None] / n
    edges = [a + share * (b - a) for a, b in zip(vertices[:-1], vertices[1:], strict=True)]
    return np.concatenate([*edges, vertices[-1:]])


# ------------------------------------------------------------------------------------------ lengths


def test_circle_passes_through_both_inputs_at_the_right_speed():
    x0, x1 = inputs(3, 1, 4, 4), inputs(3, 1, 4, 4, seed=1)
    points, velocities = trajectory.circle(x0, x1, 400)
    assert torch.allclose(points[:, 0], x0) and torch.allclose(points[:, 100], x1)
    chords = (points.roll(-1, 1) - points.roll(1, 1)) / (4 * math.pi / 400)
    assert torch.allclose(chords, velocities, atol=1e-3)


def test_length_in_a_linear_network_is_that_of_an_ellipse():
    linear = mlp(2, 2, 1, activation=nn.Identity)
    with torch.no_grad():
        linear[1].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    found = trajectory.lengths(Ensemble([linear]), torch.eye(2)[:1], torch.eye(2)[1:])
    from scipy.special import ellipe

    assert torch.allclose(found, torch.tensor([[2 * math.pi, 4 * 3 * ellipe(1 - 1 / 9)]]).float(), rtol=1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardtanh, nn.Tanh])
def test_speeds_integrate_to_what_a_fine_polygon_has(activation):
    nets = [net(5, 20, 20, 3, activation=activation, seed=seed) for seed in range(2)]
    ensemble = Ensemble(nets)
    x0, x1 = inputs(2, 5), inputs(2, 5, seed=1)
    found = trajectory.lengths(ensemble, x0, x1, 4000)
    points, _ = trajectory.circle(x0, x1, 50_000)
    chords = [trajectory.closed_length(z) for z in trajectory.layers(ensemble, points)]
    assert found.shape == (2, 3)
    assert torch.allclose(found, torch.stack(chords, 1), rtol=5e-3)


def test_layers_are_what_enters_the_weights_also_of_a_convolution():
    conv = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).eval()
    x = torch.randn(5, 1, 8)
    found = trajectory.layers(Ensemble([conv]), x.unsqueeze(0))
    assert torch.equal(found[0][0], x.flatten(1))
    assert torch.allclose(found[1][0], conv[:4](x), atol=1e-6)


# ------------------------------------------------------------------------------------------ the exact trace


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardtanh])
def test_trace_against_dense_sampling(activation):
    model = net(3, 12, 12, 2, activation=activation)
    vertices = inputs(4, 3).numpy() * 3
    trace = trajectory.trace(model, vertices)
    points = along(vertices, 100_000)
    states = trajectory.patterns(model, points).astype(int)
    sampled = np.abs(np.diff(states, axis=0)).sum(0)
    assert np.array_equal(np.concatenate(trace.transitions), sampled)
    assert sampled.sum() > 20
    dense = model(torch.from_numpy(points)).detach().numpy()
    bent = [np.interp(np.linspace(0, 3, len(points)), trace.t, column) for column in trace.outputs.T]
    assert np.allclose(np.stack(bent, 1), dense, atol=1e-9)
    lengths = [
        np.linalg.norm(np.diff(z, axis=0), axis=1).sum()
        for z in (points, model[:3](torch.from_numpy(points)).detach().numpy())
    ]
    assert np.allclose(trace.lengths[:2], lengths, rtol=1e-4)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardtanh])
def test_every_bend_is_one_neuron_changing_state(activation):
    model = net(4, 15, 15, 15, 1, activation=activation, seed=3)
    trace = trajectory.trace(model, inputs(2, 4, seed=5) * 4)
    changes = np.abs(np.diff(trajectory.patterns(model, trace.middles).astype(int), axis=0)).sum(1)
    assert (changes == 1).all() and len(changes) == sum(map(np.sum, trace.transitions)) > 20


def test_transitions_through_a_vertex_on_the_kink_and_none_where_it_only_touches():
    neuron = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU())
    nn.init.ones_(neuron[0].weight)

    def count(*path):
        return int(trajectory.trace(neuron, np.array(path)[:, None]).transitions[0][0])

    assert count(-1.0, 1.0) == count(-1.0, 0.0, 1.0) == count(1.0, 0.0, 0.0, -1.0) == 1
    assert count(1.0, 0.0, 1.0) == count(1.0, 2.0) == count(0.0, 1.0) == 0
    assert count(-1.0, 1.0, 0.0, -1.0, 0.0, 1.0) == 3


def test_all_neurons_turn_at_once_at_the_origin_of_a_network_without_biases():
    model = net(3, 8, 8, 1, sigma_b=0.0)
    x = inputs(1, 3).numpy()
    trace = trajectory.trace(model, np.concatenate([-x, x]))
    assert (trace.transitions[0] == 1).all() and len(trace.t) == 3


def test_other_layers_are_refused():
    with pytest.raises(ValueError, match="has a Tanh"):
        trajectory.trace(mlp(2, 3, 1, activation=nn.Tanh), SQUARE)
    with pytest.raises(ValueError, match="2 or more vertices"):
        trajectory.trace(mlp(2, 3, 1), SQUARE[0])


# ------------------------------------------------------------------------------------------ regions


@pytest.mark.parametrize("width", [1, 5, 12])
def test_regions_of_one_layer_are_those_of_lines_in_a_plane(width):
    model = net(2, width, 1, seed=width)
    found = trajectory.regions(model, 1e4 * SQUARE)
    assert len(found.polygons) == 1 + width + math.comb(width, 2)
    assert sum(area(polygon) for polygon in found.polygons) == pytest.approx(4e8)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Hardtanh])
def test_regions_against_a_grid_of_patterns(activation):
    model = net(2, 6, 6, 1, activation=activation, sigma_b=0.5)
    found = trajectory.regions(model, 2 * SQUARE)
    centres = np.array([polygon.mean(0) for polygon in found.polygons])
    inside = np.unique(trajectory.patterns(model, centres), axis=0)
    assert len(inside) == len(found.polygons)  # every region has a pattern of its own
    axis = np.linspace(-2, 2, 501)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    seen = np.unique(trajectory.patterns(model, grid), axis=0)
    # A grid can miss a sliver, and can see nothing that is not there.
    assert {*map(bytes, seen)} <= {*map(bytes, inside)}
    large = sum(area(polygon) > 5e-4 for polygon in found.polygons)
    assert large <= len(seen) and large > 20
    assert sum(area(polygon) for polygon in found.polygons) == pytest.approx(16)


def test_a_line_meets_the_regions_that_its_trace_counts():
    model = net(2, 8, 8, 1, seed=2)
    found = trajectory.regions(model, 2 * SQUARE)
    ends = np.array([[-2.0, -0.7], [2.0, 1.1]])
    normal = np.array([1.8, -4.0])
    sides = [(polygon - ends[0]) @ normal for polygon in found.polygons]
    assert sum(side.min() < 0 < side.max() for side in sides) == len(trajectory.trace(model, ends).t) - 1


def test_borders_lie_where_the_pattern_changes():
    model = net(2, 7, 7, 1, seed=4)
    for edges in trajectory.regions(model, 2 * SQUARE).borders:
        middle, along_it = edges.mean(1), edges[:, 1] - edges[:, 0]
        off = 1e-7 * np.stack([-along_it[:, 1], along_it[:, 0]], 1) / np.linalg.norm(along_it, axis=1)[:, None]
        assert (trajectory.patterns(model, middle + off) != trajectory.patterns(model, middle - off)).any(1).all()


def test_regions_need_two_inputs():
    with pytest.raises(ValueError, match="3 inputs"):
        trajectory.regions(net(3, 4, 1), SQUARE)
    with pytest.raises(ValueError, match="corners"):
        trajectory.regions(net(2, 4, 1), SQUARE[:2])


def area(polygon):
    x, y = polygon.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


# ------------------------------------------------------------------------------------------ dichotomies


def test_dichotomies_against_sampling():
    rest = net(10, 10, 10, 1, activation=nn.Hardtanh, sigma_b=0.0)[2:]
    z, w0, w1 = inputs(4, 10).numpy(), inputs(10, 10, seed=1).numpy(), inputs(10, 10, seed=2).numpy()
    corners = 2 * np.pi * np.arange(9)[:, None, None] / 8
    turns = along((np.cos(corners) * w0 + np.sin(corners) * w1).reshape(9, -1), 20_000).reshape(-1, 10, 10)
    labels = rest(torch.from_numpy(np.einsum("tij,sj->tsi", turns, z))).squeeze(-1) > 0
    assert trajectory.dichotomies(rest, z, w0, w1, n=8) == len(torch.unique(labels, dim=0)) > 4


def test_dichotomies_of_one_neuron():
    # One weight turns from w0 = 1 over 0 to -1 and back: both labels of a point, always opposite for x and -x.
    rest = nn.Sequential(nn.Hardtanh(), nn.Linear(1, 1, bias=False))
    nn.init.ones_(rest[1].weight)
    assert trajectory.dichotomies(rest, [[1.0], [-1.0]], [[1.0]], [[0.3]]) == 2
    with pytest.raises(ValueError, match="62 bits"):
        trajectory.dichotomies(rest, np.ones((63, 1)), [[1.0]], [[0.3]])
