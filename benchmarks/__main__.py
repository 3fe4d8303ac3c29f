"""Every benchmark in one go, one table of ratios, then how costs grow; ``--json FILE`` keeps it all."""

from __future__ import annotations

import json
import os
from datetime import date
from pathlib import Path

import torch

from benchmarks import curvature, dual_kernels, harness, information, sharpness, slopes, stein, training
from lessons_lib import provenance

GROUPS = {
    "training": training,
    "curvature": curvature,
    "sharpness": sharpness,
    "dual-kernels": dual_kernels,
    "stein": stein,
    "information": information,
}
PEERS = ("pyhessian", "curvlinops-for-pytorch", "stein_thinning")


def versions(suite: harness.Suite) -> dict[str, str]:
    """What computed, with the peers that are installed."""
    found = provenance.versions(*PEERS)
    if suite.peer:
        found |= dual_kernels.versions(suite.peer)
    return found


def main() -> None:
    """Run what is asked for, print the table, keep the results."""
    parser = harness.parser(__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--only", nargs="+", choices=[*GROUPS, "slopes"], default=[*GROUPS, "slopes"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    suite = harness.Suite(options.rounds, options.peer)
    for name, module in GROUPS.items():
        if name in options.only:
            suite.run(module)
    found = slopes.run(max(options.rounds, 2)) if "slopes" in options.only else []
    print(f"\n{suite.table()}")
    if options.json:
        results = {
            "$schema": "results.schema.json",
            "date": date.today().isoformat(),
            "hardware": provenance.machine("cpu"),
            "threads": 1,
            "load": round(os.getloadavg()[2], 1) if hasattr(os, "getloadavg") else None,
            "versions": versions(suite),
            "left_out": suite.left_out,
            "groups": suite.record(),
            "slopes": found,
        }
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nwritten to {options.json}")


if __name__ == "__main__":
    main()
