"""Train an ensemble, many seeds under many conditions, and keep its histories.

``fit`` is the one entry. It trains all members in one batched pass where that is faster and one after
another where it is not; either way each member goes through exactly the steps that it would
go through alone, since its weights, batches and dropout masks come from its own seed.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from typing import Any

import numpy as np
import psutil
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from lessons_lib import engine
from lessons_lib.data import Dataset
from lessons_lib.ensemble import Ensemble
from lessons_lib.memory import keep_freed_memory
from lessons_lib.optimizers import OPTIMIZERS, Schedule, constant
from lessons_lib.progress import bar
from lessons_lib.settings import seed_for, settings

# Where torch was imported before lessons_lib, the environment was read too early.
torch.set_num_threads(settings.threads)
keep_freed_memory()

# A convolution's own work hides PyTorch's overhead above roughly this many multiply-adds a member and step;
# beyond it grouped convolutions lose to plain ones (benchmarks/training.py shows both sides of it).
_CONVOLUTION_LIMIT = 10_000_000
# Samples evaluated at a time, over all members: larger pieces fall out of the processor's cache.
_EVALUATION_SAMPLES = 4_096
# The share of the free memory that a pass may fill, by an estimate; what does not fit is trained pass by pass.
_MEMORY_SHARE = 0.5
_CHOICES = ("auto", "together", "one by one")

Loss = Callable[[Tensor, Tensor], Tensor]


class DivergenceError(RuntimeError):
    """A member's loss was no longer a number. ``history`` holds what had been recorded."""

    def __init__(self, message: str, history: xr.Dataset | None = None):
        super().__init__(message)
        self.history = history


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each member, [K], for logits [K, B, C] and classes [K, B]."""
    # With the few classes last in memory the softmax alone would take up to eight times as long.
    return F.cross_entropy(outputs.transpose(1, 2), targets, reduction="none").mean(1)


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Half the mean squared error of each member, [K], against targets of any shape or classes, one-hot."""
    if not targets.is_floating_point():
        targets = F.one_hot(targets, outputs.shape[-1]).to(outputs.dtype)
    return 0.5 * (outputs - targets.view_as(outputs)).square().flatten(1).mean(1)


@dataclass(frozen=True)
class Member:
    """One network to be trained: its place in the experiment and what is particular to it."""

    condition: str
    seed: int
    data: Dataset
    lr: float
    momentum: float
    weight_decay: float
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    start: nn.Module | None = None
    trains: Callable[[str], bool] | None = None
    adversarial: float = 0.0
    clip: float = math.inf
    gradient_noise: Callable[[int], float] | None = None

    def __str__(self) -> str:
        return f"condition {self.condition!r}, seed {self.seed}"


_CHANGEABLE = {item.name for item in fields(Member)} - {"condition", "seed"}


@dataclass(frozen=True)
class _Plan:
    """A member before its data are made: corrupted copies of a large set must not all exist at once."""

    condition: str
    seed: int
    common: Mapping[str, Any]
    change: Mapping[str, Any] | Callable[[int], Mapping[str, Any]]

    def member(self, data_of: Callable[[int], Dataset]) -> Member:
        changed = dict(self.change(self.seed) if callable(self.change) else self.change)
        if unknown := set(changed) - _CHANGEABLE:
            raise ValueError(
                f"condition {self.condition!r} changes {sorted(unknown)}; it can change: {sorted(_CHANGEABLE)}"
            )
        own = {} if "data" in changed else {"data": data_of(self.seed)}
        return Member(self.condition, self.seed, **{**self.common, **own, **changed})


@dataclass(frozen=True)
class Recipe:
    """What all members of one call share."""

    build: Callable[[], nn.Module]
    data: Dataset | Callable[[int], Dataset]
    epochs: int
    batch_size: int
    optimizer: str
    schedule: Schedule
    loss: Loss
    stop: Mapping[str, float]
    evaluate_every: int
    checkpoints: frozenset[int]
    hooks: Sequence[Callable[[Step], None]]
    measures: Mapping[str, Callable[[Ensemble, Sequence[Member]], Tensor]]
    device: torch.device

    def data_of(self, seed: int) -> Dataset:
        """What members of this seed train on if their condition says nothing else."""
        return self.data(seed) if callable(self.data) else self.data


