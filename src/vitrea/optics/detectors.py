"""Which detector a modulation transfer function is of, by the names in and of its file."""

from __future__ import annotations

import re
from dataclasses import dataclass

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
