"""The files of a classification, under RELION's names and labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from vitrea.formats.atomic import atomic_path
from vitrea.formats.image_names import join_image_name
from vitrea.formats.mrc import write_map, write_stack
from vitrea.formats.star import write_star
from vitrea.jobs.model_files import SamplingTable, model_blocks, read_model
from vitrea.jobs.run_files import PARAMETERS_BLOCK, RunFiles, read_optimiser, read_particle_state, read_sampling
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.state import ParticleState, Progress, RunState
from vitrea.reconstruction.accumulator import FourierAccumulator
from vitrea.records.errors import InputError
from vitrea.records.map import Map

# Where an optimiser file names the sums that mini-batches carry on.
SUMS_LABEL = "vitreaSums"


def lost_sums(general: dict[str, object]) -> Path | None:
    """Return the name of the sums that an optimiser file's general block names, where they are gone."""
    path = Path(str(general[SUMS_LABEL])) if SUMS_LABEL in general else None
    return None if path is None or path.exists() else path


@dataclass(frozen=True)
class ClassFiles(RunFiles):
    """Writes and reads the states of one classification.

    Sums that mini-batches carry on are kept for the newest iteration alone. From an older one a run goes on without
    them: they build up again.

    Attributes
    ----------
    scheme : Scheme
    final : bool
        Whether names go without the number of the iteration.
    """

    scheme: Scheme
    final: bool = False

    def name(self, state: RunState, kind: str) -> Path:
        """Return the name of a file: ``run_it003_data.star``, or ``run_data.star``."""
        return Path(f"{self.root}_{kind}") if self.final else super().name(state, kind)

    def record(self) -> Path:
        """Return the name of the record of what was run, written last of all."""
        return Path(f"{self.root}_job.json")

    def write(self, state: RunState, table: SamplingTable) -> Path:
        """Write everything of a state; return the optimiser file."""
        model = state.models[0]
        names = self._write_references(state)
        blocks = model_blocks(model, state, names, self.group_names, self.counts(state, ""), self.optics())
        write_star(self.name(state, "model.star"), blocks, self.comment)
        write_star(self.name(state, "sampling.star"), table.blocks(state.sampling, self.settings), self.comment)
        self.write_particles(state)
        sums = self._write_carried(state)
        optimiser = self.name(state, "optimiser.star")
        general = {
            "rlnModelStarFile": str(self.name(state, "model.star")),
            **self.general(state),
            "rlnDoSplitRandomHalves": False,
            "rlnDoAutoRefine": False,
            "rlnDoCenterClasses": self.scheme.centre_classes,
            "rlnDoSkipAlign": self.scheme.search == "none",
            "rlnDoSkipRotate": self.scheme.search in ("none", "shifts"),
            **sums,
        }
        write_star(optimiser, {"optimiser_general": general, PARAMETERS_BLOCK: self.parameters}, self.comment)
        return optimiser

    def _write_references(self, state: RunState) -> list[str]:
        """Write the references; return their names in the model file."""
        classes, pixel_size = state.models[0].classes, self.optics()[0]
        if self.scheme.planar:
            stack = self.name(state, "classes.mrcs")
            write_stack(stack, np.stack([group.voxels for group in classes]), pixel_size)
            return [join_image_name(str(stack), index) for index in range(len(classes))]
        names = [self.name(state, f"class{number:03d}.mrc") for number in range(1, len(classes) + 1)]
        for name, group in zip(names, classes, strict=True):
            write_map(name, Map(group.voxels, pixel_size))
        return [str(name) for name in names]

    def _sums_of(self, iteration: int) -> Path:
        return Path(f"{self.root}_it{iteration:03d}_sums.npz")

    def forget_sums(self, before: int) -> None:
        """Remove the sums of the iterations before one: they are large, and only the newest ones are gone on from."""
        for number in range(before):
            self._sums_of(number).unlink(missing_ok=True)

    def _write_carried(self, state: RunState) -> dict[str, object]:
        """Write the sums that are kept, if any; return what the optimiser file says of them."""
        if not state.carried:
            return {}
        path = self._sums_of(state.iteration)
        arrays = {"radius": np.array([item.radius for item in state.carried])}
        for number, item in enumerate(state.carried):
            arrays[f"data{number}"], arrays[f"weight{number}"] = item.data.cpu().numpy(), item.weight.cpu().numpy()
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return {SUMS_LABEL: str(path)}

    def _read_carried(
        self, general: dict[str, object], dims: int, device: torch.device
    ) -> tuple[FourierAccumulator, ...]:
        """Read the sums that an optimiser file names; none where they are kept no longer.

        Raises
        ------
        InputError
            If they are damaged.
        """
        if lost_sums(general) is not None or SUMS_LABEL not in general:
            return ()
        path, size, found = Path(str(general[SUMS_LABEL])), self.optics()[1], []
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                for number, radius in enumerate(arrays["radius"].tolist()):
                    item = FourierAccumulator(size, int(radius), self.settings.padding, device, dims)
                    item.data = torch.from_numpy(arrays[f"data{number}"]).to(device)
                    item.weight = torch.from_numpy(arrays[f"weight{number}"]).to(device)
                    found.append(item)
        except (OSError, EOFError, ValueError, KeyError, BadZipFile):
            raise InputError(
                f"{path} is damaged: it holds the sums of earlier mini-batches; remove it to go on without them"
            ) from None
        return tuple(found)

    def read(self, optimiser: Path, device: torch.device) -> RunState:
        """Read back the state that an optimiser file names."""
        general = read_optimiser(optimiser)
        model, current = read_model(Path(str(general["rlnModelStarFile"])), self.group_names, self.box_angstrom)

        def number(label: str) -> float:
            return float(str(general[label]))

        sampling = read_sampling(general, local=self.scheme.search == "local")
        iteration = int(number("rlnCurrentIteration"))
        progress = Progress(
            resolution=current["resolution"],
            best_resolution=current["resolution"],
            current_size=int(current["size"]),
            change_rotation=number("rlnChangesOptimalOrientations"),
            change_offset=number("rlnChangesOptimalOffsets"),
            change_class=number("rlnChangesOptimalClasses"),
            finished=iteration >= self.settings.maximum_iterations,
        )
        particles = self._read_particles(Path(str(general["rlnExperimentalDataStarFile"])), len(model.classes))
        carried = self._read_carried(general, model.classes[0].voxels.ndim, device)
        return RunState(iteration, (model,), sampling, progress, particles, carried=carried)

    def _read_particles(self, path: Path, classes: int) -> ParticleState:
        """Read back the particles; someone may have changed the file meanwhile."""
        particles = read_particle_state(path, classes)
        if len(particles.class_index) != len(self.particles):
            raise InputError(f"{path} no longer holds the {len(self.particles)} particles of this run")
        highest = int(particles.class_index.max(initial=0)) + 1
        if highest > classes:
            raise InputError(f"{path}: rlnClassNumber goes up to {highest}, but the run has {classes} classes")
        if self.scheme.planar:  # an average cannot be tilted
            particles = replace(particles, eulers=particles.eulers * [0.0, 0.0, 1.0])
        return particles

    def without_number(self) -> ClassFiles:
        """Return what writes the last state under names without its number."""
        return replace(self, final=True)
