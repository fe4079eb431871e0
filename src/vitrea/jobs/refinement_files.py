"""The files of a gold-standard refinement, under RELION's names and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vitrea.formats.mrc import write_map
from vitrea.formats.star import write_star
from vitrea.jobs.model_files import SamplingTable, model_blocks, read_model
from vitrea.jobs.run_files import PARAMETERS_BLOCK, RunFiles, read_optimiser, read_particle_state, read_sampling
from vitrea.likelihood.state import Model, Progress, RunState
from vitrea.records.errors import InputError
from vitrea.records.map import Map


@dataclass(frozen=True)
class RefinementFiles(RunFiles):
    """Writes and reads the states of one refinement."""

    def name(self, state: RunState, kind: str) -> Path:
        """Return the name of a file: ``run_it003_data.star``, or ``run_data.star`` after the last iteration."""
        return Path(f"{self.root}_{kind}") if state.progress.finished else super().name(state, kind)

    def write(self, state: RunState, table: SamplingTable) -> Path:
        """Write everything of a state; return the optimiser file."""
        pixel_size = self.particles.optics[0].pixel_size
        models: list[tuple[str, Model]] = [(f"half{i}_", model) for i, model in enumerate(state.models, start=1)]
        if state.joined is not None:
            for prefix, model in models:
                if model.classes[0].unfiltered is not None:
                    unfiltered = Map(model.classes[0].unfiltered, pixel_size)
                    write_map(self.name(state, f"{prefix}class001_unfil.mrc"), unfiltered)
            models.append(("", state.joined))
        for prefix, model in models:
            map_name = self.name(state, f"{prefix}class001.mrc")
            write_map(map_name, Map(model.classes[0].voxels, pixel_size))
            blocks = model_blocks(
                model, state, [str(map_name)], self.group_names, self.counts(state, prefix), self.optics()
            )
            write_star(self.name(state, f"{prefix}model.star"), blocks, self.comment)
        write_star(self.name(state, "sampling.star"), table.blocks(state.sampling, self.settings), self.comment)
        self.write_particles(state)
        optimiser = self.name(state, "optimiser.star")
        blocks = {"optimiser_general": self._optimiser(state), PARAMETERS_BLOCK: self.parameters}
        write_star(optimiser, blocks, self.comment)
        return optimiser

    def _optimiser(self, state: RunState) -> dict[str, object]:
        progress, settings = state.progress, self.settings
        group = (state.joined or state.models[0]).classes[0]
        if state.joined is not None:
            names = {"rlnModelStarFile": str(self.name(state, "model.star"))}
        else:
            names = {
                "rlnModelStarFile": str(self.name(state, "half1_model.star")),
                "rlnModelStarFile2": str(self.name(state, "half2_model.star")),
            }
        return {
            **names,
            **self.general(state),
            "rlnDoSplitRandomHalves": state.joined is None,
            "rlnJoinHalvesUntilThisResolution": settings.join_resolution,
            "rlnDoSolventFscCorrection": settings.solvent_correct_fsc,
            "rlnIncrementImageSize": progress.increment,
            "rlnDoAutoRefine": True,
            "rlnAutoLocalSearchesHealpixOrder": settings.auto_local_healpix_order,
            "rlnNumberOfIterWithoutResolutionGain": progress.stalled_resolution,
            "rlnBestResolutionThusFar": 1.0 / progress.best_resolution,
            "rlnNumberOfIterWithoutChangingAssignments": progress.stalled_poses,
            "rlnOverallAccuracyRotations": group.accuracy_rotation,
            "rlnOverallAccuracyTranslationsAngst": group.accuracy_translation,
            "rlnSmallestChangesOrientations": progress.smallest_rotation,
            "rlnSmallestChangesOffsets": progress.smallest_offset,
            "rlnSmallestChangesClasses": 0,
            "rlnHasConverged": progress.converged or progress.finished,
            "rlnHasHighFscAtResolLimit": progress.high_fsc_at_limit,
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
        halves: list[Model] = []
        current: dict[str, float] = {}
        for label in ("rlnModelStarFile", "rlnModelStarFile2"):
            model, current = read_model(Path(str(general[label])), self.group_names, self.box_angstrom)
            halves.append(model)
        sampling = read_sampling(general, local=False)
        sampling = replace(sampling, local=sampling.healpix_order >= self.settings.auto_local_healpix_order)
        progress = _progress(general, current)
        particles = read_particle_state(Path(str(general["rlnExperimentalDataStarFile"])), classes=1)
        return RunState(iteration, tuple(halves), sampling, progress, particles)


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
