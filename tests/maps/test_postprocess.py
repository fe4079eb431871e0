"""Post-processing of real half maps as RELION 5 did it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.formats.mrc import read_map
from vitrea.formats.star import read_star
from vitrea.maps.half_maps import FscSettings
from vitrea.maps.masking import sphere_mask
from vitrea.maps.postprocess import postprocess, sharpen_half
from vitrea.maps.sharpening import ModulationTransfer, SharpeningSettings, sharpen
from vitrea.records.table import Table

VOXEL = 3.54


@dataclass(frozen=True)
class Reference:
    """RELION's input and output."""

    half1: NDArray[np.float32]
    half2: NDArray[np.float32]
    mask: NDArray[np.float32]
    mtf: ModulationTransfer
    folder: Path

    def table(self, file: str, block: str) -> Table:
        table = read_star(self.folder / file)[block]
        assert isinstance(table, Table)
        return table

    def density(self, file: str) -> NDArray[np.float32]:
        return read_map(self.folder / file).voxels


@pytest.fixture(scope="module")
def relion(shared_reference: Path, shared_data: Path) -> Reference:
    run = shared_reference / "betagal_real"
    halves = [read_map(run / f"refine3d/run_half{half}_class001_unfil.mrc").voxels for half in (1, 2)]
    table = next(iter(read_star(shared_data / "betagal_real/mtf_k2_200kV.star").values()))
    assert isinstance(table, Table)
    mtf = ModulationTransfer(table.numbers("rlnResolutionInversePixel"), table.numbers("rlnMtfValue"), 0.885)
    return Reference(*halves, read_map(run / "postprocess/mask.mrc").voxels, mtf, run / "postprocess")


def correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def test_everything_that_is_not_random_is_relions(relion: Reference) -> None:
    """Given RELION's own corrected curve (its random phases cannot be repeated), all else agrees to print precision."""
    fsc = relion.table("post.star", "fsc").numbers("rlnFourierShellCorrelationCorrected")
    settings = SharpeningSettings(mtf=relion.mtf, automatic=True, fit_lowest=10.0)
    density, bfactor, plot = sharpen((relion.half1 + relion.half2) / 2, VOXEL, fsc, 32, settings)
    assert bfactor == pytest.approx(-400.93767, rel=1e-4)
    assert plot.fit is not None
    assert plot.fit.intercept == pytest.approx(-9.17842, abs=1e-4)
    assert plot.fit.correlation == pytest.approx(0.852249, abs=1e-4)
    guinier = relion.table("post.star", "guinier")
    columns = {"Original": plot.original, "MTFCorrected": plot.mtf_corrected, "Weighted": plot.weighted}
    for name, ours in {**columns, "Sharpened": plot.sharpened}.items():
        assert ours is not None
        assert np.abs(ours - guinier.numbers(f"rlnLogAmplitudes{name}")).max() < 5e-5
    assert correlation(density, relion.density("post.mrc")) > 0.999999
    assert correlation(density * relion.mask, relion.density("post_masked.mrc")) > 0.999999


def test_a_whole_run_is_relions(relion: Reference) -> None:
    """With RELION's random phases all agrees to print precision; over seeds the B-factor is -395 ± 8 Å²."""
    settings = SharpeningSettings(mtf=relion.mtf, automatic=True, fit_lowest=10.0)
    result = postprocess(relion.half1, relion.half2, VOXEL, relion.mask, settings)
    table = relion.table("post.star", "fsc")
    fsc = result.fsc
    pairs = {"UnmaskedMaps": fsc.unmasked, "MaskedMaps": fsc.masked, "ParticleMaskFraction": fsc.particle}
    for name, ours in pairs.items():
        assert ours is not None
        assert np.abs(ours - table.numbers(f"rlnFourierShellCorrelation{name}")).max() < 2e-6
    assert fsc.randomised is not None
    random = table.numbers("rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps")
    assert np.abs(fsc.randomised - random).max() < 6e-6
    assert np.abs(fsc.corrected - table.numbers("rlnFourierShellCorrelationCorrected")).max() < 1e-6
    assert fsc.particle_fraction == pytest.approx(2.997731, abs=1e-5)
    assert fsc.randomised_from == 11
    assert fsc.resolution == pytest.approx(7.08)
    assert result.bfactor == pytest.approx(-400.93767, abs=0.01)
    assert correlation(result.density, relion.density("post.mrc")) > 0.999999
    assert result.masked is not None
    assert correlation(result.masked, relion.density("post_masked.mrc")) > 0.999999


