"""Simulated micrographs hold their truth: cut out and put together as truth.star says, they give the molecule back."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.formats.mrc import read_map
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.geometry.masks import soft_sphere
from vitrea.jobs.base import Context
from vitrea.jobs.extract import JOB as EXTRACT
from vitrea.jobs.reconstruct import JOB as RECONSTRUCT
from vitrea.jobs.simulate_micrographs import JOB as SIMULATE


@pytest.mark.slow
def test_truth_boxes_reconstruct_the_molecule(in_tmp: Path, data_dir: Path) -> None:
    """Coordinates, origins, angles, defocus of each particle and contrast all agree, or the correlation would fall.

    300 particles of a 450 kDa molecule at 40 e-/Å², without damage, envelope and MTF, which the reconstruction would
    have to undo.
    """
    shutil.copy(data_dir / "projection" / "map40.mrc", in_tmp)
    run(SIMULATE, map="map40.mrc", molecular_mass=450.0, output="S", width=640, particles=100, number=3,
        particle_diameter=200.0, damage=False, envelope=0.0, mtf="none", astigmatism_max=800.0)  # fmt: skip
    run(EXTRACT, input=("S/truth_micrographs.star",), coordinate_list="S/truth.star", output="P", box_size=64,
        invert_contrast=True, normalise=True, background_radius=20)  # fmt: skip
    run(RECONSTRUCT, input="P/particles.star", output="back.mrc", ctf=True)
    got, truth = read_map("back.mrc").voxels[12:52, 12:52, 12:52], read_map("S/truth.mrc").voxels
    ball = soft_sphere(40, 15, 2).astype(np.float32)
    curve = fourier_shell_correlation(torch.from_numpy(got * ball), torch.from_numpy(truth * ball)).numpy()
    assert curve[:12].min() > 0.96  # to 24 Å; finer than that the map itself holds little
    assert curve.min() > 0.5


def run(job: object, **parameters: object) -> None:
    job.run(job.parameters(**parameters), Context())  # type: ignore[attr-defined]
