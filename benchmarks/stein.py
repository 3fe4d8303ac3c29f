"""The kernel Stein discrepancy in blocks against ``stein_thinning.ksd`` and a plain loop over rows.

stein_thinning is a peer, not a dependency (``pip install --no-deps stein_thinning``); without it only the loop is
timed. It gives the discrepancies of all beginnings of the sample, which is a little more than asked.
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks import harness
from lessons_lib.measures.stein import InverseMultiquadric, ksd

TITLE = "Kernel Stein discrepancy"


def loop_over_rows(x, s):
    """The same sum, a row of the matrix at a time."""
    kernel, d, total = InverseMultiquadric(), x.shape[1], 0.0
    for point, score in zip(x, s, strict=True):
        apart = point - x
        u = (apart * apart).sum(1)
        k, first, curved = kernel(u)
        across = ((score - s) * apart).sum(1)
        total += (s @ score * k - 2 * first * (across + d) - 4 * curved).sum()
    return np.sqrt(total) / len(x)


def run(suite: harness.Suite) -> None:
    """Compare."""
    for n, d in ((1_000, 2), (1_000, 10), (4_000, 2), (4_000, 10)):
        x = np.random.default_rng(0).normal(size=(n, d))
        variants = {"loop over rows": lambda x=x: loop_over_rows(x, -x)}
        if suite.has("stein_thinning"):
            from stein_thinning.kernel import make_imq
            from stein_thinning.stein import ksd as theirs

            k0 = make_imq(x, preconditioner="id")
            pairs = lambda i, j, x=x, k0=k0: k0(x[i], x[j], -x[i], -x[j])  # noqa: E731
            variants["stein_thinning"] = lambda pairs=pairs, n=n: theirs(pairs, n)[-1]
        variants["ksd"] = lambda x=x: ksd(x, -x)
        values = [work() for work in variants.values()]
        off = max(abs(value / values[-1] - 1) for value in values)
        assert off < 1e-12, f"the results differ by {off:.1e}"
        suite.compare(
            f"{n:,} points in {d} dimensions",
            variants,
            aims={"loop over rows": None, "stein_thinning": 2},
            accuracy=f"The results differ by {off:.0e}, relatively.",
        )


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
