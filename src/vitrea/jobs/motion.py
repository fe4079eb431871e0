"""``vitrea motion``: align the frames of movies and sum them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from vitrea.jobs.base import Context, Job, JobParameters, parameter

_OPTICS, _DETECTOR, _LOCAL, _EXPOSURE = "Microscope", "Detector", "Local motion", "Exposure"
_ALIGN, _OUTPUT, _COMPUTE = "Alignment", "Output", "Compute"


def _one_or_more(value: object) -> object:
    return (value,) if isinstance(value, str | Path) else value


class MotionParameters(JobParameters):
    """Correct movies for motion: align their frames, as a whole and in patches, and sum them.

    Takes a STAR file of movies, or movie files (MRC, TIFF, EER), globs and folders. For each movie it writes the sum
    (.mrc), with --dose_weighting also the plain one (_noDW.mrc) where --save_noDW asks for it, the motion (.star, which
    RELION's polishing reads) and a picture of it (.png); with --grouping_for_ps the sum of amplitude spectra for CTF
    fits (_PS.mrc). corrected_micrographs.star lists the micrographs, set_aside.star the movies that could not be used
    and why, report.html shows the motion of all.

    Frames are aligned by the method of Unblur (Grant & Grigorieff 2015), patches likewise, and RELION's polynomial in
    space and time is fitted to their paths. rlnMicrographShiftX and Y are corrections, opposite to the motion.
    """

    input: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = parameter(
        ..., "STAR file of movies, or movie files, globs, folders; repeat it for several.", options=["--i"]
    )
    output: Path = parameter(Path("MotionCorr"), "Folder to write to.", options=["--o"])
    only_do_unfinished: bool = parameter(False, "Leave movies alone whose results are there already.")
    do_at_most: int = parameter(-1, "Correct at most so many movies in this run; -1: all.", expert=True, ge=-1)
    first_frame_sum: int = parameter(1, "First frame used, from 1.", cistem="First frame to use for sum", ge=1)
    last_frame_sum: int = parameter(0, "Last frame used; 0 or less: all there are.", cistem="Last frame to use for sum")
    eer_grouping: int = parameter(40, "Raw frames of an EER movie that make one frame.", ge=1)
    eer_upsampling: Literal[1, 2, 4] = parameter(1, "Super-resolution of EER frames: 1 (4K), 2 (8K) or 4.")

    pixel_size: float = parameter(
        0.0, "Pixel size of the frames; 0: from the STAR file.", unit="Å", options=["--angpix"], tab=_OPTICS, ge=0
    )
    voltage: float = parameter(0.0, "Acceleration voltage; 0: from the STAR file.", unit="kV", tab=_OPTICS, ge=0)
    spherical_aberration: float = parameter(
        2.7, "Spherical aberration, for movies without a STAR file.", unit="mm", options=["--Cs"], tab=_OPTICS, ge=0
    )
    amplitude_contrast: float = parameter(
        0.1, "Amplitude contrast, for movies without a STAR file.", options=["--Q0"], tab=_OPTICS, ge=0, le=1
    )
    distortion_angle: float = parameter(
        0.0, "Direction of the larger magnification, from the x axis towards y.", unit="degrees",
        cistem="Distortion Angle", tab=_OPTICS, expert=True,
    )  # fmt: skip
    distortion_major: float = parameter(
        1.0, "Magnification along that direction, relative to the nominal one.", cistem="Major Scale", tab=_OPTICS,
        expert=True, gt=0,
    )  # fmt: skip
    distortion_minor: float = parameter(
        1.0, "Magnification across it. Both 1: no correction.", cistem="Minor Scale", tab=_OPTICS, expert=True, gt=0
    )

    gainref: Path | None = parameter(
        None, "Gain reference to multiply frames with; by default that of the STAR file.", cistem="Gain filename",
        tab=_DETECTOR,
    )  # fmt: skip
    gain_rot: int = parameter(0, "Turn the gain so many times by 90 degrees clockwise.", tab=_DETECTOR, ge=0, le=3)
    gain_flip: int = parameter(0, "Then flip it: 0 not, 1 upside down, 2 left to right.", tab=_DETECTOR, ge=0, le=2)
    defect_file: Path | None = parameter(
        None, "Dead pixels: rectangles (x y width height) in a .txt file, or an image of them.", tab=_DETECTOR
    )
    skip_defect: bool = parameter(False, "Do not look for hot pixels.", tab=_DETECTOR)

    b_factor: float = parameter(
        1500.0, "B-factor that damps high frequencies in the alignment.", unit="Å²", cistem="B-Factor", tab=_ALIGN, ge=0
    )
    bfactor: float = parameter(
        0.0, "The same as RELION has it, exp(-2 B k²), instead of --b_factor; 0: not given.", unit="pixels²",
        tab=_ALIGN, ge=0,
    )  # fmt: skip
    minimum_shift: float = parameter(
        2.0, "Shifts below this are not believed in the first round, because of fixed patterns.", unit="Å",
        cistem="Minimum Shift", tab=_ALIGN, expert=True, ge=0,
    )  # fmt: skip
    maximum_shift: float = parameter(
        80.0, "Furthest that a frame moves in one round.", unit="Å", cistem="Maximum Shift", tab=_ALIGN, gt=0
    )
    threshold: float = parameter(
        0.5, "Done when no frame moves further.", unit="Å", cistem="Exposure Termination Threshold", tab=_ALIGN,
        expert=True, gt=0,
    )  # fmt: skip
    max_iterations: int = parameter(
        20, "Most rounds.", options=["--max_iter"], cistem="Max Iterations", tab=_ALIGN, expert=True, ge=1
    )
    smoothing: Literal["spline", "savitzky-golay", "none"] = parameter(
        "spline", "Smoothing of shifts over time: splines as stiff as the data allow, or Unblur's.", tab=_ALIGN,
        expert=True,
    )  # fmt: skip
    smoothing_window: int = parameter(
        5, "Frames of a window for --smoothing savitzky-golay.", unit="frames", tab=_ALIGN, expert=True, ge=1
    )
    running_average: int = parameter(
        1, "Frames averaged with each one before it is compared.", unit="frames", tab=_ALIGN, expert=True, ge=1
    )
    vertical_mask: int = parameter(
        0, "Width of the vertical line through the centre of Fourier space that is left out.", unit="pixels",
        cistem="Vertical Mask", tab=_ALIGN, expert=True, ge=0,
    )  # fmt: skip
    horizontal_mask: int = parameter(
        0, "Width of the horizontal one.", unit="pixels", cistem="Horizontal Mask", tab=_ALIGN, expert=True, ge=0
    )

    patch_x: int = parameter(5, "Patches along x; fewer than 3: whole frames only.", tab=_LOCAL, ge=1)
    patch_y: int = parameter(5, "Patches along y; fewer than 3: whole frames only.", tab=_LOCAL, ge=1)
    group_frames: int = parameter(1, "Frames summed before patches are aligned.", tab=_LOCAL, ge=1)

    dose_weighting: bool = parameter(
        False, "Weight frames by what radiation has left of their signal.", cistem="Exposure filter sums", tab=_EXPOSURE
    )
    dose_per_frame: float = parameter(
        0.0,
        "Exposure of a frame; 0: from the STAR file.",
        unit="e-/Å²",
        cistem="Exposure per frame",
        tab=_EXPOSURE,
        ge=0,
    )
    preexposure: float = parameter(
        0.0, "Exposure before the first frame.", unit="e-/Å²", cistem="Pre-exposure amount", tab=_EXPOSURE, ge=0
    )
    restore_power: bool = parameter(
        True, "Rescale the weighted sum so that noise keeps its power.", cistem="Restore Noise Power", tab=_EXPOSURE
    )
    dose_motionstats_cutoff: float = parameter(
        4.0, "Exposure that parts early from late motion in the statistics.", unit="e-/Å²", tab=_EXPOSURE,
        expert=True, ge=0,
    )  # fmt: skip

    bin_factor: float = parameter(
        1.0, "Bin the sums by this factor, in Fourier space.", cistem="Output binning factor", tab=_OUTPUT, ge=1
    )
    save_no_dw: bool = parameter(
        False, "With --dose_weighting, write the plain sum, too.", options=["--save_noDW"], tab=_OUTPUT
    )
    grouping_for_ps: int = parameter(
        0, "Frames summed before amplitude spectra are summed for CTF fits; 0 or less: no such file.", tab=_OUTPUT
    )
    ps_size: int = parameter(512, "Pixels along an edge of that.", unit="pixels", tab=_OUTPUT, ge=16, expert=True)
    float16: bool = parameter(False, "Write 16-bit floats.", tab=_OUTPUT)

    device: str = parameter("auto", "auto, cpu, cuda, or cuda:1 and so on.", tab=_COMPUTE)
    threads: int = parameter(0, "Threads; 0: all.", options=["--j"], tab=_COMPUTE, ge=0)
    random_seed: int = parameter(0, "Seed of what fills dead pixels.", tab=_COMPUTE, ge=0, expert=True)


def run(parameters: MotionParameters, context: Context) -> None:
    """Correct all movies.

    Raises
    ------
    InputError
        If options contradict each other, or what is for all movies is missing or wrong.
    JobError
        If no movie could be corrected.
    """
    from vitrea.jobs.motion_run import correct_movies

    correct_movies(parameters, context)


def log_file(parameters: MotionParameters) -> Path:
    """Return where the job's events are written."""
    return parameters.output / "motion.log"


JOB = Job(
    name="motion",
    summary="Align the frames of movies, whole and in patches, and sum them, weighted by exposure.",
    parameters=MotionParameters,
    run=run,
    log_file=log_file,
    ignored_options={
        "--use_own": "it is Vitrea's own alignment that runs",
        "--use_motioncor2": "it is Vitrea's own alignment that runs",
        "--motioncor2_exe=": "no other program is called",
        "--other_motioncor2_args=": "no other program is called",
        "--gpu=": "choose one with --device",
        "--early_binning": "frames are always binned before they are aligned",
        "--no_early_binning": "frames are always binned before they are aligned",
        "--interpolate_shifts": "grouped frames are placed at the middle of their group",
        "--ccf_downsample=": "the B-factor decides how far correlations are cut",
        "--max_io_threads=": "one thread reads",
        "--skip_logfile": "pictures take little time",
        "--archive=": "movies are not converted",
        "--save_movies": "particles are cut out of the movies themselves",
    },
)
