"""What may be wrong with half maps, a mask or the FSC, in words a user can act on.

Each check looks at one thing and returns findings; none stops anything. The limits are constants below, each with its
reason; where RELION has one of its own (0.1 for the FSC of random phases) it is that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.fourier.fsc import shell_resolution
from vitrea.fourier.transforms import to_fourier
from vitrea.maps.automatic_mask import LOWPASS, choose_threshold
from vitrea.maps.half_maps import FSC_THRESHOLD, FscSettings, HalfMapFsc, as_tensor
from vitrea.maps.masking import lowpass_density, sphere_mask
from vitrea.maps.sharpening import GuinierPlot, SharpeningSettings, log_amplitudes

Floats = NDArray[np.floating[Any]]

_EMPTY_LOG = 13.0  # ln of the fall (2e-6) that no noise shows, but float32 rounding of a filtered map does
_EMPTY_SHARE = 0.1  # of the voxels where a reconstruction is: exact zeros in more of them are a mask's
_AGREE_AT_ALL = 0.5  # least FSC of the first shells of two maps of one thing in one place
_FIRST_SHELLS = slice(1, 4)
_NARROWEST_EDGE = 3.5  # voxels
_LARGEST_AT_BORDER = 0.5
_MOST_OF_BOX = 0.45  # the sphere that fits the box is 0.52 of it
_LEAST_PARTICLE = 0.2  # of a mask; about a half in masks made with usual extensions and edges
_MOST_CUT = 0.05  # of the signal; below 0.01 for masks around all of a particle
_SPECK, _SPECKS = 0.05, 5  # size of a piece over the largest one's, and how many of them are noise rather than chance
_CORE = 0.9  # of a mask; soft edges of neighbours run into each other
_RANDOM_TOO_HIGH = 0.1
_DIP = 0.1
_PLATEAU = 0.05  # mean FSC of the last tenth of the shells
_FALLING = 3  # times as many shells before that, in which a curve may still be on its way to zero
_RUN = 3  # shells above 0.143 in a row that noise does not make
_POOR_FIT = 0.5


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong.

    Attributes
    ----------
    name : str
        Short, for tables: ``mask too sharp``.
    text : str
        What was seen, and what to do about it.
    """

    name: str
    text: str


