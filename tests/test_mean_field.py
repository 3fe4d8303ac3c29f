"""Closed forms against quadrature, published values and wide random networks."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import nn

from lessons_lib.ensemble import Ensemble
from lessons_lib.measures import trajectory
from lessons_lib.models import gaussian_mlp
from lessons_lib.theory import mean_field

PHI = {
    "hard tanh": (lambda h: max(-1.0, min(1.0, h)), lambda h: float(abs(h) < 1)),
    "relu": (lambda h: max(h, 0.0), lambda h: float(h > 0)),
}


@pytest.mark.parametrize("activation", PHI)
@pytest.mark.parametrize("q", [0.01, 0.7, 1.0, 20.0])
def test_moments_against_quadrature(activation, q):
    def mean(f):
        kinks = [k / math.sqrt(q) for k in (-1, 0, 1)]
        inside = [k for k in kinks if abs(k) < 12]
        return quad(lambda u: f(math.sqrt(q) * u) * math.exp(-u * u / 2), -12, 12, points=inside, limit=200)[
            0
        ] / math.sqrt(2 * math.pi)

    phi, slope = PHI[activation]
    moments = mean_field.ACTIVATIONS[activation]
    assert moments.square(q) == pytest.approx(mean(lambda h: phi(h) ** 2), rel=1e-8)
    assert moments.slope(q) == pytest.approx(mean(slope), rel=1e-8)


def test_fixed_point_is_one_and_small_signals_grow_only_above_the_transition():
    q, stretch = mean_field.fixed_point("hard tanh", 2.0, 0.5)
    assert mean_field.variances("hard tanh", 2.0, 0.5, q, 5) == pytest.approx(np.full(5, q))
    assert mean_field.stretch("hard tanh", 2.0, 0.5, q, 3) == pytest.approx(np.full(3, stretch))
    assert mean_field.fixed_point("hard tanh", 0.9) == (0.0, pytest.approx(0.9))
    assert mean_field.fixed_point("hard tanh", 1.0) == (0.0, 1.0)
    assert mean_field.fixed_point("hard tanh", 1.1)[1] > 1


def test_a_large_scale_stretches_by_the_square_root_of_sigma():
    # q* -> sigma_w^2 and E[phi'^2] -> sqrt(2 / (pi q)), so that stretch^2 -> sqrt(2 / pi) sigma_w.
    assert mean_field.fixed_point("hard tanh", 1000.0)[1] == pytest.approx(
        (2 / math.pi) ** 0.25 * math.sqrt(1000), rel=1e-3
    )


@pytest.mark.parametrize(("activation", "layer"), [("hard tanh", nn.Hardtanh), ("relu", nn.ReLU)])
def test_wide_networks_do_what_is_predicted(activation, layer):
    torch.manual_seed(0)
    width, sigma_w, sigma_b = 600, 1.7, 0.4
    nets = Ensemble([gaussian_mlp(width, *[width] * 4, 1, sigma_w=sigma_w, sigma_b=sigma_b, activation=layer)])
    x = torch.linalg.qr(torch.randn(width, 2)).Q.T * math.sqrt(0.3 * width)
    lengths = trajectory.lengths(nets, x[:1], x[1:], 100)[0].double().numpy()
    predicted = mean_field.stretch(activation, sigma_w, sigma_b, sigma_w**2 * 0.3 + sigma_b**2, 4)
    assert lengths[1:] / lengths[:-1] == pytest.approx(predicted, rel=0.08)


def test_what_has_no_answer_says_so():
    with pytest.raises(ValueError, match="no fixed point"):
        mean_field.fixed_point("relu", 1.0)
    with pytest.raises(ValueError, match="hard tanh, relu"):
        mean_field.stretch("tanh", 1.0, 0.0, 1.0, 3)