@dataclass(frozen=True)
class Step:
    """What a hook sees after a step: gradients are those of the step, parameters are already moved."""

    number: int
    epoch: float
    ensemble: Ensemble
    members: Sequence[Member]
    losses: Tensor


@dataclass
class Runs:
    """Trained members and what happened on the way.

    Attributes:
        history: an xarray Dataset with dimensions (condition, seed, epoch); ``train_loss``, ``train_accuracy``,
            ``test_loss``, ``test_accuracy`` and any measures, at epoch 0 (before training) and after every
            ``evaluate_every`` epochs. A member that stopped early has NaN from then on. ``final`` fills this in.
        stopped: epochs each member trained, DataArray (condition, seed).
        reached: whether it met the ``stop`` target, DataArray (condition, seed).
        steps_per_epoch: optimizer steps in an epoch.
        how: "together" or "one by one".
        seconds: wall time of the training.
    """

    history: xr.Dataset
    stopped: xr.DataArray
    reached: xr.DataArray
    steps_per_epoch: int
    how: str
    seconds: float
    _models: dict[tuple[str, int], dict[int, nn.Module]] = field(repr=False)

    @property
    def final(self) -> xr.Dataset:
        """Each member's last recorded values, dimensions (condition, seed)."""
        epochs = self.history["epoch"]
        return self.history.isel(epoch=(epochs == self.stopped).argmax("epoch"))

    @property
    def filled(self) -> xr.Dataset:
        """The history with each member's last values carried on after it stopped."""
        last = self.final.drop_vars("epoch")
        return self.history.where(self.history["epoch"] <= self.stopped, last)

    def model(self, condition: str, seed: int, epoch: int | None = None) -> nn.Module:
        """The network of one member, in evaluation mode, on the CPU: at the end, or at one of the ``checkpoints``.

        A member that had stopped before a checkpoint has its last weights there. Raises KeyError with the choices.
        """
        if (condition, seed) not in self._models:
            conditions, seeds = (self.history[name].values.tolist() for name in ("condition", "seed"))
            raise KeyError(f"no member ({condition!r}, {seed}); conditions: {conditions}; seeds: {seeds}")
        kept = self._models[condition, seed]
        epoch = int(self.stopped.sel(condition=condition, seed=seed)) if epoch is None else epoch
        if epoch not in kept:
            raise KeyError(f"no checkpoint at epoch {epoch}; kept are those at {sorted(kept)}")
        return kept[epoch]

    def __repr__(self) -> str:
        shape = " x ".join(f"{size} {name}s" for name, size in self.stopped.sizes.items())
        return f"Runs({shape}, trained {self.how})"


