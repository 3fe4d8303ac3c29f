"""What a layer knows about the input and about the label, how this is estimated, and the gradient's signal.

Shwartz-Ziv and Tishby, *Opening the black box of deep neural networks via information* (arXiv:1703.00810), and its
critique, Saxe et al., *On the information bottleneck theory of deep learning* (ICLR 2018). For a label Y, an input
X and a layer T = T(X) they plot I(X; T) against I(T; Y) while a network trains.

A layer of a deterministic network has no finite mutual information with a continuous input, and on finitely many
inputs it has, as a rule, all of it. What is plotted belongs to a coarser variable: the layer in bins, or the layer
plus noise. Both are here, with every convention for the bins over which the two papers differ. All information is
in bits, all inputs are equally likely, and ``t`` are activations [..., n, neurons] for the n inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import entr, eval_legendre, expit
from torch import Tensor

from lessons_lib.training import Step

CONVENTIONS = ("global", "epoch", "adaptive")
_MULTIPLIERS = np.random.default_rng(12).integers(2**63, size=4096, dtype=np.uint64) * 2 + 1


class Plane(NamedTuple):
    """Places in the information plane, in bits: ``x`` is I(X; T) and ``y`` is I(T; Y), arrays of one shape."""

    x: NDArray
    y: NDArray


# ------------------------------------------------------------------------------------------ the 12-bit task


@dataclass(frozen=True)
class SphereTask:
    """The paper's task: a rule on patterns of twelve points on a sphere, blind to rotations.

    Attributes:
        inputs: all patterns, [4096, 12], -1 and 1.
        score: f(x), [4096].
        probability: p(y = 1 | x), a sigmoid of gamma (f(x) - threshold), [4096].
        labels: the more probable class of each pattern, [4096].
    """

    inputs: Tensor
    score: NDArray
    threshold: float
    gamma: float
    probability: NDArray
    labels: Tensor


def icosahedron() -> NDArray:
    """The twelve vertices of a regular icosahedron on the unit sphere, [12, 3]."""
    golden = (1 + math.sqrt(5)) / 2
    corners = np.array([[0, a, b * golden] for a in (1, -1) for b in (1, -1)])
    return np.concatenate([np.roll(corners, shift, axis=1) for shift in range(3)]) / math.sqrt(1 + golden**2)


def sphere_task(coefficients: Sequence[float] = (1.0, 0.7, -0.9), information: float = 0.99) -> SphereTask:
    """Twelve bits on an icosahedron, f a combination of the pattern's power spectrum, and I(X; Y) as wanted.

    With s_i = x_i - 1/2 the power in degree l is sum_ij s_i s_j P_l(cos angle_ij), up to a factor: it is the squared
    length of the pattern's spherical harmonics of that degree, so a rotation leaves it as it is. f weighs the degrees
    1, 2, ... by ``coefficients`` (the paper does not print its own). The threshold is the score with the patterns split
    most evenly, gamma is solved for: I(X; Y) = ``information`` bits. Raises ValueError where no gamma reaches that.
    """
    points = icosahedron()
    cosines = np.clip(points @ points.T, -1, 1)
    kernel = sum(c * eval_legendre(degree, cosines) for degree, c in enumerate(coefficients, start=1))
    bits = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    score = np.einsum("ni,ij,nj->n", bits - 0.5, kernel, bits - 0.5).round(9)  # equal scores, equal digits
    levels = np.unique(score)
    if len(levels) < 2:
        raise ValueError(f"with coefficients {tuple(coefficients)} all patterns have one score: there is no task")
    middles = (levels[1:] + levels[:-1]) / 2
    threshold = min(middles, key=lambda middle: abs((score > middle).mean() - 0.5))

    def known(gamma):
        p = expit(gamma * (score - threshold))
        return float(_bernoulli(p.mean()) - _bernoulli(p).mean())

    most = known(1e6)
    if not 0 < information < most:
        raise ValueError(f"I(X; Y) can lie between 0 and {most:.4f} bits with these scores; asked for {information}")
    gamma = brentq(lambda log_gamma: known(math.exp(log_gamma)) - information, math.log(1e-6), math.log(1e6))
    probability = expit(math.exp(gamma) * (score - threshold))
    inputs, labels = torch.tensor(2.0 * bits - 1, dtype=torch.float32), torch.tensor(score > threshold).long()
    return SphereTask(inputs, score, float(threshold), math.exp(gamma), probability, labels)


def _bernoulli(p: ArrayLike) -> NDArray:
    return (entr(p) + entr(1 - np.asarray(p))) / math.log(2)


# ------------------------------------------------------------------------------------------ bins


def entropy(symbols: ArrayLike) -> NDArray:
    """The entropy [...] in bits of the n equally likely ``symbols`` [..., n], any integers."""
    symbols = np.asarray(symbols)
    n = symbols.shape[-1]
    rows = np.sort(symbols.reshape(-1, n), axis=1)
    starts = np.ones(rows.shape, dtype=bool)  # of each run of equal symbols
    starts[:, 1:] = rows[:, 1:] != rows[:, :-1]
    place = np.flatnonzero(starts)
    counts = np.diff(place, append=rows.size)
    saved = np.bincount(place // n, counts * np.log2(counts), minlength=len(rows)) / n
    return (math.log2(n) - saved).reshape(symbols.shape[:-1])


def bin_codes(t: ArrayLike, bins: int, span: tuple[float, float] | str = (-1.0, 1.0)) -> NDArray:
    """The bin of each neuron, integers [..., n, neurons], for activations ``t`` of the same shape.

    ``span`` is the convention:

    * a pair (low, high): ``bins`` equal bins there, and more of the same width beyond it. The paper's, for tanh: 30
      bins of [-1, 1];
    * "global": equal bins over the range that the layer has at any time, one range for each network; ``t`` is
      [epochs, ..., n, neurons]. Saxe et al.'s, for ReLU;
    * "epoch": equal bins over the range that the layer has at this time: the ruler stretches with the layer;
    * "adaptive": bins with equally many of the different values that occur in the layer at this time (Chelombiev et al.
      2019).

    Raises ValueError for another convention, less than one bin, and activations that are not finite.
    """
    t = np.asarray(t)
    if bins < 1 or t.ndim < 2 or (span == "global" and t.ndim < 3):
        raise ValueError(f"{bins=} and t of shape {list(t.shape)}: give 1 or more bins, [(epochs, ...,) n, neurons].")
    if not np.isfinite(t).all():
        raise ValueError(f"{(~np.isfinite(t)).sum()} of {t.size} activations are not finite; did training diverge?")
    if span == "adaptive":
        slices = t.reshape(-1, *t.shape[-2:])
        return np.stack([_adaptive(one, bins) for one in slices]).reshape(t.shape)
    if isinstance(span, str):
        if span not in CONVENTIONS:
            raise ValueError(f"span is {span!r}; it must be a pair (low, high) or one of: {', '.join(CONVENTIONS)}")
        axes = (0, -2, -1) if span == "global" else (-2, -1)
        low, high = t.min(axis=axes, keepdims=True), t.max(axis=axes, keepdims=True)
        high = np.where(high > low, high, low + 1)  # one value only: one bin
    else:
        low, high = span
        if not low < high:
            raise ValueError(f"span is {span}; it must go from a lower to a higher number")
    # The upper end belongs to the last bin: a saturated neuron is no bin of its own.
    return np.where(t == high, bins - 1, np.floor((t - low) * (bins / (high - low)))).astype(np.int64)


def _adaptive(t: NDArray, bins: int) -> NDArray:
    different = np.unique(t)
    edges = different[(np.arange(1, bins) * len(different)) // bins]
    return np.searchsorted(edges, t, side="right")


def symbols(codes: ArrayLike) -> NDArray:
    """One integer [..., n] for each combination of the neurons' bins ``codes`` [..., n, neurons].

    A sum with fixed random odd factors modulo 2^64: two of 4096 combinations meet once in some 10^11 layers.
    """
    codes = np.asarray(codes)
    if codes.shape[-1] >= len(_MULTIPLIERS):  # the last is the label's
        raise ValueError(f"a layer of {codes.shape[-1]} neurons; at most {len(_MULTIPLIERS) - 1} are packed here")
    total = np.zeros(codes.shape[:-1], dtype=np.uint64)
    for neuron in range(codes.shape[-1]):
        total += codes[..., neuron].astype(np.uint64) * _MULTIPLIERS[neuron]
    return total


def binned_information(
    t: ArrayLike, y: ArrayLike, *, bins: int = 30, span: tuple[float, float] | str = (-1.0, 1.0)
) -> Plane:
    """I(X; T) and I(T; Y), each [...], of a layer in bins: activations [..., n, neurons], labels [n] or [..., n].

    A layer that is a function of n different, equally likely inputs has I(X; T) = H(T), and I(T; Y) = H(T) + H(Y) -
    H(T, Y): no sampling error where the n inputs are all there are. ``span`` as in ``bin_codes``, which see for
    what is raised. The binned layers are not a Markov chain: bins of layer 2 are no function of the bins of layer 1.
    """
    t, y = np.asarray(t), np.asarray(y)
    _same_inputs(t, y)
    packed = symbols(bin_codes(t, bins, span))
    _, y = np.unique(y, return_inverse=True)
    y = y.reshape(np.asarray(y).shape).astype(np.uint64)
    x = entropy(packed)
    return Plane(x, x + entropy(y) - entropy(packed + y * _MULTIPLIERS[-1]))


def _same_inputs(t: NDArray, y: NDArray) -> None:
    if t.ndim < 2 or y.ndim < 1 or y.shape[-1] != t.shape[-2]:
        raise ValueError(
            f"activations have shape {list(t.shape)} and labels {list(y.shape)}; they must be [..., n, neurons] "
            "and [n] or [..., n], for the same n inputs"
        )


# ------------------------------------------------------------------------------------------ noise


class Bounds(NamedTuple):
    """Bounds in bits: I(X; T) lies between ``lower.x`` and ``upper.x``, I(T; Y) between ``lower.y`` and ``upper.y``."""

    lower: Plane
    upper: Plane


def pairwise_information(t: ArrayLike, y: ArrayLike, noise: float) -> Bounds:
    """Bounds on the information in t + N(0, noise^2) with ``t`` [n, neurons] or [..., n, neurons], labels ``y`` [n].

    Kolchinsky and Tracey 2017 bound the entropy of a mixture by pairwise distances of its components: for n Gaussians
    of one width, I(X; T) = -mean_i log mean_j exp(-|t_i - t_j|^2 / (c noise^2)) is an upper bound with c = 2 (their
    Kullback-Leibler distance) and a lower one with c = 8 (Bhattacharyya). For I(T; Y) = I(X; T) - sum_y p(y)
    I(X; T | y) the bounds are put together crosswise and cut to [0, H(Y)]. Costs n^2 exponentials a layer. Raises
    ValueError for noise that is not positive or other shapes.
    """
    t, y = np.asarray(t), np.asarray(y)
    _same_inputs(t, y)
    if y.ndim != 1:
        raise ValueError(f"labels have shape {list(y.shape)}; here all layers share their inputs, [n]")
    if not noise > 0:
        raise ValueError(f"the noise is {noise}; without it the information in a continuous layer is not defined")
    classes, y = np.unique(y, return_inverse=True)
    members = torch.nn.functional.one_hot(torch.as_tensor(y), len(classes)).float()
    shares = members.mean(0)
    found = []
    for layer in torch.as_tensor(t).flatten(0, -3) if t.ndim > 2 else torch.as_tensor(t)[None]:
        layer = layer.float() - layer.float().mean(0)
        squares = layer.square().sum(1)
        distances = torch.addmm(squares, layer, layer.T, alpha=-2).add_(squares[:, None]).clamp_(min=0)
        near = distances.mul_(-1 / (8 * noise**2)).exp_()
        for _ in range(2):  # exp(-d / 8), then its fourth power
            sums = near @ members  # over the inputs of each class, [n, classes]
            inside = (sums * members).sum(1) / (len(layer) * shares[y])
            found.append([-(sums.sum(1) / len(layer)).log2().mean(), -inside.log2().mean()])
            near = near.square_().square_()
    low, low_given, high, high_given = np.array(found).reshape(*t.shape[:-2], 4).transpose(-1, *range(t.ndim - 2))
    most = entropy(y)
    return Bounds(
        Plane(low, np.clip(low - high_given, 0, most)),
        Plane(high, np.clip(high - low_given, 0, most)),
    )


def gaussian_information(weight: Tensor, part: slice | Sequence[int], noise: float) -> Tensor:
    """Exact I(T; X_part) [...] in bits for T = W x + N(0, noise^2), x standard normal, W [..., hidden, inputs].

    Half the log-determinant of T's covariance less that of T given the part, which only the other inputs move (Saxe et
    al., Sections 3 and 5). Information about all inputs is that of ``slice(None)``. Raises ValueError unless noise > 0.
    """
    if not noise > 0:
        raise ValueError(f"the noise is {noise}; without it the information in a continuous layer is not defined")
    weight = weight.detach().double()
    rest = weight.clone()
    rest[..., part] = 0
    eye = torch.eye(weight.shape[-2], dtype=weight.dtype)

    def logdet(w):
        return torch.logdet(eye + w @ w.transpose(-1, -2) / noise**2)

    return (logdet(weight) - logdet(rest)) / (2 * math.log(2))


# ------------------------------------------------------------------------------------------ the bound


def deterministic_bound(i_x: ArrayLike, h_y: float = 1.0) -> NDArray:
    """The largest I(T; Y) at I(X; T) = ``i_x`` where Y is a function of X with entropy ``h_y``: min(i_x, h_y).

    Kolchinsky, Tracey and Van Kuyk 2019: a T that copies Y with probability i_x / h_y, or else says nothing, is there.
    """
    return np.minimum(i_x, h_y)


def information_bottleneck(joint: ArrayLike, betas: Sequence[float], *, steps: int = 2000, tolerance=1e-10) -> Plane:
    """The information bottleneck curve of p(x, y) [inputs, labels]: I(X; T) and I(T; Y) at each of ``betas``.

    Minimizes I(X; T) - beta I(T; Y) by the self-consistent equations of Tishby, Pereira and Bialek 1999, from T = X
    downwards in beta. The results are in the order given. Below the first split, and for a deterministic rule at all
    beta > 1, they sit on a corner of the curve. Raises ValueError for what is no distribution.
    """
    joint = np.asarray(joint, dtype=np.float64)
    if joint.ndim != 2 or (joint < 0).any() or not math.isclose(joint.sum(), 1, abs_tol=1e-9):
        raise ValueError("joint must be a table of probabilities [inputs, labels] that sum to 1")
    p_x, p_y = joint.sum(1), joint.sum(0)
    given_x = joint / p_x[:, None]
    # Nearly T = X: exact copies would never merge again.
    encoder = 0.99 * np.eye(len(joint)) + 0.01 / len(joint)
    found = {}
    for beta in sorted(betas, reverse=True):
        for _ in range(steps):
            p_t = p_x @ encoder
            used = p_t > 1e-300
            encoder, p_t = encoder[:, used], p_t[used]
            given_t = (encoder * p_x[:, None]).T @ given_x / p_t[:, None]
            # KL(p(y|x) || p(y|t)) less what does not depend on t
            cross = -given_x @ np.log(np.maximum(given_t, 1e-300)).T
            exponent = np.log(p_t) - beta * cross
            new = np.exp(exponent - exponent.max(1, keepdims=True))
            new /= new.sum(1, keepdims=True)
            change, encoder = np.abs(new - encoder).max(), new
            if change < tolerance:
                break
        found[beta] = _positions(encoder, p_x, given_x, p_y)
    return Plane(*np.array([found[beta] for beta in betas]).T)


def _positions(encoder, p_x, given_x, p_y):
    p_t = p_x @ encoder
    joint_ty = (encoder * p_x[:, None]).T @ given_x
    i_x = entr(p_t).sum() - (p_x * entr(encoder).sum(1)).sum()
    i_y = entr(p_t).sum() + entr(p_y).sum() - entr(joint_ty).sum()
    return i_x / math.log(2), i_y / math.log(2)


# ------------------------------------------------------------------------------------------ the gradient


def signal_to_noise(gradients: Tensor) -> Tensor:
    """Norm of the mean over norm of the standard deviation [...] of ``gradients`` [..., batches, weights] (Fig. 4).

    The deviation is the unbiased one, over two batches or more. With batches drawn independently and no signal at all
    it is not 0 but near 1 / sqrt(batches): its noise floor.
    """
    if gradients.dim() < 2 or gradients.shape[-2] < 2:
        raise ValueError(f"gradients have shape {list(gradients.shape)}; needed are [..., 2 or more batches, weights]")
    return gradients.mean(-2).norm(dim=-1) / gradients.var(-2).sum(-1).sqrt()


class SignalToNoise:
    """A hook for ``fit`` that records ``signal_to_noise`` in each layer over each epoch's batches.

    ``ratio`` after training: [epochs, members, layers], the members in the order of conditions and seeds; weights and
    biases of a layer count together. Gradients are taken where the weights then are, as in the paper, so the ratio is
    that of an epoch and not of a point. Needs two or more batches an epoch and members that all train to the end.
    """

    def __init__(self, steps_per_epoch: int):
        """``steps_per_epoch`` batches make an epoch. Raises ValueError for fewer than two."""
        if steps_per_epoch < 2:
            raise ValueError(f"{steps_per_epoch} batch an epoch has no deviation; make the batches smaller")
        self.steps_per_epoch = steps_per_epoch
        self.floor = 1 / math.sqrt(steps_per_epoch)
        self._sums: tuple[Tensor, Tensor] | None = None
        self._ratios: list[Tensor] = []

    def __call__(self, step: Step) -> None:
        """Add the gradients of one step."""
        gradient = step.ensemble.flat_grad
        if self._sums is None:
            self._sums = torch.zeros_like(gradient), torch.zeros_like(gradient)
        total, squares = self._sums
        total.add_(gradient)
        squares.addcmul_(gradient, gradient)
        if step.number % self.steps_per_epoch == 0:
            n = self.steps_per_epoch
            mean = total / n
            variance = (squares - n * mean.square()).clamp_(min=0) / (n - 1)
            sizes = _layer_sizes(step.ensemble)
            signal = torch.stack([part.square().sum(1) for part in mean.split(sizes, dim=1)], 1)
            noise = torch.stack([part.sum(1) for part in variance.split(sizes, dim=1)], 1)
            self._ratios.append((signal / noise).sqrt())
            total.zero_()
            squares.zero_()

    @property
    def ratio(self) -> NDArray:
        """[epochs, members, layers]."""
        return torch.stack(self._ratios).cpu().numpy()


def _layer_sizes(ensemble) -> list[int]:
    sizes: dict[str, int] = {}
    for name, parameter in ensemble.parameters.items():
        layer = name.rpartition(".")[0]
        sizes[layer] = sizes.get(layer, 0) + parameter[0].numel()
    return list(sizes.values())
