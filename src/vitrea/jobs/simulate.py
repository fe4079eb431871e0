"""``vitrea simulate``: particles of a known map, with the truth beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import read_cubic_map
from vitrea.jobs.particle_inputs import chunks, read_posed_particles
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.records.map import Map
    from vitrea.records.particles import Particles
    from vitrea.simulate.particles import NoiseModel, ParticleSimulator

_DEFAULT_NUMBER = 1000
_DEFAULT_DIAMETER = 0.75  # of the box
_RESAMPLING_TOLERANCE = 1e-3
_BLIND = ("rlnMicrographName", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift")
# Parameters of the same name and meaning as fields of `simulate.truth.Acquisition`.
_ACQUISITION = (
    "groups", "defocus_min", "defocus_max", "defocus_spread", "astigmatism", "shift_sigma", "scale_spread",
    "preferred", "seed",
)  # fmt: skip
_LENS, _SAMPLE = "Microscope", "Sample"


class SimulateParameters(JobParameters):
    """Simulate particle images of a map or of an atomic model.

    Writes into a folder: particles.mrcs and particles.star (what a refinement gets: no angles), truth.star (the same
    with angles, shifts and scales) and truth.mrc (the map on the images' grey scale, which a reconstruction from
    truth.star should reproduce). Particles are white on black, with a background of zero mean and unit variance.
    """

    map: Path | None = parameter(None, "Map to simulate from.", options=["--i"])
    model: Path | None = parameter(None, "Atomic model (PDB or mmCIF) to simulate from, instead of a map.")
    assembly: str = parameter("", "Biological assembly of the model to build, e.g. 1; empty: atoms as deposited.")
    output: Path = parameter(Path("Simulate"), "Folder to write to.", options=["--o"])
    angles: Path | None = parameter(
        None, "STAR file whose angles, shifts and defocus are used, instead of random ones.", options=["--ang"]
    )
    number: int = parameter(0, "Particles to make; 0: 1000, or all of --ang.", ge=0)
    seed: int = parameter(1, "Seed of all random numbers.", options=["--random_seed"], ge=0)
    box_size: int = parameter(0, "Box of the images; 0: that of the map.", unit="pixels", tab=_SAMPLE, ge=0)
    pixel_size: float = parameter(
        0.0, "Pixel size of the images; 0: that of the map.", unit="Å", options=["--angpix"], tab=_SAMPLE, ge=0
    )
    particle_diameter: float = parameter(
        0.0, "Diameter within which signal and outside which background is measured; 0: 75% of the box.", unit="Å",
        tab=_SAMPLE, ge=0,
    )  # fmt: skip
    symmetry: str = parameter("C1", "Impose this point group on the map first.", options=["--sym"], tab=_SAMPLE)
    b_factor: float = parameter(
        0.0, "Decay exp(-B k²/4) applied to the map, or added to the atoms' B-factors.", unit="Å²", tab=_SAMPLE
    )
    preferred: float = parameter(
        0.0, "Preferred orientation: concentration (kappa) of views about the z axis; 0: uniform.", tab=_SAMPLE, ge=0
    )
    shift_sigma: float = parameter(
        5.0, "Standard deviation of the particles' origins along x and y.", unit="Å", tab=_SAMPLE, ge=0
    )
    snr: float = parameter(
        0.1, "Variance of the signal within the particle over that of the noise; 0: noise only.", tab="Noise", ge=0
    )
    noise: Literal["white", "coloured", "none"] = parameter(
        "white", "Noise: white, coloured (stronger at low resolution), or none.", tab="Noise"
    )
    noise_model: Path | None = parameter(
        None, "RELION model file whose first noise spectrum (rlnSigma2Noise) the coloured noise has.", tab="Noise",
        expert=True,
    )  # fmt: skip
    scale_spread: float = parameter(
        0.0, "Spread of the micrographs' intensity scales (standard deviation of the logarithm).", tab="Noise", ge=0
    )
    groups: int = parameter(10, "Micrographs the particles come from.", tab=_LENS, ge=1)
    voltage: float = parameter(300.0, "Acceleration voltage.", unit="kV", tab=_LENS, gt=0)
    spherical_aberration: float = parameter(2.7, "Spherical aberration.", unit="mm", options=["--cs"], tab=_LENS, ge=0)
    amplitude_contrast: float = parameter(0.1, "Amplitude contrast.", options=["--q0"], tab=_LENS, ge=0, le=1)
    defocus_min: float = parameter(10_000.0, "Smallest mean defocus of a micrograph.", unit="Å", tab=_LENS)
    defocus_max: float = parameter(25_000.0, "Largest mean defocus of a micrograph.", unit="Å", tab=_LENS)
    defocus_spread: float = parameter(
        100.0, "Standard deviation of particles' defocus within a micrograph.", unit="Å", tab=_LENS, ge=0, expert=True
    )
    astigmatism: float = parameter(300.0, "Largest difference of defocus U and V.", unit="Å", tab=_LENS, ge=0)
    beam_tilt_x: float = parameter(0.0, "Beam tilt.", unit="mrad", options=["--beamtilt_x"], tab=_LENS, expert=True)
    beam_tilt_y: float = parameter(0.0, "Beam tilt.", unit="mrad", options=["--beamtilt_y"], tab=_LENS, expert=True)


def run(parameters: SimulateParameters, context: Context) -> None:
    """Simulate and write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    import torch

    from vitrea.simulate.particles import ParticleSimulator
    from vitrea.simulate.projections import Projector

    _check_options(parameters)
    density = _density(parameters, context)
    size, pixel_size = density.voxels.shape[0], density.voxel_size
    radius = (parameters.particle_diameter or _DEFAULT_DIAMETER * size * pixel_size) / (2 * pixel_size)
    if not 1 <= radius <= size / 2:
        raise InputError(
            f"--particle_diameter {parameters.particle_diameter:g} Å does not fit in a box of {size * pixel_size:g} Å"
        )
    truth = _truth(parameters, size, pixel_size)
    noise = _noise(parameters, size, pixel_size)
    _make_folder(parameters.output)
    simulator = ParticleSimulator(
        Projector(torch.from_numpy(density.voxels), pixel_size), truth, radius, parameters.snr, noise
    )
    _write(parameters, simulator, density, context)


