"""What `vitrea simulate micrographs` and `vitrea simulate movie` share: their parameters, and the truth they write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitrea.jobs.base import Context, parameter
from vitrea.jobs.simulate_molecules import MoleculeParameters, check_molecules, make_folder, read_molecules
from vitrea.records.errors import InputError
from vitrea.records.wording import number_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.records.atomic_model import AtomicModel
    from vitrea.records.map import Map
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.optics import Optics
    from vitrea.records.particles import Particles
    from vitrea.simulate.imaging import Imaging, Lens, Session
    from vitrea.simulate.landscape import Surroundings
    from vitrea.simulate.shots import Shooting, Shot

_LENS, _SAMPLE, _DETECTOR = "Microscope", "Sample", "Detector"
_NO_FILES = ("counting", "none")
_TRUTH = "Truth"


class ImagingParameters(MoleculeParameters):
    """What a session at the microscope is like."""

    output: Path = parameter(Path("Simulate"), "Folder to write to.", options=["--o"])
    number: int = parameter(1, "Images to make.", ge=1)
    seed: int = parameter(1, "Seed of all random numbers.", options=["--random_seed"], ge=0)
    width: int = parameter(1024, "Width of the images.", unit="pixels", ge=32)
    height: int = parameter(0, "Height of the images; 0: the width.", unit="pixels", ge=0)
    particles: int = parameter(100, "Particles in each image.", tab=_SAMPLE, ge=0)
    coordinates: Path | None = parameter(
        None, "File of coordinates at which particles lie in every image, instead of random places.", tab=_SAMPLE
    )
    particle_diameter: float = parameter(
        0.0, "Diameter of the particle, which no other enters; 0: measured.", unit="Å", tab=_SAMPLE, ge=0
    )
    molecular_mass: float = parameter(
        0.0, "Mass of the molecule, which brings maps to volts; not needed for models.", unit="kDa", tab=_SAMPLE, ge=0
    )
    ice_thickness: float = parameter(500.0, "Thickness of the ice.", unit="Å", tab=_SAMPLE, ge=0)
    preferred: float = parameter(
        0.0, "Preferred orientation: concentration (kappa) of views about the z axis; 0: uniform.", tab=_SAMPLE, ge=0
    )
    exposure: float = parameter(40.0, "Electrons per Å² on the specimen, in all.", unit="e-/Å²", tab=_LENS, gt=0)
    pre_exposure: float = parameter(0.0, "Exposure before the first image.", unit="e-/Å²", tab=_LENS, ge=0)
    damage: bool = parameter(True, "Particles fade with the exposure (Grant & Grigorieff 2015).", tab=_LENS)
    voltage: float = parameter(300.0, "Acceleration voltage.", unit="kV", tab=_LENS, gt=0)
    spherical_aberration: float = parameter(2.7, "Spherical aberration.", unit="mm", options=["--cs"], tab=_LENS, ge=0)
    amplitude_contrast: float = parameter(0.1, "Amplitude contrast.", options=["--q0"], tab=_LENS, ge=0, le=1)
    defocus_min: float = parameter(10_000.0, "Smallest mean defocus of an image.", unit="Å", tab=_LENS)
    defocus_max: float = parameter(20_000.0, "Largest mean defocus of an image.", unit="Å", tab=_LENS)
    astigmatism_min: float = parameter(0.0, "Smallest difference of defocus U and V.", unit="Å", tab=_LENS, ge=0)
    astigmatism_max: float = parameter(300.0, "Largest difference of defocus U and V.", unit="Å", tab=_LENS, ge=0)
    phase_shift_min: float = parameter(0.0, "Smallest phase shift of a phase plate.", unit="degrees", tab=_LENS)
    phase_shift_max: float = parameter(0.0, "Largest phase shift of a phase plate.", unit="degrees", tab=_LENS)
    beam_tilt_x: float = parameter(0.0, "Beam tilt.", unit="mrad", options=["--beamtilt_x"], tab=_LENS, expert=True)
    beam_tilt_y: float = parameter(0.0, "Beam tilt.", unit="mrad", options=["--beamtilt_y"], tab=_LENS, expert=True)
    envelope: float = parameter(
        40.0, "B-factor of the envelope of everything seen through the lens.", unit="Å²", tab=_LENS, ge=0, expert=True
    )
    energy_filter: bool = parameter(
        True, "Electrons that lost energy in the ice are filtered out; else they are background.", tab=_LENS,
        expert=True,
    )  # fmt: skip
    snr: float = parameter(
        0.0, "Signal-to-noise ratio of the first image, by making molecules stronger or weaker; 0: what physics gives.",
        tab=_SAMPLE, ge=0, expert=True,
    )  # fmt: skip
    carbon: float = parameter(0.0, "Part of each image that is carbon film.", tab=_SAMPLE, ge=0, lt=1)
    carbon_thickness: float = parameter(
        200.0, "Thickness of the carbon film.", unit="Å", tab=_SAMPLE, gt=0, expert=True
    )
    contaminants: float = parameter(0.0, "Mean number of pieces of contamination in an image.", tab=_SAMPLE, ge=0)
    ice_ripple: float = parameter(
        0.0, "Variation of the thickness of the ice, root mean square.", unit="Å", tab=_SAMPLE, ge=0, expert=True
    )
    mtf: str = parameter(
        "counting", "STAR file of the detector's MTF; counting: a curve like that of the K2; none: no blur.",
        tab=_DETECTOR,
    )  # fmt: skip
    noise: Literal["counting", "none"] = parameter(
        "counting", "Noise: electrons are counted, or (none) images hold how many are expected.", tab=_DETECTOR
    )
    efficiency: float = parameter(
        0.85, "Part of the electrons that the detector counts.", tab=_DETECTOR, gt=0, le=1, expert=True
    )


@dataclass(frozen=True)
class Setup:
    """What all images of a job share.

    Attributes
    ----------
    shooting : Shooting
    molecules : list of Map
        Volts above ice.
    diameter : float
        Of the particle, in Å.
    """

    shooting: Shooting
    molecules: list[Map]
    diameter: float

    @property
    def optics(self) -> Optics:
        """The optics group."""
        return self.shooting.imaging.optics


def prepare(parameters: ImagingParameters, context: Context) -> Setup:
    """Check the parameters and read the molecules.

    Raises
    ------
    InputError
        If a file cannot be read or parameters contradict each other.
    """
    import torch

    from vitrea.simulate.projections import Projector
    from vitrea.simulate.scattering import extent
    from vitrea.simulate.shots import Shooting

    shares = check_molecules(parameters)
    _check(parameters)
    mtf = _mtf(parameters.mtf)
    molecules = read_molecules(parameters, context, finish=lambda *each: _in_volts(parameters, *each))
    pixel_size, box = molecules[0].voxel_size, molecules[0].voxels.shape[0]
    diameter = parameters.particle_diameter or max(extent(each.voxels, pixel_size) for each in molecules)
    size = (parameters.height or parameters.width, parameters.width)
    if diameter > min(size) * pixel_size / 2:
        raise InputError(
            f"images of {size[1]} x {size[0]} pixels have no room for particles of {diameter:.0f} Å; raise --width"
        )
    places = _places(parameters.coordinates, size) if parameters.coordinates else None
    shooting = Shooting(
        imaging=_imaging(parameters, pixel_size, box),
        session=_session(parameters, diameter, shares),
        projectors=[Projector(torch.from_numpy(each.voxels), pixel_size) for each in molecules],
        size=size,
        surroundings=_surroundings(parameters),
        mtf=mtf,
        blur=parameters.mtf != "none",
        places=places,
    )
    if parameters.snr:
        shooting = _with_snr(shooting, molecules, diameter, parameters.snr)
    return Setup(shooting, molecules, diameter)


def _imaging(parameters: ImagingParameters, pixel_size: float, box: int) -> Imaging:
    from vitrea.simulate.imaging import Imaging

    return Imaging(
        optics=_optics(parameters, pixel_size, box),
        exposure=parameters.exposure,
        pre_exposure=parameters.pre_exposure,
        ice_thickness=parameters.ice_thickness,
        energy_filter=parameters.energy_filter,
        efficiency=parameters.efficiency,
        b_factor=parameters.envelope,
        damage=parameters.damage,
    )


def _session(parameters: ImagingParameters, diameter: float, shares: tuple[float, ...]) -> Session:
    from vitrea.simulate.imaging import Session

    return Session(
        particles=parameters.particles,
        spacing=diameter,
        border=diameter / 2,
        depth=max(parameters.ice_thickness - diameter, 0.0),
        shares=shares,
        defocus=(parameters.defocus_min, parameters.defocus_max),
        astigmatism=(parameters.astigmatism_min, parameters.astigmatism_max),
        phase_shift=(parameters.phase_shift_min, parameters.phase_shift_max),
        preferred=parameters.preferred,
        seed=parameters.seed,
    )


def _surroundings(parameters: ImagingParameters) -> Surroundings:
    from vitrea.simulate.landscape import Surroundings

    return Surroundings(
        carbon=parameters.carbon,
        carbon_thickness=parameters.carbon_thickness,
        contaminants=parameters.contaminants,
        ripple=parameters.ice_ripple,
    )


def _with_snr(shooting: Shooting, molecules: list[Map], diameter: float, snr: float) -> Shooting:
    """Scale the molecules so that the first image has the signal-to-noise ratio wanted."""
    import torch

    from vitrea.simulate.projections import Projector

    found = shooting.shot(0).signal_to_noise(diameter)
    if not found:
        raise InputError("--snr needs particles in the first image")
    factor = float(np.sqrt(snr / found))
    for number, each in enumerate(molecules):
        molecules[number] = each.with_voxels(factor * each.voxels)
    projectors = [Projector(torch.from_numpy(each.voxels), each.voxel_size) for each in molecules]
    return replace(shooting, projectors=projectors)


def _mtf(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    from vitrea.jobs.mtf_files import read_mtf

    if name in _NO_FILES:
        return None
    curve = read_mtf(Path(name), 1.0)
    return curve.frequency, curve.value


def _places(path: Path, size: tuple[int, int]) -> NDArray[np.float64]:
    from vitrea.formats.coordinates import read_coordinates

    table = read_coordinates(path)
    places = np.stack([table.numbers("rlnCoordinateX"), table.numbers("rlnCoordinateY")], axis=1)
    outside = (places < 0).any(axis=1) | (places > np.array(size[::-1]) - 1).any(axis=1)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(
            f"{path}: particle {row + 1} at {places[row, 0]:g}, {places[row, 1]:g} lies outside the image of "
            f"{size[1]} x {size[0]} pixels"
        )
    return places


def _check(parameters: ImagingParameters) -> None:
    if parameters.model and not parameters.pixel_size:
        raise InputError("--model needs --angpix (Å)")
    if parameters.map and not parameters.molecular_mass:
        raise InputError("--map needs --molecular_mass (kDa): it brings the map's grey values to volts")
    for name in ("defocus", "astigmatism", "phase_shift"):
        low, high = getattr(parameters, f"{name}_min"), getattr(parameters, f"{name}_max")
        if low > high:
            raise InputError(f"--{name}_min ({low:g}) exceeds --{name}_max ({high:g})")
    if parameters.damage:
        from vitrea.optics.dose import voltage_factor

        try:
            voltage_factor(parameters.voltage)
        except ValueError as error:
            raise InputError(f"--voltage: {error}; give --no-damage") from error


def _optics(parameters: ImagingParameters, pixel_size: float, box: int) -> Optics:
    from vitrea.records.optics import Optics

    return Optics(
        pixel_size,
        box,
        parameters.voltage,
        parameters.spherical_aberration,
        parameters.amplitude_contrast,
        parameters.beam_tilt_x,
        parameters.beam_tilt_y,
        original_pixel_size=pixel_size,
    )


def _in_volts(parameters: ImagingParameters, density: Map, model: AtomicModel | None, path: Path) -> Map:
    from vitrea.simulate.scattering import in_ice, volts_of_map

    if model is not None:
        return density.with_voxels(in_ice(density.voxels, density.voxel_size, model))
    try:
        factor = volts_of_map(density.voxels, density.voxel_size, parameters.molecular_mass)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return density.with_voxels(factor * density.voxels)


def output_folders(parameters: ImagingParameters, images: str) -> tuple[Path, Path]:
    """Make the folders of the images and of their truth, and return them."""
    folders = parameters.output / images, parameters.output / _TRUTH
    for each in folders:
        make_folder(each)
    return folders


def warn_if_full(context: Context, parameters: ImagingParameters, shot: Shot) -> None:
    """Warn where an image has no room for all particles."""
    if parameters.coordinates is None and len(shot.particles) < parameters.particles:
        context.recorder.warn(
            f"image {shot.number + 1} has room for {len(shot.particles)} particles only, not {parameters.particles}"
        )


def write_truth(folder: Path, setup: Setup, shots: Sequence[ShotTruth]) -> None:
    """Write what is true of particles and micrographs: truth.star, truth_micrographs.star and the molecules."""
    from vitrea.formats.micrograph_files import write_micrographs
    from vitrea.formats.mrc import write_map
    from vitrea.formats.particle_files import write_particles
    from vitrea.formats.star_values import text_column
    from vitrea.records.particles import Particles
    from vitrea.records.table import Table

    counts = [len(shot.particles) for shot in shots]
    columns: dict[str, NDArray[Any]] = {
        "rlnMicrographName": np.repeat(text_column([shot.name for shot in shots]), counts),
        **{
            label: np.concatenate([shot.particles.table[label] for shot in shots]) for label in shots[0].particles.table
        },
    }
    write_particles(folder / "truth.star", Particles(Table(columns), (setup.optics,)))
    write_micrographs(folder / "truth_micrographs.star", as_micrographs(setup, shots))
    for number, density in enumerate(setup.molecules, start=1):
        write_map(folder / ("truth.mrc" if len(setup.molecules) == 1 else f"truth_class{number:03d}.mrc"), density)


def as_micrographs(setup: Setup, shots: Sequence[ShotTruth], *, with_ctf: bool = True) -> Micrographs:
    """Return all images as micrographs, with or without their focus."""
    from vitrea.formats.star_values import text_column
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.table import Table

    lenses = [shot.lens for shot in shots]
    columns: dict[str, Any] = {
        "rlnMicrographName": text_column([shot.name for shot in shots]),
        "rlnOpticsGroup": np.full(len(shots), setup.optics.group),
    }
    if with_ctf:
        columns |= {
            "rlnDefocusU": np.array([lens.defocus_u for lens in lenses]),
            "rlnDefocusV": np.array([lens.defocus_v for lens in lenses]),
            "rlnDefocusAngle": np.array([lens.defocus_angle for lens in lenses]),
            "rlnPhaseShift": np.array([lens.phase_shift for lens in lenses]),
        }
    if shots[0].metadata:
        columns["rlnMicrographMetadata"] = text_column([shot.metadata for shot in shots])
    return Micrographs(Table(columns), (replace(setup.optics, image_size=0),))


@dataclass(frozen=True)
class ShotTruth:
    """What is written of an image at the end: name, focus, particles, their SNR, and the file of its motion or ""."""

    name: str
    lens: Lens
    particles: Particles
    snr: float
    metadata: str = ""


def summary(setup: Setup, shots: Sequence[ShotTruth]) -> str:
    """Return a line about all images."""
    rows, columns = setup.shooting.size
    particles = number_of(sum(len(shot.particles) for shot in shots), "particle")
    return (
        f"{columns} x {rows} pixels of {setup.optics.pixel_size:.5g} Å, {particles} of {setup.diameter:.0f} Å, "
        f"{setup.shooting.imaging.counts:.3g} electrons per pixel, "
        f"signal-to-noise ratio {np.mean([shot.snr for shot in shots]):.3g}"
    )


def write_landscape(folder: Path, stem: str, shot: Shot) -> None:
    """Write what surrounds the particles of an image, if anything does.

    ``_mask.mrc`` is 0 in ice, 1 on carbon, 2 on contamination; ``_background.mrc`` the electrons that each pixel would
    count over the whole exposure without particles and without the grain of ice.
    """
    from vitrea.formats.mrc import write_stack

    if shot.landscape is None or shot.scene.surroundings is None:
        return
    canvas = shot.canvas
    mask = shot.landscape.mask[canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width]
    background = shot.shooting.imaging.counts * (1 + canvas.crop(canvas.to_real(shot.scene.surroundings)).numpy())
    write_stack(folder / f"{stem}_mask.mrc", mask.astype(np.float32), canvas.pixel_size)
    write_stack(folder / f"{stem}_background.mrc", background, canvas.pixel_size)
