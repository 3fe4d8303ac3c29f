"""Students by hand counts, a training step against torch, and the stored search against its own claims."""

import math

import pytest
import torch
from torch import nn

from lessons_lib.data import Dataset
from lessons_lib.models import conv_student, parameter_count
from lessons_lib.studies import students
from lessons_lib.studies.students import Cell, Trial


def trial(**options):
    made = dict(n_conv=0, n_hidden=1, budget=1_000, channels=4, lr=0.01, weight_decay=0.0, dropout=0.0)
    return Trial(**(made | options))


@pytest.mark.parametrize("n_conv", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("n_hidden", [1, 3])
def test_a_student_is_as_large_as_its_budget_allows(n_conv, n_hidden):
    model = conv_student(n_conv=n_conv, n_hidden=n_hidden, channels=8, budget=5_000)
    convolutions = [layer for layer in model if isinstance(layer, nn.Conv1d)]
    hidden = [layer for layer in model if isinstance(layer, nn.Linear)][:-1]
    assert (len(convolutions), len(hidden)) == (n_conv, n_hidden)
    width = hidden[0].out_features
    by_hand = sum(n_in * 8 * 5 + 8 for n_in in [1, 8, 8, 8][:n_conv])
    features = 8 * (40 // 2**n_conv) if n_conv else 40

    def dense(width):
        return (features + 1) * width + (n_hidden - 1) * (width + 1) * width + (width + 1) * 10

    assert parameter_count(model) == by_hand + dense(width) <= 5_000 < by_hand + dense(width + 1)
    assert model(torch.zeros(3, 1, 40)).shape == (3, 10)


def test_images_get_two_dimensional_convolutions():
    model = conv_student(shape=(3, 16, 16), n_conv=2, channels=4, budget=20_000, dropout=0.3)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    assert [layer.p for layer in model if isinstance(layer, nn.Dropout)] == [0.3]


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="leave no hidden unit within 100 weights"):
        conv_student(n_conv=1, channels=16, budget=100)
    with pytest.raises(ValueError, match="leave nothing of inputs"):
        conv_student(n_conv=6, channels=2, budget=10_000)


def test_students_learn_logits_and_labels():
    x = torch.randn(400, 1, 40, generator=torch.Generator().manual_seed(0))
    logits = students.standardized(x.flatten(1) @ torch.randn(40, 10, generator=torch.Generator().manual_seed(1)))
    for y in (logits, logits.argmax(1)):
        runs = students.train(trial(), Dataset("", x, y, x, y, 10), seeds=[1, 2], steps=200)
        models = [runs.model("all", seed) for seed in (1, 2)]
        assert students.accuracy(models, x, logits.argmax(1)).min() > 0.8
        assert torch.allclose(students.logits(models, x)[1], models[1](x), atol=1e-5)


def test_standardized_logits_have_mean_zero_and_deviation_one():
    made = students.standardized(3 + 2 * torch.randn(100, 10))
    assert made.mean().abs() < 1e-6 and abs(made.std() - 1) < 1e-6


def test_a_record_reads_back():
    made = trial(n_conv=1, accuracy=0.5)
    (cell,) = students.as_record({Cell(1, None, 1_000): [made]}, {"trials": 1})["cells"]
    assert Cell(**cell["cell"]) == Cell(1, None, 1_000)
    assert [Trial(**(cell["fixed"] | drawn)) for drawn in cell["trials"]] == [made]


def test_every_cell_of_the_stored_search_had_equally_many_trials_within_its_ranges():
    settings, cells = students.stored()
    for cell, trials in cells.items():
        assert len(trials) == settings["trials"]
        for drawn in trials:
            assert (drawn.n_conv, drawn.budget) == (cell.n_conv, cell.budget)
            assert cell.n_hidden in (None, drawn.n_hidden) and math.isfinite(drawn.accuracy)
            for name in ("lr", "weight_decay", "dropout"):
                low, high = settings["ranges"][name]
                assert 0.99 * low <= getattr(drawn, name) <= 1.01 * high
    assert {cell.n_conv for cell in cells} == {0, 1, 2, 3, 4}


def test_the_best_trial_is_the_one_of_the_highest_accuracy():
    made = [trial(accuracy=a) for a in (0.2, 0.7, 0.5)]
    assert students.best(made) is made[1]
