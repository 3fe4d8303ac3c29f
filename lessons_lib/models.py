"""The networks of the papers, as ``nn.Sequential`` of plain torch layers.

No network here has a ``forward`` of its own: a list of layers can be trained as one ensemble, walked through
layer by layer for its activations, and read at a glance. The one container torch lacks is ``Branches``.

Weights start as torch starts them: every weight and bias of a linear or convolutional layer is uniform on
``[-1/sqrt(fan_in), 1/sqrt(fan_in)]``. The papers rarely say how theirs start.

``shape`` is the shape of one input, ``Dataset.shape`` for a data set of ``lessons_lib.data``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Runs every branch on the same input and joins their outputs along the channels (dimension 1)."""

    def __init__(self, *branches: nn.Module):
        """Take branches whose outputs agree in every dimension but the channels."""
        super().__init__()
        if not branches:
            raise ValueError("Branches needs at least one branch")
        for index, branch in enumerate(branches):
            self.add_module(str(index), branch)

    def forward(self, x: Tensor) -> Tensor:
        """Channels [n, sum of C_i, ...] of the branches' outputs [n, C_i, ...]."""
        return torch.cat([branch(x) for branch in self.children()], dim=1)


def parameter_count(model: nn.Module) -> int:
    """The number of trainable weights of ``model``."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def mlp(
    *sizes: int,
    activation: Callable[[], nn.Module] = nn.ReLU,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A fully connected network: ``mlp(2352, 512, 10)`` has 2352 inputs, one hidden layer of 512, 10 outputs.

    Inputs [n, ...] with ``sizes[0]`` numbers each, outputs [n, sizes[-1]]. ``activation`` makes the layer
    that follows each hidden layer (``nn.Tanh``; ``nn.Identity`` for a deep linear network); ``batch_norm`` puts
    batch norm between the two; ``dropout``, if positive, follows each activation.

    ``mlp(2352, 512, 512, 512, 10)`` and ``mlp(2352, 512, 10)`` are the MLP 3x512 (1,735,178 weights) and MLP 1x512
    (1,209,866) of Zhang et al. 2017, Table 1; ``mlp(784, 512, 512, 512, 512, 512, 10, batch_norm=True)`` is F1 of
    Keskar et al. 2017 (1,462,794).
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"an MLP needs an input and an output size, all positive; got {sizes}")
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in zip(sizes[:-2], sizes[1:-1], strict=True):
        norm = [nn.BatchNorm1d(n_out)] if batch_norm else []
        layers += [nn.Linear(n_in, n_out), *norm, activation(), *_dropout(dropout)]
    return _checked(nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1])), sizes[0])


def gaussian_mlp(
    *sizes: int, sigma_w: float, sigma_b: float = 0.0, activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """The network of ``mlp`` with weights from N(0, sigma_w^2 / fan_in) and biases from N(0, sigma_b^2).

    So Poole et al. 2016 and Raghu et al. 2017 draw random networks; ``sigma_w**2`` is 2 in He et al. 2015. Draws
    come from the global generator, as torch's own do.
    """
    if sigma_w < 0 or sigma_b < 0:
        raise ValueError(f"sigma_w and sigma_b are standard deviations, 0 or more; got {sigma_w} and {sigma_b}")
    model = mlp(*sizes, activation=activation)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0, sigma_w / math.sqrt(layer.in_features))
                layer.bias.normal_(0, sigma_b)
    return model


def mnist1d_cnn(n_classes: int = 10, *, channels: int = 25, dropout: float = 0.0) -> nn.Sequential:
    """The convolutional network of MNIST-1D (Greydanus & Kobak 2020): 5,210 weights at 25 channels.

    Inputs [n, 1, 40], outputs [n, n_classes]. Three convolutions of stride 2 (widths 5, 3, 3, each with
    padding 1 and followed by ReLU) and a linear layer; ``dropout``, if positive, comes before it.
    """
    layers = [
        nn.Conv1d(1, channels, 5, stride=2, padding=1), nn.ReLU(),
        nn.Conv1d(channels, channels, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv1d(channels, channels, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), *_dropout(dropout), nn.Linear(channels * 5, n_classes),
    ]  # fmt: skip
    return _checked(nn.Sequential(*layers), (1, 40))


def conv_student(
    n_classes: int = 10,
    *,
    shape: Sequence[int] = (1, 40),
    n_conv: int,
    n_hidden: int = 1,
    channels: int = 16,
    budget: int,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A student of Urban et al. 2017: ``n_conv`` convolutions, ``n_hidden`` hidden layers, ``budget`` weights in all.

    Inputs [n, *shape], signals or images; outputs [n, n_classes]. Each convolution has width 5, keeps the length,
    and is followed by ReLU and max pooling of 2. The hidden layers are as wide as the budget allows: the count
    is at most ``budget``, and one unit more a layer would exceed it. ``dropout``, if positive, follows each hidden
    layer. Without convolutions it is an MLP, and ``channels`` is not used.

    Raises ValueError where the convolutions alone exceed the budget, and for signals too short for the pooling.
    """
    kinds = {2: (nn.Conv1d, nn.MaxPool1d), 3: (nn.Conv2d, nn.MaxPool2d)}
    convolution, pool = kinds[len(shape)]
    sides, n_in = list(shape[1:]), shape[0]
    layers: list[nn.Module] = []
    for _ in range(n_conv):
        layers += [convolution(n_in, channels, 5, padding=2), nn.ReLU(), pool(2)]
        sides, n_in = [side // 2 for side in sides], channels
    if min(sides) < 1:
        raise ValueError(f"{n_conv} poolings leave nothing of inputs of {_text(tuple(shape))}")
    features = n_in * math.prod(sides)

    def dense(width: int) -> list[nn.Module]:
        sizes = [features, *[width] * n_hidden]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU(), *_dropout(dropout))]
        return [nn.Flatten(), *hidden, nn.Linear(sizes[-1], n_classes)]

    used = parameter_count(nn.Sequential(*layers))

    def count(width: int) -> int:
        inner = (n_hidden - 1) * (width + 1) * width
        return used + (features + 1) * width + inner + (width + 1) * n_classes

    width = 0
    while count(width + 1) <= budget:
        width += 1
    if width < 1 or n_hidden < 1:
        raise ValueError(f"{n_conv} convolutions of {channels} channels leave no hidden unit within {budget:,} weights")
    return _checked(nn.Sequential(*layers, *dense(width)), shape)


