"""Images of blobs with holes, and two scores of them: how closed a blob is, and how symmetric.

The synthetic task of Cohen and Shashua, *Inductive Bias of Deep Convolutional Networks through Pooling Geometry* (ICLR
2017, arXiv:1605.06743, section 6.2 and the authors' generator): one score is about neighbouring pixels, the other
about mirror images far from each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_CANVAS = 64


def blobs(n: int, side: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """``n`` binary images [n, side, side].

    An ellipse whose columns are shifted along a sine wave is rotated by any angle and scaled to fill the image; then
    each pixel is dropped with a probability between 0.1 and 0.33 that differs from image to image. In half of the
    images what is dropped is symmetric under a reflection of left and right. Raises ValueError for a side below 4.
    """
    if side < 4:
        raise ValueError(f"The side is {side}; a blob with holes needs at least 4 pixels.")
    rows, columns = np.indices((_CANVAS, _CANVAS)) - (_CANVAS - 1) / 2
    images = np.zeros((n, side, side), dtype=bool)
    for image in images:
        height, width = 2 ** generator.uniform(3.5, 5, 2) / 2
        wave = generator.uniform(0, 4) * np.sin(columns / generator.uniform(4, 12) + generator.uniform(0, 2 * np.pi))
        ellipse = ((rows + wave) / height) ** 2 + (columns / width) ** 2 < 1
        turned = ndimage.rotate(ellipse.astype(float), generator.uniform(0, 180), reshape=False, order=1) > 0.5
        image[:] = _fill(turned, side)
        dropped = generator.random((side, side)) < generator.uniform(0.1, 0.33)
        if generator.random() < 0.5:
            dropped[:, side // 2 :] = dropped[:, : side - side // 2][:, ::-1]
        image &= ~dropped
    return images


def _fill(shape: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """The shape's bounding box, sampled to side x side."""
    (top, bottom), (left, right) = ((used.min(), used.max() + 1) for used in np.nonzero(shape))
    pick = [
        low + ((np.arange(side) + 0.5) * (high - low) / side).astype(int)
        for low, high in ((top, bottom), (left, right))
    ]
    return shape[np.ix_(*pick)]


def closedness(images: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each image [n, h, w], the share of its morphological closing (3 x 3) that is set; 1 without holes."""
    closed = ndimage.binary_closing(np.pad(images, ((0, 0), (1, 1), (1, 1))), np.ones((1, 3, 3)))[:, 1:-1, 1:-1]
    return images.sum((1, 2)) / (closed | images).sum((1, 2))


def symmetry(images: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each image [n, h, w], the share of its pixels whose reflection across the vertical axis is set too."""
    return (images & images[:, :, ::-1]).sum((1, 2)) / images.sum((1, 2))


def extremes(scores: NDArray[np.float64], share: float = 0.4) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images that make a task of a score: indices of the top and bottom ``share``, and labels 1 and 0.

    Raises ValueError unless 0 < share <= 0.5.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"share is {share:g}; it must be above 0 and at most 0.5.")
    order = np.argsort(scores, kind="stable")
    count = int(share * len(scores))
    chosen = np.concatenate([order[:count], order[len(order) - count :]])
    return chosen, np.repeat([0, 1], count)
