"""How probable is it that an image shows one centred particle? Five hypotheses, weighed by Bayes' rule.

particle
    One particle of the classes near the centre, at places distributed normally about it.
nothing
    Noise.
elsewhere
    One particle anywhere inside the mask: picked off-centre.
pair
    Two particles inside the mask.
contaminant
    Something else: too bright in some band or place for all of the others.

The evidence of the first four is `evidence.Evidence`. A contaminant can look like anything, so it is weighed against a
particle by its brightness alone (`brightness.excess`, z). Particles have a z that is the largest of some m normal ones,
with a density of about ``m exp(-z²/2) / sqrt(2 pi)``; that of contaminants is taken as exponential, ``exp(-z/Z) / Z``
with Z = 6: mostly weak ones, few very bright.

How frequent each hypothesis is, and how wide the distribution of places, is not given but estimated from the set: the
shares are those of the maximum of likelihood (expectation maximisation of mixture weights), of the widths
the likeliest is taken. No labels are learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from vitrea.selection.evidence import OFFSET_SIGMAS, Evidence

Floats = NDArray[np.float64]
HYPOTHESES = ("particle", "nothing", "elsewhere", "pair", "contaminant")
_CONTAMINANT_SCALE = 6.0  # Z of the module's head
_ITERATIONS = 100
_START = (0.8, 0.05, 0.05, 0.05, 0.05)
_RAREST = 1e-3  # a hypothesis of share 0 could never come back


@dataclass(frozen=True)
class Verdict:
    """What images most probably show.

    Attributes
    ----------
    probabilities : ndarray, shape [images, len(HYPOTHESES)]
        Rows sum to 1; rows of NaN where an image could not be used.
    shares : ndarray, shape [len(HYPOTHESES)]
        How frequent each hypothesis is in the set.
    offset_sigma : float
        Width of the distribution of particles about the centres of their images, Å.
    """

    probabilities: Floats
    shares: Floats
    offset_sigma: float

    @property
    def particle(self) -> Floats:
        """Probability of one centred particle, shape [images]; 0 for images that could not be used."""
        return np.asarray(np.nan_to_num(self.probabilities[:, 0], nan=0.0))


def weigh(evidence: Evidence, excess: Floats, numbers: int) -> Verdict:
    """Weigh the hypotheses for all images of a set together.

    Parameters
    ----------
    evidence : Evidence
        Of all images.
    excess : ndarray, shape [images]
        `brightness.excess`; NaN: not usable.
    numbers : int
        How many numbers `excess` is the largest of.
    """
    usable = np.isfinite(excess) & np.isfinite(evidence.elsewhere)
    z, scale = excess[usable], _CONTAMINANT_SCALE
    contaminant = z**2 / 2 - z / scale - np.log(scale * numbers / np.sqrt(2 * np.pi))
    best: tuple[float, int, Floats, Floats] | None = None
    for place in range(len(OFFSET_SIGMAS)):
        centred = evidence.centred[usable, place]
        others = (np.zeros_like(centred), evidence.elsewhere[usable], evidence.pair[usable], centred + contaminant)
        logs = np.stack([centred, *others], axis=1)
        shares, found, likelihood = _fit_shares(logs)
        if best is None or likelihood > best[0]:
            best = (likelihood, place, shares, found)
    assert best is not None
    probabilities = np.full((len(excess), len(HYPOTHESES)), np.nan)
    probabilities[usable] = best[3]
    return Verdict(probabilities, best[2], OFFSET_SIGMAS[best[1]])


def _fit_shares(logs: Floats) -> tuple[Floats, Floats, float]:
    """Return the shares of hypotheses, their probabilities for each image, and the log likelihood of the set."""
    shares = np.array(_START)
    for _ in range(_ITERATIONS):
        weighted = logs + np.log(shares)
        total = logsumexp(weighted, axis=1, keepdims=True)
        found = np.exp(weighted - total)
        new = np.maximum(found.mean(axis=0), _RAREST) if len(logs) else shares
        shares = new / new.sum()
    return shares, found, float(total.sum())
