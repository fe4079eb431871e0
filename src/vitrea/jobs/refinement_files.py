"""The files of a refinement: RELION's names and labels, and enough digits to go on from them.

After each iteration the state is written and read back, and the run goes on from what was read: a run that was killed
and continued therefore sees the same numbers as one that was not. The optimiser file is written last; where it is
there, everything it names is there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.mrc import write_map
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.model_files import SamplingTable, model_blocks, read_model
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import HalfModel, ParticleState, Progress, RunState, Sampling
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.records.table import Table

PARAMETERS_BLOCK = "vitrea_parameters"
_PARTICLE_LABELS = {
    "norm": "rlnNormCorrection",
    "log_likelihood": "rlnLogLikeliContribution",
    "pmax": "rlnMaxValueProbDistribution",
    "significant": "rlnNrOfSignificantSamples",
}


@dataclass(frozen=True)
class RefinementFiles:
    """Writes and reads the states of one run.

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
    def _box_angstrom(self) -> float:
        optics = self.particles.optics[0]
        return optics.image_size * optics.pixel_size

    def name(self, state: RunState, kind: str) -> Path:
        """Return the name of a file: ``run_it003_data.star``, or ``run_data.star`` after the last iteration."""
        return Path(f"{self.root}_{kind}" if state.progress.finished else f"{self.root}_it{state.iteration:03d}_{kind}")

    def write(self, state: RunState, table: SamplingTable) -> Path:
        """Write everything of a state; return the optimiser file."""
        pixel_size = self.particles.optics[0].pixel_size
        models: list[tuple[str, HalfModel]] = [(f"half{i}_", model) for i, model in enumerate(state.halves, start=1)]
        if state.joined is not None:
            for prefix, model in models:
                if model.unfiltered is not None:
                    unfiltered = Map(model.unfiltered, pixel_size)
                    write_map(self.name(state, f"{prefix}class001_unfil.mrc"), unfiltered)
            models.append(("", state.joined))
        for prefix, model in models:
            map_name = self.name(state, f"{prefix}class001.mrc")
            write_map(map_name, Map(model.voxels, pixel_size))
            blocks = model_blocks(model, state, map_name, self.group_names, self._counts(state, prefix), self._optics())
            write_star(self.name(state, f"{prefix}model.star"), blocks, self.comment)
        write_star(self.name(state, "sampling.star"), table.blocks(state.sampling, self.settings), self.comment)
        write_particles(self.name(state, "data.star"), self._table(state), comment=self.comment)
        optimiser = self.name(state, "optimiser.star")
        blocks = {"optimiser_general": self._optimiser(state), PARAMETERS_BLOCK: self.parameters}
        write_star(optimiser, blocks, self.comment)
        return optimiser

    def _optics(self) -> tuple[float, int]:
        optics = self.particles.optics[0]
        return optics.pixel_size, optics.image_size

    def _counts(self, state: RunState, prefix: str) -> NDArray[np.int64]:
        """Particles of each group in a half set (or in both)."""
        group = np.asarray(self.particles.table["rlnGroupNumber"], dtype=np.int64) - 1
        if prefix:
            group = group[state.particles.half == int(prefix[4])]
        return np.bincount(group, minlength=len(self.group_names))

    def _table(self, state: RunState) -> Particles:
        found = state.particles
        columns: dict[str, NDArray[np.float64] | NDArray[np.int64]] = {}
        for i, label in enumerate(EULER_LABELS):
            columns[label] = found.eulers[:, i]
        for i, label in enumerate(SHIFT_LABELS):
            columns[label] = found.shifts[:, i]
        columns["rlnClassNumber"] = np.ones(len(found.half), dtype=np.int64)
        columns["rlnRandomSubset"] = found.half
        columns.update({label: getattr(found, field) for field, label in _PARTICLE_LABELS.items()})
        return self.particles.with_columns(columns)

    def _optimiser(self, state: RunState) -> dict[str, object]:
        progress, settings = state.progress, self.settings
        model = state.joined or state.halves[0]
        names: dict[str, object] = {"rlnOutputRootName": self.root}
        if state.joined is not None:
            names["rlnModelStarFile"] = str(self.name(state, "model.star"))
        else:
            names["rlnModelStarFile"] = str(self.name(state, "half1_model.star"))
            names["rlnModelStarFile2"] = str(self.name(state, "half2_model.star"))
        return {
            **names,
            "rlnExperimentalDataStarFile": str(self.name(state, "data.star")),
            "rlnOrientSamplingStarFile": str(self.name(state, "sampling.star")),
            "rlnCurrentIteration": state.iteration,
            "rlnNumberOfIterations": settings.maximum_iterations,
            "rlnDoSplitRandomHalves": state.joined is None,
            "rlnJoinHalvesUntilThisResolution": settings.join_resolution,
            "rlnAdaptiveOversampleOrder": settings.oversampling,
            "rlnAdaptiveOversampleFraction": settings.adaptive_fraction,
            "rlnRandomSeed": settings.seed,
            "rlnParticleDiameter": settings.particle_diameter,
            "rlnWidthMaskEdge": int(settings.mask_edge),
            "rlnDoZeroMask": settings.zero_mask,
            "rlnDoSolventFlattening": settings.flatten_solvent,
            "rlnDoSolventFscCorrection": settings.solvent_correct_fsc,
            "rlnHighresLimitExpectation": settings.highest_resolution or -1.0,
            "rlnLowresLimitExpectation": settings.lowest_resolution or -1.0,
            "rlnIncrementImageSize": progress.increment,
            "rlnDoAutoRefine": True,
            "rlnAutoLocalSearchesHealpixOrder": settings.auto_local_healpix_order,
            "rlnNumberOfIterWithoutResolutionGain": progress.stalled_resolution,
            "rlnBestResolutionThusFar": 1.0 / progress.best_resolution,
            "rlnNumberOfIterWithoutChangingAssignments": progress.stalled_poses,
            "rlnOverallAccuracyRotations": model.accuracy_rotation,
            "rlnOverallAccuracyTranslationsAngst": model.accuracy_translation,
            "rlnChangesOptimalOrientations": progress.change_rotation,
            "rlnChangesOptimalOffsets": progress.change_offset,
            "rlnChangesOptimalClasses": 0.0,
            "rlnSmallestChangesOrientations": progress.smallest_rotation,
            "rlnSmallestChangesOffsets": progress.smallest_offset,
            "rlnSmallestChangesClasses": 0,
            "rlnHasConverged": progress.converged or progress.finished,
            "rlnHasHighFscAtResolLimit": progress.high_fsc_at_limit,
            "rlnDoCorrectNorm": settings.norm_correction,
            "rlnDoCorrectScale": settings.scale_correction,
            "rlnDoCorrectCtf": settings.ctf,
            "rlnDoIgnoreCtfUntilFirstPeak": settings.ctf_intact_first_peak,
            "rlnCtfDataArePhaseFlipped": settings.ctf_phase_flipped,
            "rlnDoOnlyFlipCtfPhases": settings.only_flip_phases,
            # RELION has no label for these two.
            "vitreaSamplingIsFineEnough": progress.fine_enough,
            "vitreaIsFinished": progress.finished,
        }

    def read(self, optimiser: Path) -> RunState:
        """Read back the state that an optimiser file names."""
        general = read_optimiser(optimiser)
        if general.get("vitreaIsFinished"):
            raise InputError(f"{optimiser} is of a refinement that has finished: there is nothing to continue")
        iteration = int(str(general["rlnCurrentIteration"]))
        halves: list[HalfModel] = []
        current: dict[str, float] = {}
        for label in ("rlnModelStarFile", "rlnModelStarFile2"):
            model, current = read_model(Path(str(general[label])), self.group_names, self._box_angstrom)
            halves.append(model)
        sampling_path = Path(str(general["rlnOrientSamplingStarFile"]))
        found = read_star(sampling_path)["sampling_general"]
        if isinstance(found, Table):
            raise InputError(f"{sampling_path}: block data_sampling_general is not a list of values")
        order = int(found["rlnHealpixOrder"])
        sampling = Sampling(
            order,
            float(found["rlnOffsetRange"]),
            float(found["rlnOffsetStep"]),
            local=order >= self.settings.auto_local_healpix_order,
            perturbation=float(found["rlnSamplingPerturbInstance"]),
        )
        progress = _progress(general, current)
        data = read_particles(str(general["rlnExperimentalDataStarFile"]), require_ctf=False)
        return RunState(iteration, (halves[0], halves[1]), sampling, progress, particle_state(data))


