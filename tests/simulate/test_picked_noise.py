"""Einstein from noise: windows picked with a template average to the template; those that were not do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.shells import radial_power_spectrum
from vitrea.records.optics import Optics
from vitrea.simulate.noise import coloured_spectrum
from vitrea.simulate.particles import NoiseModel
from vitrea.simulate.picked_noise import PickedWindows, micrograph_size, noise_micrograph, pick_peaks
from vitrea.simulate.projections import Projector
from vitrea.simulate.truth import Acquisition, draw_particles

SIZE, RADIUS = 24, 8.0


def template(size: int = SIZE) -> torch.Tensor:
    axis = torch.arange(size, dtype=torch.float32) - size // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return sum(torch.exp(-((x - a) ** 2 + (y - b) ** 2) / 4) for a, b in ((-4, 0), (3, 3), (2, -5)))  # type: ignore[return-value]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(np.corrcoef(first.numpy().ravel(), second.numpy().ravel())[0, 1])


@pytest.mark.parametrize("box", [24, 25])
def test_a_planted_template_is_found_where_it_is(box: int) -> None:
    micrograph = 0.1 * noise_micrograph(1, 0, 120)
    places = [(30, 40), (80, 77), (75, 31)]
    turned = torch.stack([template(box), template(box).T.contiguous()])
    windows = [(slice(y - box // 2, y - box // 2 + box), slice(x - box // 2, x - box // 2 + box)) for y, x in places]
    for number, window in enumerate(windows):
        micrograph[window] += (3 - number) * turned[number % 2]
    picks = pick_peaks(micrograph, turned, 3, 16.0)
    assert picks.template.tolist() == [0, 1, 0]
    assert (np.diff(picks.score) < 0).all()
    for found, window in zip(picks.windows, windows, strict=True):
        assert torch.equal(found, micrograph[window])


def test_picked_noise_averages_to_its_template_and_unpicked_noise_does_not() -> None:
    size = micrograph_size(SIZE, 150, 2 * RADIUS)
    micrograph = noise_micrograph(3, 0, size)
    picks = pick_peaks(micrograph, template()[None], 150, 2 * RADIUS)
    assert correlation(picks.windows.mean(dim=0), template()) > 0.8
    other = pick_peaks(micrograph, template().T.flip(0)[None].contiguous(), 150, 2 * RADIUS)
    assert abs(correlation(other.windows.mean(dim=0), template())) < 0.5
    # Scores are in standard deviations: the best of some 2e5 / 30 independent places.
    assert 3 < picks.score[0] < 5.5


def test_windows_keep_their_distance_and_there_is_room_for_all() -> None:
    size = micrograph_size(SIZE, 60, 14.0)
    picks = pick_peaks(noise_micrograph(3, 1, size), template()[None], 60, 14.0)
    assert picks.windows.shape == (60, SIZE, SIZE)
    # Two windows nearer than that would share most of their pixels; their places are not told, but pixels are unique.
    corners = picks.windows[:, SIZE // 2, SIZE // 2]
    assert len(set(corners.tolist())) == 60
    with pytest.raises(ValueError, match="no room"):
        pick_peaks(noise_micrograph(3, 1, 40), template()[None], 60, 14.0)


def test_noise_micrographs_have_their_spectrum() -> None:
    spectrum = coloured_spectrum(SIZE, 4.0)
    micrographs = torch.stack([noise_micrograph(1, number, 96, spectrum, SIZE) for number in range(20)])
    assert float(micrographs.var()) == pytest.approx(1, abs=0.05)
    power = radial_power_spectrum(micrographs).mean(dim=0).numpy()
    assert power[8:48:4] / spectrum[2:12] == pytest.approx(np.ones(10), abs=0.12)
    assert not torch.equal(micrographs[0], micrographs[1])
    assert not torch.equal(micrographs[0], noise_micrograph(2, 0, 96, spectrum, SIZE))


def test_windows_of_a_set_resemble_the_template_in_their_micrographs_ctf() -> None:
    optics = Optics(4.0, SIZE, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1)
    truth = draw_particles(Acquisition(optics, 90, groups=2, defocus_spread=0.0, defocus_min=8e3, defocus_max=2e4))
    kinds = np.where(np.arange(90) % 3 == 0, "particle", "picked_noise").astype(object)
    truth = truth.with_columns({"vitreaSimulatedKind": kinds})
    axis = torch.arange(SIZE, dtype=torch.float32) - SIZE // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    shape = torch.exp(-((x - 3) ** 2 + y**2 / 6 + z**2) / 4) + torch.exp(-((x + 4) ** 2 + y**2 + (z - 3) ** 2) / 4)
    windows = PickedWindows(Projector(shape, 4.0), truth, RADIUS, NoiseModel(2))
    rows = np.flatnonzero(kinds == "picked_noise")
    together = windows.images(rows)
    assert torch.equal(together[20:50], windows.images(rows[20:50]))
    for group, row in ((rows[rows < 45], 1), (rows[rows >= 45], 46)):
        templates = windows.templates(row)
        flat = (templates - templates.mean(dim=(1, 2), keepdim=True)).flatten(1)
        flat = flat / flat.norm(dim=1, keepdim=True)
        images = windows.images(group)
        best = (images.flatten(1) @ flat.T).max(dim=1).values
        noise = torch.randn(30, SIZE * SIZE, generator=torch.Generator().manual_seed(1))
        chance = (noise @ flat.T).max(dim=1).values
        assert float(best.min()) > float(chance.mean())
        assert float(best.mean()) > float(chance.mean()) + 1
