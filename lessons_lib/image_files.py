"""Image data sets on disk: found, checked, read, and fetched where there is a network.

Files are only ever added to the data folder, and only by a download that is complete; nothing there is
changed, unpacked in place or deleted, so the folder may be read-only.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessons_lib.progress import bar
from lessons_lib.torchvision_compat import import_torchvision

JPEG_COPY = "cifar10-jpeg"


class DataError(ValueError):
    """A data set, or what was asked of it, cannot be had; the message says what to do instead."""

    @classmethod
    def about_files(cls, problem: str, folder: Path) -> DataError:
        """``problem``, then where was looked, the variable to set, and what needs no files."""
        return cls(
            f"{problem} Looked in {folder.absolute()}; nothing there was changed. Set LESSONS_DATA to the "
            "folder that holds the data, or use 'digits' or 'mnist1d', which need no files."
        )


@dataclass(frozen=True)
class Split:
    """Training or test samples: labels, int64 [n]; ``read(indices)``, inputs [len(indices), ...]."""

    labels: Tensor
    read: Callable[[Tensor], Tensor]

    @classmethod
    def in_memory(cls, inputs: Tensor, labels: Tensor) -> Split:
        """A split whose inputs are there already."""
        return cls(labels, lambda indices: inputs[indices])


@dataclass(frozen=True)
class Source:
    """A data set as it comes: inputs from 0 to ``white``, from ``folder`` if from files.

    ``preprocess`` is what ``data.load`` does to it by default.
    """

    name: str
    train: Split
    test: Split
    n_classes: int
    folder: Path | None = None
    white: float = 255.0
    preprocess: str = "standardize"


def open_mnist(root: Path) -> Source:
    """MNIST in torchvision's layout, ``root/MNIST/raw``: the four official files, unpacked or as .gz.

    Downloaded through torchvision if one of them is absent. Raises DataError.
    """
    raw = root / "MNIST" / "raw"
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]

    def find(name: str) -> Path | None:
        return next((path for path in (raw / name, raw / f"{name}.gz") if path.exists()), None)

    if not all(map(find, names)):
        mnist = import_torchvision("datasets").MNIST
        urls = [mirror + mnist.resources[0][0] for mirror in mnist.mirrors]
        _download("MNIST", mnist, urls, root, Path("MNIST", "raw"))
    x_train, y_train, x_test, y_test = (_read_idx(find(name), raw) for name in names)
    splits = []
    for x, y, part in ((x_train, y_train, "training"), (x_test, y_test, "test")):
        if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or (len(y) and y.max() > 9):
            raise DataError.about_files(f"The {part} files are not MNIST's: images {x.shape}, labels {y.shape}.", raw)
        splits.append(Split.in_memory(torch.from_numpy(x).unsqueeze(1), torch.from_numpy(y).long()))
    return Source("MNIST", *splits, n_classes=10, folder=raw)


def open_cifar10(root: Path, threads: int | None = None) -> Source:
    """CIFAR-10 in torchvision's layout, ``root/cifar-10-batches-py``; else its JPEG copy; else a download.

    torchvision reads pickles, which could run code; it does so only after their MD5 sums proved to be
    the published ones. The JPEG copy, ``root/cifar10-jpeg``, holds the same images after lossy compression,
    and the name of the result says so. Raises DataError.
    """
    cifar10 = import_torchvision("datasets").CIFAR10
    batches = root / cifar10.base_folder
    sums = [*cifar10.train_list, *cifar10.test_list, (cifar10.meta["filename"], cifar10.meta["md5"])]
    if not batches.exists() and (root / JPEG_COPY).is_dir():
        return open_folder(root / JPEG_COPY, threads)
    if not all((batches / name).exists() for name, _ in sums):
        _download("CIFAR-10", cifar10, [cifar10.url], root, Path(cifar10.base_folder))
    try:
        splits = [cifar10(root, train=train) for train in (True, False)]
    except RuntimeError:
        check = import_torchvision("datasets.utils").check_integrity
        wrong = [name for name, md5 in sums if not check(batches / name, md5)]
        raise DataError.about_files(
            f"These files of CIFAR-10 are truncated or not the published ones: {', '.join(wrong)}. "
            "Move them away to have them downloaded again.",
            batches,
        ) from None
    train, test = (
        Split.in_memory(torch.from_numpy(split.data).permute(0, 3, 1, 2), torch.tensor(split.targets))
        for split in splits
    )
    return Source("CIFAR-10", train, test, n_classes=10, folder=batches, preprocess="crop and whiten")


def open_folder(root: Path, threads: int | None = None) -> Source:
    """Images as torchvision's ImageFolder lays them out: ``root/{train,test}/<class>/*``, all of one size.

    Classes are numbered in alphabetical order. Every image asked for is decoded once, to RGB, by ``threads``
    threads (None: one a core). Raises DataError.
    """
    datasets = import_torchvision("datasets")
    folders = []
    for part in ("train", "test"):
        try:
            folders.append(datasets.ImageFolder(root / part))
        except FileNotFoundError as error:  # torchvision's word for an empty class too
            raise DataError.about_files(
                f"{root.name!r} is not laid out as train/<class>/<image> and test/<class>/<image>: {error}.",
                root,
            ) from None
    train, test = folders
    if train.classes != test.classes:
        odd = ", ".join(sorted(set(train.classes) ^ set(test.classes)))
        raise DataError.about_files(f"The classes in train and test differ: {odd} in one alone.", root)

    def split(folder) -> Split:
        paths = [path for path, _ in folder.samples]
        return Split(
            torch.tensor(folder.targets),
            lambda indices: _decode([paths[index] for index in indices.tolist()], root, threads),
        )

    name, preprocess = root.name, "standardize"
    if name == JPEG_COPY:
        name, preprocess = "CIFAR-10 (JPEG copy)", "crop and whiten"
    return Source(name, split(train), split(test), len(train.classes), folder=root, preprocess=preprocess)


def _read_idx(path: Path, folder: Path) -> np.ndarray:
    """An array of bytes in the idx format of MNIST's files, gzipped or not."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        problem = f"{path.name} cannot be read, it may be truncated: {error}."
        raise DataError.about_files(problem, folder) from None
    # Two zero bytes, the type (8: unsigned bytes), the number of dimensions; then each size, big-endian.
    if content[:3] != b"\0\0\x08" or len(content) < 4 + 4 * content[3]:
        raise DataError.about_files(f"{path.name} is not an idx file of bytes.", folder)
    start = 4 + 4 * content[3]
    shape = np.frombuffer(content[4:start], ">u4").tolist()
    if len(content) - start != math.prod(shape):
        raise DataError.about_files(
            f"{path.name} is truncated or damaged: it announces {math.prod(shape):,} bytes of data "
            f"and holds {len(content) - start:,}.",
            folder,
        )
    return np.frombuffer(bytearray(content), np.uint8, offset=start).reshape(shape)


