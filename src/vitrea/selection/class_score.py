"""Which classes of a 2D classification show particles: a score from 0 to 1, with reasons.

Every criterion is a ramp: 1 where a feature is as particles have it, 0 where junk has it, a straight line between. The
score is the product: junk is junk for one reason, particles pass everywhere. The ends of the ramps were set by physics
where there is some (energy, count), otherwise with averages of real beta-galactosidase and simulated ones, and are
meant to be left alone: a class near `SCORE_THRESHOLD` is one to look at.

Found not to tell: the accuracies of angles and offsets (RELION's noise averages of real particles, being rough, promise
accuracies as good as particles'), and the class's own signal-to-noise ratio (an average of aligned noise has one as
high as a real one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.selection.class_features import Classes, ClassFeatures, measure_classes, relative_fineness

Floats = NDArray[np.float64]

SCORE_THRESHOLD = 0.5
# Of aligned noise (see `class_features.signal_energy`) for M = 3e5 poses and places tried per particle: some 1e3 that
# are independent at the resolution of an alignment, and one picked out of some 300 by a template. It is the mean of z²
# for normal z above the level that one in M exceeds, 1 + t φ(t) / Q(t) with Q(t) = 1 / M.
CHANCE_ENERGY = 22.0


@dataclass(frozen=True)
class Criterion:
    """A ramp from 0 at `bad` to 1 at `good` (either may be the larger), and the reason it gives."""

    bad: float
    good: float
    reason: str

    def __call__(self, values: Floats) -> Floats:
        """Return the value of the ramp; 0 for NaN."""
        ramp = (values - self.bad) / (self.good - self.bad)
        return np.asarray(np.clip(np.nan_to_num(ramp, nan=0.0), 0.0, 1.0))


# By the feature's name. Energy is measured in units of what chance gives.
CRITERIA = {
    "count": Criterion(5.0, 20.0, "hardly any particles"),
    "crowd": Criterion(0.02, 0.1, "hardly any of the particles"),
    "fineness": Criterion(0.35, 0.6, "resolution far from that of the best class"),
    "darkness": Criterion(0.5, 0.25, "dark spots as strong as bright ones: noise"),
    "edge": Criterion(0.35, 0.12, "as rough at the edge of the mask as inside"),
    "unity": Criterion(0.75, 0.95, "in pieces: several particles, or noise"),
    "offset": Criterion(0.22, 0.1, "off-centre"),
    "area": Criterion(0.05, 0.1, "a spot, not a particle"),
    "energy": Criterion(1.0, 1.1, "no more signal in its particles than alignment finds in noise"),
    "coarse": Criterion(0.9, 0.75, "a blob without structure"),
    "evidence": Criterion(1.4, 1.75, "not even the best classes show more signal than alignment finds in noise"),
    # Of some twenty averages of noise one looks like a particle by chance.
    "company": Criterion(0.05, 0.15, "next to nothing of the set is in good classes: these may be chance"),
}
_OF_THE_JOB = ("evidence", "company")
# What the best classes, those of most energy, hold of all particles, or, where that is less, of those in classes that
# are good but for their energy.
_BEST_SHARES = (0.2, 0.5)


@dataclass(frozen=True)
class ClassScores:
    """Scores of classes.

    Attributes
    ----------
    scores : ndarray of float64, shape [classes]
        0 to 1; from `SCORE_THRESHOLD` on a class shows particles.
    criteria : dict of str to ndarray, shape [classes]
        Value of each criterion, 0 to 1.
    """

    scores: Floats
    criteria: dict[str, Floats]

    @property
    def good(self) -> NDArray[np.bool_]:
        """Tell which classes to keep, shape [classes]."""
        return np.asarray(self.scores >= SCORE_THRESHOLD)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks most against each class, where several do all of them; empty text where nothing does."""
        values = np.stack(list(self.criteria.values()))
        texts = [CRITERIA[name].reason for name in self.criteria]
        return tuple(
            "; ".join(text for text, value in zip(texts, column, strict=True) if value == column.min() < 1)
            for column in values.T
        )


def score_classes(classes: Classes, chance_energy: float = CHANCE_ENERGY) -> ClassScores:
    """Score the classes of a 2D classification.

    Parameters
    ----------
    classes : Classes
        Without `noise_power` and `ctf2` the criteria energy and coarse are left out: averages of noise aligned to a
        template cannot be told then.
    chance_energy : float
        Energy that alignment finds in noise, about 2 ln M for M independent poses and places tried for each particle.

    Raises
    ------
    ValueError
        As `measure_classes`.
    """
    return score_features(measure_classes(classes), chance_energy)


def score_features(features: ClassFeatures, chance_energy: float = CHANCE_ENERGY) -> ClassScores:
    """Score classes whose features were measured; see `score_classes`."""
    values = {name: getattr(features, name) for name in CRITERIA if name not in _OF_THE_JOB}
    if features.energy is not None:
        values["energy"] = features.energy / chance_energy
    criteria = {name: CRITERIA[name](value) for name, value in values.items() if value is not None}
    if features.energy is not None:
        others = np.prod([value for name, value in criteria.items() if name != "energy"], axis=0)
        best = _energy_of_best(features.energy, features.count, others >= SCORE_THRESHOLD)
        criteria["evidence"] = CRITERIA["evidence"](np.full(len(others), best / chance_energy))
    good = np.prod(list(criteria.values()), axis=0) >= SCORE_THRESHOLD
    share = features.count[good].sum() / features.count.sum() if good.any() else 1.0
    criteria["company"] = CRITERIA["company"](np.full(len(features.count), share))
    return ClassScores(np.prod(list(criteria.values()), axis=0), criteria)


def _energy_of_best(energy: Floats, count: Floats, good: NDArray[np.bool_]) -> float:
    """Return the energy that the best classes reach, of those that are otherwise good; 0 where there are none.

    Classes of aligned noise find more than chance where they are many and small: references are poses, too, and few
    images are fitted by their own average. That all classes of a job do no better than that is what gives it away.
    """
    order = np.flatnonzero(good)[np.argsort(-energy[good])]
    gathered = np.cumsum(count[order])
    if not len(order) or not gathered[-1] > 0:
        return 0.0
    enough = min(_BEST_SHARES[0] * count.sum(), _BEST_SHARES[1] * gathered[-1])
    return float(energy[order][np.argmax(gathered >= enough)])


def score_maps(share: Floats, resolution: Floats, particles: int) -> ClassScores:
    """Score the classes of a 3D classification, by the criteria count, crowd and fineness alone.

    What a map should look like is not known here; junk, however, gathers in classes that are small or poorly resolved.
    A class of another molecule, as well resolved as the others, is kept.

    Parameters
    ----------
    share, resolution : ndarray, shape [classes]
        As in `Classes`.
    particles : int
        Of all classes together.

    Raises
    ------
    ValueError
        If shares and resolutions are not as many.
    """
    if len(share) != len(resolution):
        raise ValueError("shares and resolutions must be as many")
    values = {
        "count": share * particles,
        "crowd": share * len(share),
        "fineness": relative_fineness(resolution, share),
    }
    criteria = {name: CRITERIA[name](value) for name, value in values.items()}
    return ClassScores(np.prod(list(criteria.values()), axis=0), criteria)
