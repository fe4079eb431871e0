"""What can be measured on the averages of a 2D classification that tells particles from junk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.fourier.shells import radial_power_spectrum, shell_counts

_RING = 0.85  # the ring at the edge of the mask begins at this share of its radius
_BRIGHT = 0.4  # of the brightest grey value: what counts as particle
_COARSE = 0.375  # of the particle's diameter: coarser waves carry its outline only
_BEST_SHARE = 0.2  # of the particles, in the finest classes: what sets the best resolution

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """The classes of a 2D classification.

    Attributes
    ----------
    images : ndarray of float32, shape [classes, n, n]
        Averages, corrected for the CTF, particles white, solvent 0, on the scale of the images.
    share : ndarray, shape [classes]
        Share of the particles (``rlnClassDistribution``).
    resolution : ndarray, shape [classes]
        Å (``rlnEstimatedResolution``).
    particles : int
        Particles of all classes together.
    pixel_size, diameter : float
        Å; `diameter` is that of the mask.
    noise_power : ndarray, shape [n // 2 + 1], or None
        Mean ``|N|²`` of the images' noise by shell, for orthonormal transforms. RELION's ``rlnSigma2Noise`` is that of
        a real or imaginary part over n², and of images masked with zeros: ``2 n² rlnSigma2Noise`` over the mean square
        of their mask.
    ctf2 : ndarray, shape [n // 2 + 1], or None
        Mean square of the particles' CTF by shell.
    """

    images: NDArray[np.float32]
    share: Floats
    resolution: Floats
    particles: int
    pixel_size: float
    diameter: float
    noise_power: Floats | None = None
    ctf2: Floats | None = None


@dataclass(frozen=True)
class ClassFeatures:
    """Measured on each class, arrays of shape [classes]; NaN where an average is empty or not finite.

    Attributes
    ----------
    count : ndarray
        Particles.
    crowd : ndarray
        Particles over an even share.
    fineness : ndarray
        Resolution that the finest classes with a fifth of the particles reach over the class's own. A class's own is
        the one given, or that of the last shell up to which most have more signal than noise, whichever is finer.
    darkness : ndarray
        How far the darkest spots lie below the solvent, over how far the brightest lie above it. Protein is denser than
        solvent everywhere; noise goes both ways alike.
    edge : ndarray
        Variance in the ring at the edge of the mask over that inside the ring. Solvent there is flat; noise,
        neighbours, carbon and particles larger than the mask are not.
    unity : ndarray
        Share of the largest connected piece in what is bright: 1 for one particle.
    offset : ndarray
        Distance of that piece's centre of mass from the centre, over the radius of the mask.
    area : ndarray
        Bright pixels over those of the mask.
    energy : ndarray or None
        See `signal_energy`. None where noise or CTF are not known.
    coarse : ndarray or None
        Share of the energy in waves longer than 3/8 of the diameter: all of it for a blob without structure.
    """

    count: Floats
    crowd: Floats
    fineness: Floats
    darkness: Floats
    edge: Floats
    unity: Floats
    offset: Floats
    area: Floats
    energy: Floats | None
    coarse: Floats | None


def measure_classes(classes: Classes) -> ClassFeatures:
    """Measure all features.

    Raises
    ------
    ValueError
        If the arrays do not fit each other, or the mask is smaller than three pixels.
    """
    images = classes.images
    if not len(images) == len(classes.share) == len(classes.resolution):
        raise ValueError("images, shares and resolutions must be as many")
    radius = classes.diameter / (2 * classes.pixel_size)
    if radius < 3:
        raise ValueError(f"a mask of {classes.diameter:g} Å is too small for pixels of {classes.pixel_size:g} Å")
    shapes = np.array([_measure_shape(image, radius) for image in images]).T
    energy = coarse = None
    resolution, extent = classes.resolution, images.shape[-1] * classes.pixel_size
    if classes.noise_power is not None and classes.ctf2 is not None:
        spectrum = signal_energy(classes)
        energy = spectrum.sum(axis=1)
        above_noise = spectrum * (classes.share * classes.particles)[:, None] > _components(images.shape[-1])
        resolution = np.fmin(resolution, extent / np.maximum(_last_shell(above_noise), 0.5))
        low = np.arange(spectrum.shape[1]) * _COARSE * classes.diameter < extent
        with np.errstate(invalid="ignore"):
            coarse = spectrum[:, low].sum(axis=1) / energy
    darkness, edge, unity, offset, area = shapes
    crowd = classes.share * len(images)
    return ClassFeatures(
        classes.share * classes.particles, crowd, relative_fineness(resolution, classes.share),
        darkness, edge, unity, offset, area, energy, coarse,
    )  # fmt: skip


def _last_shell(signal: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the last shell with signal up to which most shells have it, shape [classes]; 0 where there is none.

    The resolution that RELION writes ends at the first shell without: in small classes that may be one of the very
    first, where the CTF is next to nothing, or near a zero of the particle's transform.
    """
    shells = np.arange(signal.shape[1])
    reached = signal & (shells > 0) & (2 * np.cumsum(signal, axis=1) >= shells)
    return np.asarray(np.where(reached, shells, 0).max(axis=1))


def relative_fineness(resolution: Floats, share: Floats) -> Floats:
    """Return the best resolution over each class's own; one small class of sharp-edged junk must not set the best.

    Parameters
    ----------
    resolution : ndarray, shape [classes]
        Å; what is not finite and above 0 is not known, and gives 0.
    share : ndarray, shape [classes]
        Share of the particles.
    """
    usable = np.where(np.isfinite(resolution) & (resolution > 0), resolution, np.inf)
    order = np.argsort(usable)
    reached = np.cumsum(share[order]) >= _BEST_SHARE * share.sum()
    best = usable[order][np.argmax(reached)]
    return np.minimum(1.0, best / usable) if np.isfinite(best) else np.zeros(len(resolution))


def signal_energy(classes: Classes) -> Floats:
    """Return how strongly one particle shows what its class average shows, by shell.

    The energy is the sum of ``|A|² CTF² / |N|²`` over all Fourier components: the square of the signal-to-noise ratio
    of a matched filter, and twice the mean gain in log-likelihood that the average brings to a particle of it. Noise
    that was aligned to a reference ("Einstein from noise", Henderson 2013, doi:10.1073/pnas.1314449110; Shatsky et al.
    2009, doi:10.1016/j.jsb.2008.12.008) shows it, too, but with no more than the largest of M random correlations, M
    being the number of poses (and of places on a micrograph, where these were picked by a template) tried for each:
    2 ln M. Unlike the average's signal-to-noise ratio, this does not grow with the number of images.

    What noise is left in an average of few images would count as signal; its expected share, 1/N for each component
    that is not damped, is taken away.

    Parameters
    ----------
    classes : Classes
        With `noise_power` and `ctf2`.

    Returns
    -------
    ndarray of float64, shape [classes, n // 2 + 1]
        No unit; NaN for an average that is not finite.
    """
    if classes.noise_power is None or classes.ctf2 is None:
        raise ValueError("the energy needs the power of the noise and the CTF")
    size = classes.images.shape[-1]
    counts = _components(size)
    power = radial_power_spectrum(torch.from_numpy(classes.images.astype(np.float64))).numpy()
    gain = np.zeros((1, len(counts)))
    np.divide(classes.ctf2, classes.noise_power, out=gain[0], where=classes.noise_power > 0)
    signal = power * gain  # per component
    images = np.maximum(classes.share * classes.particles, 1e-6)[:, None]
    # Signal against the noise left in the average: 1 / N per component, damped where that is the larger.
    ratio = np.maximum(signal * images - 1.0, 0.0)
    left = (ratio / (1.0 + ratio)) ** 2 / images
    energy: Floats = counts * np.maximum(signal - left, 0.0)
    energy[:, 0] = 0.0  # the mean grey value is a matter of normalisation
    return energy


def _components(size: int) -> Floats:
    """Number of Fourier components in each shell."""
    return np.asarray(shell_counts(size, 2, dtype=torch.float64).numpy())


def _measure_shape(image: NDArray[np.float32], radius: float) -> tuple[float, float, float, float, float]:
    """Return darkness, edge, unity, offset and area of one average."""
    nothing = (np.nan,) * 5
    pixels = image.astype(np.float64)
    if not np.isfinite(pixels).all():
        return nothing
    axis = np.arange(len(pixels)) - len(pixels) // 2
    distance = np.hypot(axis[:, None], axis[None, :])
    inside = distance <= radius
    ring = inside & (distance > _RING * radius)
    low, high = np.percentile(pixels[inside], [1, 99])
    if not high > 0:
        return nothing
    solvent = float(np.median(pixels[ring]))
    middle = ((pixels - solvent)[inside & ~ring] ** 2).mean()
    edge = ((pixels - solvent)[ring] ** 2).mean() / middle if middle > 0 else np.nan
    # Solvent is 0 by normalisation, and what the ring shows: a neighbour or a slope spoils one or the other.
    darkness = max(0.0, min(-low / high, (solvent - low) / (high - solvent) if high > solvent else np.inf))
    bright = inside & (pixels > _BRIGHT * high)
    pieces, _ = ndimage.label(bright)
    weights = np.bincount(pieces[bright], weights=pixels[bright])
    largest = pieces == np.argmax(weights)
    mass = pixels[largest]
    y, x = np.nonzero(largest)
    offset = np.hypot((mass * axis[x]).sum(), (mass * axis[y]).sum()) / mass.sum() / radius
    return darkness, float(edge), float(weights.max() / weights.sum()), float(offset), bright.sum() / inside.sum()