def _progress(general: dict[str, object], current: dict[str, float]) -> Progress:
    """Read what decides about sampling and convergence."""

    def number(label: str) -> float:
        return float(str(general[label]))

    return Progress(
        resolution=current["resolution"],
        best_resolution=1.0 / number("rlnBestResolutionThusFar"),
        current_size=int(current["size"]),
        increment=int(number("rlnIncrementImageSize")),
        high_fsc_at_limit=bool(number("rlnHasHighFscAtResolLimit")),
        stalled_resolution=int(number("rlnNumberOfIterWithoutResolutionGain")),
        stalled_poses=int(number("rlnNumberOfIterWithoutChangingAssignments")),
        change_rotation=number("rlnChangesOptimalOrientations"),
        change_offset=number("rlnChangesOptimalOffsets"),
        smallest_rotation=number("rlnSmallestChangesOrientations"),
        smallest_offset=number("rlnSmallestChangesOffsets"),
        fine_enough=bool(number("vitreaSamplingIsFineEnough")),
        converged=bool(number("rlnHasConverged")),
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
    table, count = particles.table, len(particles)
    return ParticleState(
        eulers=particles.eulers,
        shifts=particles.shifts,
        norm=table.numbers("rlnNormCorrection", 1.0),
        log_likelihood=table.numbers("rlnLogLikeliContribution", 0.0),
        pmax=table.numbers("rlnMaxValueProbDistribution", 0.0),
        significant=table.numbers("rlnNrOfSignificantSamples", 0.0).astype(np.int64),
        half=table.numbers("rlnRandomSubset", 0.0).astype(np.int64) if count else np.zeros(0, dtype=np.int64),
    )


def with_groups(particles: Particles) -> tuple[Particles, tuple[str, ...]]:
    """Number the groups whose particles share a noise spectrum: ``rlnGroupName``, else micrographs, else all in one."""
    table = particles.table
    for label in ("rlnGroupName", "rlnMicrographName"):
        if label in table:
            names, index = np.unique(table[label].astype(str), return_inverse=True)
            break
    else:
        names, index = np.array(["all"]), np.zeros(len(particles), dtype=np.int64)
    numbered = table.with_columns({"rlnGroupNumber": index.astype(np.int64) + 1})
    return replace(particles, table=numbered), tuple(str(name) for name in names)


def write_set_aside(path: Path, particles: Particles, reasons: list[str]) -> None:
    """Write the particles a run leaves out, with the reason."""
    write_particles(path, particles.with_columns({"vitreaReason": text_column(reasons)}))
