"""CTFFIND's text files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.ctffind import (
    CtffindResult,
    FitSetting,
    read_ctffind3_log,
    read_curves,
    read_summary,
    summary_named_in,
    write_curves,
    write_log,
    write_summary,
)
from vitrea.records.errors import InputError

SETTING = FitSetting("mics/a.mrc", 1.4, 200.0, 1.4, 0.1, 512, (30.0, 5.0), (5000.0, 50000.0))
RESULT = CtffindResult(10864.1386, 10575.6767, 78.2831, 57.29578, 0.131144, 4.874623)
# As CTFFIND 4.1.14 and 5.0.2 write it.
SUMMARY4 = """# Output from CTFFind version 4.1.14, run on 2025-12-28 18:56:33
# Input file: CtfFind/job003/Movies/XXX_PS.mrc ; Number of micrographs: 1
# Pixel size: 1.400 Angstroms ; acceleration voltage: 200.0 keV ; spherical aberration: 1.40 mm ; amplitude contrast: 0.10
# Box size: 512 pixels ; min. res.: 30.0 Angstroms ; max. res.: 5.0 Angstroms ; min. def.: 5000.0 um; max. def. 50000.0 um
# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; ...
1.000000 10864.138672 10575.676758 78.283111 1.570796 0.131144 inf
"""  # noqa: E501


def test_summaries_of_the_program_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(SUMMARY4)
    found = read_summary(path)
    assert (found.defocus_u, found.defocus_v, found.angle, found.score) == (10864.138672, 10575.676758, 78.283111,
                                                                            0.131144)  # fmt: skip
    assert found.phase_shift == pytest.approx(90.0, abs=1e-4)
    assert math.isinf(found.resolution)
    assert found.tilt_angle is None
    path.write_text(SUMMARY4.replace("inf", "4.9 -75.1 31.5 0.0"))
    tilted = read_summary(path)
    assert (tilted.resolution, tilted.tilt_axis, tilted.tilt_angle) == (4.9, -75.1, 31.5)


def test_what_is_written_has_the_words_where_relion_counts_them(tmp_path: Path) -> None:
    summary, log = tmp_path / "a.txt", tmp_path / "a_ctffind4.log"
    write_summary(summary, SETTING, RESULT, "Vitrea")
    write_log(log, summary, SETTING, RESULT, "Vitrea")
    # RELION takes the last word of this line for the summary's name ...
    assert summary_named_in(log) == summary
    # ... and words 3, 8, 13 and 18 of the summary's third line for pixel size, voltage, Cs and contrast.
    words = next(line for line in summary.read_text().splitlines() if "acceleration voltage:" in line).split()
    assert [float(words[n]) for n in (3, 8, 13, 18)] == [1.4, 200.0, 1.4, 0.1]
    found = read_summary(summary)
    assert found.defocus_u == pytest.approx(RESULT.defocus_u)
    assert found.phase_shift == pytest.approx(RESULT.phase_shift)
    assert found.resolution == pytest.approx(RESULT.resolution)


def test_the_log_reads_as_one_of_ctffind3_too(tmp_path: Path) -> None:
    write_log(tmp_path / "a.log", tmp_path / "a.txt", SETTING, RESULT, "Vitrea")
    found = read_ctffind3_log(tmp_path / "a.log")
    assert (found.defocus_u, found.defocus_v, found.angle) == (10864.14, 10575.68, 78.28)
    lines = (tmp_path / "a.log").read_text().splitlines()
    optics = lines[lines.index(" CS[mm], HT[kV], AmpCnst, XMAG, DStep[um]") + 1].split()
    assert len(optics) == 5
    assert float(optics[4]) * 1e4 / float(optics[3]) == pytest.approx(1.4)


def test_curves_round_trip(tmp_path: Path) -> None:
    curves = np.random.default_rng(0).standard_normal((6, 50))
    write_curves(tmp_path / "a_avrot.txt", SETTING, list(curves), "Vitrea")
    np.testing.assert_allclose(read_curves(tmp_path / "a_avrot.txt"), curves, rtol=1e-5)
    # RELION skips five lines and takes the sixth for frequencies.
    assert (tmp_path / "a_avrot.txt").read_text().splitlines()[5].split()[0] == f"{curves[0, 0]:.6g}"


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (read_summary, "# nothing\n", "no line"),
        (read_summary, "1 2 3 4 5 6 seven\n", "numbers only"),
        (read_ctffind3_log, "segmentation fault\n", "did not finish"),
        (read_curves, "1 2 3\n1 2\n", "six lines"),
        (read_summary, None, "does not exist"),
    ],
)
def test_files_without_a_result_are_named(read, text, said, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=said) as error:
        read(path)
    assert "bad.txt" in str(error.value)