def digits_cnn(
    n_classes: int = 10,
    *,
    channels: Sequence[int] = (12, 24),
    hidden: int = 64,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """A small convolutional network for scikit-learn's digits: 28,026 weights at its default sizes.

    Inputs [n, 1, 8, 8], outputs [n, n_classes]. Two 3x3 convolutions, the first of stride 2, each with ReLU; a
    hidden layer with ReLU; a linear layer. ``batch_norm`` puts batch norm, without learnable scale and shift as
    in ``small_inception``, after each convolution; ``dropout``, if positive, follows the hidden layer.
    """
    first, second = channels
    layers = [
        nn.Conv2d(1, first, 3, stride=2, padding=1), *_batch_norm(batch_norm, first), nn.ReLU(),
        nn.Conv2d(first, second, 3, padding=1), *_batch_norm(batch_norm, second), nn.ReLU(),
        nn.Flatten(), nn.Linear(second * 16, hidden), nn.ReLU(), *_dropout(dropout),
        nn.Linear(hidden, n_classes),
    ]  # fmt: skip
    return _checked(nn.Sequential(*layers), (1, 8, 8))


def small_alexnet(
    n_classes: int = 10, *, shape: Sequence[int] = (3, 28, 28), width: float = 1.0, dropout: float = 0.0
) -> nn.Sequential:
    """The small AlexNet of Zhang et al. 2017 (Appendix A): 1,387,786 weights on 3x28x28 images.

    Inputs [n, *shape], outputs [n, n_classes]. Twice (5x5 convolution of 64 channels, ReLU, 3x3 max
    pooling of stride 2, local response normalization), then fully connected layers of 384 and 192. The paper
    gives neither the channels nor the normalization's constants: 64 gives its parameter count, and the
    constants are those of TensorFlow's CIFAR-10 tutorial, whose network this is. ``width`` multiplies all
    hidden sizes; ``dropout``, if positive, follows both hidden layers.
    """
    conv, fc1, fc2 = _widths(width, 64, 384, 192)
    pooled = [math.ceil(math.ceil(side / 2) / 2) for side in shape[1:]]

    def block(n_in):
        return [
            nn.Conv2d(n_in, conv, 5, padding=2), nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
            # TensorFlow: radius 4, alpha 0.001/9 a neighbour. torch divides alpha by the size, 9, itself.
            nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0),
        ]  # fmt: skip

    layers = [
        *block(shape[0]), *block(conv),
        nn.Flatten(), nn.Linear(conv * math.prod(pooled), fc1), nn.ReLU(), *_dropout(dropout),
        nn.Linear(fc1, fc2), nn.ReLU(), *_dropout(dropout),
        nn.Linear(fc2, n_classes),
    ]  # fmt: skip
    return _checked(nn.Sequential(*layers), shape)


