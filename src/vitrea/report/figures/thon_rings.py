"""The fit of a CTF to a micrograph's Thon rings, as a picture and as curves."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitrea.report.figures.style import COLOURS

_LOWEST = 0.02  # 1/Å: below, the background of a spectrum is all there is
_TICKS = np.array([20.0, 10.0, 7.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.2, 2.0])  # Å


@dataclass(frozen=True)
class FitCurves:
    """Curves over spatial frequency (1/Å): equi-phase average and fitted |CTF|, both 0 to 1, and quality of the fit."""

    frequency: NDArray[np.float64]
    rings: NDArray[np.float64]
    fit: NDArray[np.float64]
    quality: NDArray[np.float64]


class FitPage:
    """Draws the fits of many micrographs on one figure, whose axes, lines and texts are laid out only once.

    Safe to use from several threads: one draws, the others wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._figure = Figure(figsize=(12.0, 4.4))
        FigureCanvasAgg(self._figure)
        picture = self._figure.add_axes((0.006, 0.02, 0.352, 0.9))
        picture.set_axis_off()
        self._picture = picture.imshow(np.zeros((2, 2)), cmap="gray", origin="lower", vmin=0, vmax=1)
        # No labels but the three: |CTF| and rings above, quality below.
        self._rings_axis = self._figure.add_axes((0.425, 0.5, 0.56, 0.40))
        self._quality_axis = self._figure.add_axes((0.425, 0.115, 0.56, 0.33), sharex=self._rings_axis)
        self._rings = self._rings_axis.plot([], [], color="black", linewidth=1.0, label="rings (equi-phase average)")[0]
        self._fit = self._rings_axis.plot([], [], color=COLOURS[1], linewidth=1.0, label="|CTF| fitted")[0]
        self._quality = self._quality_axis.plot([], [], color=COLOURS[0], linewidth=1.4)[0]
        self._limits = [axis.axvline(0, color="black", linewidth=1.0, linestyle="--")
                        for axis in (self._rings_axis, self._quality_axis)]  # fmt: skip
        self._fitted = [
            axis.axvspan(0, 1, color="#f0f0ea", zorder=0) for axis in (self._rings_axis, self._quality_axis)
        ]
        self._rings_axis.set_ylim(-0.3, 1.55)
        self._rings_axis.tick_params(labelbottom=False)
        self._rings_axis.legend(loc="upper right", ncols=2, frameon=False, fontsize=8, borderaxespad=0.1)
        self._quality_axis.set_ylim(-0.5, 1.05)
        self._quality_axis.axhline(0.5, color="black", linewidth=0.8, linestyle=":")
        self._quality_axis.set_ylabel("quality of fit")
        self._quality_axis.set_xlabel("resolution (Å)")
        self._title = self._figure.text(0.425, 0.94, "", fontsize=10)
        self._name = self._figure.text(0.006, 0.94, "", fontsize=10)

    def draw(self, image: NDArray[np.float32], curves: FitCurves, resolution: float, fitted: tuple[float, float],
             name: str, title: str) -> bytes:  # fmt: skip
        """Return a page as PNG.

        Parameters
        ----------
        image : ndarray, shape [y, x]
            The spectrum beside the fit, 0 to 1.
        curves : FitCurves
        resolution : float
            Å to which the rings fit, marked by a line; infinite for none.
        fitted : (float, float)
            Å between which rings were fitted, shaded.
        name, title : str
            Texts above picture and curves.
        """
        shown = curves.frequency >= _LOWEST
        frequency = curves.frequency[shown]
        with self._lock:
            self._picture.set_data(image)
            self._picture.set_extent((0, image.shape[1], 0, image.shape[0]))
            self._rings.set_data(frequency, curves.rings[shown])
            self._fit.set_data(frequency, curves.fit[shown])
            self._quality.set_data(frequency, curves.quality[shown])
            for line in self._limits:
                line.set_xdata([1 / resolution, 1 / resolution] if np.isfinite(resolution) else [0, 0])
                line.set_visible(np.isfinite(resolution))
            for span in self._fitted:
                span.set_x(1 / fitted[0])
                span.set_width(1 / fitted[1] - 1 / fitted[0])
            self._rings_axis.set_xlim(_LOWEST, frequency[-1])
            ticks = _TICKS[frequency[-1] * _TICKS > 1]
            self._quality_axis.set_xticks(1 / ticks, [f"{tick:g}" for tick in ticks])
            self._name.set_text(name if len(name) <= 48 else f"...{name[-45:]}")
            self._title.set_text(title)
            buffer = io.BytesIO()
            # A low compression level takes a third of the time and a few kilobytes.
            self._figure.savefig(buffer, format="png", dpi=100, pil_kwargs={"compress_level": 1})
        return buffer.getvalue()
