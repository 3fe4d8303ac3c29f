"""A pretend GPU, for machines without one: what a GPU would refuse is refused, and everything is computed on the CPU.

Tensors "on the device" wrap tensors of the CPU. An operation on tensors from both sides, a generator of the CPU for a
draw on the device, and a reading of a device tensor's memory by numpy raise, as on a GPU. Speed, memory, rounding and
mixed precision are not pretended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lessons_lib.settings import settings

# Of the devices that a build for CPUs knows, the one besides the CPU for which autograd has a queue.
DEVICE = torch.device("meta")

_aten = torch.ops.aten
_COPIES = {_aten.copy_.default, _aten._to_copy.default, _aten._foreach_copy_.default}
# A GPU takes indices that lie on the CPU, but not the other way round.
_INDEXING = {
    _aten.index.Tensor,
    _aten._unsafe_index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}


class WrongDeviceError(RuntimeError):
    """An operation that a GPU would refuse."""


class OnDevice(Tensor):
    """A tensor that says it is on the device; ``inner`` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made = Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=DEVICE, **layout)
        made.inner = inner
        return made

    def __getitem__(self, key) -> OnDevice:
        return super().__getitem__(_indices(key))

    def __setitem__(self, key, value) -> None:
        super().__setitem__(_indices(key), value)

    def tolist(self) -> list:
        """What a GPU's tensor gives, which Python's subclasses of tensors do not."""
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return _compute(operation, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees every operation, those that make the first tensor on the device included."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _is_device(kwargs.get("device")) or any(isinstance(leaf, OnDevice) for leaf in tree_leaves((args, kwargs))):
            return _compute(operation, args, kwargs)
        return operation(*args, **kwargs)


def _is_device(device: object) -> bool:
    return device is not None and torch.device(device) == DEVICE


def _indices(key: object) -> object:
    """``key`` with lists as tensors of the CPU; torch would make them on the device, unseen, where they are empty."""
    if isinstance(key, tuple):
        return tuple(_indices(part) for part in key)
    return torch.as_tensor(key) if isinstance(key, list | np.ndarray) else key


def _inner(leaf: object) -> object:
    return leaf.inner if isinstance(leaf, OnDevice) else leaf


def _compute(operation, args, kwargs):
    leaves = tree_leaves((args, kwargs))
    if any(isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice) and leaf.device == DEVICE for leaf in leaves):
        raise AssertionError(f"{operation} takes a tensor that was made on the device unseen, and is empty")
    there = [leaf for leaf in leaves if isinstance(leaf, OnDevice)]
    # A tensor of one number may lie anywhere, as on a GPU.
    here = [leaf for leaf in leaves if isinstance(leaf, Tensor) and not isinstance(leaf, OnDevice) and leaf.dim()]
    if operation in _INDEXING and isinstance(args[0], OnDevice):
        indices = {id(index) for index in args[1] if index is not None}
        here = [tensor for tensor in here if id(tensor) not in indices]
    if there and here and operation not in _COPIES:
        shapes = [[list(tensor.shape) for tensor in side] for side in (there, here)]
        raise WrongDeviceError(f"{operation} takes {shapes[0]} from the device and {shapes[1]} from the CPU")
    if "device" in kwargs and kwargs["device"] is not None:
        on_device = _is_device(kwargs["device"])
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif operation in _COPIES or operation in _INDEXING:
        first = args[0][0] if isinstance(args[0], list | tuple) else args[0]
        on_device = isinstance(first, OnDevice)
    else:
        on_device = bool(there)
    if on_device and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise WrongDeviceError(f"{operation} draws on the device by a generator of the CPU")
    result = operation(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if not on_device:
        return result
    known = {id(tensor.inner): tensor for tensor in there}  # what works in place gives back what it was given

    def wrapped(leaf):
        if not isinstance(leaf, Tensor):
            return leaf
        return known[id(leaf)] if id(leaf) in known else OnDevice(leaf)

    return tree_map(wrapped, result)


def _moving(make):
    """``make`` on the CPU, with what it makes moved to ``device``: as Python's own lists reach a GPU."""

    def made(*args, device=None, **kwargs):
        result = make(*args, **kwargs)
        return result if device is None else result.to(device)

    return made


def _jvp(function, primals, tangents):
    """``torch.func.jvp`` by going backward twice: its own way forward through wrapped tensors ends in a crash."""
    with torch.enable_grad():
        return torch.autograd.functional.jvp(function, primals, tangents)


def _hessian(function):
    """``torch.func.hessian``, for the same reason."""
    return torch.func.jacrev(torch.func.jacrev(function))


@contextlib.contextmanager
def pretend_gpu() -> Iterator[torch.device]:
    """Within, there is a GPU, and ``settings.device`` is it."""
    with (
        _Mode(),
        mock.patch.object(torch, "tensor", _moving(torch.tensor)),
        mock.patch.object(torch, "as_tensor", _moving(torch.as_tensor)),
        mock.patch.object(torch.func, "jvp", _jvp),
        mock.patch.object(torch.func, "hessian", _hessian),
        mock.patch.dict(settings.__dict__, {"device": DEVICE}),
    ):
        yield DEVICE
