from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.geometry.euler import euler_to_matrix
from vitrea.optics.ctf import ctf
from vitrea.picking.background import band, frequencies
from vitrea.picking.comparison import compare_picks
from vitrea.picking.field import PickingField, reduce_micrograph
from vitrea.picking.laplacian import laplacian_templates
from vitrea.picking.picker import Filters, Limits, Searcher, candidates
from vitrea.picking.scores import TemplateBank, matched_weight
from vitrea.picking.templates import Templates, disc_template, expand_templates, turned_templates
from vitrea.records.optics import Optics

ALL = np.array([[0, 0]])


def white_field(seed: int = 0, shape: tuple[int, int] = (160, 180)) -> PickingField:
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return reduce_micrograph(noise, 4.0, 4.0, 60.0)


def flat(field: PickingField) -> torch.Tensor:
    return torch.ones(field.padded_shape[0], field.padded_shape[1] // 2 + 1)


def test_scores_are_correlations_with_the_best_template() -> None:
    field = white_field()
    images = torch.from_numpy(np.random.default_rng(1).standard_normal((5, 7, 7)).astype(np.float32))
    bank = TemplateBank(expand_templates(images, np.arange(5), np.zeros(5)), field)
    found = bank.score(field, flat(field), flat(field), ALL, 160)
    windows = field.image.unfold(0, 7, 1).unfold(1, 7, 1)  # [y, x, 7, 7]
    direct = torch.einsum("yxab,tab->tyx", windows, images / images.flatten(1).norm(dim=1)[:, None, None])
    inner = found.score[3:-3, 3:-3]
    scale = (direct.amax(dim=0).numpy() / inner).mean()
    np.testing.assert_allclose(inner * scale, direct.amax(dim=0).numpy(), atol=0.02)
    assert scale == pytest.approx(1.0, abs=0.05)  # white noise: a unit template has unit variance
    np.testing.assert_array_equal(found.template[3:-3, 3:-3], direct.argmax(dim=0).numpy())


def test_background_has_unit_deviation_whatever_the_noise() -> None:
    field = white_field()
    kx = torch.fft.rfftfreq(field.padded_shape[1])
    colour = (1 + 30 * torch.exp(-((kx / 0.1) ** 2))).expand(field.padded_shape[0], -1)
    field.__dict__["transform"] = field.transform * colour.sqrt()
    bank = TemplateBank(disc_template(30.0, 8.0, field.pixel_sizes), field)
    passed = band(field, 9.0, 200.0)
    found = bank.score(field, matched_weight(colour, passed), colour, ALL, 160)
    assert found.score[:160].std() == pytest.approx(1.0, abs=0.02)


def test_whitening_beats_none_where_noise_is_coloured(discs: Callable[..., tuple]) -> None:
    image, places = discs(12, contrast=1.0)
    rng = np.random.default_rng(5)
    field = reduce_micrograph(image, 5.0, 5.0, 80.0)
    kx, ky = torch.fft.rfftfreq(field.padded_shape[1]), torch.fft.fftfreq(field.padded_shape[0])[:, None]
    power = 1 + 400 * torch.exp(-((kx**2 + ky**2) / 0.012**2))
    noise = torch.fft.rfft2(
        torch.from_numpy(rng.standard_normal(field.padded_shape).astype(np.float32)), norm="forward"
    )
    field.__dict__["transform"] = field.transform + noise * (power - 1).sqrt()
    bank = TemplateBank(disc_template(55.0, 10.0, field.pixel_sizes), field)
    passed = band(field, 20.0, 1000.0)
    at = tuple(np.rint(places[:, ::-1]).astype(int).T)
    white = bank.score(field, matched_weight(power, passed), power, ALL, 300).score
    plain = bank.score(field, passed, power, ALL, 300).score
    assert white[at].mean() / white.std() > 1.3 * plain[at].mean() / plain.std()


def test_the_ctf_finds_what_it_made(lopsided: Any) -> None:
    # A particle imaged at 2 µm: searched for with the right CTF it scores higher than with none.
    reference = lopsided.images(lopsided.transforms(48, euler_to_matrix(np.array([[20.0, 40.0, 0.0]]))), 48)
    field = white_field(shape=(200, 200))
    bank = TemplateBank(turned_templates(reference, 4.0, field.pixel_sizes, 120.0, 10.0, 15.0), field)
    y, x = frequencies(field)
    transfer = ctf(y, x, Optics(4.0, 0, 300.0, 2.7, 0.1), torch.tensor([[20000.0, 19000.0, 30.0]]))[0]
    plane = np.zeros((200, 200), dtype=np.float32)
    plane[60:108, 90:138] = 15 * reference[0]  # its centre at (x, y) = (114, 84)
    particle = replace(field, image=torch.from_numpy(plane))
    field.__dict__["transform"] = field.transform + particle.transform * transfer
    passed = band(field, 10.0, 300.0)
    one = flat(field)
    with_ctf = bank.score(field, matched_weight(one, passed, transfer), one, ALL, 200)
    without = bank.score(field, matched_weight(one, passed), one, ALL, 200)
    place = np.unravel_index(with_ctf.score.argmax(), with_ctf.score.shape)
    assert np.abs(np.array(place) - [84, 114]).max() <= 1
    assert abs(bank.templates.psi[with_ctf.template[place]]) % 360 <= 15
    assert with_ctf.score.max() > 1.2 * without.score.max()


def test_filters_that_leave_nothing() -> None:
    field = white_field()
    bank = TemplateBank(disc_template(30.0, 8.0, field.pixel_sizes), field)
    with pytest.raises(ValueError, match="nothing is left"):
        bank.score(field, 0 * flat(field), flat(field), ALL, 160)


def test_hollow_particles_are_found_at_their_centres_not_their_walls() -> None:
    """Projected shells of 120 Å, 160 Å apart; without rivals the filters take walls and gaps for particles as well."""
    random = np.random.default_rng(2)
    centres = [(90 + 40 * i, 70 + 40 * j) for i in range(5) for j in range(6)]
    y, x = np.mgrid[:340, :340]
    distances = [4.0 * np.hypot(y - cy, x - cx) for cy, cx in centres]
    shells = [np.sqrt(np.clip(60**2 - r**2, 0, None)) - np.sqrt(np.clip(40**2 - r**2, 0, None)) for r in distances]
    noisy = (sum(shells) / 30 + 0.7 * random.standard_normal((340, 340))).astype(np.float32)
    filters = Filters(30.0, 480.0, 60.0, whiten_by="none")
    found = {}
    for rivals in (True, False):

        def make(sizes: tuple[float, float], rivals: bool = rivals) -> Templates:
            templates = laplacian_templates(np.array([110.0, 130.0, 150.0]), sizes)
            return templates if rivals else replace(templates, rivals=np.zeros(8, dtype=bool))

        searched = Searcher(filters, make).search(noisy, 4.0)
        peaks, _ = candidates(searched, Limits(80.0, lowest_score=0.0), 4.0, 0.0)
        found[rivals] = compare_picks(peaks.places * searched.factors, np.array(centres)[:, ::-1], 6.0)
    assert found[True].recall == 1.0
    assert found[True].precision > 0.9
    assert found[True].precision > found[False].precision + 0.1, found
