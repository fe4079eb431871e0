"""Input that ``class2d``, ``class3d`` and ``initial-model`` cannot use: one sentence each, and nothing on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrea.formats.mrc import open_stack, write_map, write_stack
from vitrea.formats.star import read_star, write_star
from vitrea.records.map import Map
from vitrea.records.table import Table

Refused = Callable[..., None]


def _command(job: str, folder: Any, output: Path) -> list[str]:
    start = ["--ref", str(folder.start)] if job == "class3d" else []
    return [job, "--i", str(folder.star), "--o", str(output), "--K", "4", *start]


Spoil = Callable[[Path], list[str]]


def _missing(name: str) -> Spoil:
    def spoil(folder: Path) -> list[str]:
        (folder / name).unlink()
        return []

    return spoil


def _nan_images(folder: Path) -> list[str]:
    stack = np.array(open_stack(folder / "particles.mrcs"))
    stack[:50] = np.nan
    write_stack(folder / "particles.mrcs", stack, 5.0)
    return []


def _no_defocus(folder: Path) -> list[str]:
    blocks: dict[str, Any] = dict(read_star(folder / "particles.star"))
    blocks["particles"] = blocks["particles"].without("rlnDefocusU")
    write_star(folder / "particles.star", blocks)
    return []


def _options(*options: str) -> Spoil:
    return lambda folder: list(options)


# Job, what is spoilt, and words of the sentence.
BAD_INPUT: dict[str, tuple[str, Spoil, tuple[str, ...]]] = {
    "missing stack": ("class2d", _missing("particles.mrcs"), ("particles.mrcs",)),
    "missing star": ("class3d", _missing("particles.star"), ("particles.star",)),
    "many bad images": ("class2d", _nan_images, ("particles.star", "NaN")),
    "no defocus": ("initial-model", _no_defocus, ("particles.star", "rlnDefocusU")),
    "more classes than particles": ("class2d", _options("--K", "500"), ("--K is 500", "240")),
    "more models than particles": ("initial-model", _options("--K", "500"), ("240", "500")),
    "no classes": ("class2d", _options("--K", "0"), ("--K",)),
    "no step": ("class2d", _options("--psi_step", "0"), ("--psi_step",)),
    "step beyond a quarter turn": ("class2d", _options("--psi_step", "400"), ("--psi_step", "90")),
    "negative offsets": ("class2d", _options("--offset_range", "-3"), ("--offset_range",)),
    "offsets beyond the box": ("class2d", _options("--offset_range", "300"), ("--offset_range", "300", "32")),
    "no offset step": ("class3d", _options("--offset_step", "0"), ("--offset_step",)),
    "mask wider than the box": ("class3d", _options("--particle_diameter", "500"), ("--particle_diameter", "160")),
    "unknown symmetry": ("class3d", _options("--sym", "Q7"), ("Q7",)),
    "focus without poses": ("class3d", _options("--focus_sphere", "80,80,80,20"), ("--focus_sphere", "--skip_align")),
    "focus without radius": ("class3d", _options("--focus_sphere", "80,80,80"), ("--focus_sphere", "RADIUS")),
    "focus outside the box": (
        "class3d",
        _options("--focus_sphere", "80,80,190,20", "--skip_align"),
        ("--focus_sphere", "160"),
    ),
    "unknown symmetry of a model": ("initial-model", _options("--sym", "Q7"), ("Q7",)),
    "a share of batches": (
        "class2d",
        _options("--percent_used", "30", "--schedule", "batches"),
        ("--percent_used", "--particles_per_class"),
    ),
    "unknown schedule": ("class2d", _options("--schedule", "random"), ("--schedule",)),
    "limits the wrong way": (
        "initial-model",
        _options("--start_resolution", "10", "--finish_resolution", "20"),
        ("--finish_resolution", "20", "10"),
    ),
    "missing start map": ("class3d", _missing("start.mrc"), ("start.mrc",)),
    "missing averages": ("class2d", _options("--ref", "nowhere.mrcs"), ("nowhere.mrcs",)),
}


@pytest.mark.parametrize("case", list(BAD_INPUT))
def test_bad_input_is_one_sentence_and_nothing_is_written(
    case: str, mixed_folder: Any, tmp_path: Path, refused: Refused
) -> None:
    copied = mixed_folder.copy_to(tmp_path / "input")
    job, spoil, words = BAD_INPUT[case]
    more = spoil(copied.folder)
    output = tmp_path / "output" / "run"
    refused([*_command(job, copied, output), *more], *words)
    assert not output.parent.exists()


def test_references_that_do_not_fit(mixed_folder: Any, tmp_path: Path, refused: Refused) -> None:
    """Number, box, pixel size and values of references are checked before anything is computed."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 32, 32)).astype(np.float32)
    write_stack(tmp_path / "three.mrcs", images, 5.0)
    write_stack(tmp_path / "small.mrcs", images[:, :24, :24], 5.0)
    write_stack(tmp_path / "pixels.mrcs", np.concatenate([images, images[:1]]), 6.0)
    write_stack(tmp_path / "nan.mrcs", np.full((4, 32, 32), np.nan, dtype=np.float32), 5.0)
    write_map(tmp_path / "small.mrc", Map(rng.standard_normal((24,) * 3).astype(np.float32), 5.0))
    write_map(tmp_path / "voxels.mrc", Map(rng.standard_normal((32,) * 3).astype(np.float32), 6.0))
    references = {"rlnReferenceImage": np.array(["000009@three.mrcs", "000001@three.mrcs"] * 2, dtype="T")}
    write_star(tmp_path / "beyond.star", {"": Table(references)})
    maps = {"rlnReferenceImage": np.array(["small.mrc"] * 3, dtype="T")}
    write_star(tmp_path / "maps.star", {"": Table(maps)})
    cases = {
        "class2d three.mrcs": ("three.mrcs", "3 references", "4 classes"),
        "class2d small.mrcs": ("small.mrcs", "24", "32"),
        "class2d pixels.mrcs": ("pixels.mrcs", "6 Å", "5"),
        "class2d nan.mrcs": ("nan.mrcs", "NaN"),
        "class2d beyond.star": ("three.mrcs", "9", "3"),
        "class3d small.mrc": ("small.mrc", "24", "32"),
        "class3d voxels.mrc": ("voxels.mrc", "6", "5"),
        "class3d maps.star": ("small.mrc", "24"),
    }
    for case, words in cases.items():
        job, name = case.split()
        command = [*_command(job, mixed_folder, tmp_path / "output" / "run"), "--ref", str(tmp_path / name)]
        refused(command, *words)
    assert not (tmp_path / "output").exists()
