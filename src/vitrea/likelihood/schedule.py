"""When to look at finer detail, when to sample more finely, and when to stop.

The rules of RELION's 3D auto-refine (Scheres 2012, doi:10.1016/j.jsb.2012.09.006): resolution follows the gold-standard
FSC; sampling becomes finer when neither resolution nor poses improve any more, until the step is finer than
the accuracy with which the data determine poses; then a last iteration uses all frequencies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vitrea.geometry.sampling import angular_step
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import FloatArray, Progress, Sampling

# Poses count as still settling while their mean change is at least this much smaller than ever before.
SETTLING = 1.03
# ... and while it is larger than this fraction of the coarse step: below, the grid itself makes the changes.
GRID_NOISE = 0.4
# A step finer than this fraction of the accuracy is finer than the data can tell.
ACCURACY_FRACTION = 0.75
# Half maps agree where their FSC is at least this (Rosenthal & Henderson 2003, doi:10.1016/j.jmb.2003.07.013).
RESOLVED_FSC = 0.143
# An FSC above this at the edge of the comparison says that there is more to see beyond it.
HIGH_FSC = 0.2
# Stands for a change or an accuracy not yet known, as in RELION's files.
UNKNOWN = 999.0
# Largest fine translational step, Å.
LARGEST_FINE_STEP = 1.5


@dataclass(frozen=True)
class Evidence:
    """What the agreement of two half maps must exceed before it is believed.

    Attributes
    ----------
    threshold : ndarray, shape [shells]
        What noise hardly reaches: 0.143, or more where few independent samples make a shell.
    given : int
        Last shell of the start map, which was believed beforehand.
    inherited : int
        Last shell that the start map, or what the halves share, reaches through the masks: agreement up to there may be
        what both halves were begun with.
    """

    threshold: FloatArray
    given: int
    inherited: int

    def supports(self, fsc: FloatArray, shell: int) -> bool:
        """Tell whether some shell up to this one, beyond what was inherited, agrees better than by chance.

        One is enough: of a hollow molecule, say, coarse shells are nearly radial and prove nothing, but finer ones do.
        """
        beyond = slice(self.inherited + 1, shell + 1)
        return bool((fsc[beyond] >= self.threshold[beyond]).any())


def resolved_shell(ssnr: FloatArray, fsc: FloatArray) -> int:
    """Return the last shell in which signal outweighs noise, before the FSC first falls below 0.143.

    Dips of the signal on the way do not count, as in RELION; beyond a gap in the FSC a high value is chance.
    """
    low = np.flatnonzero(fsc[1:] < RESOLVED_FSC)
    supported = int(low[0]) + 1 if len(low) else len(fsc)
    above = np.flatnonzero(ssnr[:supported] >= 1.0)
    return int(above[-1]) if len(above) else 0


def signal_shell(ssnr: FloatArray) -> int:
    """Return the last shell up to which signal outweighs noise without a break: the resolution of a class."""
    low = np.flatnonzero(ssnr[1:] < 1.0)
    return int(low[0]) if len(low) else len(ssnr) - 1


def update_resolution(
    progress: Progress, ssnr: FloatArray, fsc: FloatArray, box_angstrom: float, evidence: Evidence | None = None
) -> Progress:
    """Return the progress with resolution and image size as the new FSC allows.

    The next comparison reaches as far as the FSC does. What is claimed is no more than the start map's resolution
    where chance, or the start map itself, may have made the half maps agree.

    Parameters
    ----------
    progress : Progress
    ssnr, fsc : ndarray, shape [shells]
    box_angstrom : float
        Box size in Å.
    evidence : Evidence, optional
        Without it whatever half maps agree in counts.
    """
    shells = len(fsc) - 1
    shell = claimed = max(resolved_shell(ssnr, fsc), 1)
    if evidence is not None and not evidence.supports(fsc, shell):
        claimed = max(min(shell, evidence.given), 1)
    best = box_angstrom / shell
    improved = best < progress.best_resolution * (1 - 1e-9)
    first_half = next((s for s in range(1, shells + 1) if fsc[s] < 0.5), shells)
    first_seventh = next((s for s in range(1, shells + 1) if fsc[s] < RESOLVED_FSC), shells)
    increment = max(progress.increment, first_seventh - first_half + 5)
    high = bool(fsc[max(progress.current_size // 2 - 1, 0)] > HIGH_FSC)
    reach = shell + (round(0.25 * shells) if high else increment)
    return replace(
        progress,
        resolution=box_angstrom / claimed,
        best_resolution=min(best, progress.best_resolution),
        stalled_resolution=0 if improved else progress.stalled_resolution + 1,
        increment=increment,
        high_fsc_at_limit=high,
        current_size=2 * min(reach, shells),
    )


def update_changes(progress: Progress, sampling: Sampling, rotation: float, offset: float) -> Progress:
    """Return the progress with the changes of the poses in this iteration taken into account.

    Parameters
    ----------
    progress : Progress
    sampling : Sampling
        Of the iteration just done.
    rotation, offset : float
        Degrees and Å.
    """
    known = progress.smallest_rotation < UNKNOWN  # one iteration alone on a grid does not tell
    turned = rotation < GRID_NOISE * angular_step(sampling.healpix_order)
    moved = offset < GRID_NOISE * sampling.offset_step
    turned = turned or SETTLING * rotation >= progress.smallest_rotation
    moved = moved or SETTLING * offset >= progress.smallest_offset
    settled = known and turned and moved
    return replace(
        progress,
        change_rotation=rotation,
        change_offset=offset,
        smallest_rotation=min(rotation, progress.smallest_rotation),
        smallest_offset=min(offset, progress.smallest_offset),
        stalled_poses=progress.stalled_poses + 1 if settled else 0,
    )


def has_converged(progress: Progress) -> bool:
    """Tell whether nothing improves any more and the sampling is as fine as it can be."""
    return progress.fine_enough and progress.stalled_resolution >= 1 and progress.stalled_poses >= 1


def update_sampling(
    progress: Progress, sampling: Sampling, settings: Settings, accuracy_rotation: float, accuracy_translation: float
) -> tuple[Progress, Sampling]:
    """Return progress and sampling for the next iteration.

    Parameters
    ----------
    progress : Progress
    sampling : Sampling
        Of the iteration just done.
    settings : Settings
    accuracy_rotation, accuracy_translation : float
        Degrees and Å.
    """
    if progress.stalled_resolution < 1 or progress.stalled_poses < 1:
        return progress, sampling
    step = angular_step(sampling.healpix_order, settings.oversampling)
    if step < ACCURACY_FRACTION * accuracy_rotation:
        return replace(progress, fine_enough=True), sampling
    order = sampling.healpix_order + 1
    offset_range, offset_step = next_offsets(progress, sampling, settings.oversampling, accuracy_translation)
    finer = Sampling(order, offset_range, offset_step, local=order >= settings.auto_local_healpix_order)
    progress = replace(
        progress, stalled_resolution=0, stalled_poses=0, smallest_rotation=UNKNOWN, smallest_offset=UNKNOWN
    )
    return progress, finer


def next_offsets(
    progress: Progress, sampling: Sampling, oversampling: int, accuracy_translation: float
) -> tuple[float, float]:
    """Return range and coarse step (Å) of the next translational search.

    The step follows the accuracy; the range covers five times the changes seen, grows by at most 30% at a time, and
    neither leaves fewer than 3 × 3 coarse points nor asks for very many.
    """
    step = min(LARGEST_FINE_STEP, ACCURACY_FRACTION * accuracy_translation) * 2**oversampling
    reach = min(5.0 * progress.change_offset, 1.3 * sampling.offset_range)
    reach = max(reach, 1.5 * step)
    if reach > 4.0 * step:
        reach /= 2.0
    if reach > 4.0 * step:
        step = reach / 4.0
    return reach, step
