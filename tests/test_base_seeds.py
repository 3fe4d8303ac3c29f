"""Runs at several base seeds: no alarm on independent draws, one where a run's seeds share something."""

import numpy as np
import pytest

from lessons_lib.base_seeds import compare
from lessons_lib.claims import Claim, Claims, above, equal


def record(values, log=False):
    claims = Claims(
        "toy",
        Claim("C1", "A.", paper="", quantity="", holds=above(0.5), null=0, log=log),
        Claim("C2", "B.", paper="", quantity="", holds=equal(3, 0), evidence="exact"),
    )
    claims["C1"].measure(values)
    claims["C2"].measure(3)
    return {"claims": [result.record() for result in claims.verdicts().results]}


def drawn(rng, shared, n_runs=4, n=8):
    """Records of runs whose seeds' values vary by 1, and their means by ``shared`` besides."""
    return {k: record(10 + shared * rng.normal() + rng.normal(size=n)) for k in range(n_runs)}


def test_independent_runs_raise_the_alarm_one_time_in_twenty():
    rng = np.random.default_rng(0)
    p = [compare(drawn(rng, shared=0))[0].p for _ in range(400)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09


def test_what_a_runs_seeds_share_raises_it():
    rng = np.random.default_rng(0)
    found = [compare(drawn(rng, shared=1))[0] for _ in range(50)]
    assert np.mean([each.p < 0.05 for each in found]) > 0.7
    # Of the variance of the means, 1 is shared and 1/8 is what intervals allow for.
    assert 4 < np.median([each.f for each in found]) < 14


def test_a_claim_is_compared_as_it_was_judged():
    first, _ = compare({0: record([1, 2, 4, 2, 1], log=True), 3: record([0.1, 0.2, 0.4, 0.2, 0.1], log=True)})
    same, exact = compare({0: record(np.log([1, 2, 4, 2, 1])), 3: record(np.log([0.1, 0.2, 0.4, 0.2, 0.1]))})
    assert (first.f, first.p) == pytest.approx((same.f, same.p))
    assert (first.claim, first.verdicts) == ("C1", ("held", "failed"))
    assert exact.verdicts == ("held", "held") and np.isnan(exact.p)


def test_a_claim_whose_rule_differs_is_left_out():
    other = record([1.0, 2, 3, 4, 5])
    other["claims"][0]["rule"] = ["above", 0.0]
    assert [each.claim for each in compare({0: record([1.0, 2, 3, 4, 5]), 1: other})] == ["C2"]
