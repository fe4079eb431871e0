"""How well a result agrees with the truth of a mixed set: what was selected, how it was classified and ranked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata

from vitrea.simulate.population import PARTICLE


@dataclass(frozen=True)
class SelectionScore:
    """What a selection kept.

    Attributes
    ----------
    real_kept, junk_dropped : float
        0 to 1; NaN where the set has none.
    kinds : mapping of str to tuple of int
        Images of each kind: how many there are, and how many were kept.
    """

    real_kept: float
    junk_dropped: float
    kinds: Mapping[str, tuple[int, int]]


def score_selection(kinds: NDArray[Any], kept: NDArray[np.bool_]) -> SelectionScore:
    """Compare a selection with the truth.

    Parameters
    ----------
    kinds : ndarray of str, shape [images]
        Column ``vitreaSimulatedKind`` of the truth.
    kept : ndarray of bool, shape [images]
    """
    real = kinds == PARTICLE
    counts = {str(kind): (int((kinds == kind).sum()), int(kept[kinds == kind].sum())) for kind in sorted(set(kinds))}
    return SelectionScore(_share(kept[real]), _share(~kept[~real]), counts)


@dataclass(frozen=True)
class AssignmentScore:
    """How classes correspond to molecules.

    Attributes
    ----------
    accuracy : float
        Share of particles in the class that is matched with their molecule, one class a molecule at most.
    purity : float
        Share of particles that are of the molecule most frequent in their class: a molecule may have many classes.
    molecules, classes : ndarray of int, shape [molecules] and [classes]
        Numbers, sorted.
    counts : ndarray of int64, shape [molecules, classes]
        Particles.
    matches : mapping of int to int
        Molecule by class, of the classes that are matched.
    """

    accuracy: float
    purity: float
    molecules: NDArray[np.int64]
    classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    matches: Mapping[int, int]


def score_assignment(molecules: NDArray[np.int64], classes: NDArray[np.int64]) -> AssignmentScore:
    """Match classes with molecules so that most particles agree (Kuhn 1955, doi:10.1002/nav.3800020109).

    Parameters
    ----------
    molecules, classes : ndarray of int, shape [particles]
        The truth, and what was found.

    Raises
    ------
    ValueError
        If there are no particles.
    """
    if not len(molecules):
        raise ValueError("there are no particles to compare")
    true, row = np.unique(molecules, return_inverse=True)
    found, column = np.unique(classes, return_inverse=True)
    counts = np.zeros((len(true), len(found)), dtype=np.int64)
    np.add.at(counts, (row, column), 1)
    pairs = linear_sum_assignment(counts, maximize=True)
    matches = {int(found[j]): int(true[i]) for i, j in zip(*pairs, strict=True)}
    total = len(molecules)
    return AssignmentScore(counts[pairs].sum() / total, counts.max(axis=0).sum() / total, true, found, counts, matches)


def area_under_roc(scores: NDArray[np.float64], junk: NDArray[np.bool_]) -> float:
    """Return the chance that a random piece of junk has a higher score than a random particle; ties count half.

    This is the area under the receiver operating characteristic (Hanley & McNeil 1982,
    doi:10.1148/radiology.143.1.7063747). NaN where either is missing.
    """
    junk = np.asarray(junk, dtype=bool)
    bad, good = int(junk.sum()), int((~junk).sum())
    if not bad or not good:
        return float("nan")
    return float((rankdata(scores)[junk].sum() - bad * (bad + 1) / 2) / (bad * good))


def _share(chosen: NDArray[np.bool_]) -> float:
    return float(chosen.mean()) if len(chosen) else float("nan")
