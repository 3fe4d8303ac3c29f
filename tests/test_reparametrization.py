"""Equal functions, the Hessian's law against autograd, and coordinates against their inverses."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_lib import models
from lessons_lib.theory import reparametrization as rp


def generator():
    return torch.Generator().manual_seed(5)


def small_net(bias=True):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Linear(3, 4, bias=bias), nn.ReLU(), nn.Linear(4, 4), nn.LeakyReLU(0.1), nn.Linear(4, 2, bias=bias)
        ).double()


@pytest.mark.parametrize("factors", [rp.alpha_scale(3, 1e-3), rp.alpha_scale(3, 50.0), (2.0, 0.1, 5.0)])
@pytest.mark.parametrize("bias", [True, False])
def test_rescaling_keeps_the_function(factors, bias):
    model, x = small_net(bias), torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    other = rp.rescale(model, factors)
    torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(other[0].weight, model[0].weight)


def test_convolutions_and_pooling_pass_a_factor_on():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = models.digits_cnn()
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model)
    x = torch.randn(20, 1, 8, 8, generator=generator())
    other = rp.rescale(model.eval(), rp.alpha_scale(layers, 8.0))  # a power of two: exact in binary
    torch.testing.assert_close(other(x), model(x), rtol=1e-6, atol=1e-6)


def loss_of(model, x, y):
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        state = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, state, (x,)), y)

    return loss, nn.utils.parameters_to_vector(model.parameters()).detach()


def test_law_of_the_hessian_against_autograd():
    model = small_net()
    x = torch.randn(30, 3, generator=generator(), dtype=torch.float64)
    y = torch.randint(2, (30,), generator=generator())
    factors = (3.0, 0.5, 2 / 3)
    before = torch.autograd.functional.hessian(*loss_of(model, x, y))
    after = torch.autograd.functional.hessian(*loss_of(rp.rescale(model, factors), x, y))
    scales = rp.parameter_factors(model, factors)
    np.testing.assert_allclose(rp.rescaled_hessian(before, scales), after, rtol=1e-9, atol=1e-12)
    assert not np.allclose(before, after, rtol=0.1)


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_folding_batch_norm_keeps_the_function(kind):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "mlp":
            model = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
            x = torch.randn(40, 1, 6)
        else:
            model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 8, 3))
            x = torch.randn(40, 1, 10)
        for layer in model:
            if isinstance(layer, nn.BatchNorm1d):
                nn.init.uniform_(layer.weight, -1, 2)
                nn.init.normal_(layer.bias)
        model.train()
        model(3 * x + 1)  # moves the running statistics
    folded = rp.fold_batch_norm(model)
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in folded)
    torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(rp.rescale(folded, (4.0, 0.25))(x), folded(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("a, b", [(-0.4, 1e-4), (-0.49, 1.0), (0.7, 1e-3), (1.0, 10.0)])
def test_radial_coordinates_and_their_inverse(a, b):
    rng = np.random.default_rng(0)
    centre = rng.normal(size=4)
    for distance in (0.0, 1e-6, 0.1, 1.0, 30.0):
        step = rng.normal(size=4)
        theta = centre + distance * step / np.linalg.norm(step)
        back = rp.radial_inverse(rp.radial(theta, centre, a=a, b=b), centre, a=a, b=b)
        np.testing.assert_allclose(back - centre, theta - centre, rtol=1e-7, atol=1e-13)


@pytest.mark.parametrize("a, b", [(-0.4, 0.01), (0.5, 0.3)])
def test_radial_coordinates_multiply_the_curvature(a, b):
    centre, hessian = np.array([1.0, -2.0]), np.array([[3.0, 1.0], [1.0, 2.0]])
    slope = np.array([0.3, -0.1])  # holds away from critical points too

    def loss(eta):
        offset = rp.radial_inverse(eta, centre, a=a, b=b) - centre
        return slope @ offset + 0.5 * offset @ hessian @ offset

    h = 1e-3 * b ** (a + 0.5)  # small against the radius over which the coordinates bend
    steps = h * np.eye(2)
    found = [
        [
            (loss(centre + p + q) - loss(centre + p - q) - loss(centre - p + q) + loss(centre - p - q)) / (4 * h * h)
            for q in steps
        ]
        for p in steps
    ]
    np.testing.assert_allclose(found, b ** (-2 * a) * hessian, rtol=2e-3)


@pytest.mark.parametrize(
    "layers, factors, message",
    [
        ([nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)], (2, 0.5), "Tanh.. does not pass a positive factor on$"),
        ([nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 2)], (2, 0.5), "factor on; fold_batch_norm first"),
        ([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)], (2, 1, 0.5), "3 factors for 2 weight layers"),
        ([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)], (2, 0.6), "product 1"),
        ([nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)], (-2, -0.5), "must be positive"),
    ],
)
def test_bad_factors(layers, factors, message):
    with pytest.raises(ValueError, match=message):
        rp.rescale(nn.Sequential(*layers), factors)


def test_other_bad_input():
    with pytest.raises(ValueError, match="at least two weight layers"):
        rp.alpha_scale(1, 2.0)
    with pytest.raises(ValueError, match="does not follow a weight layer"):
        rp.fold_batch_norm(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)))
    with pytest.raises(ValueError, match="a > -1/2"):
        rp.radial([1.0], [0.0], a=-0.5, b=1.0)
