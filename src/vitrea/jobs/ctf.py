"""``vitrea ctf``: defocus, astigmatism and phase shift of micrographs, from their Thon rings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.records.errors import InputError, JobError
from vitrea.records.wording import number_of

if TYPE_CHECKING:
    from vitrea.jobs.ctf_files import Estimate
    from vitrea.jobs.ctf_inputs import CtfInput, Shot
    from vitrea.records.recorder import Recorder

_NAMED = 5
EXECUTABLE_VARIABLE = "RELION_CTFFIND_EXECUTABLE"


class CtfParameters(JobParameters):
    """Estimate the CTF of micrographs, of movies, or from given spectra.

    Takes a STAR file of an import or a motion correction, or images by name (--i "Micrographs/*.mrc") with --angpix,
    --voltage, --cs and --amplitude_contrast. Writes the STAR file --o: the micrographs with rlnDefocusU, rlnDefocusV,
    rlnDefocusAngle, rlnPhaseShift, rlnCtfFigureOfMerit, rlnCtfMaxResolution and more; next to it a folder of the same
    name (without .star) with, for each micrograph, the spectrum beside the fit (.ctf and .png), curves (_avrot.txt and
    _ctf.star) and logs that RELION reads. If --o is a folder, the STAR file is micrographs_ctf.star in it.

    The method is CTFFIND4's (Rohou & Grigorieff 2015): rings of the amplitude spectrum, less its background, are
    correlated with those of CTFs. The search tries all defoci, astigmatisms and phase shifts at once; there is no
    faster or slower one. Micrographs that cannot be read, are constant, or show no rings are set aside: named in
    <folder>/set_aside.star with the reason; the rest goes on.

    Frames of a movie are aligned as a whole before some are averaged; amplitude spectra of the averages are then added.

    With --ctffind_exe that program is run instead, once for each micrograph; its results are read from its files.
    """

    input: tuple[str, ...] = parameter(
        ..., 'STAR file of micrographs or movies, or images: "Micrographs/*.mrc".', options=["--i"]
    )
    output: Path = parameter(Path("CtfFind"), "STAR file to write, or a folder to write it to.", options=["--o"])
    use_no_dw: bool = parameter(
        False, "Take the sums without exposure weighting (rlnMicrographNameNoDW).", options=["--use_noDW"]
    )
    use_given_ps: bool = parameter(
        False, "Take the amplitude spectra that the motion correction wrote (rlnCtfPowerSpectrum)."
    )
    amplitude_spectra: bool = parameter(
        False, "The images of --i are amplitude spectra.", options=["--amplitude_spectrum_input"]
    )
    movies: bool = parameter(
        False, "The images of --i are movies, of which frames are averaged.", cistem="Input is a movie"
    )
    movie_thon_rings: bool = parameter(
        False, "Take the movies beside the micrographs.", options=["--do_movie_thon_rings"], expert=True
    )
    movie_rootname: str = parameter(
        "_movie.mrcs", "What replaces the ending of a micrograph's name in its movie's.", expert=True
    )
    average_frames: int = parameter(
        4,
        "Frames of a movie averaged for one spectrum; aim at 4 e-/Å².",
        options=["--avg_movie_frames"],
        cistem="Number of frames to average",
        ge=1,
    )
    align_frames: bool = parameter(
        True, "Align the frames of a movie before they are averaged; CTFFIND does not.", expert=True
    )
    only_do_unfinished: bool = parameter(
        False, "Go on with a job that was stopped: keep the fits of the same settings.", options=["--continue"]
    )

    pixel_size: float = parameter(
        0.0, "Pixel size of the images.", unit="Å", options=["--angpix"], tab="Microscope", ge=0
    )
    voltage: float | None = parameter(
        None, "Acceleration voltage.", unit="kV", options=["--HT", "--kV"], tab="Microscope", gt=0
    )
    spherical_aberration: float | None = parameter(
        None, "Spherical aberration.", unit="mm", options=["--cs", "--CS", "--Cs"], tab="Microscope", ge=0
    )
    amplitude_contrast: float | None = parameter(
        None, "Fraction of amplitude contrast.", options=["--AmpCnst", "--Q0"], tab="Microscope", ge=0, lt=1
    )
    magnification: float = parameter(
        0.0, "Magnification, with --DStep instead of --angpix.", options=["--XMAG"], tab="Microscope", ge=0, expert=True
    )
    detector_pixel: float = parameter(
        0.0, "Pixel of the detector.", unit="µm", options=["--DStep"], tab="Microscope", ge=0, expert=True
    )

    box: int = parameter(
        512, "Samples of a spectrum along a side.", options=["--Box"], tab="Fit", cistem="Box size", ge=64
    )
    lowest_resolution: float = parameter(
        30.0, "Fit rings from here ...", unit="Å", options=["--ResMin"], tab="Fit", cistem="Minimum resolution", gt=0
    )
    highest_resolution: float = parameter(
        5.0, "... to here; the astigmatism also from finer ones that follow the fit.", unit="Å", options=["--ResMax"],
        tab="Fit", cistem="Maximum resolution", gt=0,
    )  # fmt: skip
    defocus_min: float = parameter(
        5000.0, "Smallest mean defocus.", unit="Å", options=["--dFMin"], tab="Fit", cistem="Minimum defocus"
    )
    defocus_max: float = parameter(
        50000.0, "Largest mean defocus.", unit="Å", options=["--dFMax"], tab="Fit", cistem="Maximum defocus"
    )
    defocus_step: float = parameter(
        500.0,
        "Widest step of the search; it is finer where the resolution asks for it.",
        unit="Å",
        options=["--FStep"],
        tab="Fit",
        cistem="Defocus search step",
        gt=0,
        expert=True,
    )
    tolerated_astigmatism: float = parameter(
        0.0,
        "Restrain the astigmatism to about this, as CTFFIND4 does; 0: no restraint.",
        unit="Å",
        options=["--dAst"],
        tab="Fit",
        cistem="Tolerated astigmatism",
        ge=0,
    )
    largest_astigmatism: float = parameter(
        3000.0, "Largest difference of defocus U and V that is searched.", unit="Å", tab="Fit", ge=0, expert=True
    )
    known_astigmatism: float | None = parameter(
        None, "Difference of U and V, not to be fitted.", unit="Å", tab="Fit", cistem="Known astigmatism", expert=True
    )
    known_astigmatism_angle: float = parameter(
        0.0, "Its angle.", unit="degrees", tab="Fit", cistem="Known astigmatism angle", expert=True
    )
    phase_shift: bool = parameter(
        False,
        "Fit the phase shift of a phase plate, too.",
        options=["--do_phaseshift"],
        tab="Fit",
        cistem="Find additional phase shift",
    )
    phase_min: float = parameter(0.0, "Smallest phase shift.", unit="degrees", tab="Fit", cistem="Minimum phase shift")
    phase_max: float = parameter(180.0, "Largest phase shift.", unit="degrees", tab="Fit", cistem="Maximum phase shift")
    tilt: bool = parameter(
        False,
        "Find the tilt of the specimen from how the defocus changes over the micrograph.",
        options=["--do_tilt", "--determine_tilt"],
        tab="Fit",
        cistem="Determine tilt",
    )
    window: int = parameter(
        -1, "Use the centre of a micrograph only, a square of this side; -1: all.", unit="pixels", options=["--ctfWin"],
        tab="Fit", expert=True,
    )  # fmt: skip
    target_pixel_size: float = parameter(
        1.4,
        "Spectra of finer pixels end where those of this pixel size would; 0: none is cut.",
        unit="Å",
        tab="Fit",
        cistem="Target pixel size",
        ge=0,
        expert=True,
    )

    plots: bool = parameter(True, "Draw a picture (.png) of every fit.", tab="Run")
    threads: int = parameter(
        0, "Micrographs worked on at once; 0: as many as there are processors.", options=["--j"], tab="Run", ge=0
    )
    ctffind_exe: Path | None = parameter(
        None, f"Run this CTFFIND instead; by default, with --use_ctffind, that of {EXECUTABLE_VARIABLE}.", tab="CTFFIND"
    )
    use_ctffind: bool = parameter(
        False, f"Run the CTFFIND that the environment variable {EXECUTABLE_VARIABLE} names.", tab="CTFFIND"
    )
    ctffind_version: Literal["3", "4", "5"] = parameter(
        "4", "Its major version, which decides the questions it asks.", tab="CTFFIND"
    )
    is_ctffind4: bool = parameter(False, "The same as --use_ctffind --ctffind_version 4.", tab="CTFFIND", expert=True)
    is_ctffind5: bool = parameter(False, "The same as --use_ctffind --ctffind_version 5.", tab="CTFFIND", expert=True)
    fast_search: bool = parameter(False, "Ask CTFFIND for its less exhaustive search.", tab="CTFFIND", expert=True)
    phase_step: float = parameter(
        10.0, "Step of CTFFIND's search for a phase shift.", unit="degrees", tab="CTFFIND", gt=0, expert=True
    )


def run(parameters: CtfParameters, context: Context) -> None:
    """Read, fit, write.

    Raises
    ------
    InputError
        If options contradict each other, or inputs that are for all micrographs are missing or wrong.
    JobError
        If there is a CTF of no micrograph.
    """
    from vitrea.jobs.ctf_external import choose_program
    from vitrea.jobs.ctf_files import write_results
    from vitrea.jobs.ctf_inputs import read_ctf_input
    from vitrea.jobs.ctf_run import estimate_all
    from vitrea.jobs.set_aside import SetAside, write_set_aside

    recorder = context.recorder
    _check(parameters)
    program = choose_program(parameters)
    given = read_ctf_input(parameters)
    results, problems, taken_over = estimate_all(given, parameters, program, recorder)
    problems = sorted([*given.problems, *problems], key=lambda one: one.row)
    if taken_over:
        recorder.event("text", text=f"{number_of(taken_over, 'micrograph')} fitted before with the same settings")
    aside = [SetAside(one.name, one.reason) for one in problems]
    write_set_aside(given.folder / "set_aside.star", "rlnMicrographName", aside, context.command)
    for entry in aside[:_NAMED]:
        recorder.warn(f"set aside: {entry.sentence}")
    if len(problems) > _NAMED:
        recorder.warn(f"{len(problems) - _NAMED} more set aside; {given.folder / 'set_aside.star'} lists them all")
    if not results:
        report = given.folder / "set_aside.star"
        raise JobError(f"no CTF was found for any micrograph of {len(given.exposures)}; {report} says why")
    write_results(given, results, context.command)
    _summarise(given, results, parameters, recorder)


def _check(parameters: CtfParameters) -> None:
    if parameters.highest_resolution >= parameters.lowest_resolution:
        raise InputError(
            f"--ResMax ({parameters.highest_resolution:g} Å) must be finer than --ResMin "
            f"({parameters.lowest_resolution:g} Å)"
        )
    if parameters.defocus_max <= parameters.defocus_min:
        raise InputError(f"--dFMax ({parameters.defocus_max:g} Å) must be above --dFMin ({parameters.defocus_min:g} Å)")
    if parameters.phase_shift and parameters.phase_max <= parameters.phase_min:
        raise InputError("--phase_max must be above --phase_min")
    if parameters.box % 2:
        raise InputError(f"--Box {parameters.box}: spectra have an even number of samples")
    if bool(parameters.magnification) != bool(parameters.detector_pixel):
        raise InputError("--XMAG and --DStep go together; or give --angpix")
    spectra, movies = parameters.use_given_ps or parameters.amplitude_spectra, parameters.movies
    if spectra and (movies or parameters.movie_thon_rings or parameters.tilt or parameters.window > 0):
        raise InputError("spectra are fitted as they are: without movies, --tilt or --ctfWin")
    if parameters.tilt and (movies or parameters.movie_thon_rings):
        raise InputError("--tilt needs micrographs, not movies")


def _summarise(
    given: CtfInput, results: list[tuple[Shot, Estimate]], parameters: CtfParameters, recorder: Recorder
) -> None:
    """Tell what came out, and what may be wrong with it."""
    import numpy as np

    defocus = np.array([(fit.defocus_u + fit.defocus_v) / 2 for _, fit in results])
    astigmatism = np.array([fit.defocus_u - fit.defocus_v for _, fit in results])
    resolution = np.array([fit.resolution for _, fit in results])
    recorder.event(
        "ctf",
        micrographs=len(results),
        defocus_median_angstrom=float(np.median(defocus)),
        astigmatism_median_angstrom=float(np.median(astigmatism)),
        resolution_median_angstrom=float(np.median(resolution)),
    )
    aliased = [fit for _, fit in results if fit.alias_resolution > parameters.highest_resolution]
    if aliased:
        worst = max(fit.alias_resolution for fit in aliased)
        recorder.warn(
            f"in {number_of(len(aliased), 'micrograph')} rings are too close for spectra of {parameters.box} samples "
            f"within the resolutions fitted (from {worst:.1f} Å on): take a larger --Box"
        )
    edge = (defocus < parameters.defocus_min) | (defocus > parameters.defocus_max)
    if edge.any():
        count = number_of(int(edge.sum()), "micrograph")
        recorder.warn(f"defocus at an end of the range searched in {count}: widen --dFMin to --dFMax")
    recorder.event(
        "text",
        text=f"{len(results)} of {number_of(len(given.exposures), 'micrograph')}: defocus {defocus.min() / 1e4:.2f} to "
        f"{defocus.max() / 1e4:.2f} µm, astigmatism {np.median(astigmatism):.0f} Å, rings to "
        f"{np.median(resolution):.1f} Å (medians); {given.star}",
    )


JOB = Job(
    name="ctf",
    summary="Estimate defocus, astigmatism and phase shift of micrographs from their Thon rings.",
    parameters=CtfParameters,
    run=run,
    ignored_options={
        "--pipeline_control=": "there is no RELION pipeline",
        "--gpu=": "the fit runs on the processor",
        "--use_gctf": "the fit is built in",
    },
)
