"""How far the loss can rise within a small distance of a minimum.

The metric of Keskar, Mudigere, Nocedal, Smelyanskiy and Tang, *On Large-Batch Training for Deep Learning:
Generalization Gap and Sharp Minima* (ICLR 2017, arXiv:1609.04836, Metric 2.1), which takes a box, and that of Dinh,
Pascanu, S. Bengio and Y. Bengio, *Sharp Minima Can Generalize For Deep Nets* (ICML 2017, arXiv:1703.04933,
Definition 2), which takes a ball. Both are maxima of a function that is not concave, so what any method finds is
a lower bound.

The loss is the mean over all of ``x``, of networks in evaluation mode. ``x`` and ``y`` are samples [n, ...] and their
targets [n], shared by all K networks, or sequences of K such tensors, of one size: each network's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from lessons_lib.ensemble import Ensemble, Samples
from lessons_lib.training import Loss, cross_entropy

# Samples at a time, over all members, as when training evaluates: larger pieces fall out of the cache.
_SAMPLES = 4_096
MAXIMIZERS = ("corner", "l-bfgs-b")

Networks = Sequence[nn.Module] | Ensemble


class SharpnessError(ValueError):
    """The loss is not a number, or the question makes no sense."""


@dataclass(frozen=True)
class Maximum:
    """The largest loss found near each of K networks.

    ``before`` and ``loss`` [K] at the network and at the maximum; ``step`` [K, P] leads from one to the other,
    in the order of ``model.parameters()``.
    """

    before: Tensor
    loss: Tensor
    step: Tensor

    def sharpness(self) -> NDArray[np.float64]:
        """100 (loss - before) / (1 + before), [K]: per cent, as Keskar et al. print it."""
        return (100 * (self.loss - self.before) / (1 + self.before)).double().cpu().numpy()


def box_sharpness(models: Networks, x: Samples, y: Samples, **options) -> NDArray[np.float64]:
    """Keskar et al.'s sharpness of each network, [K], in per cent. The options are those of ``box_maximum``."""
    return box_maximum(models, x, y, **options).sharpness()


def ball_sharpness(models: Networks, x: Samples, y: Samples, **options) -> NDArray[np.float64]:
    """The sharpness of Dinh et al. for each network, [K], in per cent. The options are those of ``ball_maximum``."""
    return ball_maximum(models, x, y, **options).sharpness()


def box_maximum(
    models: Networks,
    x: Samples,
    y: Samples,
    *,
    epsilon: float = 1e-3,
    offset: float = 1.0,
    directions: Tensor | None = None,
    maximizer: str = "corner",
    iterations: int = 10,
    loss: Loss = cross_entropy,
    generator: torch.Generator | None = None,
) -> Maximum:
    """The largest loss at w + A z for z in Keskar et al.'s box |z_i| <= epsilon (|(A^+ w)_i| + offset).

    Args:
        models: K networks of one architecture, or an Ensemble of them; they are left as they were.
        x, y: samples [n, ...] and targets [n], shared by all; or K of each.
        epsilon, offset: the box. The paper has epsilon 1e-3 or 5e-4 and offset 1. With offset 0 each weight
            moves in proportion to itself, which no rescaling of the weights can change (Kwon et al. 2021).
        directions: the columns of A, [P, p]; the whole space (A = 1) by default. The paper draws them at random
            and does not give their length; standard normal entries reproduce its order of magnitude,
            columns of length one move 100 of 10,000 directions by too little to see.
        maximizer: "l-bfgs-b" is the paper's own, scipy's, one network after another; "corner" walks from corner to
            corner of the box, where the linearized loss is largest (conditional gradient ascent), all at once.
            In the paper's boxes it has not been seen more than a thousandth below the other; in boxes fifty times
            as large either may be ahead.
        iterations: of the maximizer; the paper has 10.
        loss: f(outputs [K, B, ...], targets [K, B]) -> [K].
        generator: for the start, a random point in the inner hundredth of the box; always the same by default.

    Raises SharpnessError for an unknown maximizer, a box without extent, directions of another size, and a
    loss that is not finite at the network itself; ValueError for not as many sets of samples as networks.
    """
    if maximizer not in MAXIMIZERS:
        raise SharpnessError(f"maximizer is {maximizer!r}; it must be one of: {', '.join(MAXIMIZERS)}.")
    if epsilon <= 0 or offset < 0:
        raise SharpnessError(f"the box needs epsilon > 0 and offset >= 0; got {epsilon=}, {offset=}.")
    objective = _Objective(models, x, y, loss)
    coordinates = objective.weights
    if directions is not None:
        if directions.dim() != 2 or len(directions) != coordinates.shape[1]:
            raise SharpnessError(f"directions are [{coordinates.shape[1]} weights, p]; got {list(directions.shape)}.")
        directions = directions.to(coordinates)
        coordinates = torch.linalg.lstsq(directions, coordinates.t()).solution.t()
        objective.directions = directions
    reach = epsilon * (coordinates.abs() + offset)
    start = 0.01 * reach * _uniform(reach, generator)
    if maximizer == "corner":
        return _ascend(objective, start, lambda slope: reach * slope.sign(), iterations)
    return _l_bfgs_b(objective, start, reach, iterations)


