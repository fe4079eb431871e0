"""Which detector a modulation transfer function is of: by the names in and of its file, and by the curve itself."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vitrea.optics.damping import interpolate_mtf

_AT = (0.125, 0.25, 0.375, 0.49)
"""Cycles per pixel at which curves are compared."""

# What the makers' published curves are there.
_CURVES: dict[tuple[str, int], tuple[float, float, float, float]] = {
    ("Gatan K2", 200): (0.822, 0.538, 0.283, 0.154),
    ("Gatan K2", 300): (0.878, 0.733, 0.557, 0.401),
    ("Gatan K3", 200): (0.940, 0.855, 0.733, 0.605),
    ("Gatan K3", 300): (0.962, 0.889, 0.771, 0.647),
    ("Falcon 2", 300): (0.505, 0.219, 0.101, 0.055),
    ("Falcon 3EC", 200): (0.832, 0.552, 0.284, 0.136),
    ("Falcon 3EC", 300): (0.854, 0.572, 0.298, 0.153),
    ("Falcon 4EC", 200): (0.787, 0.475, 0.205, 0.075),
    ("Falcon 4EC", 300): (0.835, 0.535, 0.248, 0.095),
    ("DE-20", 300): (0.781, 0.570, 0.370, 0.216),
}
_SAME_CURVE = 0.006  # less than half of what the two most alike differ by

# Spellings in names of files and data blocks; longer ones first.
_SPELLINGS = {
    "Gatan K3": r"k3",
    "Gatan K2": r"k2",
    "Falcon 4i": r"(?:falcon|f)[ _-]?4i",
    "Falcon 4EC": r"(?:falcon|f)[ _-]?4(?:ec)?",
    "Falcon 3EC": r"(?:falcon|f)[ _-]?(?:3(?:ec)?|iii(?:ec)?)",
    "Falcon 2": r"(?:falcon|f)[ _-]?(?:2|ii)",
    "DE-64": r"de[ _-]?64",
    "DE-20": r"de[ _-]?20",
    "Apollo": r"apollo",
}


@dataclass(frozen=True)
class Detector:
    """A detector and the acceleration voltage for which a curve was measured.

    Attributes
    ----------
    name : str
        "Gatan K2"; empty if not known.
    voltage : int
        kV; 0 if not known.
    """

    name: str = ""
    voltage: int = 0

    def __str__(self) -> str:
        """Return words for a sentence: "Gatan K2 at 300 kV"."""
        words = [self.name or "a detector", *([f"at {self.voltage} kV"] if self.voltage else [])]
        return " ".join(words)


def detector_of_name(text: str) -> Detector:
    """Return what the name of a file or data block says: ``mtf_k2_300kV`` is a Gatan K2 at 300 kV."""
    lower = text.lower()
    name = next(
        (name for name, spelling in _SPELLINGS.items() if re.search(rf"(?<![a-z0-9]){spelling}(?![a-z0-9])", lower)), ""
    )
    voltage = re.search(r"(?<!\d)(\d{2,3})[ _-]?kv", lower)
    return Detector(name, int(voltage.group(1)) if voltage else 0)


def detector_of_curve(frequency: ArrayLike, value: ArrayLike) -> Detector:
    """Return the known detector whose published curve this is; one without a name if it is none of them.

    Parameters
    ----------
    frequency : array, shape [rows]
        Cycles per detector pixel, rising.
    value : array, shape [rows]
        Modulation transfer, 1 at frequency 0.
    """
    seen = interpolate_mtf(_AT, frequency, value)
    for (name, voltage), curve in _CURVES.items():
        if np.abs(seen - curve).max() <= _SAME_CURVE:
            return Detector(name, voltage)
    return Detector()
