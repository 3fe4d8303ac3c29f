"""What tells learning from memorizing: hard examples, sensitivity to one's own training set, critical samples.

The measures of Arpit, Jastrzebski, Ballas, Krueger, E. Bengio, Kanwal, Maharaj, Fischer, Courville, Y. Bengio and
Lacoste-Julien, *A Closer Look at Memorization in Deep Networks* (ICML 2017, arXiv:1706.05394).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessons_lib.ensemble import Ensemble, Samples
from lessons_lib.training import Loss, cross_entropy

# Samples at a time, over all members, as when training evaluates: larger pieces fall out of the cache.
_SAMPLES = 4_096


class MemorizationError(ValueError):
    """The question makes no sense for these data."""


# ------------------------------------------------------------------------------------- easy and hard examples


def difficulty(correct: Tensor) -> float:
    """How far examples differ in how often networks get them right: 0 for not at all, 1 for always or never.

    ``correct`` [N networks, n examples] says which network was right where. Were all examples alike, the number
    of networks that are right about one would be binomial; Figure 1 of the paper draws that curve beside its own.
    This is the intraclass correlation rho, the variance that the examples' own probabilities p_i have among them
    in units of p (1 - p), with p their mean. Both are estimated without bias from N networks, so rho does not
    depend on N (and can fall below 0 by chance). The rates of N networks have 1 + (N - 1) rho times the
    variance of a binomial's.

    Raises MemorizationError for fewer than two networks or examples, and where all answers are the same.
    """
    if correct.dim() != 2 or min(correct.shape) < 2:
        raise MemorizationError(
            f"correct has shape {list(correct.shape)}; it must be [networks, examples], two or more of each."
        )
    rate, n_networks = correct.double().mean(0), len(correct)
    within = (rate * (1 - rate)).mean() * n_networks / (n_networks - 1)  # mean of p_i (1 - p_i)
    between = rate.var() - within / n_networks
    if not within + between > 0:
        raise MemorizationError("all networks give the same answer on every example: nothing varies.")
    return float(between / (within + between))


# ---------------------------------------------------------------------------------------------- sensitivity


@dataclass(frozen=True)
class Sensitivity:
    """How the loss of K networks depends on each of their n training examples, at T times.

    ``total`` [T, K, n] is the paper's g_x^t, the 1-norm of the derivative of the mean loss over the training set by
    one example. ``by_class`` [T, K, C, n] has the mean loss of each class alone in place of it; None unless asked for.
    """

    total: Tensor
    by_class: Tensor | None = None

    def between_classes(self, y: Tensor) -> Tensor:
        """The paper's class matrix, [K, C, C]: g of class i's loss by an example of class j, mean over times.

        ``y`` [K, n] are the classes trained on.
        """
        if self.by_class is None:
            raise MemorizationError("sensitivities by class were not computed; ask for them with n_classes=.")
        members = nn.functional.one_hot(y, self.by_class.shape[2]).to(self.by_class)  # [K, n, C]
        return self.by_class.mean(0) @ members / members.sum(1, keepdim=True).clamp_min(1)


def loss_sensitivity(
    models: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    batches: Tensor,
    *,
    lr: float,
    times: Sequence[int],
    n_classes: int | None = None,
    loss: Loss = cross_entropy,
) -> Sensitivity:
    """The derivative of the training loss after t steps of SGD by each training example, through the steps.

    An example moves the loss in two ways: as one of those on which it is measured, and through the weights, since
    it was in the batches of earlier steps. Backpropagation through all t steps (Maclaurin et al. 2015) gives the sum
    of both, exactly, at the cost of some three further passes a step for each time looked at. Memory grows with t.

    Args:
        models: K networks of one architecture, as they start; they are left as they were. Dropout is off.
        x: each network's training set, [K, n, ...], or one for all, [n, ...].
        y: its targets, [K, n] or [n].
        batches: [steps, K, B], which examples each step takes.
        lr: of plain SGD.
        times: numbers of steps after which to look; 0 is before training.
        n_classes: where given, the losses of the classes are looked at one by one as well.
        loss: f(outputs [K, B, ...], targets [K, B]) -> [K].

    Raises MemorizationError for times outside the batches, or batches that do not fit the data.
    """
    ensemble = Ensemble(models)
    K = len(ensemble)
    x = (x if len(y.shape) == 2 else x.expand(K, *x.shape)).detach().clone().requires_grad_()
    y = y if len(y.shape) == 2 else y.expand(K, -1)
    if batches.dim() != 3 or batches.shape[1] != K or int(batches.max()) >= x.shape[1] or len(x) != K:
        raise MemorizationError(
            f"{K} networks, data {list(x.shape[:2])} and batches {list(batches.shape)} do not fit: "
            "batches are [steps, networks, batch size], of positions in each network's training set."
        )
    if not times or min(times) < 0 or max(times) > len(batches):
        raise MemorizationError(f"times are {list(times)}; they must lie from 0 to the {len(batches)} steps given.")
    rows = torch.arange(K).unsqueeze(1)
    total, by_class = [], []
    for step in range(max(times) + 1):
        if step in times:
            slopes = _slopes(ensemble, x, y, n_classes, loss)  # [C + 1 or 1, K, n, ...]
            norms = slopes.flatten(3).abs().sum(3)
            total.append(norms[0])
            by_class.append(norms[1:].transpose(0, 1))
        if step < max(times):
            index = batches[step]
            weights = ensemble.parameters
            losses = loss(ensemble(x[rows, index], training=False), y[rows, index])
            slope = torch.autograd.grad(losses.sum(), list(weights.values()), create_graph=True)
            # The new weights are functions of x: the graph that the next time's derivative goes back through.
            ensemble.parameters = {name: w - lr * g for (name, w), g in zip(weights.items(), slope, strict=True)}
    return Sensitivity(torch.stack(total), torch.stack(by_class) if n_classes else None)


def _slopes(ensemble: Ensemble, x: Tensor, y: Tensor, n_classes: int | None, loss: Loss) -> Tensor:
    """Derivatives by x of the mean loss and, where asked for, of each class's, [1 or 1 + C, K, n, ...]."""
    outputs = ensemble(x)
    losses = [loss(outputs, y)]
    if n_classes:
        each = _each(loss, outputs, y)  # [K, n]
        members = nn.functional.one_hot(y, n_classes).to(each)  # [K, n, C]
        losses += ((each.unsqueeze(1) @ members).squeeze(1) / members.sum(1).clamp_min(1)).unbind(1)
    losses = torch.stack([one.sum() for one in losses])
    (slopes,) = torch.autograd.grad(losses, x, torch.eye(len(losses)), is_grads_batched=True, retain_graph=True)
    return slopes


