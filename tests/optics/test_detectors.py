"""Detectors are told by the names of files and of their data blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrea.formats.star import read_star
from vitrea.optics.detectors import Detector, detector_of_name


@pytest.mark.parametrize(
    ("text", "detector"),
    [
        ("mtf_k2_300kV", Detector("Gatan K2", 300)),
        ("mtf_k3_standard_200kV_FL2", Detector("Gatan K3", 200)),
        ("mtf_f3ec_200kv", Detector("Falcon 3EC", 200)),
        ("mtf_falcon2_300kV", Detector("Falcon 2", 300)),
        ("Falcon4i 300 kV", Detector("Falcon 4i", 300)),
        ("F4", Detector("Falcon 4EC", 0)),
        ("de20", Detector("DE-20", 0)),
        ("mtf", Detector()),
        ("mask2_f20", Detector()),
    ],
)
def test_names_of_files_are_understood(text: str, detector: Detector) -> None:
    assert detector_of_name(text) == detector


def test_words_for_sentences() -> None:
    assert str(Detector("Gatan K2", 300)) == "Gatan K2 at 300 kV"
    assert str(Detector("", 200)) == "a detector at 200 kV"
    assert str(Detector()) == "a detector"


def test_names_of_published_files_and_of_their_blocks_agree(shared_data: Path) -> None:
    paths = [*(shared_data / "mtf").glob("*.star"), shared_data / "betagal_real/mtf_k2_200kV.star"]
    assert len(paths) == 8
    for path in paths:
        block = next(iter(read_star(path)))
        found = detector_of_name(path.stem)
        assert found.name and found.voltage
        assert detector_of_name(block) in (found, Detector())
