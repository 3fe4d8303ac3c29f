"""The Hessian of a network's loss: products, leading eigenpairs, the whole matrix, and the density of its spectrum.

The Hessian is that of the mean loss over a data set by the trainable parameters, in the order of
``model.parameters()``, with the network in evaluation mode. Where rectifiers bend, second derivatives do not
exist; automatic differentiation gives those of the linear piece that a point lies on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor, nn

_WHICH = {"largest": "LA", "smallest": "SA", "both ends": "BE", "magnitude": "LM"}
_DENSE = 64  # up to this size the whole matrix costs less than an iteration over it
_CHUNK = (
    16  # columns differentiated at once: more do not fit the cache, fewer cost more calls (benchmarks/curvature.py)
)
_LARGEST_MATRIX = 20_000  # 3.2 GB in float64


class CurvatureError(RuntimeError):
    """The curvature asked for cannot be computed. ``values`` holds eigenvalues that did converge, if any."""

    def __init__(self, message: str, values: NDArray[np.float64] | None = None):
        super().__init__(message)
        self.values = values


class Hessian:
    """The Hessian of ``loss(model(x), y)``, as something to multiply vectors with.

    The graph of the gradient is built once and kept, so that a product costs one further backward pass
    (Pearlmutter 1994). Attributes: ``size``, the number P of parameters; ``gradient`` [P].
    """

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        *,
        batch_size: int | None = None,
    ):
        """Take a network, inputs [n, ...] and targets [n]; ``loss`` is a mean over samples.

        With ``batch_size`` the samples are taken in pieces and each product builds the graphs anew: slower, but
        memory is that of one piece. Raises CurvatureError for a model without trainable parameters, no samples,
        and a loss or gradient that is not finite.
        """
        self.model = copy.deepcopy(model).eval()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        if not self.parameters or len(x) == 0:
            raise CurvatureError("a Hessian needs a model with trainable parameters and at least one sample.")
        first = self.parameters[0]
        self.x, self.y, self.loss = x.to(first.device), y.to(first.device), loss
        self.batch_size = batch_size or len(x)
        self.size = sum(p.numel() for p in self.parameters)
        self.dtype, self.device = first.dtype, first.device
        self._slopes: list[Tensor] | None = None
        self._graph: Tensor | None = None
        if self.batch_size >= len(x):
            self._slopes = self._slopes_of(self.x, self.y)
            self._graph = torch.cat(self._slopes)
            self.gradient = self._graph.detach()
        else:
            pieces = (share * self._slope(a, b, keep=False) for a, b, share in self._pieces())
            self.gradient = sum(pieces, torch.zeros(self.size, dtype=self.dtype, device=self.device))
        if not self.gradient.isfinite().all():
            raise CurvatureError("the gradient is not finite: look at the loss, the weights and the data.")

    def _pieces(self) -> Iterator[tuple[Tensor, Tensor, float]]:
        for x, y in zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True):
            yield x, y, len(x) / len(self.x)

    def _slopes_of(self, x: Tensor, y: Tensor, keep: bool = True) -> list[Tensor]:
        loss = self.loss(self.model(x), y)
        slopes = torch.autograd.grad(loss, self.parameters, create_graph=keep, materialize_grads=True)
        return [slope.flatten() for slope in slopes]

    def _slope(self, x: Tensor, y: Tensor, keep: bool = True) -> Tensor:
        return torch.cat(self._slopes_of(x, y, keep))

    def _times(self, graph: Tensor, columns: Tensor, parameters: list[Tensor] | None = None) -> Tensor:
        """Derivatives of ``columns`` [c, G] times ``graph`` [G] by ``parameters`` (all by default), [c, their size]."""
        parameters = self.parameters if parameters is None else parameters
        if not graph.requires_grad:  # a loss linear in the parameters
            return columns.new_zeros(len(columns), sum(p.numel() for p in parameters))
        options = dict(retain_graph=True, materialize_grads=True)
        if len(columns) == 1:  # a plain backward pass has less to set up than a batched one
            parts = torch.autograd.grad(graph, parameters, columns[0], **options)
            return torch.cat([part.flatten() for part in parts]).unsqueeze(0)
        parts = torch.autograd.grad(graph, parameters, columns, is_grads_batched=True, **options)
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def matvec(self, vector: Tensor | ArrayLike) -> Tensor:
        """H v, [P], or [P, c] for columns [P, c], on the model's device and in its precision."""
        v = torch.as_tensor(vector).to(self.device, self.dtype)
        if len(v) != self.size:
            raise CurvatureError(f"the Hessian is {self.size} x {self.size}; the vector has length {len(v)}.")
        rows = v.reshape(self.size, -1).t()
        products = []
        for chunk in rows.split(_CHUNK):
            if self._graph is not None:
                products.append(self._times(self._graph, chunk))
            else:
                products.append(sum(share * self._times(self._slope(a, b), chunk) for a, b, share in self._pieces()))
        return torch.cat(products).t().reshape(v.shape)

    __matmul__ = matvec

    def linear_operator(self) -> LinearOperator:
        """The same for scipy: float64 outside, the model's precision inside."""

        def product(v):
            return self.matvec(np.ascontiguousarray(v)).double().cpu().numpy()

        shape = (self.size, self.size)
        return LinearOperator(shape, matvec=lambda v: product(v.ravel()), matmat=product, dtype=np.float64)