def fit(
    build: Callable[[], nn.Module],
    data: Dataset | Callable[[int], Dataset],
    *,
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    lr: float,
    conditions: Mapping[str, Mapping[str, Any] | Callable[[int], Mapping[str, Any]]] | None = None,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    optimizer: str = "sgd",
    schedule: Schedule = constant,
    loss: Loss = cross_entropy,
    stop: Mapping[str, float] | None = None,
    evaluate_every: int = 1,
    checkpoints: Sequence[int] = (),
    hooks: Sequence[Callable[[Step], None]] = (),
    measures: Mapping[str, Callable[[Ensemble, Sequence[Member]], Tensor]] | None = None,
    how: str = "auto",
    device: torch.device | str | None = None,
    description: str = "training",
) -> Runs:
    """Train one network for every condition and seed.

    Args:
        build: makes the network; called once a seed, under that seed.
        data: training and test set, shared by all members whose condition does not change it; or a function that
            gives a seed its own, so that what varies from seed to seed includes the data. They are of one size.
        seeds: one a repetition; the same seeds serve every condition, so conditions can be compared in pairs.
        epochs: passes over the training set, at most. The last batch of a pass may be smaller.
        batch_size, lr, momentum, weight_decay: the optimizer's (momentum is Adam's beta1).
        conditions: name -> what it changes, or a function that gives this for a seed, for corruptions that
            are drawn anew each time. It can change data, lr, momentum, weight_decay, augment, and:
            ``start``: a network to start from, in place of a new one (its optimizer starts afresh);
            ``trains``: f(parameter's name) -> whether it is trained; the others stay as they start;
            ``adversarial``: epsilon of fast gradient sign training (Goodfellow et al. 2015, eq. 5 with equal weights):
            the mean of the losses on a batch and on batch + epsilon sign(gradient of the loss by the batch);
            ``clip``: the largest norm a gradient may have, a longer one is scaled down to it;
            ``gradient_noise``: f(step, from 0) -> standard deviation of the normal noise that is added to every
            coordinate of the gradient, after clipping (Neelakantan et al. 2015, arXiv:1511.06807, section 3).
        augment: f(batch [B, ...], generator) -> batch, applied to each training batch of a member.
        optimizer: "sgd", "adam", "rmsprop", "adagrad" or "adadelta" (optimizers.py).
        schedule: factor on the learning rate as a function of the epoch (optimizers.py).
        loss: f(outputs [K, B, ...], targets [K, B]) -> [K].
        stop: histories and the value at which a member is done, e.g. {"train_accuracy": 1.0}: it stops once
            every accuracy is at least, and every loss at most, its value. Looked at when evaluated.
        evaluate_every: epochs between evaluations.
        checkpoints: epochs after which the networks are kept for ``Runs.model``; 0 keeps them as they start.
        hooks: called after every step with a Step.
        measures: name -> f(ensemble, members) -> [K], recorded at every evaluation.
        how: "together" (one batched pass), "one by one" (over LESSONS_ENGINE's workers), or "auto".
        device: where to train; the settings' by default.
        description: the progress bar's text.

    Raises:
        DivergenceError: a loss became NaN or infinite; names the member and the step, and keeps the history.
        ValueError: for an unknown choice, sets whose sizes differ in one batched pass, a ``start`` of another
            architecture, or ``trains`` that trains nothing.
    """
    _check(how, _CHOICES, "how")
    _check(optimizer, tuple(OPTIMIZERS), "optimizer")
    if epochs < 1 or batch_size < 1 or evaluate_every < 1:
        raise ValueError(f"{epochs=}, {batch_size=} and {evaluate_every=} must all be at least 1")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must be distinct, and at least one: {list(seeds)}")
    common = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "augment": augment}
    plans = [
        _Plan(condition, seed, common, change)
        for condition, change in (conditions or {"all": {}}).items()
        for seed in seeds
    ]
    if late := [epoch for epoch in checkpoints if not 0 <= epoch <= epochs]:
        raise ValueError(f"checkpoints at {late} lie outside the training's epochs 0 to {epochs}")
    device = torch.device(device or settings.device)
    recipe = Recipe(
        build, data, epochs, batch_size, optimizer, schedule, loss, dict(stop or {}), evaluate_every,
        frozenset(checkpoints), tuple(hooks), dict(measures or {}), device,
    )  # fmt: skip
    sizes = _sizes(build, recipe.data_of(seeds[0]).x_train[:1])
    if how == "auto":
        how = _faster(recipe, plans, sizes)
    start = time.perf_counter()
    if how == "one by one" and not hooks:
        jobs = [(recipe, [plan]) for plan in plans]
        told = [result for part in engine.map(_train, jobs, description) for result in part]
    else:  # hooks write into the caller's memory: they run here, and every time
        run = _train if hooks else partial(engine.call, _train)
        # A hook is shown all members of one pass, so passes are not split under it.
        size = 1 if how == "one by one" else len(plans) if hooks else _members_at_once(recipe, plans, sizes)
        groups = [plans[first : first + size] for first in range(0, len(plans), size)]
        with bar(epochs * len(groups), description) as progress:
            told = [result for group in groups for result in run(recipe, group, progress=progress.update)]
    return _collect([_Result(**result) for result in told], recipe, how, time.perf_counter() - start)


