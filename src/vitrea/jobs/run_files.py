"""Files that every likelihood run writes: RELION's names and labels, and enough digits to go on from them.

After each iteration the state is written and read back, and the run goes on from what was read: a run that was killed
and continued therefore sees the same numbers as one that was not. The optimiser file is written last; where it is
there, everything it names is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.particle_files import check_numbers, write_particles
from vitrea.formats.star import read_star
from vitrea.formats.star_values import text_column
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import ParticleState, RunState, Sampling
from vitrea.records.errors import InputError
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Table, distinct

PARAMETERS_BLOCK = "vitrea_parameters"
OCCUPANCY_LABEL = "vitreaOccupancy"
_PARTICLE_LABELS = {
    "norm": "rlnNormCorrection",
    "log_likelihood": "rlnLogLikeliContribution",
    "pmax": "rlnMaxValueProbDistribution",
    "significant": "rlnNrOfSignificantSamples",
}


@dataclass(frozen=True)
class RunFiles:
    """What the files of all runs have in common.

    Attributes
    ----------
    root : str
        Start of all names (``--o``).
    particles : Particles
        The particle set with group numbers; its columns are kept.
    group_names : tuple of str
    settings : Settings
    parameters : dict
        The job's parameters, stored in each optimiser file.
    comment : str
        The command, for the head of the files.
    """

    root: str
    particles: Particles
    group_names: tuple[str, ...]
    settings: Settings
    parameters: dict[str, object]
    comment: str

    @property
    def box_angstrom(self) -> float:
        """Box size in Å."""
        pixel_size, size = self.optics()
        return size * pixel_size

    def name(self, state: RunState, kind: str) -> Path:
        """Return the name of a file of an iteration: ``run_it003_data.star``."""
        return Path(f"{self.root}_it{state.iteration:03d}_{kind}")

    def optics(self) -> tuple[float, int]:
        """Pixel size (Å) and box size."""
        optics = self.particles.optics[0]
        return optics.pixel_size, optics.image_size

    def counts(self, state: RunState, prefix: str) -> NDArray[np.int64]:
        """Particles of each group in a half set (or in both)."""
        group = np.asarray(self.particles.table["rlnGroupNumber"], dtype=np.int64) - 1
        if prefix:
            group = group[state.particles.half == int(prefix[4])]
        return np.bincount(group, minlength=len(self.group_names))

    def table(self, state: RunState) -> Particles:
        """Return the particle table with what the run found."""
        found = state.particles
        columns: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
        for i, label in enumerate(EULER_LABELS):
            columns[label] = found.eulers[:, i]
        for i, label in enumerate(SHIFT_LABELS):
            columns[label] = found.shifts[:, i]
        columns["rlnClassNumber"] = found.class_index + 1
        if found.half.any():
            columns["rlnRandomSubset"] = found.half
        for number, share in enumerate(found.occupancy.T, start=1):
            columns[f"{OCCUPANCY_LABEL}{number}"] = share.astype(np.float64)
        columns.update({label: getattr(found, field) for field, label in _PARTICLE_LABELS.items()})
        return self.particles.with_columns(columns)

    def general(self, state: RunState) -> dict[str, object]:
        """Return the part of an optimiser file that does not depend on the kind of run."""
        settings, progress = self.settings, state.progress
        return {
            "rlnOutputRootName": self.root,
            "rlnExperimentalDataStarFile": str(self.name(state, "data.star")),
            "rlnOrientSamplingStarFile": str(self.name(state, "sampling.star")),
            "rlnCurrentIteration": state.iteration,
            "rlnNumberOfIterations": settings.maximum_iterations,
            "rlnAdaptiveOversampleOrder": settings.oversampling,
            "rlnAdaptiveOversampleFraction": settings.adaptive_fraction,
            "rlnRandomSeed": settings.seed,
            "rlnParticleDiameter": settings.particle_diameter,
            "rlnWidthMaskEdge": int(settings.mask_edge),
            "rlnDoZeroMask": settings.zero_mask,
            "rlnDoSolventFlattening": settings.flatten_solvent,
            "rlnHighresLimitExpectation": settings.highest_resolution or -1.0,
            "rlnLowresLimitExpectation": settings.lowest_resolution or -1.0,
            "rlnChangesOptimalOrientations": progress.change_rotation,
            "rlnChangesOptimalOffsets": progress.change_offset,
            "rlnChangesOptimalClasses": progress.change_class,
            "rlnDoCorrectNorm": settings.norm_correction,
            "rlnDoCorrectScale": settings.scale_correction,
            "rlnDoCorrectCtf": settings.ctf,
            "rlnDoIgnoreCtfUntilFirstPeak": settings.ctf_intact_first_peak,
            "rlnCtfDataArePhaseFlipped": settings.ctf_phase_flipped,
            "rlnDoOnlyFlipCtfPhases": settings.only_flip_phases,
        }

    def write_particles(self, state: RunState) -> None:
        """Write the particle table of a state."""
        write_particles(self.name(state, "data.star"), self.table(state), comment=self.comment)


def read_sampling(general: dict[str, object], local: bool) -> Sampling:
    """Read the sampling that an optimiser file names."""
    path = Path(str(general["rlnOrientSamplingStarFile"]))
    found = read_star(path)["sampling_general"]
    if isinstance(found, Table):
        raise InputError(f"{path}: block data_sampling_general is not a list of values")
    order = int(found["rlnHealpixOrder"])
    return Sampling(
        order,
        float(found["rlnOffsetRange"]),
        float(found["rlnOffsetStep"]),
        local=local,
        perturbation=float(found["rlnSamplingPerturbInstance"]),
        psi_step=float(found["rlnPsiStep"]) if order < 0 else 0.0,
    )


def read_optimiser(path: Path) -> dict[str, object]:
    """Read the general block of an optimiser file.

    Raises
    ------
    InputError
        If it is none of ours: one of another program lacks what is needed to go on.
    """
    blocks = read_star(path)
    general = blocks.get("optimiser_general")
    if not isinstance(general, dict) or PARAMETERS_BLOCK not in blocks:
        raise InputError(
            f"{path} has no block data_{PARAMETERS_BLOCK}: only refinements that Vitrea started can be continued; "
            "start from another program's result with --i run_data.star --ref run_class001.mrc"
        )
    return dict(general)


def read_parameters(path: Path) -> dict[str, object]:
    """Return the job parameters stored in an optimiser file."""
    read_optimiser(path)
    found = read_star(path)[PARAMETERS_BLOCK]
    return {} if isinstance(found, Table) else dict(found)


def particle_state(particles: Particles) -> ParticleState:
    """Take what a refinement needs out of a particle table; what is absent starts at its neutral value."""
    table = particles.table
    return ParticleState(
        eulers=particles.eulers,
        shifts=particles.shifts,
        norm=table.numbers("rlnNormCorrection", 1.0),
        log_likelihood=table.numbers("rlnLogLikeliContribution", 0.0),
        pmax=table.numbers("rlnMaxValueProbDistribution", 0.0),
        significant=table.numbers("rlnNrOfSignificantSamples", 0.0).astype(np.int64),
        half=table.numbers("rlnRandomSubset", 0.0).astype(np.int64),
        class_index=np.maximum(table.numbers("rlnClassNumber", 1.0).astype(np.int64) - 1, 0),
        occupancy=_occupancy(table, len(particles)),
    )


def read_particle_state(path: Path, classes: int) -> ParticleState:
    """Read what a run has written of its particles; of the other columns nothing is kept.

    Parameters
    ----------
    path : Path
        A ``data.star`` of the run.
    classes : int
        Of the run.

    Raises
    ------
    InputError
        If the file is missing, is another one, or holds what is not a number.
    """
    wanted = {*EULER_LABELS, *SHIFT_LABELS, *_PARTICLE_LABELS.values(), "rlnRandomSubset", "rlnClassNumber"}
    wanted |= {f"{OCCUPANCY_LABEL}{number}" for number in range(1, classes + 1)}
    table = read_star(path, ("particles",), wanted).get("particles")
    if not isinstance(table, Table):
        raise InputError(f"{path}: block data_particles is missing or not a loop")
    check_numbers(table, path)
    return particle_state(Particles(table, ()))


def _occupancy(table: Table, particles: int) -> NDArray[np.float32]:
    """Columns ``vitreaOccupancy1``, ``vitreaOccupancy2`` ... as far as there are any."""
    columns: list[NDArray[np.float32]] = []
    while (label := f"{OCCUPANCY_LABEL}{len(columns) + 1}") in table:
        columns.append(table.numbers(label).astype(np.float32))
    return np.stack(columns, axis=1) if columns else np.zeros((particles, 0), dtype=np.float32)


def with_groups(particles: Particles) -> tuple[Particles, tuple[str, ...]]:
    """Number the groups whose particles share a noise spectrum: ``rlnGroupName``, else micrographs, else all in one."""
    table = particles.table
    for label in ("rlnGroupName", "rlnMicrographName"):
        if label in table:
            names, index = distinct(table[label])
            break
    else:
        names, index = ["all"], np.zeros(len(particles), dtype=np.int64)
    return particles.with_columns({"rlnGroupNumber": index + 1}), tuple(names)


def write_set_aside(path: Path, particles: Particles, reasons: list[str]) -> None:
    """Write the particles a run leaves out, with the reason."""
    write_particles(path, particles.with_columns({"vitreaReason": text_column(reasons)}))
