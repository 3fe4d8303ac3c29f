"""The kernel of three hidden ReLU layers, in blocks of rows, against whole matrices and neural-tangents.

neural-tangents is a peer, not a dependency. It needs an older jax than this project's numpy goes with: make it an
environment of its own (``pip install neural-tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 "numpy<2"``) and name its
python by ``--peer``; it then works in a process of its own, in turn with ours, and only its computation is timed.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness
from lessons_lib.theory.dual_kernels import compositional_kernel, fully_connected

TITLE = "Dual kernels (NNGP)"
LAYERS = 3

# What the peer's process does: compiles once, then computes and says its CPU time for every line it reads.
PEER = f"""
import sys, time
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from neural_tangents import stax
layers = [layer for _ in range({LAYERS}) for layer in (stax.Dense(1, W_std=2**0.5), stax.Relu())]
kernel_fn = stax.serial(*layers)[2]
x = np.load(sys.argv[1])
work = jax.jit(lambda x: kernel_fn(x, None, "nngp"))
np.save(sys.argv[2], work(x))
for line in sys.stdin:
    start = time.process_time()
    work(x).block_until_ready()
    print(time.process_time() - start, flush=True)
"""


def whole_matrices(x):
    """The same recursion on whole matrices."""
    kernel = x[:, 0] @ x[:, 0].T
    for _ in range(LAYERS):
        kernel = kernel.clamp(-1, 1)
        angle = torch.arccos(kernel)
        kernel = (torch.sqrt(1 - kernel**2) + (math.pi - angle) * kernel) / math.pi
    return kernel


class Peer:
    """neural-tangents in a process of its own; called, it says how long it took there."""

    def __init__(self, python: str, x, folder: Path):
        np.save(folder / "x.npy", (x[:, 0] * math.sqrt(x.shape[2])).numpy())
        command = [python, "-c", PEER, str(folder / "x.npy"), str(folder / "kernel.npy")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self()  # it has compiled
        self.kernel = torch.from_numpy(np.load(folder / "kernel.npy"))

    def __call__(self) -> harness.Elsewhere:
        """Compute once more."""
        print(file=self._process.stdin, flush=True)
        return harness.Elsewhere(self._process.stdout.readline())

    def close(self):
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def versions(python: str) -> dict[str, str]:
    """What the peer's environment has."""
    told = "import importlib.metadata as m; print(*(m.version(n) for n in ('neural-tangents', 'jax')))"
    said = subprocess.run([python, "-c", told], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(("neural-tangents", "jax"), said, strict=True))


def sphere(n, d=64):
    """``n`` points [n, 1, d] on the unit sphere."""
    x = torch.randn(n, 1, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return x / torch.linalg.vector_norm(x, dim=2, keepdim=True)


def run(suite: harness.Suite) -> None:
    """Compare."""
    skeleton = fully_connected("relu", LAYERS)
    has_peer = suite.has("neural-tangents", bool(suite.peer))
    for n, aim in ((1_000, 4), (3_000, 3)):
        x = sphere(n)
        variants, ours = {"whole matrices": lambda x=x: whole_matrices(x)}, compositional_kernel(skeleton, x)
        off = float((whole_matrices(x) - ours).abs().max())
        with tempfile.TemporaryDirectory() as folder:
            if has_peer:
                variants["neural-tangents, compiled"] = peer = Peer(suite.peer, x, Path(folder))
                off = max(off, float((peer.kernel - ours).abs().max()))
            assert off < 1e-6, f"the kernels differ by {off:.1e}"  # the diagonal of whole matrices loses digits
            variants["compositional_kernel"] = lambda x=x: compositional_kernel(skeleton, x)
            suite.compare(
                f"kernel of {n:,} inputs, {LAYERS} layers",
                variants,
                aims={"whole matrices": None, "neural-tangents, compiled": aim},
                accuracy=f"The kernels differ by {off:.0e} at most.",
            )
            if has_peer:
                peer.close()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
