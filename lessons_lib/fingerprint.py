"""Tell inputs apart by what they hold: the same fingerprint for equal data and equal code, in any process.

Python's ``hash`` changes from process to process, and a pickle of a notebook's function holds file names and line
numbers. Here a function counts as its code, its defaults and whatever it reaches; arrays and tensors count as
their bytes.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import types
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch

_CODE = ("co_code", "co_exceptiontable", "co_argcount", "co_kwonlyargcount", "co_posonlyargcount", "co_flags")
_NAMES = ("co_names", "co_varnames", "co_freevars", "co_cellvars")
_NOT_CONTENT = {"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__"}


class FingerprintError(TypeError):
    """A value that cannot be told from others of its kind, as an open file or a running thread."""


class Fingerprints:
    """Makes fingerprints; tensors and files that come again are read once."""

    def __init__(self):
        self._known: dict[object, tuple[object, bytes]] = {}

    def of(self, *values: object) -> str:
        """32 hexadecimal digits for ``values``. Raises FingerprintError for one that cannot be told apart."""
        return self._digest(values, ()).hex()

    def _once(self, key: object, value: object, read) -> bytes:
        # The value is kept as well: while it lives, no other can have its id.
        if key not in self._known:
            self._known[key] = (value, read())
        return self._known[key][1]

    def _digest(self, value: object, path: tuple[int, ...]) -> bytes:
        """The digest of ``value``; ``path`` holds the ids of what it is inside of."""
        if id(value) in path:  # a function that calls itself, a list that holds itself
            return _hash("inside", str(len(path) - path.index(id(value))))
        here = (*path, id(value))

        def all_of(kind: str, items: Iterable[object]) -> bytes:
            return _hash(kind, *[self._digest(item, here) for item in items])

        match value:
            case None | bool() | int() | float() | complex() | str() | bytes():
                return _hash(type(value).__name__, repr(value))
            case torch.Tensor():
                return self._once(id(value), value, lambda: self._tensor(value))
            case np.ndarray() if not value.dtype.hasobject:
                return _hash("array", str(value.dtype), str(value.shape), np.ascontiguousarray(value).tobytes())
            case tuple() | list():
                return all_of(type(value).__name__, value)
            case set() | frozenset():
                return _hash("set", *sorted(self._digest(item, here) for item in value))
            case Mapping() if type(value).__module__ in ("builtins", "collections", "types"):
                return all_of("mapping", [part for item in value.items() for part in item])
            case functools.partial():
                return all_of("partial", (value.func, value.args, value.keywords))
            case functools._lru_cache_wrapper():
                return all_of("cached", [value.__wrapped__])
            case types.MethodType():
                return all_of("method", (value.__func__, value.__self__))
            case types.CodeType():
                told = [getattr(value, name) for name in _CODE + _NAMES]
                return all_of("code", [*told, *value.co_consts])
            case types.ModuleType():
                return _hash("module", value.__name__)
            case types.FunctionType() | type() | types.BuiltinFunctionType() if self._importable(value):
                return _hash("name", value.__module__, value.__qualname__, self._source(value.__module__))
            case types.FunctionType():
                cells = [cell.cell_contents for cell in value.__closure__ or ()]
                reached = [(name, value.__globals__[name]) for name in _globals(value) if name in value.__globals__]
                return all_of("function", [value.__code__, value.__defaults__, value.__kwdefaults__, cells, reached])
            case type():
                content = {name: item for name, item in vars(value).items() if name not in _NOT_CONTENT}
                return all_of("class", [value.__name__, value.__bases__, content])
            case property() | staticmethod() | classmethod():
                inner = (value.fget, value.fset) if isinstance(value, property) else (value.__func__,)
                return all_of(type(value).__name__, inner)
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # whatever an object's own method raises
            raise FingerprintError(f"a {type(value).__qualname__} cannot be told from another ({error})") from None
        # A name, or: constructor, arguments, state, and iterators of items for classes made from list and dict.
        parts = (
            [reduced] if isinstance(reduced, str) else [*reduced[:3], *[[*items] for items in reduced[3:5] if items]]
        )
        return all_of("object", [type(value), *parts])

    @staticmethod
    def _importable(value) -> bool:
        """Whether a name leads to ``value`` in a module that any process can import."""
        module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
        if module in (None, "__main__") or "<" in name:
            return False
        found = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        return found is value

    def _source(self, module: str) -> bytes:
        """The bytes of the file that a module comes from; empty for one that has none."""
        path = getattr(sys.modules.get(module), "__file__", None)
        is_source = path and path.endswith(".py") and Path(path).is_file()
        return self._once(module, module, lambda: _hash("file", Path(path).read_bytes()) if is_source else b"")

    @staticmethod
    def _tensor(tensor: torch.Tensor) -> bytes:
        plain = tensor.detach().cpu().contiguous()
        data = plain.view(-1).view(torch.uint8).numpy() if plain.numel() else b""
        return _hash("tensor", str(tensor.dtype), str(tuple(tensor.shape)), data)


def code_version() -> str:
    """A fingerprint of lessons_lib's source and of the versions of what computes with it."""
    digest = hashlib.blake2b(digest_size=16)
    folder = Path(__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update(f"{torch.__version__} {np.__version__}".encode())
    return digest.hexdigest()


def _hash(*parts) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def _globals(function: types.FunctionType) -> list[str]:
    """The global names that a function's code, and the code inside it, reads; in order."""
    names, waiting = {}, [function.__code__]
    while waiting:
        code = waiting.pop()
        names |= {
            step.argval: None for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
        waiting += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return sorted(names)
