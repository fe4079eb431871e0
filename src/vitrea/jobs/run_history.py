"""How a run went, read back from the files of its iterations: the same whether it was stopped in between or not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrea.formats.star import read_star
from vitrea.jobs.run_files import read_optimiser
from vitrea.likelihood.schedule import UNKNOWN
from vitrea.records.errors import InputError
from vitrea.records.table import Table


@dataclass(frozen=True)
class IterationRecord:
    """What the files of one iteration say of it; NaN for what is not known.

    Attributes
    ----------
    iteration : int
    resolution : float
        Å.
    change_class : float
        Share of the particles that went to another class, 0 to 1.
    change_rotation, change_offset : float
        Mean change of the orientations in degrees, and of the offsets in Å.
    shares, resolutions, accuracies : ndarray, shape [classes]
        Share of each class, its resolution in Å, and how accurately it is oriented in degrees.
    """

    iteration: int
    resolution: float
    change_class: float
    change_rotation: float
    change_offset: float
    shares: NDArray[np.float64]
    resolutions: NDArray[np.float64]
    accuracies: NDArray[np.float64]


def read_history(root: str, last: int) -> list[IterationRecord]:
    """Read how a run went, iteration by iteration.

    Parameters
    ----------
    root : str
        Start of the names of the run's files: ``Refine3D/run``.
    last : int
        Iterations beyond it belong to an earlier, longer run of that name.

    Returns
    -------
    list of IterationRecord
        In order; iterations whose files have been removed or damaged are left out.
    """
    paths = [Path(f"{root}_it{number:03d}_optimiser.star") for number in range(1, last + 1)]
    found: dict[int, IterationRecord] = {}
    for path in [*paths, Path(f"{root}_optimiser.star")]:
        try:
            record = _read(path)
        except (InputError, KeyError, ValueError):
            continue
        if 0 < record.iteration <= last:
            found[record.iteration] = record
    return [found[number] for number in sorted(found)]


def _read(optimiser: Path) -> IterationRecord:
    general = read_optimiser(optimiser)
    blocks = read_star(Path(str(general["rlnModelStarFile"])), ("model_general", "model_classes"))
    model, classes = blocks["model_general"], blocks["model_classes"]
    if isinstance(model, Table) or not isinstance(classes, Table):
        raise ValueError(f"{optimiser}: its model file has blocks of another form")
    return IterationRecord(
        iteration=int(str(general["rlnCurrentIteration"])),
        resolution=float(str(model["rlnCurrentResolution"])),
        change_class=float(str(general["rlnChangesOptimalClasses"])),
        change_rotation=float(_known(float(str(general["rlnChangesOptimalOrientations"])))),
        change_offset=float(_known(float(str(general["rlnChangesOptimalOffsets"])))),
        shares=classes.numbers("rlnClassDistribution"),
        resolutions=classes.numbers("rlnEstimatedResolution"),
        accuracies=_known(classes.numbers("rlnAccuracyRotations")),
    )


def _known(values: ArrayLike) -> NDArray[np.float64]:
    numbers = np.asarray(values, dtype=np.float64)
    return np.where(numbers < UNKNOWN, numbers, np.nan)