@pytest.mark.slow
def test_other_random_phases_move_the_bfactor_little(relion: Reference) -> None:
    """What the choice of the seed costs: 8 Å² for one draw, less when draws are averaged."""
    settings = SharpeningSettings(mtf=relion.mtf, automatic=True, fit_lowest=10.0)
    found = {
        draws: np.array(
            [
                postprocess(
                    relion.half1, relion.half2, VOXEL, relion.mask, settings, FscSettings(seed=seed, draws=draws)
                ).bfactor
                for seed in range(2, 8)
            ]
        )
        for draws in (1, 8)
    }
    assert found[1].std() < 20
    assert found[8].std() < 0.7 * found[1].std()
    assert found[8].mean() == pytest.approx(-395, abs=6)


def test_halves_are_treated_as_their_average_was(relion: Reference) -> None:
    """All steps after the fit are linear: the treated halves average to the treated average."""
    settings = SharpeningSettings(mtf=relion.mtf, automatic=True, fit_lowest=10.0, lowpass=9.0)
    result = postprocess(relion.half1, relion.half2, VOXEL, relion.mask, settings)
    halves = [sharpen_half(half, result, settings) for half in (relion.half1, relion.half2)]
    assert np.allclose((halves[0] + halves[1]) / 2, result.density, atol=2e-6 * np.abs(result.density).max())
    assert not np.allclose(halves[0], halves[1])


def test_an_adhoc_bfactor_agrees(relion: Reference) -> None:
    settings = SharpeningSettings(bfactor=-100.0)
    result = postprocess(relion.half1, relion.half2, VOXEL, relion.mask, settings)
    assert correlation(result.density, relion.density("post_adhoc.mrc")) > 0.9999
    fsc = relion.table("post_adhoc.star", "fsc").numbers("rlnFourierShellCorrelationCorrected")
    density, _, plot = sharpen((relion.half1 + relion.half2) / 2, VOXEL, fsc, 32, settings)
    assert correlation(density, relion.density("post_adhoc.mrc")) > 0.999999
    sharpened = relion.table("post_adhoc.star", "guinier").numbers("rlnLogAmplitudesSharpened")
    assert np.abs(plot.sharpened - sharpened).max() < 5e-5


@pytest.fixture(scope="module")
def synthetic() -> list[NDArray[np.float32]]:
    """Two halves that agree where the mask is not."""
    generator = np.random.default_rng(3)
    shared = generator.normal(size=(32, 32, 32)) * (1 - sphere_mask(32, 8.0))
    return [(shared + 0.3 * generator.normal(size=shared.shape)).astype(np.float32) for _ in range(2)]


def test_a_mask_that_makes_things_worse_is_set_aside_unless_forced(synthetic: list[NDArray[np.float32]]) -> None:
    mask = sphere_mask(32, 5.0, 3.0)
    plain = postprocess(*synthetic, 2.0)
    aside = postprocess(*synthetic, 2.0, mask)
    forced = postprocess(*synthetic, 2.0, mask, force_mask=True)
    assert aside.mask_set_aside
    assert aside.masked is None
    assert np.array_equal(aside.density, plain.density)
    assert not forced.mask_set_aside
    assert forced.masked is not None
    assert forced.fsc.resolution > aside.fsc.resolution


def test_seed_and_start_of_the_random_phases_matter(synthetic: list[NDArray[np.float32]]) -> None:
    noise = [0.5 * np.random.default_rng(seed).normal(size=(32, 32, 32)) for seed in (8, 9)]
    halves = [(half + extra).astype(np.float32) for half, extra in zip(synthetic, noise, strict=True)]
    mask = sphere_mask(32, 12.0, 3.0)
    curves = [
        postprocess(*halves, 2.0, mask, None, measure, force_mask=True).fsc.randomised
        for measure in (
            FscSettings(randomise_below=0.95, draws=1),
            FscSettings(randomise_below=0.95, draws=1, seed=5),
            FscSettings(randomise_below=0.6, draws=1),
        )
    ]
    assert not np.array_equal(curves[0], curves[1])
    assert not np.array_equal(curves[0], curves[2])
