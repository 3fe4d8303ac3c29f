"""The loss along lines and on planes through weight space, for training and test set side by side.

One-dimensional plots between two solutions as in Goodfellow, Vinyals and Saxe 2015 (arXiv:1412.6544) and Keskar et al.
2017 (arXiv:1609.04836, section 2.2); random directions of the weights' own size as in Li et al. 2018
(arXiv:1712.09913, section 4). Networks are in evaluation mode, and many points are evaluated in one batched
pass.

Every result is an xarray Dataset of ``train_loss``, ``train_accuracy``, ``test_loss`` and ``test_accuracy``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from numpy.typing import ArrayLike
from torch import Tensor, nn

from lessons_lib.data import Dataset
from lessons_lib.ensemble import Ensemble
from lessons_lib.training import Loss, cross_entropy

# Networks at a time, and samples at a time over all of them: what fits a processor's cache.
_NETWORKS = 64
_SAMPLES = 4_096
# Samples in which batch norm's statistics are measured: at most, and of a larger set.
_ONE_BATCH = 5_000
_BATCH = 500


class LandscapeError(ValueError):
    """The points asked for do not exist, or do not belong to one architecture."""


def line(
    starts: nn.Module | Sequence[nn.Module],
    ends: nn.Module | Sequence[nn.Module],
    positions: ArrayLike,
    data: Dataset,
    *,
    curved: bool = False,
    batch_norm: str = "carry",
    loss: Loss = cross_entropy,
) -> xr.Dataset:
    """Losses and accuracies from ``starts`` (position 0) to ``ends`` (position 1), and beyond.

    Args:
        starts, ends: two networks, or two sequences of them for several pairs.
        positions: alpha, [A]. The weights are (1 - alpha) start + alpha end; with ``curved``
            cos(alpha pi/2) start + sin(alpha pi/2) end (Keskar et al., appendix D).
        data: both of its sets are evaluated.
        batch_norm: "carry" takes batch norm's running statistics along the same way (variances geometrically,
            for beyond the ends a straight line would make them negative); "recompute" measures them on the
            training set at each point, so that a point is judged as if training had passed there. Nearest to
            Keskar et al.'s code, whose batch norm uses each batch's own statistics in testing too.
        loss: f(outputs [K, B, ...], targets [K, B]) -> [K].

    Returns:
        Dimensions (pair, alpha), or (alpha) for two single networks.

    Raises LandscapeError for sequences of different lengths, other architectures, or an unknown ``batch_norm``.
    """
    _check_batch_norm(batch_norm)
    single = isinstance(starts, nn.Module)
    starts, ends = ([starts], [ends]) if single else (list(starts), list(ends))
    if len(starts) != len(ends):
        raise LandscapeError(f"{len(starts)} starts and {len(ends)} ends do not make pairs.")
    alphas = np.asarray(positions, dtype=np.float64)
    shares = (np.cos(alphas * np.pi / 2), np.sin(alphas * np.pi / 2)) if curved else (1.0 - alphas, alphas)
    results = []
    for start, end in zip(starts, ends, strict=True):
        states = [_state(network) for network in (start, end)]
        _check_same(states)
        points = _between(states, shares)
        results.append(_evaluate(start, points, data, loss, recompute=batch_norm == "recompute"))
    table = {name: (("pair", "alpha"), np.stack([result[name] for result in results])) for name in results[0]}
    found = xr.Dataset(table, coords={"alpha": alphas})
    return found.isel(pair=0) if single else found


def along(
    model: nn.Module, directions: Tensor, distances: ArrayLike, data: Dataset, *, loss: Loss = cross_entropy
) -> xr.Dataset:
    """Losses and accuracies at w + distance * direction; dimensions (direction, distance).

    ``directions`` [D, P] in the order of ``model.parameters()``, ``distances`` [A]. Raises LandscapeError for
    directions of another size.
    """
    distances = np.asarray(distances, dtype=np.float64)
    zero = np.zeros_like(distances)
    if directions.dim() != 2 or len(directions) == 0:
        raise LandscapeError(f"directions are [number, weights]; got {list(directions.shape)}.")
    results = [_on_plane(model, torch.stack([d, d]), np.stack([distances, zero]), data, loss) for d in directions]
    table = {name: (("direction", "distance"), np.stack([result[name] for result in results])) for name in results[0]}
    return xr.Dataset(table, coords={"distance": distances})


def plane(
    model: nn.Module,
    directions: Tensor,
    alphas: ArrayLike,
    betas: ArrayLike,
    data: Dataset,
    *,
    loss: Loss = cross_entropy,
) -> xr.Dataset:
    """Losses and accuracies at w + alpha * directions[0] + beta * directions[1]; dimensions (alpha, beta).

    ``directions`` [2, P] in the order of ``model.parameters()``; batch norm's running statistics stay the model's.
    Raises LandscapeError for directions of another shape.
    """
    alphas, betas = (np.asarray(side, dtype=np.float64) for side in (alphas, betas))
    grid = np.stack([part.ravel() for part in np.meshgrid(alphas, betas, indexing="ij")])
    result = _on_plane(model, directions, grid, data, loss)
    shape = len(alphas), len(betas)
    table = {name: (("alpha", "beta"), values.reshape(shape)) for name, values in result.items()}
    return xr.Dataset(table, coords={"alpha": alphas, "beta": betas})


def mixture(
    models: Sequence[nn.Module],
    shares: ArrayLike,
    data: Dataset,
    *,
    batch_norm: str = "recompute",
    loss: Loss = cross_entropy,
) -> xr.Dataset:
    """Losses and accuracies at the weights sum_i shares[:, i] models[i]; dimension (point).

    Args:
        models: solutions of one architecture.
        shares: [points, models]; a row that sums to 1 lies in the solutions' flat. Three models and such rows give the
            barycentric surfaces of Im et al. 2016 (arXiv:1612.04010), rows (1 - a)(1 - b), a (1 - b), (1 - a) b, a b
            of four their bilinear ones.
        batch_norm: as in ``line``.

    Raises LandscapeError for other architectures, shares of another shape, or an unknown ``batch_norm``.
    """
    _check_batch_norm(batch_norm)
    shares = np.asarray(shares, dtype=np.float64)
    if shares.ndim != 2 or shares.shape[1] != len(models) or not len(models):
        raise LandscapeError(f"shares have shape {list(shares.shape)}; they must be [points, {len(models)} models].")
    states = [_state(network) for network in models]
    for state in states[1:]:
        _check_same([states[0], state])
    result = _evaluate(models[0], _between(states, list(shares.T)), data, loss, recompute=batch_norm == "recompute")
    return xr.Dataset({name: (("point",), values) for name, values in result.items()})


def filter_normalized(model: nn.Module, n: int, generator: torch.Generator) -> Tensor:
    """``n`` random directions [n, P] in which every unit moves by as much as its weights are long (Li et al. 2018).

    Normal entries, scaled so that the part of each output unit or channel has the norm of its weights. Biases and
    batch norm do not move, as in the authors' code. Multiplying a layer's weights by a factor multiplies its
    part of every direction by the same: at equal distances the same functions are met.
    """
    parts = []
    for weight in model.parameters():
        if weight.dim() < 2:
            parts.append(torch.zeros(n, weight.numel(), dtype=weight.dtype))
            continue
        drawn = torch.randn(n, *weight.shape, generator=generator, dtype=weight.dtype).flatten(2)
        lengths = weight.detach().cpu().flatten(1).norm(dim=1)
        parts.append((drawn / drawn.norm(dim=2, keepdim=True) * lengths.view(1, -1, 1)).flatten(1))
    return torch.cat(parts, dim=1)


def _state(network: nn.Module) -> dict[str, Tensor]:
    """Weights and floating-point buffers by name; the counters of batch norm stay behind."""
    everything = dict(network.named_parameters()) | dict(network.named_buffers())
    return {name: value.detach().cpu() for name, value in everything.items() if value.is_floating_point()}


def _check_batch_norm(batch_norm: str) -> None:
    if batch_norm not in ("carry", "recompute"):
        raise LandscapeError(f"batch_norm is {batch_norm!r}; it must be 'carry' or 'recompute'.")


def _check_same(states: Sequence[dict[str, Tensor]]) -> None:
    if [(name, part.shape) for name, part in states[0].items()] != [(n, p.shape) for n, p in states[1].items()]:
        raise LandscapeError("the ends are networks of different architectures.")


def _between(states: Sequence[dict[str, Tensor]], shares: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Weights and statistics mixed by these shares; variances geometrically, for a mean could be negative."""
    points = {name: _mixed([state[name] for state in states], shares) for name in states[0]}
    for name in points:
        if name.endswith("running_var"):
            points[name] = _mixed([state[name].clamp_min(1e-30).log() for state in states], shares).exp()
    return points


