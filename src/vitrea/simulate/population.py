"""What each image of a simulated set shows: which of several molecules, or which kind of junk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.simulate.contaminants import CONTAMINANTS

JunkKind = Literal["noise", "contaminant", "pair", "picked_noise"]

# Columns of the truth. Junk has class 0.
KIND_LABEL, CLASS_LABEL = "vitreaSimulatedKind", "rlnClassNumber"
PARTICLE, NOISE, PAIR, PICKED_NOISE, BORDER = "particle", "noise", "pair", "picked_noise", "border"
# What the truth calls the members of each kind of junk.
JUNK_NAMES: Mapping[JunkKind, tuple[str, ...]] = {
    "noise": (NOISE,),
    "contaminant": (*CONTAMINANTS, BORDER),
    "pair": (PAIR,),
    "picked_noise": (PICKED_NOISE,),
}
_GOLDEN = (5**0.5 - 1) / 2
_KINDS = 3  # random stream


@dataclass(frozen=True)
class Population:
    """Shares of molecules and of junk.

    Attributes
    ----------
    shares : tuple of float
        Of the molecules among the particles that are not junk; positive, only their ratios count.
    junk_fraction : float
        0 to 1, of all images.
    junk_kinds : tuple of str
        Kinds of junk, in equal parts: ``noise`` (nothing but noise), ``contaminant`` (ice, gold, carbon, drops, and
        windows over the micrograph's border), ``pair`` (two particles, both off the centre), ``picked_noise`` (noise
        that looks like a template by chance).
    """

    shares: tuple[float, ...] = (1.0,)
    junk_fraction: float = 0.0
    junk_kinds: tuple[JunkKind, ...] = ("noise", "contaminant", "pair")


def draw_population(population: Population, number: int, seed: int) -> dict[str, NDArray[Any]]:
    """Say what every image shows.

    The draw of image i is the fractional part of a start (by the seed) plus i times the golden ratio. Such a sequence
    fills [0, 1) more evenly than random numbers (its discrepancy falls as log N / N; Niederreiter 1992, Random Number
    Generation and Quasi-Monte Carlo Methods, ch. 3): every run of consecutive images, and so every micrograph,
    has the shares asked for, and image i does not depend on the number of images.

    Returns
    -------
    dict of str to ndarray, shape [number]
        ``vitreaSimulatedKind`` (``particle``, or one of `JUNK_NAMES`) and ``rlnClassNumber`` (the molecule's number
        from 1; 0 for junk).
    """
    shares = np.asarray(population.shares, dtype=np.float64)
    kinds = population.junk_kinds if population.junk_fraction else ()
    junk = {name: 1 / len(kinds) / len(JUNK_NAMES[kind]) for kind in kinds for name in JUNK_NAMES[kind]}
    cells = [*((1 - population.junk_fraction) * shares / shares.sum())]
    cells += [population.junk_fraction * share for share in junk.values()]
    start = np.random.default_rng([seed, _KINDS]).random()
    level = (start + _GOLDEN * np.arange(number)) % 1.0
    cell = np.minimum(np.searchsorted(np.cumsum(cells), level, side="right"), len(cells) - 1)
    names = np.array([PARTICLE] * len(shares) + [*junk], dtype=object)
    classes = np.array([*range(1, len(shares) + 1), *([0] * len(junk))], dtype=np.int64)
    return {KIND_LABEL: names[cell], CLASS_LABEL: classes[cell]}
