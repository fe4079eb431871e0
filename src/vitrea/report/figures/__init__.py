"""Figures of maps, classes, resolution, orientations and runs. Arrays in, matplotlib figures out; nothing is shown."""

from vitrea.report.figures.classes import class_gallery, class_maps
from vitrea.report.figures.columns import binned_histogram, column_plot
from vitrea.report.figures.convergence import class_convergence, convergence_curves
from vitrea.report.figures.curves import fsc_curves, spectrum_curves
from vitrea.report.figures.directions import axis_map, directional_curves, line_plot, tilt_pair_plot
from vitrea.report.figures.images import image_gallery, map_projections, map_slices
from vitrea.report.figures.picks import marked_micrograph, threshold_curve_figure
from vitrea.report.figures.postprocessing import guinier_curves, half_map_curves, masked_slices
from vitrea.report.figures.sphere import angular_distribution, class_angular_distributions
from vitrea.report.figures.statistics import histogram, scatter

__all__ = [
    "angular_distribution",
    "axis_map",
    "binned_histogram",
    "class_angular_distributions",
    "class_convergence",
    "class_gallery",
    "class_maps",
    "column_plot",
    "convergence_curves",
    "directional_curves",
    "fsc_curves",
    "guinier_curves",
    "half_map_curves",
    "histogram",
    "image_gallery",
    "line_plot",
    "map_projections",
    "map_slices",
    "marked_micrograph",
    "masked_slices",
    "scatter",
    "spectrum_curves",
    "threshold_curve_figure",
    "tilt_pair_plot",
]
