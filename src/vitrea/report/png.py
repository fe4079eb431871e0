"""Figures as PNG files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vitrea.formats.atomic import atomic_path

DPI = 150


def figure_png(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def save_png(figure: Figure | bytes, path: str | Path, dpi: int = DPI) -> None:
    """Write a figure, or what `figure_png` has made of one, as a PNG file, which appears complete or not at all.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    data = figure if isinstance(figure, bytes) else figure_png(figure, dpi)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