def ball_maximum(
    models: Networks,
    x: Samples,
    y: Samples,
    *,
    radius: float,
    iterations: int = 30,
    loss: Loss = cross_entropy,
    generator: torch.Generator | None = None,
) -> Maximum:
    """The largest loss within Euclidean distance ``radius`` of each network's weights.

    Dinh et al.'s Definition 2, by conditional gradient ascent for all networks at once; the arguments are
    those of ``box_maximum``. Raises SharpnessError as it does.
    """
    if radius <= 0:
        raise SharpnessError(f"the ball's radius is {radius}; it must be positive.")
    objective = _Objective(models, x, y, loss)

    def farthest(slope):
        return radius * slope / slope.norm(dim=1, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)

    start = 0.01 * farthest(_uniform(objective.weights, generator))
    return _ascend(objective, start, farthest, iterations)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Uniform on [-1, 1], of the shape of ``like``, drawn on the CPU."""
    generator = generator or torch.Generator().manual_seed(0)
    return (2 * torch.rand(like.shape, generator=generator, dtype=like.dtype) - 1).to(like.device)


class _Objective:
    """The losses [K] of all networks, and their gradients [K, p], at weights + A z."""

    def __init__(self, models, x, y, loss):
        self.networks = [models.member(k) for k in range(len(models))] if isinstance(models, Ensemble) else list(models)
        self.ensemble, self.loss = Ensemble(self.networks), loss
        self.weights = self.ensemble.flat.detach().clone()
        self.x, self.y = self.ensemble.of_each(x), self.ensemble.of_each(y)
        self.directions: Tensor | None = None

    def alone(self, k: int) -> _Objective:
        """The objective of network k."""
        objective = _Objective([self.networks[k]], self.x[k], self.y[k], self.loss)
        objective.directions = self.directions
        return objective

    def at_networks(self, like: Tensor) -> Tensor:
        """The losses [K] of the networks themselves, z = 0 of the shape of ``like``; refuses any that is not finite."""
        losses, _ = self(torch.zeros_like(like), gradient=False)
        if not losses.isfinite().all():
            wrong = (~losses.isfinite()).nonzero().flatten().tolist()
            raise SharpnessError(f"the loss of network {wrong[0]} is not finite; its sharpness has no meaning.")
        return losses

    def moved(self, z: Tensor) -> Tensor:
        return z if self.directions is None else z @ self.directions.t()

    def __call__(self, z: Tensor, gradient: bool = True) -> tuple[Tensor, Tensor | None]:
        members = len(self.weights)
        with torch.no_grad():
            self.ensemble.flat.copy_(self.weights + self.moved(z))
        total = torch.zeros(members, dtype=self.weights.dtype, device=self.weights.device)
        slope = torch.zeros_like(self.weights) if gradient else None
        at_a_time = max(64, _SAMPLES // members)
        for x, y in zip(self.x.split(at_a_time, dim=1), self.y.split(at_a_time, dim=1), strict=True):
            share = y.shape[1] / self.y.shape[1]
            with torch.set_grad_enabled(gradient):
                losses = share * self.loss(self.ensemble(x), y)
            total += losses.detach()
            if gradient:
                self.ensemble.backward(losses)
                slope += self.ensemble.flat_grad
        if gradient and self.directions is not None:
            slope = slope @ self.directions
        return total, slope


def _maximum(objective: _Objective, before: Tensor, losses: Tensor, z: Tensor) -> Maximum:
    """No step at all where none was found that raises the loss."""
    rose = losses > before
    step = torch.where(rose.unsqueeze(1), objective.moved(z), 0.0)
    return Maximum(before, torch.where(rose, losses, before), step)


def _ascend(objective: _Objective, start: Tensor, farthest: Callable[[Tensor], Tensor], iterations: int) -> Maximum:
    """Conditional gradient ascent (Frank and Wolfe 1956): go towards the point where the linearized loss is largest.

    A member whose loss falls goes back to its best point and from there only half as far; a full step where the loss is
    convex never falls. Ends early once a step adds less than 1e-5 of its rise to every member.
    """
    before = objective.at_networks(start)
    best, slope = objective(start)
    at, share = start, torch.ones_like(best)
    for iteration in range(iterations):
        z = at + share.unsqueeze(1) * (farthest(slope) - at)
        losses, slopes = objective(z, gradient=iteration + 1 < iterations)
        better = losses > best  # false for a loss that is not a number
        gained = torch.where(better, losses - best, torch.inf)  # after a fall, see what half the way gives
        best = torch.where(better, losses, best)
        at = torch.where(better.unsqueeze(1), z, at)
        if slopes is None or (gained < 1e-5 * (best - before)).all():
            break
        slope = torch.where(better.unsqueeze(1), slopes, slope)
        share = torch.where(better, (2 * share).clamp_max(1.0), share / 2)
    return _maximum(objective, before, best, at)


def _l_bfgs_b(objective: _Objective, start: Tensor, reach: Tensor, iterations: int) -> Maximum:
    """The paper's procedure: L-BFGS-B on minus the loss, within bounds, one member after another."""
    before = objective.at_networks(start)
    best, at = torch.empty_like(before), torch.empty_like(start)
    for k in range(len(before)):
        alone = objective.alone(k)

        def negative(z, alone=alone):
            losses, slope = alone(torch.from_numpy(z).to(start).unsqueeze(0))
            return -float(losses[0]), -slope[0].double().cpu().numpy()

        bounds = reach[k].double().cpu().numpy()
        found = minimize(
            negative, start[k].double().cpu().numpy(), jac=True, method="L-BFGS-B",
            bounds=np.stack([-bounds, bounds], axis=1), options={"maxiter": iterations},
        )  # fmt: skip
        best[k], at[k] = -found.fun, torch.from_numpy(found.x).to(start)
    return _maximum(objective, before, best, at)