def _check_options(parameters: SimulateParameters) -> None:
    if (parameters.map is None) == (parameters.model is None):
        raise InputError("give either a map with --map or an atomic model with --model")
    if parameters.model is not None and not (parameters.box_size and parameters.pixel_size):
        raise InputError("--model needs --box_size (pixels) and --angpix (Å)")
    if parameters.model is None and parameters.assembly:
        raise InputError("--assembly needs --model")
    if parameters.defocus_min > parameters.defocus_max:
        raise InputError(
            f"--defocus_min ({parameters.defocus_min:g} Å) exceeds --defocus_max ({parameters.defocus_max:g} Å)"
        )
    if parameters.noise_model is not None and parameters.noise != "coloured":
        raise InputError("--noise_model needs --noise coloured")


def _density(parameters: SimulateParameters, context: Context) -> Map:
    """Read the map or draw the model, in the box and with the voxels wanted."""
    from vitrea.geometry.symmetry import canonical_name, symmetry_matrices
    from vitrea.maps.transform import symmetrise

    operators = symmetry_matrices(canonical_name(parameters.symmetry))
    density = _of_model(parameters, parameters.model) if parameters.model else _of_map(parameters, context)
    if len(operators) > 1:
        density = density.with_voxels(symmetrise(density.voxels, operators))
    return density


def _of_model(parameters: SimulateParameters, path: Path) -> Map:
    from vitrea.formats.atomic_models import read_atoms
    from vitrea.records.map import Map
    from vitrea.simulate.density import density_from_atoms

    atoms = read_atoms(path, parameters.assembly or None)
    try:
        voxels = density_from_atoms(atoms, parameters.box_size, parameters.pixel_size, parameters.b_factor)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return Map(voxels, parameters.pixel_size)


def _of_map(parameters: SimulateParameters, context: Context) -> Map:
    import torch

    from vitrea.fourier.filters import apply_bfactor
    from vitrea.records.map import Map
    from vitrea.simulate.density import resample_map

    assert parameters.map is not None
    density = read_cubic_map(parameters.map)
    wanted = parameters.pixel_size or density.voxel_size
    size = parameters.box_size or round(density.voxels.shape[0] * density.voxel_size / wanted)
    voxels, voxel_size = resample_map(torch.from_numpy(density.voxels), density.voxel_size, size, wanted)
    if abs(voxel_size - wanted) > _RESAMPLING_TOLERANCE * wanted:
        context.recorder.warn(
            f"{parameters.map} is resampled to {voxel_size:.5g} Å, the nearest to {wanted:g} possible"
        )
    if parameters.b_factor:
        voxels = apply_bfactor(voxels, parameters.b_factor, voxel_size)
    return Map(voxels.numpy(), voxel_size)