def batch_norm_alexnet(
    n_classes: int = 10, *, shape: Sequence[int] = (3, 32, 32), width: float = 1.0, dropout: float = 0.5
) -> nn.Sequential:
    """C1 and, with 100 classes, C3 of Keskar et al. 2017: 1,757,834 weights on 3x32x32 images and 10 classes.

    Inputs [n, *shape], outputs [n, n_classes]. The layers of ``small_alexnet`` with batch norm after each
    but the last, in place of response normalization: twice (5x5 convolution of 64 channels, batch norm, ReLU, 3x3 max
    pooling of stride 2), then fully connected layers of 384 and 192, each with batch norm, ReLU and
    ``dropout``. Signals (C, L) get the same in one dimension. ``width`` multiplies all hidden sizes.
    """
    conv, fc1, fc2 = _widths(width, 64, 384, 192)
    pooled = [math.ceil(math.ceil(side / 2) / 2) for side in shape[1:]]
    kinds = {1: (nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d), 2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d)}
    if len(pooled) not in kinds:
        raise ValueError(f"inputs are signals (C, L) or images (C, H, W); got shape {tuple(shape)}")
    convolution, norm, pool = kinds[len(pooled)]

    def block(n_in):
        return [convolution(n_in, conv, 5, padding=2), norm(conv), nn.ReLU(), pool(3, stride=2, padding=1)]

    def dense(n_in, n_out):
        return [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU(), *_dropout(dropout)]

    layers = [
        *block(shape[0]), *block(conv), nn.Flatten(),
        *dense(conv * math.prod(pooled), fc1), *dense(fc1, fc2), nn.Linear(fc2, n_classes),
    ]  # fmt: skip
    return _checked(nn.Sequential(*layers), shape)


def small_inception(
    n_classes: int = 10,
    *,
    shape: Sequence[int] = (3, 28, 28),
    batch_norm: bool = True,
    width: float = 1.0,
    dropout: float = 0.0,
) -> nn.Sequential:
    """The small Inception of Zhang et al. 2017 (Appendix A, Figure 3): 1,649,402 weights on three channels.

    Inputs [n, *shape], outputs [n, n_classes]. A 3x3 convolution of 96; eight inception modules, each a 1x1
    and a 3x3 convolution side by side, with two downsampling modules (a 3x3 convolution of stride 2 beside
    max pooling) between them; the mean over all positions; a linear layer. Batch norm and ReLU follow every
    convolution. The paper's count, the same with batch norm and without, comes out when convolutions keep
    their biases and batch norm has no learnable scale and shift. ``width`` multiplies all channels;
    ``dropout``, if positive, comes before the linear layer.
    """
    channels = shape[0]
    layers: list[nn.Module] = []

    def conv(n_in, n_out, size, stride=1):
        convolution = nn.Conv2d(n_in, n_out, size, stride, padding=size // 2)
        return nn.Sequential(convolution, *_batch_norm(batch_norm, n_out), nn.ReLU())

    def inception(narrow, wide):
        nonlocal channels
        narrow, wide = _widths(width, narrow, wide)
        layers.append(Branches(conv(channels, narrow, 1), conv(channels, wide, 3)))
        channels = narrow + wide

    def downsample(n_out):
        nonlocal channels
        (n_out,) = _widths(width, n_out)
        layers.append(Branches(conv(channels, n_out, 3, stride=2), nn.MaxPool2d(3, stride=2, padding=1)))
        channels += n_out

    (first,) = _widths(width, 96)
    layers.append(conv(channels, first, 3))
    channels = first
    inception(32, 32)
    inception(32, 48)
    downsample(80)
    inception(112, 48)
    inception(96, 64)
    inception(80, 80)
    inception(48, 96)
    downsample(96)
    inception(176, 160)
    inception(176, 160)
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *_dropout(dropout), nn.Linear(channels, n_classes)]
    return nn.Sequential(*layers)


def _widths(factor: float, *sizes: int) -> list[int]:
    if not factor > 0:
        raise ValueError(f"width is a positive factor; got {factor}")
    return [max(1, round(factor * size)) for size in sizes]


def _batch_norm(wanted: bool, channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels, affine=False)] if wanted else []


def _dropout(p: float) -> list[nn.Module]:
    return [nn.Dropout(p)] if p else []


class _InputCheck:
    """Refuses inputs of another size, before a layer in the middle does so in terms of matrices."""

    def __init__(self, expected: int | tuple[int, ...]):
        self.expected = expected

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        shape = tuple(args[0].shape[1:])
        if self.expected not in (shape, math.prod(shape)):
            raise ValueError(f"this network takes inputs [n, {_text(self.expected)}]; got [n, {_text(shape)}]")


def _text(size: int | tuple[int, ...]) -> str:
    return ", ".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _checked(model: nn.Sequential, expected: int | Sequence[int]) -> nn.Sequential:
    model.register_forward_pre_hook(_InputCheck(expected if isinstance(expected, int) else tuple(expected)))
    return model