def _mixed(values: Sequence[Tensor], shares: Sequence[np.ndarray]) -> Tensor:
    """sum_i shares[i] * values[i], [points, ...]; a share of one alone gives that value to the last bit."""
    factors = [torch.from_numpy(share).to(values[0]).view(-1, *[1] * values[0].dim()) for share in shares]
    return sum(factor * value for factor, value in zip(factors, values, strict=True))


def _on_plane(model, directions, grid, data, loss):
    """Values at w + grid[0] d_0 + grid[1] d_1; grid [2, points]."""
    own = _state(model)
    weights = dict(model.named_parameters())
    size = sum(weight.numel() for weight in weights.values())
    if directions.shape != (2, size):
        raise LandscapeError(f"a direction has {size} numbers, one a weight; got shape {list(directions.shape)}.")
    parts = directions.detach().cpu().split([weight.numel() for weight in weights.values()], dim=1)
    points = {name: value.expand(grid.shape[1], *value.shape) for name, value in own.items()}
    for (name, weight), part in zip(weights.items(), parts, strict=True):
        moves = _mixed([d.view(weight.shape) for d in part.to(own[name])], grid)
        points[name] = own[name] + moves
    return _evaluate(model, points, data, loss)


@torch.no_grad()
def _evaluate(model, points, data, loss, recompute=False) -> dict[str, np.ndarray]:
    """Losses and accuracies [points] of the networks with these weights and statistics, [points, ...] by name."""
    n = len(next(iter(points.values())))
    device = next(model.parameters()).device
    pieces = []
    for chosen in torch.arange(n).split(_NETWORKS):
        networks = Ensemble([model] * len(chosen))
        for name, own in (networks.parameters | networks.buffers).items():
            if name in points:
                own.copy_(points[name][chosen])
        if recompute:
            _measure_statistics(networks, data.x_train.to(device))
        values = {}
        for name, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
            values |= _means(networks, name, x.to(device), y.to(device), loss)
        pieces.append(values)
    return {name: torch.cat([piece[name] for piece in pieces]).double().cpu().numpy() for name in pieces[0]}


