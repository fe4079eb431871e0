"""What `vitrea simulate micrographs` and `vitrea simulate movie` share: their parameters, and the truth they write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrea.jobs.base import Context, parameter
from vitrea.jobs.simulate_molecules import MoleculeParameters, check_molecules, read_molecules
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.records.atomic_model import AtomicModel
    from vitrea.records.map import Map
    from vitrea.records.optics import Optics
    from vitrea.records.particles import Particles
    from vitrea.simulate.imaging import Imaging, Lens, Session
    from vitrea.simulate.projections import Projector

_LENS, _SAMPLE, _DETECTOR = "Microscope", "Sample", "Detector"
TRUTH_FOLDER = "Truth"


class ImagingParameters(MoleculeParameters):
    """What a session at the microscope is like."""

    output: Path = parameter(Path("Simulate"), "Folder to write to.", options=["--o"])
    number: int = parameter(1, "Images to make.", ge=1)
    seed: int = parameter(1, "Seed of all random numbers.", options=["--random_seed"], ge=0)
    width: int = parameter(1024, "Width of the images.", unit="pixels", ge=32)
    height: int = parameter(0, "Height of the images; 0: the width.", unit="pixels", ge=0)
    particles: int = parameter(100, "Particles in each image.", tab=_SAMPLE, ge=0)
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
        20.0, "B-factor of the envelope of everything seen through the lens.", unit="Å²", tab=_LENS, ge=0, expert=True
    )
    energy_filter: bool = parameter(
        True, "Electrons that lost energy in the ice are filtered out; else they are background.", tab=_LENS,
        expert=True,
    )  # fmt: skip
    efficiency: float = parameter(
        0.85, "Part of the electrons that the detector counts.", tab=_DETECTOR, gt=0, le=1, expert=True
    )


@dataclass(frozen=True)
class Setup:
    """What all images of a job share.

    Attributes
    ----------
    imaging : Imaging
    session : Session
    molecules : list of Map
        Volts above ice.
    projectors : list of Projector
        Of the same.
    diameter : float
        Of the particle, in Å.
    size : tuple of int
        Rows and columns of the images.
    """

    imaging: Imaging
    session: Session
    molecules: list[Map]
    projectors: list[Projector]
    diameter: float
    size: tuple[int, int]


def prepare(parameters: ImagingParameters, context: Context) -> Setup:
    """Check the parameters and read the molecules.

    Raises
    ------
    InputError
        If a file cannot be read or parameters contradict each other.
    """
    import torch

    from vitrea.simulate.imaging import Imaging, Session
    from vitrea.simulate.projections import Projector
    from vitrea.simulate.scattering import extent

    shares = check_molecules(parameters)
    _check(parameters)
    molecules = read_molecules(parameters, context, finish=lambda *each: _in_volts(parameters, *each))
    pixel_size, box = molecules[0].voxel_size, molecules[0].voxels.shape[0]
    diameter = parameters.particle_diameter or max(extent(each.voxels, pixel_size) for each in molecules)
    size = (parameters.height or parameters.width, parameters.width)
    if diameter > min(size) * pixel_size / 2:
        raise InputError(
            f"images of {size[1]} x {size[0]} pixels have no room for particles of {diameter:.0f} Å; raise --width"
        )
    imaging = Imaging(
        optics=_optics(parameters, pixel_size, box),
        exposure=parameters.exposure,
        pre_exposure=parameters.pre_exposure,
        ice_thickness=parameters.ice_thickness,
        energy_filter=parameters.energy_filter,
        efficiency=parameters.efficiency,
        b_factor=parameters.envelope,
        damage=parameters.damage,
    )
    session = Session(
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
    projectors = [Projector(torch.from_numpy(each.voxels), pixel_size) for each in molecules]
    return Setup(imaging, session, molecules, projectors, diameter, size)


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


def write_truth(
    folder: Path, setup: Setup, fields: Sequence[Particles], names: Sequence[str], lenses: Sequence[Lens]
) -> None:
    """Write what is true of particles and micrographs: truth.star, truth_micrographs.star and the molecules.

    Parameters
    ----------
    folder : Path
    setup : Setup
    fields : sequence of Particles
        Those within each image.
    names : sequence of str
        Of the micrographs.
    lenses : sequence of Lens
    """
    from vitrea.formats.micrograph_files import write_micrographs
    from vitrea.formats.mrc import write_map
    from vitrea.formats.particle_files import write_particles
    from vitrea.records.particles import Particles
    from vitrea.records.table import Table

    labels = list(fields[0].table)
    columns: dict[str, NDArray[Any]] = {
        "rlnMicrographName": np.repeat(np.array(names, dtype=object), [len(field) for field in fields]),
        **{label: np.concatenate([field.table[label] for field in fields]) for label in labels},
    }
    write_particles(folder / "truth.star", Particles(Table(columns), (setup.imaging.optics,)))
    write_micrographs(folder / "truth_micrographs.star", micrographs(setup, names, lenses))
    for number, density in enumerate(setup.molecules, start=1):
        write_map(folder / ("truth.mrc" if len(setup.molecules) == 1 else f"truth_class{number:03d}.mrc"), density)


def micrographs(setup: Setup, names: Sequence[str], lenses: Sequence[Lens] | None = None) -> Any:
    """Return the micrographs of a session, with the focus of each where it is given."""
    from dataclasses import replace

    from vitrea.formats.star_values import text_column
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.table import Table

    optics = replace(setup.imaging.optics, image_size=0)
    columns: dict[str, NDArray[Any]] = {
        "rlnMicrographName": text_column(list(names)),
        "rlnOpticsGroup": np.full(len(names), optics.group),
    }
    if lenses is not None:
        values = np.array([[lens.defocus_u, lens.defocus_v, lens.defocus_angle, lens.phase_shift] for lens in lenses])
        for label, column in zip(
            ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift"), values.T, strict=True
        ):
            columns[label] = column
    return Micrographs(Table(columns), (optics,))


def make_folder(folder: Path) -> None:
    """Make a folder; InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error