def check_half_maps(half1: Floats, half2: Floats, fsc: HalfMapFsc) -> list[Finding]:
    """Check that half maps are unmasked, unfiltered and in one place.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
    fsc : HalfMapFsc
        Of these maps.
    """
    found = []
    inside = sphere_mask(fsc.size, fsc.size // 2 - 1) > 0
    empty = float(np.mean((half1[inside] == 0) & (half2[inside] == 0)))
    if empty > _EMPTY_SHARE:
        found.append(
            Finding(
                "half maps are masked",
                f"{100 * empty:.0f}% of the voxels of both half maps are exactly 0: they seem to be masked already, "
                "which makes the FSC too good; give the unmasked, unfiltered half maps (their names end in _unfil.mrc)",
            )
        )
    amplitudes = [log_amplitudes(to_fourier(as_tensor(half), 3), fsc.size)[1:] for half in (half1, half2)]
    bare = np.flatnonzero(np.any([curve < curve.max() - _EMPTY_LOG for curve in amplitudes], axis=0))
    if len(bare):
        at = shell_resolution(int(bare[0]) + 1, fsc.voxel_size, fsc.size)
        found.append(
            Finding(
                "half maps are filtered",
                f"the half maps hold hardly anything beyond {at:.1f} Å: they seem to be low-pass filtered, and the FSC "
                "beyond means nothing; give the unfiltered half maps (their names end in _unfil.mrc)",
            )
        )
    first = float(fsc.unmasked[_FIRST_SHELLS].mean())
    if first < _AGREE_AT_ALL:
        found.append(
            Finding(
                "half maps do not agree",
                f"the half maps do not agree even at low resolution (FSC {first:.2f} in the first shells): they may "
                "be of opposite hands, in different places, or of different runs; compare them with vitrea compare",
            )
        )
    return found


def check_mask(mask: Floats, half1: Floats, half2: Floats, voxel_size: float) -> list[Finding]:
    """Check that a mask is soft, whole, and as large as the particle.

    Parameters
    ----------
    mask : ndarray, shape [n, n, n]
        0 to 1.
    half1, half2 : ndarray, shape [n, n, n]
        Half maps it is for.
    voxel_size : float
        Å.
    """
    found = []
    if (width := edge_width(mask)) < _NARROWEST_EDGE:
        found.append(
            Finding(
                "mask too sharp",
                f"the mask falls from 1 to 0 within about {width:.0f} voxel{'s' if round(width) != 1 else ''}: such "
                "an edge adds correlation of its own; make it at least 5 voxels wide (vitrea mask --width_soft_edge)",
            )
        )
    border = max(float(np.abs(np.take(mask, end, axis=axis)).max()) for axis in range(3) for end in (0, -1))
    if border > _LARGEST_AT_BORDER:
        found.append(
            Finding(
                "mask reaches the border",
                f"the mask is still {border:.2f} at the border of the box, where it is cut off sharply: make it "
                "smaller, or use a larger box",
            )
        )
    binary = mask > 0.5
    share = float(binary.mean())
    if share > _MOST_OF_BOX:
        found.append(
            Finding(
                "mask fills the box",
                f"{100 * share:.0f}% of the box are inside the mask: hardly any solvent is masked away, and the FSC is "
                "nearly the unmasked one; make a tighter mask (vitrea mask)",
            )
        )
    return [*found, *_specks(mask > _CORE), *_signal_and_solvent(mask, half1, half2, voxel_size, share)]


def _specks(binary: NDArray[np.bool_]) -> list[Finding]:
    labels, _ = ndimage.label(binary)
    sizes = np.bincount(labels.ravel())[1:]
    small = int(np.sum(sizes < _SPECK * sizes.max())) if len(sizes) else 0
    if small < _SPECKS:
        return []
    return [
        Finding(
            "solvent noise in the mask",
            f"beside its main part the mask has {small} specks, which are solvent noise: raise the threshold it is "
            "made with, or low-pass filter the map first (vitrea mask --ini_threshold, --lowpass)",
        )
    ]


def _signal_and_solvent(mask: Floats, half1: Floats, half2: Floats, voxel_size: float, share: float) -> list[Finding]:
    """Compare the mask with the particle, which is what stands out of the filtered average of the halves."""
    resolution = max(LOWPASS, 4.0 * voxel_size)
    average, noise = (lowpass_density((half1 + sign * half2) / 2, resolution, voxel_size) for sign in (1, -1))
    try:
        particle = average > choose_threshold(average, float(noise.std()))
    except ValueError:
        return []
    signal = np.square(average[particle], dtype=np.float64)
    cut = float(np.sum(signal * (1.0 - mask[particle])) / np.sum(signal))
    if cut > _MOST_CUT:
        return [
            Finding(
                "mask too tight",
                f"{100 * cut:.0f}% of the signal at {resolution:.0f} Å lies outside the mask, which cuts into the "
                "particle: lower the threshold it is made with or extend it by a few voxels (vitrea mask "
                "--ini_threshold, --extend_inimask); ignore this for a mask of a part",
            )
        ]
    inside = float(np.mean(particle[mask > 0.5])) if share else 0.0
    if share and inside < _LEAST_PARTICLE:
        return [
            Finding(
                "mask mostly solvent",
                f"only {100 * inside:.0f}% of what is inside the mask is particle, the rest is solvent noise, which "
                "lowers the FSC: make a tighter mask (vitrea mask)",
            )
        ]
    return []


def edge_width(mask: Floats) -> float:
    """Return how many voxels a raised-cosine edge has that is as steep as that of a mask; 1 for a binary one.

    What is looked at are the steps from voxel to voxel along the axes where the mask crosses one half.
    """
    steps = []
    for axis in range(3):
        before, after = (np.take(mask, np.arange(mask.shape[axis] - 1) + shift, axis=axis) for shift in (0, 1))
        steps.append(np.abs(after - before)[(before > 0.5) != (after > 0.5)])
    all_steps = np.concatenate(steps)
    if not len(all_steps):
        return float("inf")
    steepest = min(1.0, float(np.quantile(all_steps, 0.9)))
    return float(np.pi / 2 / np.arcsin(steepest)) if steepest > 0 else float("inf")


def check_fsc(fsc: HalfMapFsc, settings: FscSettings, mask_set_aside: bool = False) -> list[Finding]:
    """Check the course of the FSC curves.

    Parameters
    ----------
    fsc : HalfMapFsc
    settings : FscSettings
        Those it was measured with.
    mask_set_aside : bool
        Whether the mask was not used because it made the resolution worse.
    """
    if mask_set_aside:
        aside = Finding(
            "mask not used",
            "the unmasked FSC reaches further than the corrected one, so the mask was not used; make it wider or "
            "softer, or insist with --force_mask",
        )
        return [aside, *_shape_findings(fsc)]
    return [*_randomisation_findings(fsc, settings), *_shape_findings(fsc)]


def _randomisation_findings(fsc: HalfMapFsc, settings: FscSettings) -> list[Finding]:
    if fsc.masked is None:
        return []
    if fsc.randomised is None or fsc.randomised_from is None:
        below = settings.randomise_below
        both = bool((fsc.masked[1:] >= below).all())
        return [
            Finding(
                "FSC never falls low enough",
                f"the unmasked FSC{' and the masked one' if both else ''} never fall{'' if both else 's'} below "
                f"{below:g}, so phases cannot be randomised and the FSC is not corrected for the mask: the pixels are "
                "too large for these data, or the halves are not independent; extract with smaller pixels, or give "
                "--randomize_at_A",
            )
        ]
    found = []
    last = fsc.final_shell
    if (random := float(fsc.randomised[last])) > _RANDOM_TOO_HIGH and last >= fsc.randomised_from:
        found.append(
            Finding(
                "mask too tight or sharp",
                f"with random phases the masked FSC is still {random:.2f} at the final resolution (above "
                f"{_RANDOM_TOO_HIGH:g}): the mask is too tight or its edge too sharp; extend it and give it a wider "
                "soft edge",
            )
        )
    start = fsc.randomised_from + 2
    near = fsc.corrected[start : start + 4]
    dip = int(near.argmin()) if len(near) else 0
    later = fsc.corrected[start + dip + 1 : start + dip + 6]
    # Real curves have dips of their own; one of the correction is missing in the masked curve.
    made = len(later) > 0 and fsc.masked[start + dip] > near[dip] + _DIP
    if made and min(later.max(), fsc.corrected[start - 1]) > near[dip] + _DIP:
        found.append(
            Finding(
                "dip where phases are randomised",
                f"the corrected FSC dips to {near[dip]:.2f} just beyond the resolution from which phases are random "
                "and recovers: the mask is too tight or too sharp, and the curve there is not to be trusted",
            )
        )
    return found


def _shape_findings(fsc: HalfMapFsc) -> list[Finding]:
    """Judge the course of the corrected curve (the unmasked one without a mask) and of the unmasked one."""
    curve, last, found = fsc.corrected, fsc.corrected_shell, []
    reached = shell_resolution(last, fsc.voxel_size, fsc.size)
    if (fsc.unmasked[1:] >= FSC_THRESHOLD).all():
        found.append(
            Finding(
                "unmasked FSC does not drop",
                f"the unmasked FSC never falls below {FSC_THRESHOLD}, even at Nyquist ({2 * fsc.voxel_size:.2f} Å): "
                "extract with smaller pixels, and make sure that the two halves are independent (not of the same "
                "particles, not masked, not filtered with one filter)",
            )
        )
    tail = curve[-max(3, len(curve) // 10) :]
    crossed = last < len(curve) - 1 - len(tail)
    if float(tail.mean()) > FSC_THRESHOLD and not crossed:
        found.append(
            Finding(
                "FSC not zero at Nyquist",
                f"the FSC is still {tail.mean():.2f} near Nyquist ({2 * fsc.voxel_size:.2f} Å): the pixels, not the "
                "data, limit the resolution; extract with smaller pixels",
            )
        )
    elif float(tail.mean()) > _PLATEAU and last < len(curve) - 1 - _FALLING * len(tail):
        found.append(
            Finding(
                "FSC not zero at Nyquist",
                f"the FSC falls below {FSC_THRESHOLD} at {reached:.1f} Å but stays near {tail.mean():.2f} up "
                "to Nyquist: the halves share something that is not structure (duplicate particles, a mask's edge, an "
                "artefact of processing), and the resolution may be too good",
            )
        )
    if fsc.noise is not None and 0 < last < len(curve) - 1 and curve[last] < fsc.above_noise[last]:
        told = shell_resolution(fsc.told_shell, fsc.voxel_size, fsc.size)
        how_far = f"it is told from noise down to {told:.1f} Å" if fsc.told_shell else "no shell is told from noise"
        found.append(
            Finding(
                "resolution not told from noise",
                f"where the FSC falls below {FSC_THRESHOLD}, at {reached:.1f} Å, it is {curve[last]:.2f}, but noise "
                f"alone reaches {fsc.above_noise[last]:.2f} there (three standard deviations), so few independent "
                f"samples does a shell hold; {how_far}: do not quote this resolution; give maps that agree, a wider "
                "mask or a larger box",
            )
        )
    beyond = (curve >= fsc.above_noise)[last + 1 :]
    runs = [start for start in range(len(beyond) - _RUN + 1) if beyond[start : start + _RUN].all()]
    if runs:
        at = shell_resolution(last + 1 + runs[0], fsc.voxel_size, fsc.size)
        found.append(
            Finding(
                "FSC rises again",
                f"the FSC falls below {FSC_THRESHOLD} at {reached:.1f} Å and is above it again from {at:.1f} Å "
                "on: look at the curve; errors of the CTF, duplicate particles or a mask do that, and the resolution "
                "told is the first fall",
            )
        )
    return found


def check_sharpening(guinier: GuinierPlot, settings: SharpeningSettings, resolution: float) -> list[Finding]:
    """Check the fit of the B-factor, or the one given.

    Parameters
    ----------
    guinier : GuinierPlot
    settings : SharpeningSettings
        Those that made it.
    resolution : float
        Final resolution in Å.
    """
    if not settings.automatic:
        if settings.bfactor <= 0:
            return []
        text = f"a positive B-factor ({settings.bfactor:g} Å²) blurs the map; give a negative one to sharpen it"
        return [Finding("B-factor blurs", text)]
    fit = guinier.fit
    if fit is None:
        return [
            Finding(
                "B-factor not fitted",
                f"fewer than three shells lie between --autob_lowres ({settings.fit_lowest:g} Å) and the final "
                f"resolution ({resolution:.1f} Å): no B-factor was fitted or applied; give one with --adhoc_bfac",
            )
        ]
    if fit.slope >= 0 or fit.correlation < _POOR_FIT:
        return [
            Finding(
                "Guinier plot not a line",
                f"the Guinier plot is not a falling line between {settings.fit_lowest:g} Å and the end of the fit (B = "
                f"{4 * fit.slope:.0f} Å², r² = {fit.correlation:.2f}): do not trust the B-factor; change "
                "--autob_lowres, or give one with --adhoc_bfac",
            )
        ]
    return []