def _means(networks, name, x, y, loss) -> dict[str, Tensor]:
    members = len(networks)
    losses, correct = 0.0, 0.0
    for inputs, targets in zip(*(part.split(max(64, _SAMPLES // members)) for part in (x, y)), strict=True):
        outputs = networks(inputs.expand(members, *inputs.shape))
        each = targets.expand(members, *targets.shape)
        losses = losses + loss(outputs, each) * len(targets)
        if not targets.is_floating_point():
            correct = correct + (outputs.argmax(-1) == each).sum(1)
    found = {f"{name}_loss": losses / len(y)}
    if torch.is_tensor(correct):
        found[f"{name}_accuracy"] = correct / len(y)
    return found


def _measure_statistics(networks: Ensemble, x: Tensor) -> None:
    """Set batch norm's running statistics to those of ``x``, seen as one batch.

    A set of more than ``_ONE_BATCH`` samples would take hundreds of gigabytes in one: it is seen in batches of
    ``_BATCH``, and their statistics are averaged.
    """
    norms = [layer for layer in networks.template.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        return
    for number, batch in enumerate(x.split(len(x) if len(x) <= _ONE_BATCH else _BATCH), 1):
        for layer in norms:
            layer.momentum = 1 / number  # so that the running statistics are the mean of the batches'
        networks(batch.expand(len(networks), *batch.shape), training=True)
