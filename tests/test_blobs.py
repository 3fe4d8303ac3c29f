"""Blobs and their scores on shapes that can be judged by eye."""

import numpy as np
import pytest

from lessons_lib.theory.blobs import blobs, closedness, extremes, symmetry


def test_blobs_fill_the_image_and_have_holes():
    images = blobs(60, 16, np.random.default_rng(0))
    assert images.shape == (60, 16, 16) and images.any((1, 2)).all()
    spread = images.any(1).sum(1), images.any(2).sum(1)  # columns and rows in use
    assert min(part.mean() for part in spread) > 14
    assert 0.3 < images.mean() < 0.75 and closedness(images).mean() < 0.95


def test_half_are_dropped_from_symmetrically():
    scores = symmetry(blobs(400, 16, np.random.default_rng(1)))
    assert 0 < scores.min() < scores.max() <= 1 and scores.std() > 0.05


def test_closedness():
    full = np.ones((5, 5), dtype=bool)
    hole = full.copy()
    hole[2, 2] = False
    assert np.allclose(closedness(np.stack([full, hole])), [1, 24 / 25])


def test_symmetry():
    image = np.array([[1, 0, 1], [1, 1, 0]], dtype=bool)
    assert np.allclose(symmetry(image[None]), [3 / 4])


def test_extremes():
    chosen, labels = extremes(np.array([0.5, 0.1, 0.9, 0.3, 0.7]), 0.4)
    assert chosen.tolist() == [1, 3, 4, 2] and labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("make", "text"),
    [(lambda: blobs(1, 3, np.random.default_rng(0)), "side is 3"), (lambda: extremes(np.ones(4), 0.6), "share is 0.6")],
)
def test_bad_input(make, text):
    with pytest.raises(ValueError, match=text):
        make()
