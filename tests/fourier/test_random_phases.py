"""Random phases are RELION's own: its curve of one draw comes out to the digits it prints."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from vitrea.fourier.fsc import fourier_shell_correlation, mask_corrected_fsc
from vitrea.fourier.random_phases import RelionPhases
from vitrea.fourier.shells import shell_index
from vitrea.fourier.transforms import to_fourier


def noise(size: int) -> torch.Tensor:
    return torch.randn((size,) * 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("size", [15, 16])
def test_amplitudes_and_low_shells_stay(size: int) -> None:
    volume = noise(size)
    changed = RelionPhases(0)(volume, 4)
    before, after = to_fourier(volume, 3), to_fourier(changed, 3)
    # Components with a mate of their own among the stored ones (kx = 0, and Nyquist of even boxes) lose power.
    single = slice(1, (size - 1) // 2 + 1)
    assert torch.allclose(before.abs()[..., single], after.abs()[..., single], atol=1e-10)
    low = shell_index(size, 3) <= 3
    assert torch.allclose(before[low], after[low], atol=1e-10)
    assert (fourier_shell_correlation(volume, changed)[6:].abs() < 0.3).all()


def test_one_sequence_runs_on_from_map_to_map() -> None:
    volume = noise(8)
    draw = RelionPhases(5)
    first, second = draw(volume, 2), draw(volume, 2)
    assert torch.equal(first, RelionPhases(5)(volume, 2))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, RelionPhases(6)(volume, 2))


@pytest.mark.parametrize("double", [False, True])
def test_the_curve_of_random_phases_is_relions(double: bool, shared_reference: Path) -> None:
    """RELION 5.0.1 drew with seed 0, its default; post.star holds six decimals."""
    run = shared_reference / "betagal_real"
    kind = np.float64 if double else np.float32
    names = [run / f"refine3d/run_half{half}_class001_unfil.mrc" for half in (1, 2)]
    first, second, mask = (
        torch.from_numpy(mrcfile.read(path).astype(kind)) for path in [*names, run / "postprocess/mask.mrc"]
    )
    lines = [line.split() for line in (run / "postprocess/post.star").read_text().splitlines()]
    rows = np.array([line for line in lines if len(line) == 8 and line[0].isdigit()], dtype=float)
    masked, randomised, corrected = mask_corrected_fsc(first, second, mask, 11, RelionPhases(0))
    # RELION prints negative numbers with a digit less.
    assert np.abs(randomised.numpy() - rows[:, 7])[1:].max() < 6e-6
    assert np.abs(masked.numpy() - rows[:, 6])[1:].max() < 1e-6
    assert np.abs(corrected.numpy() - rows[:, 3])[1:].max() < 1e-6
