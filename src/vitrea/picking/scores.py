"""Matched filters: how well each place of a micrograph agrees with the best of many templates.

The score is the correlation with the template after the noise was made white, in standard deviations of the score over
plain background (Sigworth 2004, doi:10.1016/j.jsb.2003.10.025). A micrograph's CTF multiplies every template;
correlating the micrograph times its CTF with the plain template is the same, so templates serve all micrographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.rectangles import rectangle_to_real
from vitrea.picking.background import Floats
from vitrea.picking.field import PickingField
from vitrea.picking.templates import Templates

_BLOCK_VALUES = 1 << 21  # scores made at a time: stay in cache
_NOISE_TEMPLATES = 16  # templates whose scores over the background tell the noise


@dataclass(frozen=True)
class ScoreMap:
    """The best score of each pixel and the template that has it.

    Attributes
    ----------
    score : ndarray of float32, shape [y, x]
        In standard deviations of the background. Of templates with rivals: in standard deviations above the mean of
        all pixels where no rival is best; least where one is.
    template : ndarray of int32, shape [y, x]
        Index of the template.
    """

    score: Floats
    template: NDArray[np.int32]


class TemplateBank:
    """Templates transformed for fields of one shape; made once for all micrographs of that shape.

    Parameters
    ----------
    templates : Templates
    field : PickingField
        Any field of that shape and pixel size.
    """

    def __init__(self, templates: Templates, field: PickingField) -> None:
        self.templates = templates
        self.shape = field.padded_shape
        self.transforms = _placed_transforms(templates.basis, self.shape)  # [rank, rows, columns // 2 + 1]

    def score(
        self, field: PickingField, weight: Tensor, spectrum: Tensor, boxes: NDArray[np.int64], window: int
    ) -> ScoreMap:
        """Score every pixel of a micrograph whose particles are white.

        Parameters
        ----------
        field : PickingField
            Of the bank's shape.
        weight : Tensor, shape [rows, columns // 2 + 1]
            Multiplies the field's transform before it is correlated: `matched_weight`, or a band for plain filters.
        spectrum : Tensor, same shape
            Power of the noise, for the scale of the scores.
        boxes : ndarray, shape [boxes, 2]
            First row and column of boxes of background, over which scores of one template have unit variance.
        window : int
            Their edge.

        Raises
        ------
        ValueError
            If nothing is left of a template behind the filters.
        """
        norms = self._norms(weight * spectrum.clamp(min=0).sqrt())
        if not bool((norms > 0).all()):
            raise ValueError("nothing is left of a template between the filters")
        rivals = self.templates.rivals
        if rivals is not None:
            norms = norms[torch.from_numpy(~rivals)].mean().expand(len(norms))
        weighted = field.transform * weight
        basis_scores = torch.stack([
            field.inner(rectangle_to_real(weighted * transform.conj(), self.shape)) for transform in self.transforms
        ])  # [rank, y, x]  # fmt: skip
        weights = self.templates.weights / norms[:, None]
        best, which = _best(basis_scores.flatten(1), weights)
        if rivals is None:
            best /= _background_deviation(basis_scores, weights, boxes, window)
        else:
            best = _above_rivals(best, torch.from_numpy(rivals)[which])
        shape = field.shape
        return ScoreMap(best.reshape(shape).numpy(), which.reshape(shape).to(torch.int32).numpy())

    def _norms(self, gain: Tensor) -> Tensor:
        """Return the norm of each template after the filter, shape [templates]."""
        twice = torch.full_like(gain, 2.0)  # stored components stand for their conjugates, too
        twice[:, 0] = 1.0
        if self.shape[1] % 2 == 0:
            twice[:, -1] = 1.0
        inside = gain != 0  # the band is a small part of a densely sampled field
        filtered = self.transforms[:, inside] * (gain * twice.sqrt())[inside]
        flat = torch.view_as_real(filtered).flatten(1)
        gram = flat @ flat.T
        squared: Tensor = (self.templates.weights @ gram * self.templates.weights).sum(dim=1)
        return squared.clamp(min=0).sqrt()


def matched_weight(spectrum: Tensor, passed: Tensor, transfer: Tensor | None = None) -> Tensor:
    """Return the weight of a matched filter: band and CTF over the noise power; shape of all.

    Parameters
    ----------
    spectrum : Tensor
        Power of the noise.
    passed : Tensor
        Band of frequencies, `background.band`.
    transfer : Tensor, optional
        The micrograph's CTF.
    """
    floor = max(1e-6 * float(spectrum.max()), 1e-30)
    weight = passed / spectrum.clamp(min=floor)
    return weight if transfer is None else weight * transfer


def _placed_transforms(basis: Tensor, shape: tuple[int, int]) -> Tensor:
    """Transform images, their centres moved to pixel 0 of an empty plane; orthonormal scale."""
    rank, size, _ = basis.shape
    rows, columns = shape
    half = size // 2
    plane = torch.zeros(rank, rows, columns)
    place = (torch.arange(size) - half) % rows, (torch.arange(size) - half) % columns
    plane[:, place[0][:, None], place[1]] = basis
    transforms: Tensor = torch.fft.rfft2(plane, norm="ortho")
    return transforms


def _background_deviation(scores: Tensor, weights: Tensor, boxes: NDArray[np.int64], window: int) -> float:
    """Return the standard deviation that scores of single templates have over background."""
    some = weights[:: max(1, len(weights) // _NOISE_TEMPLATES)]
    pieces = torch.stack([scores[:, y : y + window, x : x + window] for y, x in boxes.tolist()])  # [boxes, rank, w, w]
    noise = torch.einsum("tr,brp->btp", some, pieces.flatten(2))
    variance = noise.var(dim=2).mean(dim=1).median()
    return float(variance.sqrt().clamp(min=1e-12))


def _above_rivals(best: Tensor, lost: Tensor) -> Tensor:
    """Return scores relative to those of the pixels where no rival is best, as RELION's thresholds are."""
    won = best[~lost]
    if len(won) < 2:
        raise ValueError("it holds nothing of the diameters looked for")
    scaled = (best - won.mean()) / won.std().clamp(min=1e-12)
    return scaled.where(~lost, float(scaled.min()))


def _best(scores: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the highest of the templates' scores and its index for each pixel of scores, shape [rank, pixels]."""
    pixels = scores.shape[1]
    best, which = torch.empty(pixels), torch.empty(pixels, dtype=torch.int64)
    step = max(256, _BLOCK_VALUES // len(weights))
    for start in range(0, pixels, step):
        block = slice(start, min(start + step, pixels))
        torch.max(weights @ scores[:, block], dim=0, out=(best[block], which[block]))
    return best, which
