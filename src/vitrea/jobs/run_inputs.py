"""The files a likelihood run leaves, ours or RELION's, found from any one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitrea.formats.image_names import find_file, search_folders, split_image_name
from vitrea.formats.star import Block, read_star
from vitrea.records.errors import InputError
from vitrea.records.table import Table

_HEAD = 1 << 16  # bytes in which the first block of a file begins
_MODELS = ("rlnModelStarFile", "rlnModelStarFile2")


@dataclass(frozen=True)
class RunFound:
    """Files of a run.

    Attributes
    ----------
    particles : Path
        The data file.
    models : tuple of Path
        The model file, or those of the two half sets; empty where there is none.
    optimiser : mapping of str to object
        Values of the optimiser file, where that was given.
    """

    particles: Path
    models: tuple[Path, ...] = ()
    optimiser: Mapping[str, object] = field(default_factory=dict)


def find_run(path: Path) -> RunFound:
    """Find the files of a run.

    Parameters
    ----------
    path : Path
        ``_optimiser.star``, ``_model.star`` or ``_data.star`` of a run, or any particle file.

    Raises
    ------
    InputError
        If it does not exist, or the particles that go with it do not.
    """
    head = _read_head(path)
    if "data_optimiser_general" in head:
        values = pairs_of(read_star(path, ["optimiser_general"])["optimiser_general"])
        data = named_file(values, "rlnExperimentalDataStarFile", path)
        if data is None:
            raise InputError(f"{path} names no particles: rlnExperimentalDataStarFile is missing or the file is gone")
        models = [named_file(values, label, path) for label in _MODELS]
        return RunFound(data, tuple(model for model in models if model is not None), values)
    if "data_model_general" in head:
        data = path.with_name(path.name.replace("_model.star", "_data.star"))
        for half in ("half1_", "half2_"):  # the halves of a refinement share their data file
            data = data if data.is_file() else data.with_name(data.name.replace(half, ""))
        if data == path or not data.is_file():
            raise InputError(f"{path} is a model file, but the particles that go with it, {data}, are not there")
        return RunFound(data, (path,))
    stem = path.name.removesuffix("_data.star")
    for names in (("model",), ("half1_model", "half2_model")):
        beside = [path.with_name(f"{stem}_{name}.star") for name in names]
        if stem != path.name and all(model.is_file() for model in beside):
            return RunFound(path, tuple(beside))
    return RunFound(path)


def pairs_of(block: Block) -> dict[str, object]:
    """Return the values of a block without a loop, or of a loop of one row."""
    if isinstance(block, Table):
        return {label: column[0] for label, column in block.columns.items() if len(column)}
    return dict(block)


def named_file(values: Mapping[str, object], label: str, star: Path) -> Path | None:
    """Return the file a value names, looked for where RELION starts (the project folder) and beside the STAR file."""
    if label not in values:
        return None
    name = Path(str(values[label]))
    places = [Path(), *search_folders(star.parent)] if not name.is_absolute() else [Path()]
    candidates = [place / name for place in places] + [star.parent / name.name]
    return next((place for place in candidates if place.is_file()), None)


def reference_files(star: Path) -> list[tuple[Path, int | None]]:
    """List the references that a model file, or another STAR file, names.

    Returns
    -------
    list of (Path, int or None)
        File, and index in the stack from 0 (None: the file is one map), in the order of the classes.

    Raises
    ------
    InputError
        If no table has the column ``rlnReferenceImage``, or a file does not exist.
    """
    for block in read_star(star).values():
        table = block if isinstance(block, Table) else Table({k: np.array([v]) for k, v in block.items()})
        if "rlnReferenceImage" in table and len(table):
            return [find_reference(str(name), star) for name in table["rlnReferenceImage"]]
    raise InputError(f"{star} names no references: none of its tables has the column rlnReferenceImage")


def find_reference(name: str, star: Path) -> tuple[Path, int | None]:
    """Return the file that a name in a STAR file means, and the index in its stack from 0 (None: the whole file)."""
    file, index = split_image_name(name)
    # Names start from the project folder; where only the job's folder was copied, the file lies beside.
    for place in (file, Path(file).name):
        try:
            return find_file(place, star.parent), index if "@" in name else None
        except InputError:
            continue
    raise InputError(f"the reference {file}, named in {star}, does not exist")


def group_scales(model: Path) -> dict[int, float] | None:
    """Return the intensity scale by ``rlnGroupNumber`` that a model file holds; None where it holds none.

    Raises
    ------
    InputError
        If its table of groups is damaged.
    """
    groups = read_star(model, ["model_groups"]).get("model_groups")
    if groups is None:
        return None
    if not isinstance(groups, Table):
        groups = Table({label: np.array([value]) for label, value in groups.items()})
    if "rlnGroupNumber" not in groups or "rlnGroupScaleCorrection" not in groups:
        return None
    try:
        numbers = np.asarray(groups["rlnGroupNumber"], dtype=np.int64)
        return dict(zip(numbers.tolist(), groups.numbers("rlnGroupScaleCorrection").tolist(), strict=True))
    except ValueError as error:
        raise InputError(f"{model}: data_model_groups holds what is not a number ({error})") from None


def average_norm(model: Path) -> float:
    """Return ``rlnNormCorrectionAverage`` of a model file; 1 where it has none."""
    general = pairs_of(read_star(model, ["model_general"]).get("model_general", {}))
    return float(str(general.get("rlnNormCorrectionAverage", 1.0)))


def _read_head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("latin-1")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
