from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vitrea.geometry.euler import euler_to_matrix
from vitrea.picking.laplacian import diameters_between, laplacian_templates
from vitrea.picking.templates import disc_template, turned_templates


def test_turned_references_are_projections_at_psi(lopsided: Any) -> None:
    # The reference is the particle at psi 0; a template must be the particle at its psi, at another sampling.
    size, fine, coarse = 64, 2.0, (4.0, 3.9)
    matrices = euler_to_matrix(np.array([[0.0, 0.0, 0.0]]))
    reference = lopsided.images(lopsided.transforms(size, matrices), size)
    templates = turned_templates(reference, fine, coarse, 100.0, 8.0, 45.0)
    assert len(templates.psi) == 8
    edge = templates.basis.shape[-1]
    steps = np.arange(edge) - edge // 2
    y, x = np.meshgrid(steps * coarse[0], steps * coarse[1], indexing="ij")
    for psi, image in zip(templates.psi, templates.images.numpy(), strict=True):
        turned = euler_to_matrix(np.array([[0.0, 0.0, psi]]))[0] @ lopsided.points.T * fine
        distance = (x[..., None] - turned[0]) ** 2 + (y[..., None] - turned[1]) ** 2
        expected = (np.exp(-distance / (2 * (fine * lopsided.width) ** 2)) * lopsided.heights).sum(axis=-1)
        inside = np.hypot(x, y) < 40
        assert np.corrcoef(image[inside], expected[inside])[0, 1] > 0.98


def test_the_expansion_keeps_the_templates(lopsided: Any) -> None:
    matrices = euler_to_matrix(np.array([[0.0, 30.0, 0.0], [80.0, 70.0, 0.0]]))
    references = lopsided.images(lopsided.transforms(48, matrices), 48)
    templates = turned_templates(references, 3.0, (6.0, 6.0), 110.0, 20.0, 10.0)
    few = turned_templates(references[:1], 3.0, (6.0, 6.0), 110.0, 20.0, 90.0)
    assert len(templates.psi) == 72 and len(templates.basis) < 60
    gram = torch.einsum("ryx,syx->rs", templates.basis, templates.basis)
    torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)
    for angle, image in zip(few.psi, few.images, strict=True):
        same = templates.images[(templates.psi == angle) & (templates.reference == 0)][0]
        assert float((same - image).norm() / image.norm()) < 0.01


def test_an_empty_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        turned_templates(np.zeros((1, 32, 32), dtype=np.float32), 2.0, (4.0, 4.0), 40.0, 10.0, 90.0)


def test_a_disc_has_half_its_height_at_its_radius() -> None:
    image = disc_template(30.0, 8.0, (1.0, 1.0)).images[0].numpy()
    half = len(image) // 2
    profile = image[half, half:] / image[half, half]
    assert profile[25] == pytest.approx(1.0, abs=1e-4) and profile[30] == pytest.approx(0.5, abs=1e-3)
    assert profile[34:].max() == pytest.approx(0.0, abs=1e-4)


def test_laplacians_hold_discs_of_their_size() -> None:
    diameters = diameters_between(60.0, 180.0)
    assert diameters[0] == 60.0 and diameters[-1] == pytest.approx(180.0)
    assert (diameters[1:] / diameters[:-1]).max() <= 1.1 + 1e-9
    assert list(diameters_between(80.0, 80.0)) == [80.0]
    templates = laplacian_templates(diameters, (3.0, 3.0))
    size = templates.basis.shape[-1]
    y, x = np.mgrid[:size, :size] - size // 2
    images = templates.images.numpy()
    images = images / np.linalg.norm(images, axis=(1, 2), keepdims=True)
    assert np.abs(images.sum(axis=(1, 2))).max() < 1e-2  # a constant background does not matter
    distance = 3.0 * np.hypot(y, x)
    assert templates.rivals is not None and not templates.rivals[: len(diameters)].any()
    assert templates.rivals[len(diameters) :].all() and len(images) == len(diameters) + 5
    for diameter, image in zip(diameters, images[: len(diameters)], strict=True):
        assert image[distance < diameter / 2 - 3].min() > 0 > image[np.abs(distance - 0.6 * diameter) < 2].max()


def test_a_disc_answers_best_to_the_filter_of_its_size() -> None:
    """Scale-normalised: the same height at any size, highest where the diameters agree."""
    y, x = np.mgrid[-60:61, -60:61] * 2.0
    answers = []
    for diameter in (60.0, 80.0, 100.0):
        disc = (np.hypot(y, x) < diameter / 2).astype(np.float64)
        filters = laplacian_templates(np.array([48.0, 60.0, 80.0, 100.0, 125.0]), (2.0, 2.0)).images[:5].numpy()
        reach = filters.shape[-1] // 2
        padded = np.pad(disc, max(0, reach - 60))
        middle = len(padded) // 2
        window = padded[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
        answer = (filters * window).sum(axis=(1, 2))
        assert answer.argmax() == [60.0, 80.0, 100.0].index(diameter) + 1
        answers.append(answer.max())
    assert max(answers) == pytest.approx(min(answers), rel=0.05)
