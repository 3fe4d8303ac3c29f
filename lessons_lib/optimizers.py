"""Optimizers and learning-rate schedules for stacked parameters.

A member is a row of the flat parameters [K, P], so that learning rate, momentum and weight decay may
differ from member to member: they are columns [K, 1]. Updates are those of ``torch.optim``, in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Schedule = Callable[[float], float]


class SGD:
    """Stochastic gradient descent with heavy-ball momentum, v <- m v + g and w <- w - lr v (``torch.optim.SGD``)."""

    def __init__(self, flat: Tensor, momentum: Tensor):
        """``flat`` [K, P] fixes the shapes; ``momentum`` [K, 1]."""
        self.momentum = momentum
        self.state = {"velocity": torch.zeros_like(flat)} if bool((momentum != 0).any()) else {}

    def step(self, flat: Tensor, grad: Tensor, lr: Tensor) -> None:
        """Move ``flat`` [K, P] in place; ``lr`` [K, 1]."""
        if self.state:
            grad = self.state["velocity"].mul_(self.momentum).add_(grad)
        flat.addcmul_(grad, lr, value=-1)

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        self.momentum = self.momentum[members]
        self.state = {name: value[members] for name, value in self.state.items()}


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) with beta1 = ``momentum``, as ``torch.optim.Adam``."""

    beta2, eps = 0.999, 1e-8

    def __init__(self, flat: Tensor, momentum: Tensor):
        """``flat`` [K, P] fixes the shapes; ``momentum`` [K, 1] is beta1."""
        self.momentum = momentum
        self.state = {"mean": torch.zeros_like(flat), "square": torch.zeros_like(flat)}
        self.steps = 0

    def step(self, flat: Tensor, grad: Tensor, lr: Tensor) -> None:
        """Move ``flat`` [K, P] in place; ``lr`` [K, 1]."""
        self.steps += 1
        mean, square = self.state["mean"], self.state["square"]
        # Passes over memory are what a step costs: as few as can be, and in place.
        mean.lerp_(grad, 1 - self.momentum)
        square.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        # Both sides of the paper's fraction times the root of its correction, which is then a number, not a tensor.
        root = math.sqrt(1 - self.beta2**self.steps)
        move = square.sqrt().add_(self.eps * root)
        torch.div(mean, move, out=move)
        flat.addcmul_(move, lr * (root / (1 - self.momentum**self.steps)), value=-1)

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        self.momentum = self.momentum[members]
        self.state = {name: value[members] for name, value in self.state.items()}


class RMSprop:
    """RMSprop (Tieleman and Hinton 2012) with heavy-ball momentum on its steps, as ``torch.optim.RMSprop``."""

    decay, eps = 0.99, 1e-8

    def __init__(self, flat: Tensor, momentum: Tensor):
        """``flat`` [K, P] fixes the shapes; ``momentum`` [K, 1]."""
        self.momentum = momentum
        self.state = {"square": torch.zeros_like(flat)}
        if bool((momentum != 0).any()):
            self.state["velocity"] = torch.zeros_like(flat)

    def step(self, flat: Tensor, grad: Tensor, lr: Tensor) -> None:
        """Move ``flat`` [K, P] in place; ``lr`` [K, 1]."""
        square = self.state["square"].mul_(self.decay).addcmul_(grad, grad, value=1 - self.decay)
        scaled = grad / square.sqrt().add_(self.eps)
        if "velocity" in self.state:
            scaled = self.state["velocity"].mul_(self.momentum).add_(scaled)
        flat.addcmul_(scaled, lr, value=-1)

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        self.momentum = self.momentum[members]
        self.state = {name: value[members] for name, value in self.state.items()}


class AdaGrad:
    """AdaGrad (Duchi, Hazan and Singer 2011), as ``torch.optim.Adagrad``; it has no momentum."""

    eps = 1e-10

    def __init__(self, flat: Tensor, momentum: Tensor):
        """``flat`` [K, P] fixes the shapes; ``momentum`` is not used."""
        self.square = torch.zeros_like(flat)

    def step(self, flat: Tensor, grad: Tensor, lr: Tensor) -> None:
        """Move ``flat`` [K, P] in place; ``lr`` [K, 1]."""
        self.square.addcmul_(grad, grad)
        flat.addcdiv_(grad * lr, self.square.sqrt().add_(self.eps), value=-1)

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        self.square = self.square[members]


class Adadelta:
    """Adadelta (Zeiler 2012), as ``torch.optim.Adadelta``; it has no momentum, and its learning rate is about 1."""

    decay, eps = 0.9, 1e-6

    def __init__(self, flat: Tensor, momentum: Tensor):
        """``flat`` [K, P] fixes the shapes; ``momentum`` is not used."""
        self.state = {"square": torch.zeros_like(flat), "moved": torch.zeros_like(flat)}

    def step(self, flat: Tensor, grad: Tensor, lr: Tensor) -> None:
        """Move ``flat`` [K, P] in place; ``lr`` [K, 1]."""
        square = self.state["square"].mul_(self.decay).addcmul_(grad, grad, value=1 - self.decay)
        moved = self.state["moved"]
        move = (moved + self.eps).sqrt_().div_((square + self.eps).sqrt_()).mul_(grad)
        moved.mul_(self.decay).addcmul_(move, move, value=1 - self.decay)
        flat.addcmul_(move, lr, value=-1)

    def keep(self, members: Tensor) -> None:
        """Go on with these members only."""
        self.state = {name: value[members] for name, value in self.state.items()}


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "rmsprop": RMSprop, "adagrad": AdaGrad, "adadelta": Adadelta}


def constant(epoch: float) -> float:
    """No schedule."""
    return 1.0


def exponential(factor: float) -> Schedule:
    """The learning rate times ``factor`` after every epoch, as Zhang et al. train (factor 0.95)."""
    return lambda epoch: factor ** math.floor(epoch)


def step_decay(*milestones: float, factor: float = 0.1) -> Schedule:
    """The learning rate times ``factor`` at each of the ``milestones`` (in epochs)."""
    return lambda epoch: factor ** sum(epoch >= milestone for milestone in milestones)


def cosine(epochs: float) -> Schedule:
    """Half a cosine from 1 to 0 over ``epochs`` (Loshchilov and Hutter 2017)."""
    return lambda epoch: 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1.0)))


def warm_up(epochs: float, schedule: Schedule = constant) -> Schedule:
    """``schedule`` times a rise from nearly 0 to 1 over the first ``epochs`` (Goyal et al. 2017, section 2.2)."""
    return lambda epoch: min(1.0, 0.01 + 0.99 * epoch / epochs) * schedule(epoch)
