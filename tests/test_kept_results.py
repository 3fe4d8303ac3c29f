"""Kept results: read back as they were, never half written, and never trusted when damaged."""

import errno
import io
import os
import tempfile
import warnings

import pytest
import torch

from lessons_lib import kept_results
from lessons_lib.kept_results import KeptResults

KEY = "0123456789abcdef"
RESULT = {"values": {"loss": [0.5, float("inf")]}, "states": {3: {"w": torch.arange(4.0)}}, "name": "a", "done": True}


@pytest.fixture
def kept(tmp_path):
    return KeptResults(tmp_path / "not yet" / "kept")


def test_a_result_comes_back_as_it_was(kept):
    assert kept.get(KEY) is None
    kept.put(KEY, RESULT)
    found = kept.get(KEY)
    assert torch.equal(found["states"][3]["w"], RESULT["states"][3]["w"])
    assert {**found, "states": 0} == {**RESULT, "states": 0}
    assert [path.name for path in kept.folder.rglob("*") if path.is_file()] == [f"{KEY}.pt"]


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped", "pickle"])
def test_a_damaged_result_is_named_removed_and_computed_again(kept, harm):
    kept.put(KEY, RESULT)
    path = kept.path(KEY)
    data = bytearray(path.read_bytes())
    if harm == "flipped":
        place = bytes(data).index(torch.arange(4.0).numpy().tobytes())
        data[place + 1] ^= 0xFF
    path.write_bytes({"cut": data[: len(data) // 2], "empty": b"", "flipped": data, "pickle": b""}[harm])
    if harm == "pickle":
        foreign = io.BytesIO()  # an object of a class: reading it would run code
        torch.save({"result": kept}, foreign)
        path.write_bytes(kept_results._checksum(foreign.getvalue()) + foreign.getvalue())
    with pytest.warns(UserWarning, match=f"{KEY}.pt is damaged"):
        assert kept.get(KEY) is None
    assert not path.exists()


def test_a_folder_that_is_a_file_is_reported_as_one(tmp_path):
    (tmp_path / "file").touch()
    kept = KeptResults(tmp_path / "file")
    assert kept.get(KEY) is None
    with pytest.warns(UserWarning, match="no more results can be kept"):
        kept.put(KEY, RESULT)


def test_an_object_with_code_is_refused(kept):
    with pytest.raises(TypeError, match="a KeptResults is not plain data"):
        kept.put(KEY, [{"result": kept}])


@pytest.mark.parametrize("failure", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_shut_disk_is_reported_once_and_leaves_nothing(kept, monkeypatch, failure):
    kept.put("ff00", RESULT)

    def fail(*arguments):
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(UserWarning, match=f"no more results can be kept.*{os.strerror(failure)}.*LESSONS_CACHE"):
        kept.put(KEY, RESULT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.put(KEY, RESULT)
    assert [path.name for path in kept.folder.rglob("*") if path.is_file()] == ["ff00.pt"]
    assert kept.get("ff00") is not None


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full, which answers as a full disk does")
def test_a_disk_that_fills_while_a_result_is_written(kept, monkeypatch):
    monkeypatch.setattr(
        tempfile, "mkstemp", lambda dir, suffix: (os.open("/dev/full", os.O_WRONLY), f"{dir}/a{suffix}")
    )
    with pytest.warns(UserWarning, match="no more results can be kept.*No space left"):
        kept.put(KEY, RESULT)
    assert kept.get(KEY) is None