def _truth(parameters: SimulateParameters, size: int, pixel_size: float) -> Particles:
    from vitrea.records.optics import Optics
    from vitrea.simulate.truth import Acquisition, draw_particles

    given = None
    if parameters.angles is not None:
        given = read_posed_particles(parameters.angles, require_ctf=False, require_images=False, pixel_size=pixel_size)
        if parameters.number > len(given):
            raise InputError(f"--number {parameters.number}: {parameters.angles} holds only {len(given)} particles")
        given = given.rows(slice(0, parameters.number or len(given)))
    optics = Optics(
        pixel_size,
        size,
        parameters.voltage,
        parameters.spherical_aberration,
        parameters.amplitude_contrast,
        parameters.beam_tilt_x,
        parameters.beam_tilt_y,
    )
    number = len(given) if given is not None else parameters.number or _DEFAULT_NUMBER
    acquisition = Acquisition(optics, number, **{name: getattr(parameters, name) for name in _ACQUISITION})
    return draw_particles(acquisition, given)


def _noise(parameters: SimulateParameters, size: int, pixel_size: float) -> NoiseModel | None:
    from vitrea.simulate.noise import coloured_spectrum, unit_variance
    from vitrea.simulate.particles import NoiseModel

    if parameters.noise == "none":
        return None
    if parameters.noise == "white":
        return NoiseModel(parameters.seed)
    if parameters.noise_model is None:
        return NoiseModel(parameters.seed, coloured_spectrum(size, pixel_size))
    frequency, power = _read_spectrum(parameters.noise_model)
    shells = np.arange(size // 2 + 1) / (size * pixel_size)
    return NoiseModel(parameters.seed, unit_variance(np.interp(shells, frequency, power), size))


def _read_spectrum(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequencies in 1/Å and noise power of the first noise spectrum in a RELION model file."""
    from vitrea.formats.star import read_star
    from vitrea.records.table import Table

    for block in read_star(path).values():
        if isinstance(block, Table) and "rlnSigma2Noise" in block and "rlnResolution" in block:
            frequency, power = block.numbers("rlnResolution"), block.numbers("rlnSigma2Noise")
            if not (np.diff(frequency) > 0).all() or not (power >= 0).all() or not power.any():
                raise InputError(f"{path}: rlnResolution must increase and rlnSigma2Noise be positive")
            return frequency, power
    raise InputError(f"{path} holds no noise spectrum: no block has the columns rlnResolution and rlnSigma2Noise")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error


def _write(parameters: SimulateParameters, simulator: ParticleSimulator, density: Map, context: Context) -> None:
    from vitrea.formats.image_names import join_image_name
    from vitrea.formats.mrc import StackWriter, write_map
    from vitrea.formats.particle_files import write_particles
    from vitrea.formats.star_values import text_column
    from vitrea.records.table import Table

    folder, truth = parameters.output, simulator.particles
    stack = folder / "particles.mrcs"
    context.recorder.stage("Simulating", len(truth), "images")
    with StackWriter(stack, density.voxel_size) as writer:
        for rows in chunks(len(truth), simulator.projector.size):
            writer.append(simulator.images(rows))
            context.recorder.advance(len(rows))
    names = text_column([join_image_name(str(stack), row) for row in range(len(truth))])
    named = replace(truth, table=Table({"rlnImageName": names, **truth.table.columns}))
    labels = [label for label in ("rlnImageName", *_BLIND) if label in named.table]
    write_particles(folder / "particles.star", replace(named, table=Table({la: named.table[la] for la in labels})))
    write_particles(folder / "truth.star", named)
    if simulator.gain:
        write_map(folder / "truth.mrc", density.with_voxels(simulator.gain * density.voxels))
    context.recorder.event(
        "text",
        text=f"{folder}: {len(truth)} particles of {simulator.projector.size} pixels, {density.voxel_size:.5g} Å; the "
        f"map's grey values are multiplied by {simulator.gain:.5g}",
    )


JOB = Job(
    name="simulate",
    summary="Simulate particles of a map or an atomic model, with the truth beside them.",
    parameters=SimulateParameters,
    run=run,
)
