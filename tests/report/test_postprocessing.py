"""Figures of post-processing show the curves there are, the fit over its range, and both outlines of a mask."""

from __future__ import annotations

import numpy as np
import pytest

from vitrea.maps.half_maps import HalfMapFsc
from vitrea.maps.masking import sphere_mask
from vitrea.maps.sharpening import NO_AMPLITUDE, GuinierFit, GuinierPlot
from vitrea.report.figures import guinier_curves, half_map_curves, masked_slices

SHELLS = np.arange(17)
FALLING = 1.0 / (1.0 + np.exp(SHELLS - 9.0))


def labels(figure) -> list[str]:  # type: ignore[no-untyped-def]
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_all_curves_are_drawn_with_both_thresholds() -> None:
    random = np.where(SHELLS < 5, 1.0, 0.0)
    figure = half_map_curves(HalfMapFsc(2.0, 32, FALLING**2, FALLING, FALLING, random, randomised_from=5))
    assert labels(figure) == ["unmasked", "masked, phases randomised", "corrected for the mask", "masked"]
    axes = figure.axes[0]
    levels = {line.get_ydata()[0] for line in axes.lines if len(set(line.get_ydata())) == 1}
    assert {0.143, 0.5} <= levels
    assert axes.get_title() == "Resolution 6.40 Å at FSC = 0.143"
    plain = half_map_curves(HalfMapFsc(2.0, 32, FALLING, FALLING))
    assert labels(plain) == ["unmasked"]


def test_the_fit_is_drawn_over_its_range() -> None:
    squared = (SHELLS / 64) ** 2
    line = -5.0 - 30.0 * squared
    sharpened = np.where(SHELLS < 12, -5.0, NO_AMPLITUDE)
    plot = GuinierPlot(squared, line, None, line, sharpened, GuinierFit(-30.0, -5.0, 0.95, 10.0, 5.0))
    axes = guinier_curves(plot, -120.0).axes[0]
    fit = next(line for line in axes.lines if str(line.get_label()).startswith("fit"))
    assert fit.get_label() == "fit: B = -120 Å² (r² = 0.95)"
    assert fit.get_xdata() == pytest.approx([0.01, 0.04])
    assert fit.get_ydata() == pytest.approx([-5.3, -6.2])
    drawn = next(line for line in axes.lines if line.get_label() == "sharpened")
    assert len(drawn.get_xdata()) == 11  # shell 0 and empty shells are left out


def test_the_outline_of_a_mask_is_drawn_on_the_slices() -> None:
    density = np.random.default_rng(0).normal(size=(24,) * 3)
    figure = masked_slices(density, sphere_mask(24, 6.0, 4.0), 2.0)
    assert len(figure.axes) == 3
    assert all(len(axes.collections) == 2 for axes in figure.axes)
    assert all(len(axes.collections) == 0 for axes in masked_slices(density, None, 2.0).axes)
