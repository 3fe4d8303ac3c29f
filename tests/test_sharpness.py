"""Maxima near a network against closed forms, all corners, and scipy on formulas of its own."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

from lessons_lib import models
from lessons_lib.data import Dataset
from lessons_lib.measures.sharpness import SharpnessError, ball_maximum, ball_sharpness, box_maximum, box_sharpness
from lessons_lib.theory import reparametrization
from lessons_lib.training import fit


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def built(build, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().eval()


def squared(outputs, targets):
    return 0.5 * (outputs - targets).square().sum(-1).mean(1)


def linear(outputs, targets):
    return 5 + (outputs * targets).sum(-1).mean(1)


@pytest.fixture(scope="module")
def trained():
    """Small classifiers, trained a little: with batch norm, without, and convolutional."""
    x, g = torch.randn(300, 1, 12, generator=generator()), generator(1)
    y = (x[:, 0, :4].sum(1) > 0).long() + 2 * (x[:, 0, 4:].square().sum(1) > 8).long()
    noisy = torch.where(torch.rand(300, generator=g) < 0.2, torch.randint(4, (300,), generator=g), y)
    data = Dataset("toy", x[:200], noisy[:200], x[200:], y[200:], 4)
    builds = {
        "mlp": lambda: models.mlp(12, 20, 20, 4),
        "batch norm": lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(12, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 4)
        ),
        "conv": lambda: nn.Sequential(nn.Conv1d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(60, 4)),
    }
    runs = {
        name: fit(build, data, seeds=[1, 2, 3], epochs=30, batch_size=20, lr=0.01, optimizer="adam", evaluate_every=30)
        for name, build in builds.items()
    }
    return data, {name: [run.model("all", seed) for seed in (1, 2, 3)] for name, run in runs.items()}


@pytest.mark.parametrize("maximizer", ["corner", "l-bfgs-b"])
def test_linear_loss_has_its_maximum_in_a_known_corner(maximizer):
    model = built(lambda: nn.Linear(3, 2), 0).double()
    x, y = torch.randn(9, 3, generator=generator(), dtype=torch.float64), torch.ones(9, 2, dtype=torch.float64)
    weights = nn.utils.parameters_to_vector(model.parameters()).detach()
    slope = torch.cat([x.mean(0), x.mean(0), torch.ones(2, dtype=torch.float64)])
    before = 5 + weights @ slope
    rise = 0.1 * (slope.abs() * (weights.abs() + 1)).sum()
    found = box_sharpness([model], x, y, epsilon=0.1, loss=linear, maximizer=maximizer)
    assert found[0] == pytest.approx(float(100 * rise / (1 + before)), rel=1e-9)
    proportional = 0.1 * (slope.abs() * weights.abs()).sum()
    found = box_sharpness([model], x, y, epsilon=0.1, offset=0.0, loss=linear, maximizer=maximizer)
    assert found[0] == pytest.approx(float(100 * proportional / (1 + before)), rel=1e-9)
    in_ball = ball_sharpness([model], x, y, radius=0.1, loss=linear)
    assert in_ball[0] == pytest.approx(float(100 * 0.1 * slope.norm() / (1 + before)), rel=1e-6)


def test_against_every_corner_of_a_convex_loss():
    x = torch.randn(20, 4, generator=generator(), dtype=torch.float64)
    y = torch.randn(20, 2, generator=generator(1), dtype=torch.float64)
    nets = [built(lambda: nn.Linear(4, 2), seed).double() for seed in range(6)]
    for epsilon in (1e-3, 0.1):
        best = []
        for net in nets:
            weights = nn.utils.parameters_to_vector(net.parameters()).detach()
            corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=10)), dtype=torch.float64)
            points = weights + epsilon * (weights.abs() + 1) * corners
            outputs = torch.einsum("nd,pod->pno", x, points[:, :8].view(-1, 2, 4)) + points[:, None, 8:]
            best.append(float((0.5 * (outputs - y).square().sum(-1)).mean(1).max()))
        found = box_maximum(nets, x, y, epsilon=epsilon, loss=squared)
        # A corner that no neighbouring one beats need not be the best of all; it is never beyond it.
        share = found.loss.numpy() / np.array(best)
        assert (share <= 1 + 1e-12).all() and share.min() > (0.9999 if epsilon == 1e-3 else 0.95)


def test_ball_finds_the_largest_eigenvalue_of_a_quadratic():
    model = nn.Linear(5, 1, bias=False).double()
    x = torch.randn(40, 5, generator=generator(), dtype=torch.float64)
    y = model(x).detach()  # the minimum, with loss 0
    largest = torch.linalg.eigvalsh(x.t() @ x / 40)[-1]
    found = ball_maximum([model], x, y, radius=0.3, loss=squared, iterations=100)
    assert float(found.loss[0]) == pytest.approx(float(0.5 * 0.3**2 * largest), rel=1e-3)
    assert float(found.step.norm()) == pytest.approx(0.3)


def test_full_space_against_scipy_on_a_formula_of_its_own(trained):
    data, nets = trained
    net, x, y = nets["mlp"][0].double(), data.x_train.flatten(1).double().numpy(), data.y_train.numpy()
    shapes = [tuple(p.shape) for p in net.parameters()]
    weights = np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])

    def value(vector):
        parts = np.split(vector, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
        w1, b1, w2, b2, w3, b3 = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
        logits = np.maximum(np.maximum(x @ w1.T + b1, 0) @ w2.T + b2, 0) @ w3.T + b3
        logits -= logits.max(1, keepdims=True)
        return -(logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(1))).mean()

    reach = 1e-3 * (np.abs(weights) + 1)
    slope = np.array([value(weights + d) - value(weights - d) for d in 1e-6 * np.eye(len(weights))])
    corner = value(weights + reach * np.sign(slope))
    found = box_sharpness([net], data.x_train.double(), data.y_train)[0]
    assert found >= 100 * (corner - value(weights)) / (1 + value(weights)) - 1e-9
    whole = minimize(
        lambda v: -value(v), weights, method="L-BFGS-B", options={"maxiter": 3},
        bounds=np.stack([weights - reach, weights + reach], 1),
    )  # fmt: skip
    assert found >= 0.999 * 100 * (-whole.fun - value(weights)) / (1 + value(weights))
    net.float()


@pytest.mark.parametrize("name", ["mlp", "batch norm", "conv"])
@pytest.mark.parametrize("epsilon", [5e-4, 1e-3, 1e-2])
def test_batched_maximizer_is_never_below_the_papers(trained, name, epsilon):
    data, nets = trained
    options = dict(x=data.x_train, y=data.y_train, epsilon=epsilon)
    ours = box_sharpness(nets[name], **options)
    papers = box_sharpness(nets[name], maximizer="l-bfgs-b", **options)
    assert (ours >= 0.999 * papers).all() and (papers > 0).all()


def test_in_large_boxes_neither_maximizer_is_always_ahead(trained):
    data, nets = trained
    options = dict(x=data.x_train, y=data.y_train, epsilon=5e-2)
    for group in nets.values():
        ratio = box_sharpness(group, **options) / box_sharpness(group, maximizer="l-bfgs-b", **options)
        assert ((0.95 < ratio) & (ratio < 1.2)).all()


def test_random_subspace(trained):
    data, nets = trained
    size = models.parameter_count(nets["mlp"][0])
    a = torch.randn(size, 30, generator=generator())
    options = dict(x=data.x_train, y=data.y_train)
    found = box_maximum(nets["mlp"], directions=a, **options)
    weights = torch.stack([nn.utils.parameters_to_vector(net.parameters()).detach() for net in nets["mlp"]])
    z = torch.linalg.pinv(a) @ found.step.t()  # the steps lie in the subspace, and in its box
    torch.testing.assert_close(a @ z, found.step.t(), atol=1e-5, rtol=1e-3)
    bounds = 1e-3 * ((torch.linalg.pinv(a) @ weights.t()).abs() + 1)
    assert (z.abs() <= bounds * 1.001 + 1e-7).all()
    papers = box_sharpness(nets["mlp"], directions=a, maximizer="l-bfgs-b", **options)
    assert (found.sharpness() >= 0.999 * papers).all()
    # The identity for A is the whole space.
    whole = box_sharpness(nets["mlp"], directions=torch.eye(size), **options)
    np.testing.assert_allclose(whole, box_sharpness(nets["mlp"], **options), rtol=1e-3)
    # Columns of length one move the weights by next to nothing.
    assert (box_sharpness(nets["mlp"], directions=a / a.norm(dim=0), **options) < 0.2 * found.sharpness()).all()


def test_the_step_found_gives_the_loss_found_and_models_are_left_alone(trained):
    data, nets = trained
    net = nets["batch norm"][0]
    before = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    found = box_maximum([net], data.x_train, data.y_train, epsilon=1e-2)
    assert torch.equal(nn.utils.parameters_to_vector(net.parameters()), before)
    with torch.no_grad():
        assert float(found.before) == pytest.approx(float(F.cross_entropy(net(data.x_train), data.y_train)), rel=1e-5)
        nn.utils.vector_to_parameters(before + found.step[0], net.parameters())
        after = float(F.cross_entropy(net(data.x_train), data.y_train))
        nn.utils.vector_to_parameters(before, net.parameters())
    assert after == pytest.approx(float(found.loss), rel=1e-4)
    assert (found.step.abs() <= 1e-2 * (before.abs() + 1) * (1 + 1e-5)).all()


def test_adaptive_sharpness_does_not_see_a_rescaling_and_keskars_does(trained):
    data, nets = trained
    net = nets["mlp"][0]
    scaled = reparametrization.rescale(net, reparametrization.alpha_scale(3, 2.0**-6))
    both = [net, scaled]
    adaptive = box_sharpness(both, data.x_train, data.y_train, offset=0.0, epsilon=5e-3)
    assert adaptive[1] == pytest.approx(adaptive[0], rel=1e-2)
    plain = box_sharpness(both, data.x_train, data.y_train)
    assert plain[1] > 3 * plain[0]


@pytest.mark.parametrize("maximizer", ["corner", "l-bfgs-b"])
def test_networks_on_samples_of_their_own(trained, maximizer):
    data, networks = trained[0], trained[1]["conv"]
    x, y = data.x_train[:180].chunk(3), data.y_train[:180].chunk(3)
    # Uniform draws differ with the number of networks, so each alone starts elsewhere in the inner hundredth.
    alone = [box_sharpness([n], *own, maximizer=maximizer)[0] for n, *own in zip(networks, x, y, strict=True)]
    np.testing.assert_allclose(box_sharpness(networks, x, y, maximizer=maximizer), alone, rtol=1e-2)
    assert not np.allclose(box_sharpness(networks, x[0], y[0], maximizer=maximizer), alone, rtol=0.1)
    balls = [ball_sharpness([n], *own, radius=0.1)[0] for n, *own in zip(networks, x, y, strict=True)]
    np.testing.assert_allclose(ball_sharpness(networks, x, y, radius=0.1), balls, rtol=1e-2)
    with pytest.raises(ValueError, match="2 sets of samples for 3 networks"):
        box_sharpness(networks, x[:2], y[:2])


def test_constant_loss_has_no_sharpness(trained):
    data, nets = trained
    flat = box_sharpness(nets["mlp"], data.x_train, data.y_train, loss=lambda o, t: 0 * o.sum((1, 2)) + 1)
    assert (flat == 0).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(maximizer="newton"), "must be one of: corner, l-bfgs-b"),
        (dict(epsilon=0.0), "epsilon > 0"),
        (dict(directions=torch.ones(3, 2)), r"directions are \[.* weights, p\]; got \[3, 2\]"),
    ],
)
def test_bad_input(trained, options, message):
    data, nets = trained
    with pytest.raises(SharpnessError, match=message):
        box_sharpness(nets["mlp"], data.x_train, data.y_train, **options)


def test_a_loss_that_is_not_a_number_is_refused(trained):
    data, nets = trained
    broken = reparametrization.rescale(nets["mlp"][1], (1.0, 1.0, 1.0))
    nn.init.constant_(broken[1].weight, float("nan"))
    with pytest.raises(SharpnessError, match="loss of network 1 is not finite"):
        box_sharpness([nets["mlp"][0], broken], data.x_train, data.y_train)
    with pytest.raises(SharpnessError, match="radius is 0"):
        ball_sharpness(nets["mlp"], data.x_train, data.y_train, radius=0)
