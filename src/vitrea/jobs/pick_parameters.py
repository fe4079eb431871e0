"""What all automatic picking jobs ask: micrographs, limits for picks, figure-of-merit maps, output."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from vitrea.jobs.base import JobParameters, parameter

_CTF, _LIMITS, _RUNNING = "CTF", "Limits", "Running"


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | Path) else value


Inputs = Annotated[tuple[Path, ...], BeforeValidator(_one_or_more)]


class PickParameters(JobParameters):
    """Base of the parameters of picking jobs."""

    input: Inputs = parameter(
        ..., "Micrographs: a STAR file, or images, globs or folders of them (then with --angpix).", options=["--i"]
    )
    output: Path = parameter(Path("AutoPick"), "Folder to write to.", options=["--odir", "--o"])
    pick_name: str = parameter("autopick", "What coordinate files end in: mic_<name>.star.", options=["--pickname"])
    pixel_size: float | None = parameter(
        None,
        "Pixel size of the micrographs, where their STAR file gives none; by default that of the first header.",
        unit="Å",
        options=["--angpix"],
        gt=0,
    )
    voltage: float | None = parameter(None, "The same for the voltage.", unit="kV", options=["--kV"], tab=_CTF, gt=0)
    spherical_aberration: float | None = parameter(
        None, "The same for Cs.", unit="mm", options=["--cs"], tab=_CTF, ge=0
    )
    amplitude_contrast: float | None = parameter(
        None, "The same for the fraction of amplitude contrast.", options=["--Q0"], tab=_CTF, ge=0, le=1
    )
    ctf: bool = parameter(
        True, "Search for what the CTF makes of a particle, where the micrographs have a defocus.", tab=_CTF
    )
    ctf_intact_first_peak: bool = parameter(
        False, "Take the CTF for 1 up to its first peak.", options=["--ctf_intact_first_peak"], tab=_CTF, expert=True
    )
    invert: bool = parameter(
        True, "Particles are dark in the micrographs, as images come from a microscope.", cistem="protein is white"
    )

    min_distance: float = parameter(
        0.0, "Smallest distance of two picks; 0: 70% of the particle's diameter.", unit="Å",
        options=["--min_distance"], tab=_LIMITS, ge=0,
    )  # fmt: skip
    edge_distance: float = parameter(
        0.0,
        "Distance from the edge of the micrograph within which no pick is centred.",
        unit="Å",
        tab=_LIMITS,
        cistem="min. distance from edges",
        ge=0,
    )
    skip_side: int = parameter(
        0, "The same in pixels of the micrograph; the greater of the two counts.", unit="pixels",
        options=["--skip_side"], tab=_LIMITS, ge=0, expert=True,
    )  # fmt: skip
    avoid_high_variance: bool = parameter(
        True,
        "Avoid places of unusually high variance: carbon, ice crystals, aggregates.",
        tab=_LIMITS,
        cistem="avoid high variance areas",
    )
    avoid_abnormal_mean: bool = parameter(
        True,
        "Avoid places that are unusually dark or bright on average.",
        tab=_LIMITS,
        cistem="avoid areas with abnormal local mean",
    )
    max_stddev_noise: float = parameter(
        -1.0,
        "Greatest local standard deviation at a pick, relative to the usual one: 1.1 to 1.5; -1: no such limit.",
        options=["--max_stddev_noise"],
        tab=_LIMITS,
    )
    min_avg_noise: float = parameter(
        -999.0, "Least local mean at a pick, in usual local standard deviations.", options=["--min_avg_noise"],
        tab=_LIMITS,
    )  # fmt: skip
    lowest_score: float = parameter(
        3.0, "Peaks lower than this, in standard deviations of the background, are noise.", tab=_LIMITS, ge=0,
        expert=True,
    )  # fmt: skip

    background_boxes: int = parameter(
        20,
        "Boxes without particles that the spectrum of the noise is measured in.",
        tab="Filters",
        cistem="number of background boxes",
        ge=1,
        expert=True,
    )
    box_choice: Literal["lowest-variance", "usual-variance"] = parameter(
        "lowest-variance",
        "How these are chosen: lowest-variance or usual-variance.",
        tab="Filters",
        cistem="algorithm to find background areas",
        expert=True,
    )
    whiten_by: Literal["background", "micrograph"] = parameter(
        "background",
        "Spectrum that the micrograph is whitened by: that of the background boxes, or that of the micrograph.",
        tab="Filters",
        expert=True,
    )

    write_maps: bool = parameter(
        False,
        "Keep the maps of scores (mic_<name>_maps.mrc), to choose thresholds and limits anew in seconds.",
        options=["--write_fom_maps"],
        tab=_RUNNING,
    )
    read_maps: bool = parameter(
        False, "Use maps that were kept, instead of searching.", options=["--read_fom_maps"], tab=_RUNNING
    )
    only_do_unfinished: bool = parameter(
        False, "Leave micrographs alone whose coordinate file is there.", options=["--only_do_unfinished"], tab=_RUNNING
    )
    threads: int = parameter(0, "Micrographs searched at once; 0: as many as processors.", options=["--j"],
                             tab=_RUNNING, ge=0)  # fmt: skip
    pictures: int = parameter(6, "Micrographs to draw with their picks; -1: all.", tab=_RUNNING, ge=-1)
