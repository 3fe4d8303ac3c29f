"""Results kept on disk under a fingerprint of what they came from, so that an interrupted run goes on.

A file a result: a checksum, then plain data (numbers, text, lists, dicts and tensors) in the format of ``torch.save``.
Reading one runs no code of its own, so a folder from elsewhere can do no more than hold wrong numbers.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path

import torch

CHECKSUM = 16  # bytes


class KeptResults:
    """The results in ``folder``, which need not exist yet; several processes may use it at once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.writes = True

    def path(self, key: str) -> Path:
        """Where the result with this fingerprint lies, or would."""
        return self.folder / key[:2] / f"{key}.pt"

    def get(self, key: str) -> object | None:
        """The result kept under ``key``, or None. A damaged file is removed, with a warning that names it."""
        path = self.path(key)
        try:
            data = path.read_bytes()
            if _checksum(data[CHECKSUM:]) != data[:CHECKSUM]:
                raise ValueError("its checksum does not fit")
            return torch.load(io.BytesIO(data[CHECKSUM:]), map_location="cpu", weights_only=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # a damaged file can fail in any part of the reader
            why = str(error).split("\n")[0]
            warnings.warn(f"{path} is damaged ({type(error).__name__}: {why}); computing it again", stacklevel=2)
            try:
                path.unlink()
            except OSError:
                pass  # it is written over, or reported again
            return None

    def put(self, key: str, result: object) -> None:
        """Keep ``result``, all of it or nothing. Where that fails, says so once, and the run goes on.

        Raises TypeError for a result that holds more than plain data.
        """
        if not self.writes:
            return
        _check_plain(result)
        path, temporary, buffer = self.path(key), None, io.BytesIO()
        torch.save(result, buffer)
        data = buffer.getbuffer()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
            with os.fdopen(handle, "wb") as file:
                file.write(_checksum(data))
                file.write(data)
            os.replace(temporary, path)
        except OSError as error:
            self.writes = False
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            warnings.warn(
                f"no more results can be kept in {self.folder} ({error.strerror}). The run goes on; if it is "
                "interrupted, what comes from here on is computed again. LESSONS_CACHE names another folder.",
                stacklevel=2,
            )


def _checksum(data) -> bytes:
    return hashlib.blake2b(data, digest_size=CHECKSUM).digest()


def _check_plain(value: object) -> None:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            _check_plain(item)
    elif not isinstance(value, int | float | str | bytes | torch.Tensor | None):
        raise TypeError(
            f"a {type(value).__qualname__} is not plain data; return numbers, text, lists, dicts or tensors"
        )
