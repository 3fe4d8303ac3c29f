"""Difficulty against its definition, sensitivity against retraining, Gini by brute force, LASS against linear nets."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib import models
from lessons_lib.claims import Claim, above
from lessons_lib.ensemble import Ensemble
from lessons_lib.measures.memorization import (
    MemorizationError,
    critical_sample_ratio,
    critical_samples,
    difficulty,
    gini,
    loss_sensitivity,
)
from lessons_lib.training import squared_error


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------- easy and hard examples


def answers(p, n_networks, seed=0):
    return torch.rand(n_networks, len(p), generator=gen(seed)) < p


@pytest.mark.parametrize("n_networks", [5, 100])
def test_difficulty_is_the_variance_of_the_probabilities_whatever_the_number_of_networks(n_networks):
    p = torch.linspace(0.1, 0.9, 40_000, dtype=torch.float64)
    truth = float(p.var() / (p.mean() * (1 - p.mean())))
    assert difficulty(answers(p, n_networks)) == pytest.approx(truth, abs=0.01)


def test_difficulty_predicts_the_variance_of_the_rates():
    p = torch.from_numpy(np.random.default_rng(0).beta(2, 3, 20_000))  # rho = 1 / (1 + 2 + 3)
    correct = answers(p, 30)
    rate = correct.double().mean(0)
    times_binomial = rate.var() / (rate.mean() * (1 - rate.mean()) / 30)
    assert difficulty(correct) == pytest.approx(1 / 6, abs=0.01)
    assert float(times_binomial) == pytest.approx(1 + 29 * difficulty(correct), rel=0.01)


def test_difficulty_is_one_where_examples_are_always_or_never_right():
    assert difficulty(torch.tensor([[1, 0, 1, 1]] * 3)) == pytest.approx(1)


def test_noise_against_noise_is_no_difference_in_difficulty():
    p = torch.full((500,), 0.4)
    pairs = [[difficulty(answers(p, 20, seed)) for seed in (2 * i, 2 * i + 1)] for i in range(8)]
    claim = Claim("C", "", paper="", quantity="", holds=above(0), null=0)
    assert claim.measure([a for a, _ in pairs], minus=[b for _, b in pairs]).verdict != "held"
    assert abs(sum(sum(pair) for pair in pairs)) / 16 < 2e-3  # one example as good as another: rho = 0


@pytest.mark.parametrize("bad", [torch.ones(3), torch.ones(1, 5), torch.ones(4, 5)])
def test_difficulty_refuses_what_does_not_vary(bad):
    with pytest.raises(MemorizationError, match="networks"):
        difficulty(bad)


# ---------------------------------------------------------------------------------------------- sensitivity


def problem(K=2, n=6, steps=5, batch=3, dtype=torch.float64):
    def build(k):
        torch.manual_seed(k)
        return models.mlp(4, 5, 3, activation=nn.Tanh).to(dtype)

    with torch.random.fork_rng(devices=[]):
        nets = [build(k) for k in range(K)]
    x = torch.randn(K, n, 4, generator=gen(1), dtype=dtype)
    y = torch.arange(n).remainder(3).expand(K, n).contiguous()
    batches = torch.stack([torch.stack([torch.randperm(n, generator=gen(7 * s + k))[:batch] for k in range(K)])
                           for s in range(steps)])  # fmt: skip
    return nets, x, y, batches


def retrained(net, x, y, batches, lr, t):
    """The network after t ordinary steps of torch's SGD."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    for index in batches[:t]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[index]), y[index]).backward()
        optimizer.step()
    return net


def by_retraining(net, x, y, batches, lr, t, rows, step=1e-5):
    """1-norms, [n], of the derivative of the loss on ``rows``: every pixel moved, the network trained anew."""

    def final(x):
        with torch.enable_grad():
            after = retrained(net, x, y, batches, lr, t)
        with torch.no_grad():
            return nn.functional.cross_entropy(after(x[rows]), y[rows])

    slopes = torch.zeros_like(x)
    for place in torch.cartesian_prod(torch.arange(x.shape[0]), torch.arange(x.shape[1])).tolist():
        moved = torch.zeros_like(x)
        moved[tuple(place)] = step
        slopes[tuple(place)] = (final(x + moved) - final(x - moved)) / (2 * step)
    return slopes.abs().sum(1)


