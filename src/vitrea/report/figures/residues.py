"""How well each residue of a model fits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vitrea.report.figures.style import COLOURS, panels

_PANELS = 9


def residue_correlations(chains: Mapping[str, ArrayLike]) -> Figure:
    """Draw the correlation of each residue along its chain, a panel a chain, nine chains at most.

    Parameters
    ----------
    chains : mapping of str to array, shape [residues]
        Correlations in the order of the chain, by its name; NaN: not known.
    """
    shown = list(chains.items())[:_PANELS]
    figure, axes = panels(max(1, len(shown)), 1.9, columns=3 if len(shown) > 1 else 1)
    for axis, (name, values) in zip(axes, shown, strict=False):
        curve = np.asarray(values, dtype=np.float64)
        place = np.arange(1, len(curve) + 1)
        axis.axhline(0.0, color="black", linewidth=0.8)
        axis.plot(place, curve, color=COLOURS[0], linewidth=0.7, marker="." if len(curve) < 40 else "", markersize=3)
        known = curve[np.isfinite(curve)]
        if len(known):
            axis.axhline(float(np.median(known)), color=COLOURS[1], linewidth=1.0, linestyle="--")
        axis.set_ylim(min(-0.1, float(known.min()) if len(known) else 0.0), 1.02)
        axis.set_xlim(0, max(2, len(curve)) + 1)
        axis.set_title(f"chain {name}", fontsize=9)
        axis.set_ylabel("correlation", fontsize=8)
        axis.tick_params(labelsize=8)
    return figure