def leading_eigenpairs(
    hessian: Hessian,
    k: int = 5,
    which: str = "largest",
    *,
    tolerance: float = 1e-4,
    generator: torch.Generator | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``k`` eigenvalues [k], in descending order, with their eigenvectors as columns [P, k].

    By scipy's ``eigsh`` (implicitly restarted Lanczos). ``which`` is "largest", "smallest" (most negative), "both ends"
    or "magnitude"; ``tolerance`` is relative, and limited by the model's precision. The start is drawn from
    ``generator``, always the same by default.

    Raises CurvatureError where too few converge (its ``values`` are those that did), and ValueError for an
    unknown ``which`` or a ``k`` beyond the matrix.
    """
    if which not in _WHICH:
        raise ValueError(f"which is {which!r}; it must be one of: {', '.join(_WHICH)}.")
    if not 1 <= k <= hessian.size:
        raise ValueError(f"k is {k}; the Hessian has {hessian.size} eigenvalues.")
    if hessian.size <= max(_DENSE, 2 * k + 1):
        values, vectors = np.linalg.eigh(_whole(hessian))
        order = {
            "largest": np.argsort(-values),
            "smallest": np.argsort(values),
            "magnitude": np.argsort(-np.abs(values)),
            "both ends": np.r_[np.arange(len(values))[::-1][: k - k // 2], np.arange(k // 2)],
        }[which][:k]
        order = order[np.argsort(-values[order])]
        return values[order], vectors[:, order]
    generator = generator or torch.Generator().manual_seed(0)
    start = torch.randn(hessian.size, generator=generator, dtype=torch.float64).numpy()
    try:
        values, vectors = eigsh(hessian.linear_operator(), k, which=_WHICH[which], tol=tolerance, v0=start)
    except ArpackNoConvergence as failure:
        raise CurvatureError(
            f"{len(failure.eigenvalues)} of {k} eigenvalues converged (they are this error's .values); "
            "ask for fewer, or raise the tolerance.",
            np.sort(failure.eigenvalues)[::-1],
        ) from None
    order = np.argsort(-values)
    return values[order], vectors[:, order]


def exact_hessian(
    model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
) -> NDArray[np.float64]:
    """The whole Hessian [P, P], computed in the model's precision and returned symmetric in float64.

    Row after row of the identity is sent back through the gradient's graph, some at once; what lies left of the
    diagonal is taken from its right. Raises CurvatureError for more than 20,000 parameters, whose matrix would take
    over 3 GB.
    """
    size = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if size > _LARGEST_MATRIX:
        raise CurvatureError(
            f"the whole Hessian of {size:,} parameters would take {8 * size**2 / 1e9:,.0f} GB; "
            "use leading_eigenpairs or spectral_density."
        )
    return _whole(Hessian(model, x, y, loss))


def _whole(hessian: Hessian) -> NDArray[np.float64]:
    if hessian._slopes is None:
        matrix = hessian.matvec(torch.eye(hessian.size)).double().cpu().numpy()
        return 0.5 * (matrix + matrix.T)
    matrix = torch.zeros(hessian.size, hessian.size, dtype=hessian.dtype)
    # Only what lies right of the diagonal is computed, a layer's slopes by its own weights and those after it:
    # a layer late in the network is then not differentiated through the layers before it.
    begin = 0
    for number, slope in enumerate(hessian._slopes):
        later = hessian.parameters[number:]
        for start in range(0, len(slope), _CHUNK):
            stop = min(start + _CHUNK, len(slope))
            rows = torch.zeros(stop - start, len(slope), dtype=hessian.dtype, device=hessian.device)
            rows[:, start:stop].fill_diagonal_(1.0)
            matrix[begin + start : begin + stop, begin:] = hessian._times(slope, rows, later).cpu()
        begin += len(slope)
    upper = matrix.double().triu().numpy()
    return upper + np.triu(upper, 1).T


def exact_gauss_newton(model: nn.Module, x: Tensor, y: Tensor) -> NDArray[np.float64]:
    """The Gauss-Newton part of the Hessian of the mean cross-entropy, [P, P], symmetric in float64.

    G = 1/n sum_i J_i^T (diag(p_i) - p_i p_i^T) J_i, with J_i the outputs' derivative by the weights and p_i the softmax
    (Sagun et al. 2017, arXiv:1706.04454, section 3). Positive semi-definite, of rank at most n (classes - 1); what the
    Hessian has besides comes from the outputs' own curvature. The model in evaluation mode, its weights in order.
    """
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    weights = {name: dict(model.named_parameters())[name].detach() for name in names}
    was_training = model.training
    model.eval()
    try:
        outputs = model(x).detach()
        by_weight = torch.func.jacrev(lambda w: torch.func.functional_call(model, w, (x,)))(weights)
    finally:
        model.train(was_training)
    jacobian = torch.cat([by_weight[name].flatten(2) for name in names], dim=2)  # [n, classes, P]
    p = outputs.softmax(-1)
    # diag(p) - p p^T = S S^T with S = diag(sqrt p) - p sqrt(p)^T.
    root = torch.diag_embed(p.sqrt()) - p.unsqueeze(2) * p.sqrt().unsqueeze(1)
    factor = torch.einsum("nck,ncp->nkp", root, jacobian).flatten(0, 1).double()
    return (factor.T @ factor / len(x)).cpu().numpy()


def exact_spectrum(
    model: nn.Module, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
) -> NDArray[np.float64]:
    """All eigenvalues [P] of the Hessian, in descending order. Raises as ``exact_hessian``."""
    return np.linalg.eigvalsh(exact_hessian(model, x, y, loss))[::-1]


@dataclass(frozen=True)
class SpectralDensity:
    """An estimate of how the P eigenvalues are distributed: point masses, one set a probe.

    ``nodes`` and ``weights`` [probes, steps]; a probe's weights sum to 1. Probes are independent, so their scatter is
    the estimate's error.
    """

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]
    size: int

    def density(self, at: ArrayLike, width: float) -> NDArray[np.float64]:
        """The density [probes, points] at ``at`` [points], each mass smoothed to a normal of this ``width``."""
        distance = (np.asarray(at, dtype=np.float64)[:, None] - self.nodes[:, None, :]) / width
        normal = np.exp(-0.5 * distance**2) / (width * np.sqrt(2 * np.pi))
        return (normal * self.weights[:, None, :]).sum(-1)

    def share_above(self, threshold: float) -> NDArray[np.float64]:
        """The share of eigenvalues above ``threshold``, [probes]."""
        return (self.weights * (self.nodes > threshold)).sum(-1)

    def moment(self, power: int) -> NDArray[np.float64]:
        """The mean of the eigenvalues' powers, [probes]: 1 gives trace / P, 2 the squared Frobenius norm / P."""
        return (self.weights * self.nodes**power).sum(-1)


def spectral_density(
    hessian: Hessian, *, probes: int = 4, steps: int = 60, generator: torch.Generator | None = None
) -> SpectralDensity:
    """Estimate the density of the spectrum by stochastic Lanczos quadrature (Ghorbani, Krishnan and Xiao 2019).

    From each of ``probes`` random vectors ``steps`` Lanczos steps are made, with full reorthogonalization; the
    eigenvalues of the tridiagonal matrix are the nodes, the squared first entries of its eigenvectors the
    weights: Gauss quadrature, exact for polynomials of degree 2 steps - 1 in the probe's own measure. A probe that
    exhausts its space ends early, with weight 0 on what is left.
    """
    if probes < 1 or steps < 1:
        raise ValueError(f"{probes=} and {steps=} must both be at least 1.")
    steps = min(steps, hessian.size)
    generator = generator or torch.Generator().manual_seed(0)
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    for probe in range(probes):
        start = torch.randn(hessian.size, generator=generator, dtype=torch.float64)
        diagonal, beside = _lanczos(hessian, start, steps)
        m = len(diagonal)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        nodes[probe, :m], weights[probe, :m] = values, vectors[0] ** 2
        nodes[probe, m:] = values[-1]
    return SpectralDensity(nodes, weights, hessian.size)


def _lanczos(hessian: Hessian, start: Tensor, steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Diagonal [m] and what stands beside it [m - 1] of the tridiagonal matrix, m <= steps."""
    basis = torch.zeros(steps, hessian.size, dtype=hessian.dtype, device=hessian.device)
    basis[0] = (start / start.norm()).to(basis)
    diagonal, beside = [], []
    for step in range(steps):
        after = hessian.matvec(basis[step])
        diagonal.append(float(after @ basis[step]))
        after = after - diagonal[-1] * basis[step]
        if step:
            after -= beside[-1] * basis[step - 1]
        # The three terms leave rounding behind, which would grow into copies of eigenvalues found before.
        known = basis[: step + 1]
        after -= known.t() @ (known @ after)
        length = float(after.norm())
        largest = max(map(abs, diagonal + beside), default=0.0)
        if step + 1 == steps or length <= 10 * torch.finfo(hessian.dtype).eps * largest:
            break
        beside.append(length)
        basis[step + 1] = after / length
    return np.array(diagonal), np.array(beside)