def test_sensitivity_agrees_with_finite_differences_through_retraining():
    nets, x, y, batches = problem()
    found = loss_sensitivity(nets, x, y, batches, lr=0.5, times=[0, 2, 5], n_classes=3)
    for k, net in enumerate(nets):
        for place, t in enumerate([0, 2, 5]):
            truth = by_retraining(net, x[k], y[k], batches[:, k], 0.5, t, torch.arange(6))
            assert torch.allclose(found.total[place, k], truth, rtol=1e-5, atol=1e-8)
        for c in range(3):
            truth = by_retraining(net, x[k], y[k], batches[:, k], 0.5, 5, torch.nonzero(y[k] == c)[:, 0])
            assert torch.allclose(found.by_class[2, k, c], truth, rtol=1e-5, atol=1e-8)


def test_sensitivity_goes_through_the_steps():
    """The input gradient at the trained weights, which some libraries call by this name, is something else."""
    nets, x, y, batches = problem(K=1)
    found = loss_sensitivity(nets, x, y, batches, lr=0.5, times=[5]).total[0, 0]
    after, own = retrained(nets[0], x[0], y[0], batches[:, 0], 0.5, 5), x[0].clone().requires_grad_()
    (plain,) = torch.autograd.grad(nn.functional.cross_entropy(after(own), y[0]), own)
    assert not torch.allclose(found, plain.abs().sum(1), rtol=0.05)


def test_an_example_that_was_in_no_batch_moves_only_its_own_class():
    nets, x, y, _ = problem(K=1)
    batches = torch.tensor([0, 1, 2]).expand(5, 1, 3)
    by_class = loss_sensitivity(nets, x, y, batches, lr=0.5, times=[5], n_classes=3).by_class[0, 0]
    own = nn.functional.one_hot(y[0], 3).t().bool()
    assert (by_class[:, 3:][~own[:, 3:]] == 0).all()
    assert (by_class[:, :3] > 0).all()


def test_one_data_set_for_all_and_the_nets_stay_as_they_were():
    nets, x, y, batches = problem()
    before = [nn.utils.parameters_to_vector(net.parameters()).clone() for net in nets]
    shared = loss_sensitivity(nets, x[0], y[0], batches, lr=0.5, times=[3]).total
    again = loss_sensitivity(nets, x[:1].expand_as(x), y, batches, lr=0.5, times=[3]).total
    assert torch.equal(shared, again)
    for net, weights in zip(nets, before, strict=True):
        assert torch.equal(nn.utils.parameters_to_vector(net.parameters()), weights)


def test_class_matrix_is_a_mean_over_times_and_examples():
    nets, x, y, batches = problem()
    found = loss_sensitivity(nets, x, y, batches, lr=0.5, times=[1, 4], n_classes=3)
    matrix = found.between_classes(y)
    assert matrix.shape == (2, 3, 3)
    assert torch.allclose(matrix[1, 2, 0], found.by_class[:, 1, 2, y[1] == 0].mean())


def test_sensitivity_takes_another_loss():
    nets, x, y, batches = problem(K=1)
    own = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(squared_error(nets[0](own[0])[None], y).sum(), own)
    found = loss_sensitivity(nets, x, y, batches, lr=0.1, times=[0], loss=squared_error)
    assert torch.allclose(found.total[0], slope.abs().sum(2))


def test_sensitivity_refuses_what_does_not_fit():
    nets, x, y, batches = problem()
    with pytest.raises(MemorizationError, match="from 0 to the 5 steps"):
        loss_sensitivity(nets, x, y, batches, lr=0.1, times=[6])
    with pytest.raises(MemorizationError, match="do not fit"):
        loss_sensitivity(nets, x, y, batches + 6, lr=0.1, times=[1])
    with pytest.raises(MemorizationError, match="n_classes="):
        loss_sensitivity(nets, x, y, batches, lr=0.1, times=[1]).between_classes(y)