def _check(value: str, allowed: Sequence[str], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be one of: {', '.join(allowed)}")


@dataclass(frozen=True)
class _Sizes:
    """Of a network: its convolutions' multiply-adds and all layers' outputs, for one sample; its weights."""

    work: int
    outputs: int
    weights: int


def _faster(recipe: Recipe, plans: Sequence[_Plan], sizes: _Sizes) -> str:
    """Whether one batched pass is expected to be faster: always, but for convolutions that do much work."""
    return "together" if len(plans) > 1 and sizes.work * recipe.batch_size <= _CONVOLUTION_LIMIT else "one by one"


def _members_at_once(recipe: Recipe, plans: Sequence[_Plan], sizes: _Sizes) -> int:
    """How many members one pass has memory for: an estimate that is generous to the system."""
    # Weights, gradients, momentum and what a checkpoint keeps; outputs, their gradients and a copy on the way.
    each = 4 * (4 * sizes.weights + 3 * sizes.outputs * max(recipe.batch_size, 64))
    return max(1, min(len(plans), int(_MEMORY_SHARE * _free_memory(recipe.device)) // each))


def _free_memory(device: torch.device) -> int:
    """Bytes that can be had."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _sizes(build: Callable[[], nn.Module], sample: Tensor) -> _Sizes:
    with torch.random.fork_rng(devices=[]):
        model = build().eval()
    work = outputs = 0

    def count(layer, inputs, output):
        nonlocal work, outputs
        outputs += output.numel()
        if isinstance(layer, nn.Conv1d | nn.Conv2d):
            work += output.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if not any(True for _ in layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(sample)
    return _Sizes(work, outputs, weights=sum(parameter.numel() for parameter in model.parameters()))


@dataclass
class _Result:
    """One member's outcome: recorded values by name, [evaluations], and weights and buffers by epoch."""

    condition: str
    seed: int
    values: dict[str, list[float]] = field(default_factory=dict)
    steps_per_epoch: int = 0
    epoch: int = 0
    reached: bool = False
    states: dict[int, dict[str, Tensor]] = field(default_factory=dict)


class _Sets:
    """Training or test sets of several members; a set that members share is stored once.

    ``batch(index)`` takes positions [K, B] and gives inputs [K, B, ...] and targets [K, B].
    """

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], device: torch.device):
        sizes = {len(x) for x, _ in pairs}
        if len(sizes) > 1:
            raise ValueError(
                f"sets of {sorted(sizes)} samples cannot be trained in one batched pass; "
                "call fit once a size, or with how='one by one'"
            )
        self.size = sizes.pop()
        self.x, self.x_place = self._stack([x for x, _ in pairs], device)
        self.y, self.y_place = self._stack([y for _, y in pairs], device)

    def _stack(self, tensors, device):
        distinct = {id(tensor): tensor for tensor in tensors}
        places = {key: number * self.size for number, key in enumerate(distinct)}
        rows = torch.cat(list(distinct.values())) if len(distinct) > 1 else tensors[0]
        place = torch.tensor([places[id(tensor)] for tensor in tensors], device=device)
        return rows.to(device), place.unsqueeze(1)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        x, place = self.x, index + self.x_place
        # Gathered as [B, K, ...] and seen as [K, B, ...]: what a grouped convolution reads as [B, K*C, ...].
        images = x.dim() > 2
        rows = place.t() if images else place
        x = x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])
        return x.transpose(0, 1) if images else x, self.y[index + self.y_place]

    def all(self, members: int):
        """Consecutive batches that cover the sets: inputs, targets, number of samples."""
        for index in torch.arange(self.size, device=self.x.device).split(max(64, _EVALUATION_SAMPLES // members)):
            if len(self.x) == self.size:  # one set for all: no copy a member
                x, y = self.x[index], self.y[index + self.y_place]
                yield x.expand(members, *x.shape), y, len(index)
            else:
                yield *self.batch(index.expand(members, -1)), len(index)

    def keep(self, members: Tensor) -> None:
        self.x_place, self.y_place = self.x_place[members], self.y_place[members]


def _column(members: Sequence[Member], name: str, device: torch.device) -> Tensor:
    return torch.tensor([[getattr(member, name)] for member in members], dtype=torch.float32, device=device)


def _train(recipe: Recipe, plans: Sequence[_Plan], progress: Callable[[int], Any] = lambda n: None) -> list[dict]:
    """Train these members in one batched pass; gives each one's _Result as a dict, which can be kept and sent."""
    device = recipe.device
    data_of = cache(recipe.data_of)  # all conditions of a seed have the same data
    members = [plan.member(data_of) for plan in plans]
    ensemble = Ensemble.from_seeds(recipe.build, [member.seed for member in members], device)
    for k, member in enumerate(members):
        if member.start is not None:
            ensemble.load(k, member.start)
    trained, adversarial = _trained(ensemble, members), _column(members, "adversarial", device)
    train = _Sets([(m.data.x_train, m.data.y_train) for m in members], device)
    test = _Sets([(m.data.x_test, m.data.y_test) for m in members], device)
    orders = [torch.Generator().manual_seed(seed_for("batches", m.seed)) for m in members]
    lr, decay = _column(members, "lr", device), _column(members, "weight_decay", device)
    clip = _column(members, "clip", device)
    streams = {m.seed: torch.Generator().manual_seed(seed_for("gradient noise", m.seed)) for m in members}
    noises = [streams[m.seed] for m in members]
    optimizer = OPTIMIZERS[recipe.optimizer](ensemble.flat, _column(members, "momentum", device))
    steps = math.ceil(train.size / recipe.batch_size)
    results = [_Result(member.condition, member.seed, steps_per_epoch=steps) for member in members]
    alive = list(range(len(members)))
    _evaluate(recipe, ensemble, train, test, members, results)
    if 0 in recipe.checkpoints:
        _keep(ensemble, results, 0)

    for epoch in range(recipe.epochs):
        active = [members[k] for k in alive]
        order = torch.stack([torch.randperm(train.size, generator=orders[k]) for k in alive]).to(device)
        losses = torch.empty(steps, len(alive), device=device)
        for step in range(steps):
            index = order[:, step * recipe.batch_size : (step + 1) * recipe.batch_size]
            x, y = train.batch(index)
            if any(member.augment for member in active):
                x = _augmented(x, active, [orders[k] for k in alive])
            if adversarial.any():
                each = _adversarial_loss(recipe.loss, ensemble, x, y, adversarial)
            else:
                each = recipe.loss(_outputs(ensemble, x, training=True), y)
            ensemble.backward(each)
            losses[step] = each.detach()
            at = epoch + step / steps
            with torch.no_grad():
                if clip.isfinite().any():
                    length = ensemble.flat_grad.norm(dim=1, keepdim=True)
                    ensemble.flat_grad.mul_((clip / length.clamp_min(1e-30)).clamp_max(1.0))
                if any(member.gradient_noise for member in active):
                    _add_noise(ensemble.flat_grad, active, noises, alive, epoch * steps + step)
                if decay.any():
                    ensemble.flat_grad.addcmul_(ensemble.flat, decay)
                if trained is not None:
                    ensemble.flat_grad.mul_(trained)
                optimizer.step(ensemble.flat, ensemble.flat_grad, lr * recipe.schedule(at))
            for hook in recipe.hooks:
                number = epoch * steps + step + 1
                hook(Step(number, number / steps, ensemble, active, losses[step]))
        # Once an epoch, not once a step: reading the loss back would hold up a GPU.
        if not losses.isfinite().all():
            _diverged(losses, active, epoch, recipe, results)
        progress(1)
        if epoch + 1 in recipe.checkpoints:
            _keep(ensemble, [results[k] for k in alive], epoch + 1)
        last = epoch + 1 == recipe.epochs
        if (epoch + 1) % recipe.evaluate_every and not last:
            continue
        current = [results[k] for k in alive]
        for result in current:
            result.epoch = epoch + 1
        _evaluate(recipe, ensemble, train, test, active, current)
        done = [position for position, result in enumerate(current) if _met(recipe.stop, result)]
        for position in range(len(alive)) if last else done:
            result, state = current[position], ensemble.state(position, "cpu")
            result.reached = position in done
            later = {checkpoint for checkpoint in recipe.checkpoints if checkpoint > epoch}
            result.states |= dict.fromkeys({epoch + 1} | later, state)
        if done and not last:
            going = torch.tensor([p for p in range(len(alive)) if p not in set(done)], dtype=torch.long)
            alive = [alive[p] for p in going.tolist()]
            if not alive:
                break
            on_device = going.to(device)
            ensemble.keep(going)
            for part in (optimizer, train, test):
                part.keep(on_device)
            lr, decay, adversarial, clip = (column[on_device] for column in (lr, decay, adversarial, clip))
            trained = None if trained is None else trained[on_device]
    return [vars(result) for result in results]


def _outputs(ensemble: Ensemble, x: Tensor, *, training: bool = False) -> Tensor:
    """Outputs in float32; with mixed precision products are in bfloat16, weights and their steps are not."""
    if settings.precision == "full":
        return ensemble(x, training=training)
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        return ensemble(x, training=training).float()


def _keep(ensemble: Ensemble, results: Sequence[_Result], epoch: int) -> None:
    for k, result in enumerate(results):
        result.states[epoch] = ensemble.state(k, "cpu")


def _trained(ensemble: Ensemble, members: Sequence[Member]) -> Tensor | None:
    """1 for each weight [K, P] that is trained, 0 for the others; None where all are."""
    if all(member.trains is None for member in members):
        return None
    mask = torch.ones_like(ensemble.flat)
    sizes = {name: parameter[0].numel() for name, parameter in ensemble.parameters.items()}
    for row, member in zip(mask, members, strict=True):
        if member.trains is None:
            continue
        chosen = [bool(member.trains(name)) for name in sizes]
        if not any(chosen):
            raise ValueError(f"{member} trains no parameter; its network has: {', '.join(sizes)}")
        for part, used in zip(row.split(list(sizes.values())), chosen, strict=True):
            part.fill_(float(used))
    return mask


def _adversarial_loss(loss: Loss, ensemble: Ensemble, x: Tensor, y: Tensor, epsilon: Tensor) -> Tensor:
    """Each member's mean loss, [K], of its batch and of the batch moved by epsilon [K, 1] against it."""
    x = x.detach().requires_grad_()
    clean = loss(_outputs(ensemble, x, training=True), y)
    (slope,) = torch.autograd.grad(clean.sum(), x, retain_graph=True)
    moved = x.detach() + epsilon.view(-1, *[1] * (x.dim() - 1)) * slope.sign()
    return 0.5 * (clean + loss(_outputs(ensemble, moved, training=True), y))


def _add_noise(
    flat_grad: Tensor, members: Sequence[Member], generators: list[torch.Generator], alive: Sequence[int], step: int
) -> None:
    """Add each member's noise of this step to its gradient, a row of ``flat_grad`` [K, P].

    Members of a seed have the same noise, and one generator as long as they draw at the same steps: a member that
    rests while others draw gets a copy of its own in ``generators``, which ``alive`` [K] indexes.
    """
    deviations = [member.gradient_noise(step) if member.gradient_noise else 0.0 for member in members]
    sharing: dict[torch.Generator, list[int]] = {}
    for row, k in enumerate(alive):
        sharing.setdefault(generators[k], []).append(row)
    for generator, rows in sharing.items():
        noisy = [row for row in rows if deviations[row]]
        if not noisy:
            continue
        if len(noisy) < len(rows):
            resting = torch.Generator().set_state(generator.get_state())
            for row in set(rows) - set(noisy):
                generators[alive[row]] = resting
        noise = torch.randn(flat_grad.shape[1], generator=generator).to(flat_grad)
        for row in noisy:
            flat_grad[row].add_(noise, alpha=deviations[row])


def _augmented(x: Tensor, members: Sequence[Member], generators: Sequence[torch.Generator]) -> Tensor:
    pairs = zip(x.unbind(0), members, generators, strict=True)
    changed = [m.augment(own, generator) if m.augment else own for own, m, generator in pairs]
    # In memory sample by sample, as _Sets.batch lays it out.
    return torch.stack(changed, dim=1).transpose(0, 1)


@torch.no_grad()
def _evaluate(recipe, ensemble, train, test, members, results) -> None:
    """Append each member's losses, accuracies and measures to its result."""
    values = {}
    for name, sets in (("train", train), ("test", test)):
        losses, correct = 0.0, 0.0
        for x, y, size in sets.all(len(members)):
            outputs = _outputs(ensemble, x)
            losses = losses + recipe.loss(outputs, y) * size
            if not y.is_floating_point():
                correct = correct + (outputs.argmax(-1) == y).sum(1)
        values[f"{name}_loss"] = losses / sets.size
        if torch.is_tensor(correct):
            values[f"{name}_accuracy"] = correct / sets.size
    with torch.enable_grad():
        values |= {name: measure(ensemble, members) for name, measure in recipe.measures.items()}
    for name, value in values.items():
        for result, number in zip(results, value.tolist(), strict=True):
            result.values.setdefault(name, []).append(number)


def _met(stop: Mapping[str, float], result: _Result) -> bool:
    if not stop:
        return False
    for name, target in stop.items():
        if name not in result.values:
            raise ValueError(f"cannot stop at {name!r}; recorded are: {', '.join(result.values)}")
        value = result.values[name][-1]
        if not (value <= target if name.endswith("loss") else value >= target):
            return False
    return True


def _diverged(losses, active, epoch, recipe, results) -> None:
    step, position = (int(i) for i in (~losses.isfinite()).nonzero()[0])
    raise DivergenceError(
        f"the loss of {active[position]} was {losses[step, position].item()} at step "
        f"{epoch * len(losses) + step + 1} (epoch {epoch + 1}); lower the learning rate "
        f"({active[position].lr:g}) or look at the data. The history up to there is in .history of this error.",
        _history(results, recipe),
    )


def _history(results, recipe) -> xr.Dataset:
    conditions = list(dict.fromkeys(result.condition for result in results))
    seeds = list(dict.fromkeys(result.seed for result in results))
    last = recipe.epochs
    epochs = [0, *(e for e in range(1, last + 1) if e % recipe.evaluate_every == 0 or e == last)]
    longest = max(len(values) for result in results for values in result.values.values())
    history = {}
    for name in results[0].values:
        table = np.full((len(conditions), len(seeds), longest), np.nan)
        for result in results:  # those of one pass need not be every seed of every condition
            row = table[conditions.index(result.condition), seeds.index(result.seed)]
            row[: len(result.values[name])] = result.values[name]
        history[name] = (("condition", "seed", "epoch"), table)
    coordinates = {"condition": conditions, "seed": seeds, "epoch": epochs[:longest]}
    return xr.Dataset(history, coords=coordinates)


def _collect(results, recipe, how, seconds) -> Runs:
    history = _history(results, recipe)
    coordinates = {name: history[name].values for name in ("condition", "seed")}
    shape = tuple(len(values) for values in coordinates.values())

    def table(values):
        return xr.DataArray(np.array(values).reshape(shape), coords=coordinates, dims=("condition", "seed"))

    return Runs(
        history=history,
        stopped=table([result.epoch for result in results]),
        reached=table([result.reached for result in results]),
        steps_per_epoch=results[0].steps_per_epoch,
        how=how,
        seconds=seconds,
        _models={(result.condition, result.seed): _networks(recipe, result) for result in results},
    )


def _networks(recipe: Recipe, result: _Result) -> dict[int, nn.Module]:
    """A member's networks by epoch, in evaluation mode; epochs with the same weights share one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(result.seed)
        template = recipe.build()
    made = {}
    for state in result.states.values():
        if id(state) not in made:
            made[id(state)] = copy.deepcopy(template)
            made[id(state)].load_state_dict(state)
            made[id(state)].eval()
    return {epoch: made[id(state)] for epoch, state in result.states.items()}