def _decode(paths: Sequence[str], folder: Path, threads: int | None) -> Tensor:
    """The images as uint8 [n, 3, H, W]. Pillow lets go of Python's lock while it decodes, so threads help."""
    from PIL import Image

    def read(path: str) -> np.ndarray:
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError) as error:  # Pillow's complaint about a damaged PNG is a SyntaxError
            name = Path(path).relative_to(folder)
            raise DataError.about_files(f"{name} is not a readable image: {error}.", folder) from None

    height, width, _ = read(paths[0]).shape
    out = np.empty((len(paths), height, width, 3), np.uint8)

    def fill(start: int) -> int:
        stop = min(start + 256, len(paths))
        for index in range(start, stop):
            image = read(paths[index])
            if image.shape != out.shape[1:]:
                name = Path(paths[index]).relative_to(folder)
                raise DataError.about_files(
                    f"The images differ in size: {name} has {image.shape[1]} x {image.shape[0]} pixels, "
                    f"the first one {width} x {height}.",
                    folder,
                )
            out[index] = image
        return stop - start

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool, bar(len(paths), "decoding images") as progress:
        for done in pool.map(fill, range(0, len(paths), 256)):
            progress.update(done)
    return torch.from_numpy(out).permute(0, 3, 1, 2)


def _download(name: str, dataset: Callable, urls: Sequence[str], root: Path, folder: Path) -> None:
    """Fetch a torchvision data set and move into ``root/folder`` the files that are missing there."""
    if not _reachable(urls):
        raise DataError.about_files(f"{name} is not there, and there is no network to download it.", root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as place, _socket_timeout(30):
            dataset(place, download=True)
            (root / folder).mkdir(parents=True, exist_ok=True)
            for file in Path(place, folder).iterdir():
                if not (root / folder / file.name).exists():
                    file.rename(root / folder / file.name)
    except (OSError, RuntimeError) as error:
        raise DataError.about_files(f"{name} is not there, and its download failed: {error}.", root) from None


def _reachable(urls: Sequence[str], seconds: float = 5.0) -> bool:
    """Whether a server answers within ``seconds``.

    Asked in threads that are left behind: looking up a name cannot be given a time limit, and without a
    network it can take minutes.
    """
    answered = threading.Event()

    def ask(url: str) -> None:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds).close()
            except urllib.error.HTTPError:
                pass  # a refusal is an answer; the download then says what is wrong
            answered.set()

    threads = [threading.Thread(target=ask, args=(url,), daemon=True) for url in urls]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return answered.is_set()


@contextlib.contextmanager
def _socket_timeout(seconds: float):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
