"""``vitrea simulate particles``: particles of known maps, with the truth beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BeforeValidator

from vitrea.jobs.base import Context, Job, parameter
from vitrea.jobs.particle_inputs import chunks, read_posed_particles
from vitrea.jobs.simulate_molecules import (
    MoleculeParameters,
    check_molecules,
    make_folder,
    read_molecules,
    split_words,
)
from vitrea.records.errors import InputError
from vitrea.simulate.population import JunkKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.records.map import Map
    from vitrea.records.particles import Particles
    from vitrea.simulate.particles import NoiseModel, ParticleSimulator

_DEFAULT_NUMBER = 1000
_DEFAULT_DIAMETER = 0.75  # of the box
_BLIND = ("rlnMicrographName", "rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift")
# Parameters of the same name and meaning as fields of `simulate.truth.Acquisition`.
_ACQUISITION = (
    "groups", "defocus_min", "defocus_max", "defocus_spread", "astigmatism", "shift_sigma", "scale_spread",
    "preferred", "seed",
)  # fmt: skip
_LENS, _SAMPLE, _MIXTURE = "Microscope", "Sample", "Mixture"


class SimulateParameters(MoleculeParameters):
    """Simulate particle images of a map or of an atomic model.

    Writes into a folder: particles.mrcs and particles.star (what a refinement gets: no angles), truth.star (the same
    with angles, shifts and scales) and truth.mrc (the map on the images' grey scale, which a reconstruction from
    truth.star should reproduce). Particles are white on black, with a background of zero mean and unit variance.

    Several maps or models, which must be on one grey scale, make a mixed set: truth.star then tells the molecule in
    rlnClassNumber, and there is a truth_class001.mrc for each. Junk has class 0 and its kind in vitreaSimulatedKind.
    """

    output: Path = parameter(Path("Simulate"), "Folder to write to.", options=["--o"])
    angles: Path | None = parameter(
        None, "STAR file whose angles, shifts and defocus are used, instead of random ones.", options=["--ang"]
    )
    number: int = parameter(0, "Particles to make; 0: 1000, or all of --ang.", ge=0)
    seed: int = parameter(1, "Seed of all random numbers.", options=["--random_seed"], ge=0)
    particle_diameter: float = parameter(
        0.0, "Diameter within which signal and outside which background is measured; 0: 75% of the box.", unit="Å",
        tab=_SAMPLE, ge=0,
    )  # fmt: skip
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
    junk_fraction: float = parameter(0.0, "Part of the images that is junk.", tab=_MIXTURE, ge=0, le=1)
    junk_kinds: Annotated[tuple[JunkKind, ...], BeforeValidator(split_words)] = parameter(
        ("noise", "contaminant", "pair"),
        "Kinds of junk, in equal parts: pure noise, contaminants (ice, gold, carbon, drops, the micrograph's border), "
        "off-centre pairs, noise that was picked because it resembles the first molecule.",
        tab=_MIXTURE,
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

    from vitrea.simulate.junk import JunkMaker
    from vitrea.simulate.particles import ParticleSimulator
    from vitrea.simulate.projections import Projector

    shares = check_molecules(parameters)
    _check_options(parameters)
    molecules = read_molecules(parameters, context)
    size, pixel_size = molecules[0].voxels.shape[0], molecules[0].voxel_size
    radius = (parameters.particle_diameter or _DEFAULT_DIAMETER * size * pixel_size) / (2 * pixel_size)
    if not 1 <= radius <= size / 2:
        raise InputError(
            f"--particle_diameter {parameters.particle_diameter:g} Å does not fit in a box of {size * pixel_size:g} Å"
        )
    truth = _truth(parameters, shares, size, pixel_size)
    noise = _noise(parameters, size, pixel_size)
    make_folder(parameters.output)
    projectors = [Projector(torch.from_numpy(density.voxels), pixel_size) for density in molecules]
    junk = JunkMaker(projectors, truth, shares, radius, noise) if noise and parameters.junk_fraction else None
    simulator = ParticleSimulator(projectors, truth, radius, parameters.snr, noise, junk)
    _write(parameters, simulator, molecules, context)


def _check_options(parameters: SimulateParameters) -> None:
    if parameters.model and not (parameters.box_size and parameters.pixel_size):
        raise InputError("--model needs --box_size (pixels) and --angpix (Å)")
    if parameters.junk_fraction and parameters.noise == "none":
        raise InputError("--junk_fraction needs noise: junk is as strong as the noise makes it")
    if parameters.junk_fraction and len(set(parameters.junk_kinds)) != max(len(parameters.junk_kinds), 1):
        raise InputError("--junk_kinds needs one kind at least, and none twice")
    if parameters.defocus_min > parameters.defocus_max:
        raise InputError(
            f"--defocus_min ({parameters.defocus_min:g} Å) exceeds --defocus_max ({parameters.defocus_max:g} Å)"
        )
    if parameters.noise_model is not None and parameters.noise != "coloured":
        raise InputError("--noise_model needs --noise coloured")


def _truth(parameters: SimulateParameters, shares: tuple[float, ...], size: int, pixel_size: float) -> Particles:
    from vitrea.records.optics import Optics
    from vitrea.simulate.population import Population, draw_population
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
    truth = draw_particles(acquisition, given)
    if len(shares) == 1 and not parameters.junk_fraction:
        return truth
    population = Population(shares, parameters.junk_fraction, parameters.junk_kinds)
    return truth.with_columns(draw_population(population, number, parameters.seed))


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


def _write(
    parameters: SimulateParameters, simulator: ParticleSimulator, molecules: list[Map], context: Context
) -> None:
    from vitrea.formats.image_names import join_image_name
    from vitrea.formats.mrc import StackWriter, write_map
    from vitrea.formats.particle_files import write_particles
    from vitrea.formats.star_values import text_column
    from vitrea.records.table import Table

    folder, truth = parameters.output, simulator.particles
    stack = folder / "particles.mrcs"
    context.recorder.stage("Simulating", len(truth), "images")
    with StackWriter(stack, molecules[0].voxel_size) as writer:
        for rows in chunks(len(truth), simulator.size):
            writer.append(simulator.images(rows))
            context.recorder.advance(len(rows))
    names = text_column([join_image_name(str(stack), row) for row in range(len(truth))])
    named = replace(truth, table=Table({"rlnImageName": names, **truth.table.columns}))
    labels = [label for label in ("rlnImageName", *_BLIND) if label in named.table]
    write_particles(folder / "particles.star", replace(named, table=Table({la: named.table[la] for la in labels})))
    write_particles(folder / "truth.star", named)
    for number, density in enumerate(molecules if simulator.gain else (), start=1):
        name = "truth.mrc" if len(molecules) == 1 else f"truth_class{number:03d}.mrc"
        write_map(folder / name, density.with_voxels(simulator.gain * density.voxels))
    context.recorder.event(
        "text",
        text=f"{folder}: {len(truth)} particles of {simulator.size} pixels, {molecules[0].voxel_size:.5g} Å; the "
        f"maps' grey values are multiplied by {simulator.gain:.5g}",
    )


JOB = Job(
    name="simulate particles",
    summary="Simulate particles of a map or an atomic model, with the truth beside them.",
    parameters=SimulateParameters,
    run=run,
)
