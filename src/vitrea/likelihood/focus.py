"""Classes decided by one region of the particle: a sphere in the map, a disc in each image.

Poses are weighed with the whole image, but how probable each class is for a particle follows from the difference
between image and model within the disc in which the particle shows the sphere (as cisTEM does; Zhang et al. 2019,
doi:10.7554/eLife.46303 use it on ribosomes). What differs elsewhere, and the noise there, has no say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.transforms import to_real
from vitrea.kernels.posterior import normalise_rows
from vitrea.matching.candidates import Rows, RowScorer
from vitrea.matching.images import PreparedImages

# Images transformed at a time.
PAIRS_AT_ONCE = 256
# Width of the disc's soft edge, pixels.
EDGE = 3.0


@dataclass(frozen=True)
class FocusSphere:
    """The region that decides.

    Attributes
    ----------
    centre : tuple of float
        x, y, z in Å from the centre of the box.
    radius : float
        Å.
    """

    centre: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Pairs:
    """Rows sorted into pairs of a particle and a class.

    Attributes
    ----------
    particle, class_index : ndarray of int64, shape [pairs]
        Ascending by particle, then class.
    of_row : ndarray of int64, shape [rows]
        The pair of each row.
    order, first : Tensor of int64, shape [rows], [pairs + 1]
        Rows pair by pair, and where each pair begins.
    """

    particle: NDArray[np.int64]
    class_index: NDArray[np.int64]
    of_row: NDArray[np.int64]
    order: Tensor
    first: Tensor

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.particle)


def pairs_of_rows(particle: NDArray[np.int64], class_index: NDArray[np.int64]) -> Pairs:
    """Sort rows, given by particle and class, into pairs."""
    classes = int(class_index.max(initial=0)) + 1
    pairs, of_row = np.unique(particle * classes + class_index, return_inverse=True)
    order = np.argsort(of_row, kind="stable")
    first = np.searchsorted(of_row[order], np.arange(len(pairs) + 1))
    return Pairs(pairs // classes, pairs % classes, of_row, torch.from_numpy(order), torch.from_numpy(first))


def focused_posterior(
    focus: FocusSphere,
    log_share: NDArray[np.float32],
    images: PreparedImages,
    rows: Rows,
    scores: Tensor,
    scorer: RowScorer,
    fraction: float,
    pixel_size: float,
) -> dict[str, Tensor]:
    """Turn log-weights of rows into posterior weights, in place: poses by the whole image, classes by the region.

    Parameters
    ----------
    focus : FocusSphere
    log_share : ndarray of float32, shape [classes]
        Log prior of each class.
    images : PreparedImages
    rows : Rows
    scores : Tensor of float32, shape [rows, shifts]
        Log-weights; overwritten.
    scorer : RowScorer
        That scored the rows.
    fraction : float
        Fraction of the probability to keep.
    pixel_size : float
        Å.

    Returns
    -------
    dict of Tensor, each of shape [particles]
        As `kernels.posterior.normalise_rows` returns it; ``evidence`` is that of the whole image.
    """
    pairs = pairs_of_rows(rows.particle, scorer.poses.classes_of(rows.orientation))
    found = normalise_rows(scores, pairs.order, pairs.first, fraction)
    best_row, best_shift = found["best_row"].numpy(), found["best_shift"].numpy()
    seen = focus_likelihood(
        focus, images, rows.particle[best_row], rows.orientation[best_row], best_shift, scorer, pixel_size
    )
    starts = np.searchsorted(pairs.particle, np.arange(len(images)))
    logarithm = log_share[pairs.class_index] + seen
    largest = np.maximum.reduceat(logarithm, starts)
    share = np.exp(logarithm - largest[pairs.particle])
    share /= np.add.reduceat(share, starts)[pairs.particle]
    kept = np.where(share >= 1.0 - fraction, share, 0.0)
    scores *= torch.from_numpy(kept[pairs.of_row].astype(np.float32)).to(scores.device)[:, None]
    winners = np.flatnonzero(logarithm == largest[pairs.particle])
    chosen = torch.from_numpy(winners[np.unique(pairs.particle[winners], return_index=True)[1]])
    best = {name: values[chosen] for name, values in found.items()}
    best["top"] = best["top"] * torch.from_numpy(share)[chosen]
    best["evidence"] = torch.from_numpy(np.logaddexp.reduceat(found["evidence"].numpy(), starts))
    return best


def focus_likelihood(
    focus: FocusSphere,
    images: PreparedImages,
    particle: NDArray[np.int64],
    orientation: NDArray[np.int64],
    shift: NDArray[np.int64],
    scorer: RowScorer,
    pixel_size: float,
) -> NDArray[np.float64]:
    """Log-likelihood of images in given poses within the disc that shows a sphere, up to a constant.

    The difference between image and model is divided by the noise, and its phases are turned where the CTF is
    negative: what the CTF spreads over the image comes back to where it belongs. A disc that holds the whole image
    gives the log-likelihood of the whole image (Parseval).

    Parameters
    ----------
    focus : FocusSphere
    images : PreparedImages
    particle, orientation, shift : ndarray of int64, shape [poses]
        Image, fine orientation and fine translation of each pose, by their numbers.
    scorer : RowScorer
        Of fine poses.
    pixel_size : float
        Å.

    Returns
    -------
    ndarray, shape [poses]
    """
    device, size = scorer.device, scorer.samples.size
    found = np.empty(len(particle))
    axis = torch.arange(size, device=device, dtype=torch.float32) - size // 2
    middle = torch.tensor(focus.centre, dtype=torch.float32, device=device) / pixel_size
    for start in range(0, len(particle), PAIRS_AT_ONCE):
        part = slice(start, start + PAIRS_AT_ONCE)
        views, which = np.unique(orientation[part], return_inverse=True)
        projections, matrices, _ = scorer.project(views)
        turn = torch.from_numpy(which).to(device)
        image = torch.from_numpy(particle[part]).to(device)
        ctf = images.ctf[image]
        moved = images.masked[image] * scorer.ramps[torch.from_numpy(shift[part]).to(device)]
        difference = (
            (moved - ctf * projections[turn]) * images.precision[image].sqrt() * torch.where(ctf < 0, -1.0, 1.0)
        )
        pixels = to_real(scorer.samples.scatter(difference), size)
        x, y = (matrices[turn] @ middle)[:, :2].unbind(dim=1)
        distance = torch.sqrt((axis - x[:, None])[:, None, :] ** 2 + (axis - y[:, None])[:, :, None] ** 2)
        ramp = ((distance - focus.radius / pixel_size) / EDGE).clamp(0.0, 1.0)
        weight = 0.5 + 0.5 * torch.cos(torch.pi * ramp)
        # Half of the components are independent, and sigma² is that of a real or imaginary part.
        found[part] = -0.25 * (weight * pixels**2).sum(dim=(1, 2)).double().cpu().numpy()
    return found
