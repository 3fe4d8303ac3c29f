"""Forecasts of weights: what a history of training tells about a weight's future, and jumps to that forecast.

The method of Sinha, Sarkar, Mukherjee and Krishnamurthy, *Introspection: Accelerating Neural Network Training
By Learning Weight Evolution* (ICLR 2017, arXiv:1704.04959), and the forecasts that it has to beat. A forecast is
made for every weight on its own, from its values at the steps t, 0.7 t, 0.4 t and 0; what is forecast is its
value at step 2 t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lessons_lib.ensemble import Ensemble
from lessons_lib.training import Step

FRACTIONS = (1.0, 0.7, 0.4, 0.0)  # of t: where a weight's past is seen
HORIZON = 2.0  # times t: where its future lies

# f(past [P, 4], seed, step) -> weights [P] to go on with
Forecast = Callable[[Tensor, int, int], Tensor]


class IntrospectionError(ValueError):
    """A history that does not hold what is asked of it."""


def network(hidden: int = 40) -> nn.Sequential:
    """The introspection network: four values of a weight [n, 4], ``hidden`` ReLU units, its future value [n, 1]."""
    return nn.Sequential(nn.Linear(len(FRACTIONS), hidden), nn.ReLU(), nn.Linear(hidden, 1))


class History:
    """A hook for ``fit`` that keeps the weights every ``every`` steps, the beginning included.

    Attributes:
        weights: [S, K, P] after the training, on the CPU: snapshot s was taken after ``every * s`` steps.
    """

    def __init__(self, build: Callable[[], nn.Module], every: int):
        """``build`` is the one given to ``fit``: a hook comes after the first step, so the start is built again."""
        self.build, self.every = build, every
        self._snapshots: list[Tensor] = []

    def __call__(self, step: Step) -> None:
        """Keep the weights, if it is time."""
        if step.number == 1:
            self._snapshots = [_beginning(self.build, step).cpu()]
        if step.number % self.every == 0:
            self._snapshots.append(step.ensemble.flat.detach().to("cpu", copy=True))

    @property
    def weights(self) -> Tensor:
        """All snapshots."""
        return torch.stack(self._snapshots)


def examples(weights: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Training examples for a forecast, drawn from the history of one network.

    ``weights`` [S, P] are snapshots at equal spaces, from the beginning. Times t are such that 0.4 t, 0.7 t and
    2 t are snapshots too. Half of the examples come from the half of the weights that moved most between
    the first and the last snapshot, a quarter each from the next quarter and from the last: most weights
    hardly move, and there is little to learn from them (the shares are from our notes on the paper).

    Returns the past, [n, 4], and the future, [n]. Raises IntrospectionError for fewer than 21 snapshots.
    """
    n_snapshots, n_weights = weights.shape
    last = (n_snapshots - 1) // 2
    if last < 10:
        raise IntrospectionError(f"{n_snapshots} snapshots hold no time t with 0.7 t and 2 t; at least 21 do.")
    by_movement = (weights[-1] - weights[0]).abs().argsort(descending=True)
    groups = by_movement.tensor_split([n_weights // 2, 3 * n_weights // 4])
    sizes = (n - 2 * (n // 4), n // 4, n // 4)
    drawn = [
        group[torch.randint(len(group), (size,), generator=generator)]
        for group, size in zip(groups, sizes, strict=True)
    ]
    rows, time = torch.cat(drawn), 10 * torch.randint(1, last // 10 + 1, (n,), generator=generator)
    past = torch.stack([weights[(time * round(10 * f)) // 10, rows] for f in FRACTIONS], 1)
    return past, weights[int(HORIZON) * time, rows]


def polynomial(degree: int) -> Tensor:
    """Coefficients [4] of the forecast by a polynomial of this degree, fitted to the four values by least squares.

    The fit is linear in the values, so the forecast is ``past @ polynomial(degree)``. Degree 0 is their mean.
    """
    if not 0 <= degree < len(FRACTIONS):
        raise IntrospectionError(f"degree is {degree}; four values determine degrees 0 to {len(FRACTIONS) - 1}.")
    seen = np.vander(FRACTIONS, degree + 1)
    return torch.from_numpy(np.vander([HORIZON], degree + 1)[0] @ np.linalg.pinv(seen))


def least_squares(past: Tensor, future: Tensor) -> Tensor:
    """Coefficients [4] that forecast ``future`` [n] from ``past`` [n, 4] with the least squared error.

    In double precision: the four columns are nearly the same, and in single precision the coefficients
    come out differently from one library to another.
    """
    return torch.linalg.lstsq(past.double(), future.double().unsqueeze(1)).solution[:, 0]


@dataclass(frozen=True)
class Jump:
    """At these ``steps``, a network's weights are replaced by their ``forecast``."""

    steps: Sequence[int]
    forecast: Forecast


class Jumps:
    """A hook for ``fit`` that replaces the weights of members by a forecast, condition by condition.

    ``jumps`` says where and how for the conditions that jump. A forecast gets the values of the weights at t,
    0.7 t, 0.4 t and 0 [P, 4], in the run as it was (earlier jumps included) and on the CPU, the member's seed and the
    step; its result is taken over after the step's own move. Optimizers keep their state, so take plain SGD, as the
    paper does.

    Raises IntrospectionError for a step t where 0.4 t or 0.7 t are not whole.
    """

    def __init__(self, build: Callable[[], nn.Module], jumps: Mapping[str, Jump]):
        """``build`` is the one given to ``fit``."""
        self.build, self.jumps = build, dict(jumps)
        at = sorted({step for jump in self.jumps.values() for step in jump.steps})
        if odd := [t for t in at if t < 10 or t % 10]:
            raise IntrospectionError(f"jumps at {odd}: a step t has to be a multiple of 10, for 0.4 t and 0.7 t.")
        self._wanted = {t: [round(10 * f) * t // 10 for f in FRACTIONS] for t in at}
        self._kept: dict[int, Tensor] = {}

    @torch.no_grad()
    def __call__(self, step: Step) -> None:
        """Keep what a later jump will need; jump, if it is time."""
        if step.number == 1:
            self._kept = {0: _beginning(self.build, step)}
        if any(step.number in wanted for wanted in self._wanted.values()):
            self._kept[step.number] = step.ensemble.flat.detach().clone()
        if step.number not in self._wanted:
            return
        past = torch.stack([self._kept[t] for t in self._wanted[step.number]], -1).cpu()  # [K, P, 4]
        for k, member in enumerate(step.members):
            jump = self.jumps.get(member.condition)
            if jump and step.number in jump.steps:
                step.ensemble.flat[k] = jump.forecast(past[k], member.seed, step.number)


def _beginning(build: Callable[[], nn.Module], step: Step) -> Tensor:
    """The weights before the first step, [K, P]."""
    members, device = step.members, step.ensemble.flat.device
    start = Ensemble.from_seeds(build, [member.seed for member in members], device)
    for k, member in enumerate(members):
        if member.start is not None:
            start.load(k, member.start)
    return start.flat.detach()
