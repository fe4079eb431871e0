"""Simulated micrographs hold their truth: cut out and put together as truth.star says, they give the molecule back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.formats.mrc import read_map
from vitrea.formats.star import read_star, write_star
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.geometry.masks import soft_sphere
from vitrea.jobs.base import Context
from vitrea.jobs.extract import JOB as EXTRACT
from vitrea.jobs.reconstruct import JOB as RECONSTRUCT
from vitrea.jobs.simulate_micrographs import JOB as SIMULATE
from vitrea.records.table import Table


@pytest.mark.slow
def test_truth_boxes_reconstruct_the_molecule(in_tmp: Path, data_dir: Path) -> None:
    """Coordinates, origins, angles, defocus of each particle and contrast all agree, or the correlation would fall.

    300 particles of a 450 kDa molecule at 40 e-/Å², without damage, envelope and MTF, which the reconstruction would
    have to undo. How much of the truth the counting noise leaves, shell by shell, two halves of the particles tell:
    with F between them, all particles correlate with the truth by sqrt(2 F / (1 + F)), unless both halves are wrong
    alike. The last shell, at Nyquist, is left out: its outer half lies beyond the ball that images fill (without any
    noise, it has 0.5; and projections of the map itself, put together, 0.87).
    """
    shutil.copy(data_dir / "projection" / "map40.mrc", in_tmp)
    run(SIMULATE, map="map40.mrc", molecular_mass=450.0, output="S", width=640, particles=100, number=3,
        particle_diameter=200.0, damage=False, envelope=0.0, mtf="none", astigmatism_max=800.0)  # fmt: skip
    run(EXTRACT, input=("S/truth_micrographs.star",), coordinate_list="S/truth.star", output="P", box_size=64,
        invert_contrast=True, normalise=True, background_radius=20)  # fmt: skip
    blocks = dict(read_star(Path("P/particles.star")))
    table = blocks["particles"]
    assert isinstance(table, Table)
    blocks["particles"] = table.with_columns({"rlnRandomSubset": np.arange(len(table)) % 2 + 1})
    write_star(Path("P/halves.star"), blocks)
    for subset, name in enumerate(("back", "half1", "half2")):
        run(RECONSTRUCT, input="P/halves.star", output=f"{name}.mrc", ctf=True, subset=subset)
    truth = read_map("S/truth.mrc").voxels
    ball = soft_sphere(40, 15, 2).astype(np.float32)
    back, one, two = (
        torch.from_numpy(read_map(f"{name}.mrc").voxels[12:52, 12:52, 12:52] * ball)
        for name in ("back", "half1", "half2")
    )
    curve = fourier_shell_correlation(back, torch.from_numpy(truth * ball)).numpy()
    between = np.clip(fourier_shell_correlation(one, two).numpy(), 0.0, 1.0)
    expected = np.sqrt(2 * between / (1 + between))
    # The ball leaves some 200 independent samples in shell 8, 900 in shell 18: 0.07 is two standard deviations where
    # noise decides, and the scatter shrinks as the correlation grows.
    assert (curve - expected)[1:-1].min() > -0.07
    assert (curve - expected)[1:11].min() > -0.005
    assert curve[:12].min() > 0.96  # to 24 Å; finer than that the map itself holds little


def run(job: object, **parameters: object) -> None:
    job.run(job.parameters(**parameters), Context())  # type: ignore[attr-defined]
