"""Forecasts against numpy's polynomials and known histories; jumps against training by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.data import Dataset
from lessons_lib.measures.introspection import (
    FRACTIONS,
    History,
    IntrospectionError,
    Jump,
    Jumps,
    examples,
    least_squares,
    network,
    polynomial,
)
from lessons_lib.models import mlp, parameter_count
from lessons_lib.training import fit


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs():
    x = torch.randn(80, 2, generator=gen())
    y = (x[:, 0] > 0).long()
    return Dataset("blobs", x, y, x[:8], y[:8], 2)


def build():
    return mlp(2, 3, 2)


def train(hooks, conditions=("still", "jumping"), epochs=10):
    return fit(
        build, blobs(), seeds=[1, 2], epochs=epochs, batch_size=20, lr=0.1,
        momentum=0.0, conditions={name: {} for name in conditions}, hooks=hooks,
    )  # fmt: skip


def weights(runs, condition, seed, epoch=None):
    return nn.utils.parameters_to_vector(runs.model(condition, seed, epoch).parameters()).detach()


def test_the_network_takes_four_values_through_forty_units():
    assert parameter_count(network()) == (4 + 1) * 40 + (40 + 1)
    assert network()(torch.zeros(7, 4)).shape == (7, 1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_a_polynomials_forecast_is_that_of_numpys_fit(degree):
    values = np.random.default_rng(degree).normal(size=4)
    expected = np.polyval(np.polyfit(FRACTIONS, values, degree), 2.0)
    assert float(torch.from_numpy(values) @ polynomial(degree)) == pytest.approx(expected)


def test_a_polynomial_of_a_degree_that_four_values_do_not_determine_is_refused():
    with pytest.raises(IntrospectionError, match="degree is 4"):
        polynomial(4)


def test_examples_take_each_weight_at_its_own_times():
    history = torch.arange(41.0).unsqueeze(1) + 1000 * torch.arange(8.0)  # weight p at snapshot s is s + 1000 p
    past, future = examples(history, 500, gen())
    base = (past[:, 3] / 1000).round() * 1000
    time = past[:, 0] - base
    assert set(time.tolist()) == {10.0, 20.0}
    assert torch.equal(past - base[:, None], time[:, None] * torch.tensor(FRACTIONS))
    assert torch.equal(future - base, 2 * time)


def test_half_of_the_examples_come_from_the_half_that_moved_most():
    history = torch.arange(21.0).unsqueeze(1) * torch.arange(1.0, 9.0)  # weight p moves by p + 1 a snapshot
    past, _ = examples(history, 800, gen())
    speed = (past[:, 0] / 10).long()
    assert [int(((speed >= low) & (speed <= high)).sum()) for low, high in ((5, 8), (3, 4), (1, 2))] == [400, 200, 200]


def test_too_short_a_history_is_refused():
    with pytest.raises(IntrospectionError, match="20 snapshots"):
        examples(torch.zeros(20, 3), 10, gen())


def test_least_squares_finds_the_law_behind_nearly_equal_columns():
    past = torch.randn(1, 1, generator=gen()).double() + 1e-4 * torch.randn(2000, 4, generator=gen(1)).double()
    law = torch.tensor([2.1, -0.8, -0.3, 0.0]).double()
    assert torch.allclose(least_squares(past, past @ law), law, atol=1e-6)


def test_a_history_holds_the_start_and_every_nth_step():
    history = History(build, 4)
    runs = train([history], conditions=["still"])
    assert history.weights.shape == (11, 2, parameter_count(build()))
    kept = fit(
        build, blobs(), seeds=[1, 2], epochs=10, batch_size=20, lr=0.1, momentum=0.0,
        checkpoints=[0, 3],
    )  # fmt: skip
    assert torch.equal(history.weights[0, 1], weights(kept, "all", 2, 0))
    assert torch.allclose(history.weights[3, 0], weights(kept, "all", 1, 3))
    assert torch.equal(history.weights[10, 1], weights(runs, "still", 2))


def test_a_jump_replaces_the_weights_by_the_forecast_of_their_own_past():
    history, seen = History(build, 2), []

    def forecast(past, seed, step):
        seen.append((past, seed, step))
        return past[:, 0] + 1

    train([Jumps(build, {"jumping": Jump([20], forecast)}), history])
    past, seed, step = seen[0]
    assert (len(seen), seed, step) == (2, 1, 20)
    # members are still 1, still 2, jumping 1, jumping 2; before the jump both conditions are the same
    assert torch.equal(past, torch.stack([history.weights[s // 2, 0] for s in (20, 14, 8, 0)], 1))
    assert torch.equal(history.weights[10, 2], past[:, 0] + 1)
    assert torch.equal(history.weights[10, 0], past[:, 0])


def test_a_jump_to_where_one_is_changes_nothing():
    runs = train([Jumps(build, {"jumping": Jump([10, 20], lambda past, seed, step: past[:, 0])})])
    assert torch.equal(weights(runs, "jumping", 2), weights(runs, "still", 2))


def test_jumps_start_afresh_with_every_training():
    hook = Jumps(build, {"jumping": Jump([20], lambda past, seed, step: past[:, 3])})
    first, second = (weights(train([hook]), "jumping", 1) for _ in range(2))
    assert torch.equal(first, second)


def test_a_step_without_whole_fractions_is_refused():
    with pytest.raises(IntrospectionError, match="multiple of 10"):
        Jumps(build, {"jumping": Jump([25], lambda past, seed, step: past[:, 0])})
