"""Freed memory stays with the process: seen in its page faults."""

import subprocess
import sys

import pytest

CODE = """
import resource, torch
from lessons_lib.memory import keep_freed_memory
torch.set_num_threads(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        torch.empty(4_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before, taken, _, after = faults(), keep_freed_memory(), faults(), faults()
print(before, taken, after)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_blocks_are_used_again():
    said = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.split()
    before, taken, after = int(said[0]), said[1] == "True", int(said[2])
    if not taken:
        pytest.skip("this libc has no mallopt")
    assert after < before / 10 or before < 100