def _each(loss: Loss, outputs: Tensor, y: Tensor) -> Tensor:
    """The loss of every sample, [K, n]: each as a member of its own with one sample."""
    return loss(outputs.flatten(0, 1).unsqueeze(1), y.flatten().unsqueeze(1)).view(y.shape)


def gini(values: Tensor) -> Tensor:
    """The Gini coefficient of ``values`` [..., n], none negative: 0 where all are equal, 1 - 1/n where one has all.

    Half the mean absolute difference of two of them, in units of their mean. Raises MemorizationError for negative
    values, and where all are 0.
    """
    if values.min() < 0 or not (values.sum(-1) > 0).all():
        raise MemorizationError("a Gini coefficient needs values of 0 or more, of which some are positive.")
    n = values.shape[-1]
    rank = 2 * torch.arange(1, n + 1, dtype=values.dtype, device=values.device) - n - 1
    return (values.sort(-1).values * rank).sum(-1) / (n * values.sum(-1))


# ----------------------------------------------------------------------------------------- critical samples


def critical_samples(
    models: Sequence[nn.Module] | Ensemble,
    x: Samples,
    *,
    radius: float,
    steps: int = 10,
    alpha: float = 0.25 / 0.3,
    beta: float = 0.2 / 0.3,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Which samples have another prediction within ``radius`` in every pixel, as far as LASS finds one, [K, n].

    Langevin adversarial sample search (Algorithm 1): from x, walk by alpha radius sign(slope) + beta radius noise
    against the logit of the class predicted at x, clip to the box, stop where the prediction has changed. What
    it finds is there; what it does not find may be there, so the share of critical samples is a lower bound.

    Args:
        models: K networks of one architecture, or an Ensemble of them, taken in evaluation mode.
        x: samples [n, ...], shared by all, or K such tensors: each network's own.
        radius: half the width of the box, in the units of x.
        steps: of the walk; the paper does not say how many.
        alpha, beta: in units of the radius. The paper has 0.25 and 0.2 for a radius of 0.3.
        generator: for the noise, which all networks share; always the same by default.

    Raises MemorizationError for a radius or a number of steps that is not positive; ValueError for not as many sets
    of samples as networks.
    """
    if not radius > 0 or steps < 1:
        raise MemorizationError(f"the search needs a positive radius and at least one step; got {radius=}, {steps=}.")
    ensemble = models if isinstance(models, Ensemble) else Ensemble(models)
    generator = generator or torch.Generator().manual_seed(0)
    found = []
    for part in ensemble.of_each(x).split(max(64, _SAMPLES // len(ensemble)), dim=1):
        found.append(_search(ensemble, part, radius, steps, alpha * radius, beta * radius, generator))
    return torch.cat(found, dim=1)


def _search(ensemble, start, radius, steps, alpha, beta, generator) -> Tensor:
    start = start.detach()
    with torch.no_grad():
        predicted = ensemble(start).argmax(-1, keepdim=True)
    at, found = start.clone(), torch.zeros(predicted.shape[:2], dtype=torch.bool, device=start.device)
    for _ in range(steps):
        at.requires_grad_()
        outputs = ensemble(at)
        found |= (outputs.argmax(-1, keepdim=True) != predicted).squeeze(-1)
        (slope,) = torch.autograd.grad(outputs.gather(-1, predicted).sum(), at)
        noise = torch.randn(start.shape[1:], generator=generator).to(start.device)
        at = (at.detach() - alpha * slope.sign() + beta * noise).clamp(start - radius, start + radius)
    with torch.no_grad():
        return found | (ensemble(at).argmax(-1, keepdim=True) != predicted).squeeze(-1)


def critical_sample_ratio(models: Sequence[nn.Module] | Ensemble, x: Samples, **options) -> Tensor:
    """The share of the samples that is critical to each network, [K]; ``x`` and options are ``critical_samples``'."""
    return critical_samples(models, x, **options).double().mean(1)