def test_gini_is_half_the_mean_absolute_difference_over_the_mean():
    values = torch.rand(3, 17, generator=gen(), dtype=torch.float64) ** 3
    differences = (values[:, :, None] - values[:, None, :]).abs().mean((1, 2))
    assert torch.allclose(gini(values), differences / (2 * values.mean(1)))


def test_gini_of_equals_and_of_one_that_has_all():
    assert float(gini(torch.full((5,), 2.0))) == pytest.approx(0, abs=1e-7)
    assert float(gini(torch.tensor([0.0, 3.0, 0.0, 0.0]))) == pytest.approx(0.75)
    for bad in ([-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(MemorizationError, match="0 or more"):
            gini(torch.tensor(bad))


# ----------------------------------------------------------------------------------------- critical samples


class Linear(nn.Module):
    """Two classes with logits w x + b and its negative."""

    def __init__(self, w, b):
        super().__init__()
        self.layer = nn.Linear(len(w), 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.stack([w, -w]))
            self.layer.bias.copy_(torch.tensor([b, -b]))

    def forward(self, x):
        return self.layer(x)


def linear_pair():
    w = torch.randn(2, 8, generator=gen(2))
    nets = [nn.Sequential(Linear(w[k], b).layer) for k, b in enumerate((0.3, -1.0))]
    x = torch.randn(600, 8, generator=gen(3))
    distance = torch.stack([(x @ w[0] + 0.3).abs() / w[0].abs().sum(), (x @ w[1] - 1).abs() / w[1].abs().sum()])
    return nets, x, distance  # in the maximum norm, to the plane where the prediction changes


@pytest.mark.parametrize("radius", [0.05, 0.2, 0.5])
def test_without_noise_lass_finds_exactly_the_critical_samples_of_a_linear_classifier(radius):
    nets, x, distance = linear_pair()
    clear = (distance - radius).abs() > 1e-5
    assert (critical_samples(nets, x, radius=radius, beta=0.0) == (distance < radius))[clear].all()


def test_with_noise_lass_claims_nothing_false_and_misses_little():
    nets, x, distance = linear_pair()
    found = critical_samples(nets, x, radius=0.2)
    assert not (found & (distance > 0.2 + 1e-5)).any()
    assert float(found.double().mean() / (distance < 0.2).double().mean()) > 0.9


def test_no_sample_is_critical_to_a_constant():
    constant = nn.Sequential(Linear(torch.zeros(8), 1.0).layer)
    assert critical_sample_ratio([constant], torch.randn(50, 8, generator=gen()), radius=5.0).tolist() == [0.0]


def test_members_searched_together_are_as_searched_alone():
    nets = Ensemble.from_seeds(lambda: models.mlp(8, 6, 3), [0, 1, 2])
    x = torch.randn(100, 8, generator=gen(4))
    together = critical_sample_ratio(nets, x, radius=0.1)
    alone = [float(critical_sample_ratio([nets.member(k)], x, radius=0.1)) for k in range(3)]
    assert together.tolist() == pytest.approx(alone, abs=0.011)
    assert len(set(alone)) > 1
    own = [torch.randn(100, 8, generator=gen(seed)) for seed in (5, 6, 7)]
    alone = [float(critical_sample_ratio([nets.member(k)], own[k], radius=0.1)) for k in range(3)]
    assert critical_sample_ratio(nets, own, radius=0.1).tolist() == pytest.approx(alone, abs=0.011)


def test_the_ratio_grows_with_the_radius_and_refuses_none():
    nets, x, _ = linear_pair()
    small, large = (critical_sample_ratio(nets, x, radius=r) for r in (0.05, 0.4))
    assert (small < large).all()
    with pytest.raises(MemorizationError, match="positive radius"):
        critical_sample_ratio(nets, x, radius=0.0)
