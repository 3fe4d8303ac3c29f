"""Other coordinates for the same function: what they do to curvature, and what they leave alone.

Dinh, Pascanu, S. Bengio and Y. Bengio, *Sharp Minima Can Generalize For Deep Nets* (ICML 2017,
arXiv:1703.04933): the alpha-scale transformation of rectifier networks with its effect on the
Hessian, and the radial change of coordinates of their section 5.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.nn.utils import fusion

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d)
# f(c x) = c f(x) for every c > 0: what a factor passes through unchanged.
_HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Flatten, nn.Dropout,
    nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
_FUSE = {
    nn.Linear: fusion.fuse_linear_bn_eval,
    nn.Conv1d: fusion.fuse_conv_bn_eval,
    nn.Conv2d: fusion.fuse_conv_bn_eval,
}


def alpha_scale(n_layers: int, alpha: float) -> tuple[float, ...]:
    """The factors of Dinh et al.'s T_alpha: the first weight layer times alpha, the last divided by it."""
    if n_layers < 2:
        raise ValueError(f"T_alpha needs a network of at least two weight layers; this one has {n_layers}")
    return (alpha, *[1.0] * (n_layers - 2), 1.0 / alpha)


def parameter_factors(model: nn.Sequential, factors: Sequence[float]) -> Tensor:
    """What each parameter of ``model`` is multiplied with, [P], in the order of ``model.parameters()``.

    ``factors`` has one positive factor a weight layer, of product 1. A layer's bias is multiplied by all the
    factors up to its layer, as its input has been; the last layer's bias is thereby left alone. float64.

    Raises ValueError for a layer through which a factor does not pass (naming it), another number of
    factors, or factors that are not positive or whose product is not 1.
    """
    layers = [layer for layer in model if isinstance(layer, _AFFINE)]
    for layer in model:
        if not isinstance(layer, _AFFINE + _HOMOGENEOUS):
            way_out = "; fold_batch_norm first" if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) else ""
            raise ValueError(f"{layer} does not pass a positive factor on{way_out}")
    if len(factors) != len(layers):
        raise ValueError(f"{len(factors)} factors for {len(layers)} weight layers")
    if min(factors) <= 0 or not math.isclose(math.prod(factors), 1.0, rel_tol=1e-9):
        raise ValueError(f"factors must be positive with product 1; got {tuple(factors)}")
    parts, upto = [], 1.0
    for layer, factor in zip(layers, factors, strict=True):
        upto *= factor
        parts.append(torch.full((layer.weight.numel(),), factor, dtype=torch.float64))
        if layer.bias is not None:
            last = layer is layers[-1]
            parts.append(torch.full((layer.bias.numel(),), 1.0 if last else upto, dtype=torch.float64))
    return torch.cat(parts)


def rescale(model: nn.Sequential, factors: Sequence[float]) -> nn.Sequential:
    """A copy of ``model`` with other weights and the same outputs: T_alpha, with one factor a weight layer.

    See ``parameter_factors`` for the factors and what is raised; ``alpha_scale`` makes those of the paper.
    """
    scaled = copy.deepcopy(model)
    vector = nn.utils.parameters_to_vector(scaled.parameters()).detach()
    moved = vector * parameter_factors(model, factors).to(vector)
    nn.utils.vector_to_parameters(moved, scaled.parameters())
    return scaled


def rescaled_hessian(hessian: ArrayLike, factors: ArrayLike) -> NDArray[np.float64]:
    """The Hessian after the parameters were multiplied by ``factors`` [P]: D^-1 H D^-1, [P, P]; D = diag(factors).

    The loss in new coordinates is L(D^-1 theta'), and differentiating twice brings out D^-1 twice (section 4.2
    of the paper). It holds at every point where the Hessian exists, minimum or not.
    """
    inverse = 1.0 / np.asarray(factors, dtype=np.float64)
    return np.asarray(hessian, dtype=np.float64) * inverse[:, None] * inverse[None, :]


def fold_batch_norm(model: nn.Sequential) -> nn.Sequential:
    """The same function in evaluation mode, with each batch norm taken up into the weight layer before it.

    Raises ValueError for a batch norm that does not follow a weight layer.
    """
    folded: list[nn.Module] = []
    for layer in copy.deepcopy(model).eval():
        if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            folded.append(layer)
        elif folded and type(folded[-1]) in _FUSE:
            folded[-1] = _FUSE[type(folded[-1])](folded[-1], layer)
        else:
            raise ValueError(f"{layer} does not follow a weight layer, so it cannot be folded into one")
    return nn.Sequential(*folded).eval()


def radial(theta: ArrayLike, centre: ArrayLike, *, a: float, b: float) -> NDArray[np.float64]:
    """New coordinates eta = (|theta - c|^2 + b)^a (theta - c) + c of ``theta`` [..., P] about c = ``centre`` [P].

    Section 5 of the paper. One to one for a > -1/2 and b > 0. At the centre its Jacobian is b^a times the identity
    and its second derivatives vanish, so that the Hessian there is multiplied by b^(-2a). Raises ValueError
    outside that range.
    """
    _check_radial(a, b)
    offset = np.asarray(theta, dtype=np.float64) - centre
    return (np.square(offset).sum(-1, keepdims=True) + b) ** a * offset + centre


def radial_inverse(eta: ArrayLike, centre: ArrayLike, *, a: float, b: float) -> NDArray[np.float64]:
    """The theta [P] with ``radial(theta, centre, a=a, b=b) == eta``, by bracketing its distance from the centre."""
    _check_radial(a, b)
    offset = np.asarray(eta, dtype=np.float64) - centre
    length = float(np.linalg.norm(offset))
    if length == 0.0:
        return np.array(centre, dtype=np.float64)
    # In units of sqrt(b), r (r^2 + 1)^a = s; taken as logarithms, for r may lie many orders away from s.
    target = math.log(length) - (a + 0.5) * math.log(b)
    excess = lambda log_r: log_r + a * np.logaddexp(2 * log_r, 0.0) - target  # noqa: E731
    ends = sorted((target, target / (1 + 2 * a)))
    log_r = brentq(excess, ends[0] - 1.0 - abs(a), ends[1] + 1.0 + abs(a) / (1 + 2 * a), xtol=1e-14, rtol=1e-14)
    return math.sqrt(b) * math.exp(log_r) * offset / length + centre


def _check_radial(a: float, b: float) -> None:
    if a <= -0.5 or b <= 0:
        raise ValueError(f"the radial coordinates are one to one only for a > -1/2 and b > 0; got {a=}, {b=}")
