"""Named data sets as tensors, and the corruptions that the papers do to them.

==============  =====================================================  ==================================
name            what                                                   default ``preprocess``
==============  =====================================================  ==================================
``mnist1d``     MNIST-1D, generated (Greydanus & Kobak 2020)           ``none``: the generator standardizes
``digits``      scikit-learn's 8x8 digits, 1,200 + 597                 ``standardize``
``mnist``       MNIST, 60,000 + 10,000                                 ``standardize``
``cifar10``     CIFAR-10, 50,000 + 10,000, or its JPEG copy            ``crop and whiten``
a path          images as ``train/<class>/*`` and ``test/<class>/*``   ``standardize``
==============  =====================================================  ==================================

The first two come with the book's packages. The others are looked for in the folder that LESSONS_DATA names
(a path also as it stands); MNIST and CIFAR-10 are downloaded there if absent.

What ``preprocess`` does:

- ``none``: nothing; image pixels lie in [0, 1].
- ``standardize``: subtracts the mean of all training pixels, divides by their standard deviation.
- ``whiten``: the same for each image on its own, as TensorFlow's ``per_image_standardization`` does: the
  deviation counts as at least 1/sqrt(number of pixel values).
- ``crop and whiten``: the centre 28x28 of each image, then ``whiten``. Zhang et al. 2017 prepare CIFAR-10 so.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessons_lib import image_files
from lessons_lib.image_files import DataError, Source, Split
from lessons_lib.settings import seed_for, settings, torch_generator

NAMES = ("mnist1d", "digits", "mnist", "cifar10")
CONDITIONS = ("true labels", "random labels", "shuffled pixels", "random pixels", "gaussian")
_CROP = 28

_loaded: dict[tuple[str, int, int], list] = {}  # what ``loaded`` tells: how many times, and the hash so far


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes:
        name: what it is, as a chapter may print it.
        x_train, x_test: float32, images [n, C, H, W] or signals [n, C, L].
        y_train, y_test: int64 [n], classes from 0.
        n_classes: the number of classes.
        preprocess: what was done to the inputs.
    """

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    n_classes: int
    preprocess: str = "none"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input: (C, H, W) or (C, L)."""
        return tuple(self.x_train.shape[1:])

    def to(self, device: torch.device | str) -> Dataset:
        """The same data on ``device``."""
        moved = {key: getattr(self, key).to(device) for key in ("x_train", "y_train", "x_test", "y_test")}
        return replace(self, **moved)

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        counts = f"{len(self.y_train):,} training and {len(self.y_test):,} test samples"
        return f"{self.name}: {counts} of {size}, {self.n_classes} classes, preprocess: {self.preprocess}"

    __repr__ = __str__


def load(
    name: str | os.PathLike,
    n_train: int | None = None,
    n_test: int | None = None,
    seed: int | None = None,
    *,
    preprocess: str | None = None,
    root: str | os.PathLike | None = None,
    threads: int | None = None,
) -> Dataset:
    """Load a data set of the table above.

    Args:
        name: ``mnist1d``, ``digits``, ``mnist``, ``cifar10``, or the path of a folder of images.
        n_train, n_test: how many samples, drawn at random without replacement; all of them by default.
            With one seed a smaller draw is the beginning of a larger one. MNIST-1D is generated,
            4,000 + 1,000 by default, in any number, and another number is another draw.
        seed: stands in for LESSONS_SEED; decides the draw, the order, the split of ``digits``, and the
            signals of ``mnist1d``. No global random state is touched.
        preprocess: ``none``, ``standardize``, ``whiten`` or ``crop and whiten``.
        root: stands in for LESSONS_DATA.
        threads: threads that decode a folder of images; one a core by default.

    Raises DataError for an unknown name or option, absent data without a network, damaged or misplaced
    files, and more samples than there are.
    """
    root = settings.data if root is None else Path(root)
    for argument, count in (("n_train", n_train), ("n_test", n_test)):
        if count is not None and count < 1:
            raise DataError(f"{argument} is {count}; it must be at least 1.")
    if preprocess is not None and preprocess not in _PREPROCESS:
        raise DataError(f"Unknown preprocess {preprocess!r}; there are: {', '.join(_PREPROCESS)}.")

    if name == "mnist1d":
        source = _mnist1d(n_train or 4000, n_test or 1000, seed)
    elif name == "digits":
        source = _digits(seed)
    elif name == "mnist":
        source = image_files.open_mnist(root)
    elif name == "cifar10":
        source = image_files.open_cifar10(root, threads)
    else:
        source = image_files.open_folder(_folder(name, root), threads)

    preprocess = preprocess or source.preprocess
    crop, normalize = _PREPROCESS[preprocess]
    generator = torch_generator("data", source.name, base=seed)
    inputs, labels, digest = [], [], hashlib.sha256()
    for split, count, argument in ((source.train, n_train, "n_train"), (source.test, n_test, "n_test")):
        indices = _draw(len(split.labels), count, argument, source, generator)
        x = split.read(indices)
        for part in (*x.split(1024), split.labels[indices]):
            digest.update(part.numpy().tobytes())
        if crop:
            x = _centre(x, source)
        x = x.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        inputs.append(x.div_(source.white))
        labels.append(split.labels[indices])
    normalize(*inputs)
    (x_train, x_test), (y_train, y_test) = inputs, labels
    _note(source.name, len(y_train), len(y_test), digest.digest())
    return Dataset(source.name, x_train, y_train, x_test, y_test, source.n_classes, preprocess)


def _note(name: str, n_train: int, n_test: int, digest: bytes) -> None:
    times_and_hash = _loaded.setdefault((name, n_train, n_test), [0, hashlib.sha256()])
    times_and_hash[0] += 1
    times_and_hash[1].update(digest)


def loaded() -> list[dict]:
    """What this process has loaded so far: a row for every data set and size, in the order of the first time.

    A row's ``sha256`` is over the inputs as they came, before any preprocessing, and the labels, in the order in
    which they were drawn, each of the ``times`` that it was loaded: two runs with the same one read the same. What
    is generated, as MNIST-1D is, may differ in its last digits from machine to machine, and then in its sum.
    """
    return [
        {"name": name, "n_train": n_train, "n_test": n_test, "times": times, "sha256": total.hexdigest()}
        for (name, n_train, n_test), (times, total) in _loaded.items()
    ]


def _mnist1d(n_train: int, n_test: int, seed: int | None) -> Source:
    from mnist1d.data import get_dataset_args, make_dataset

    args = get_dataset_args()
    args.num_samples = 10 * math.ceil((n_train + n_test) / 10)  # the package makes equally many of each class
    args.seed = seed_for("mnist1d", base=seed) % 2**32
    # The package seeds the global generators; they are put back as they were.
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        made = make_dataset(args)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
    x = torch.from_numpy(np.concatenate([made["x"], made["x_test"]])).unsqueeze(1)
    y = torch.from_numpy(np.concatenate([made["y"], made["y_test"]]))
    train = Split.in_memory(x[:n_train], y[:n_train])
    test = Split.in_memory(x[n_train : n_train + n_test], y[n_train : n_train + n_test])
    return Source("MNIST-1D", train, test, n_classes=10, white=1.0, preprocess="none")


@cache  # a table of text, which takes as long to read as a small network to train for an epoch
def _digits_table() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.from_numpy(images).reshape(-1, 1, 8, 8), torch.from_numpy(labels).long()


def _digits(seed: int | None) -> Source:
    x, y = _digits_table()
    order = torch.randperm(len(y), generator=torch_generator("digits", "split", base=seed))
    train, test = (Split.in_memory(x[part], y[part]) for part in (order[:1200], order[1200:]))
    return Source("digits", train, test, n_classes=10, white=16.0)


def _folder(name: str | os.PathLike, root: Path) -> Path:
    for folder in (Path(name).expanduser(), root / name):
        if folder.is_dir():
            return folder
    if isinstance(name, str) and Path(name).name == name:
        close = difflib.get_close_matches(name.lower(), NAMES, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError.about_files(
            f"Unknown data set {name!r}.{guess} There are {', '.join(NAMES)}, and folders of images by path.",
            root,
        )
    raise DataError.about_files(f"There is no folder {os.fspath(name)}.", root)


def _draw(there: int, count: int | None, argument: str, source: Source, generator) -> Tensor:
    if count is not None and count > there:
        problem = f"{argument} is {count:,}, but {source.name} has only {there:,} such samples."
        if source.folder is None:
            raise DataError(f"{problem} Ask for fewer, or use 'mnist1d', which is generated in any number.")
        raise DataError.about_files(problem, source.folder)
    return torch.randperm(there, generator=generator)[:count]


def _centre(x: Tensor, source: Source) -> Tensor:
    if x.ndim != 4 or min(x.shape[2:]) < _CROP:
        raise DataError(
            f"{source.name} has inputs of {' x '.join(map(str, x.shape[1:]))}, too small to crop to "
            f"{_CROP} x {_CROP}; choose another preprocess than 'crop and whiten'."
        )
    top, left = ((side - _CROP) // 2 for side in x.shape[2:])
    return x[:, :, top : top + _CROP, left : left + _CROP]


# All three work in place: 50,000 colour images are half a gigabyte.


def _leave(x_train: Tensor, x_test: Tensor) -> None:
    pass


def _standardize(x_train: Tensor, x_test: Tensor) -> None:
    mean, std = x_train.mean(), x_train.std()
    for x in (x_train, x_test):
        x.sub_(mean).div_(std)


def _whiten(x_train: Tensor, x_test: Tensor) -> None:
    for x in (x_train, x_test):
        dims = tuple(range(1, x.ndim))
        std = x.std(dims, correction=0, keepdim=True).clamp_min(1 / math.sqrt(x[0].numel()))
        x.sub_(x.mean(dims, keepdim=True)).div_(std)


# name: (whether to crop, what to do to the pixels)
_PREPROCESS: dict[str, tuple[bool, Callable[[Tensor, Tensor], None]]] = {
    "none": (False, _leave),
    "standardize": (False, _standardize),
    "whiten": (False, _whiten),
    "crop and whiten": (True, _whiten),
}


def corrupt(dataset: Dataset, condition: str, generator: torch.Generator) -> Dataset:
    """One of the five data sets of Zhang et al. 2017, Figure 1a: see ``CONDITIONS``.

    Labels are corrupted in the training set only; pixels in both, with one permutation for all images
    ("shuffled pixels"), one for each image ("random pixels"), or as noise with the mean and variance of the
    training pixels ("gaussian"). Raises DataError for another condition.
    """
    if condition == "true labels":
        return dataset
    if condition == "random labels":
        return replace(dataset, y_train=corrupt_labels(dataset.y_train, 1.0, dataset.n_classes, generator))
    if condition == "shuffled pixels":
        permutation = torch.randperm(math.prod(dataset.shape[1:]), generator=generator)
        x_train, x_test = (shuffle_pixels(x, permutation) for x in (dataset.x_train, dataset.x_test))
    elif condition == "random pixels":
        x_train, x_test = (random_pixels(x, generator) for x in (dataset.x_train, dataset.x_test))
    elif condition == "gaussian":
        x_train, x_test = (
            gaussian_pixels(x, generator, like=dataset.x_train) for x in (dataset.x_train, dataset.x_test)
        )
    else:
        raise DataError(f"Unknown condition {condition!r}; there are: {', '.join(CONDITIONS)}.")
    return replace(dataset, x_train=x_train, x_test=x_test)


def corrupt_labels(y: Tensor, p: float, n_classes: int, generator: torch.Generator) -> Tensor:
    """Labels [n] of which each, independently with probability ``p``, is replaced by a uniformly drawn class.

    The class drawn may be the true one: a share p * (1 - 1/n_classes) changes. ``p=1`` gives random labels.
    Generators in one state corrupt nested sets of labels: those at p = 0.2 are among those at p = 0.4.
    """
    if not 0 <= p <= 1:
        raise DataError(f"p is {p}; a probability lies between 0 and 1.")
    replaced = torch.rand(y.shape, generator=generator) < p
    drawn = torch.randint(n_classes, y.shape, generator=generator)
    return torch.where(replaced.to(y.device), drawn.to(y.device), y)


def shuffle_pixels(x: Tensor, permutation: Tensor | torch.Generator) -> Tensor:
    """Images [n, C, ...] whose pixels are all moved by one permutation of the positions.

    A pixel keeps its channels together. ``permutation``, [positions], is the same for training and
    test images; a generator in its stead draws one.
    """
    if isinstance(permutation, torch.Generator):
        permutation = torch.randperm(math.prod(x.shape[2:]), generator=permutation)
    return x.flatten(2)[..., permutation.to(x.device)].view(x.shape)


def random_pixels(x: Tensor, generator: torch.Generator) -> Tensor:
    """Images [n, C, ...] whose pixels are moved by a permutation of the positions of its own for each image.

    A pixel keeps its channels together.
    """
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    n_positions = math.prod(x.shape[2:])
    for start in range(0, len(x), 1024):  # in blocks, to keep the permutations small
        block = x[start : start + 1024].flatten(2)
        # Stable, so that equal draws fall the same way on every machine.
        order = torch.rand(len(block), n_positions, generator=generator).argsort(dim=1, stable=True)
        moved = block.gather(2, order.to(x.device).unsqueeze(1).expand_as(block))
        out[start : start + 1024] = moved.view_as(out[start : start + 1024])
    return out


def gaussian_pixels(x: Tensor, generator: torch.Generator, like: Tensor | None = None) -> Tensor:
    """Gaussian noise shaped like ``x``, with the mean and variance of ``like`` (x by default) over all pixels."""
    like = x if like is None else like
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return noise.mul_(like.std()).add_(like.mean())
