"""``vitrea pick manual``: coordinate sets read, joined, sieved, compared and written in any format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.pick_parameters import Inputs
from vitrea.records.errors import InputError
from vitrea.records.wording import number_of, some_of

if TYPE_CHECKING:
    from vitrea.records.micrographs import Micrographs
    from vitrea.records.recorder import Recorder
    from vitrea.records.table import Table

_SIEVE, _TRUTH = "Sieve", "Comparison"


class PickManualParameters(JobParameters):
    """Bring coordinate sets together: read, join, sieve, compare, and write them in any format.

    Sets are coordinate files of any format (STAR, EMAN .box, Ximdisp, XMIPP), which belong to the micrograph whose name
    theirs begins with, lists of such files (autopick.star), or particle files, which name the micrographs. Several sets
    are joined; with --min_distance, of picks nearer to each other the one of higher figure of merit stays, those of the
    first set where there is none. Coordinates outside their micrograph are left out and counted, files that cannot be
    read are set aside by name.

    One file a micrograph is written in the format asked for, with the list manualpick.star beside them; for cisTEM, one
    list of all in Å. With --truth the picks are compared with coordinates that are known to be right.
    """

    input: Inputs = parameter(
        ..., "Micrographs: a STAR file, or images, globs or folders of them (then with --angpix).", options=["--i"]
    )
    coordinates: tuple[Path, ...] = parameter(
        ..., "Coordinate files, globs or folders of them, or a list as autopick.star; may be repeated.",
        options=["--coords"],
    )  # fmt: skip
    output: Path = parameter(Path("ManualPick"), "Folder to write to.", options=["--odir", "--o"])
    pick_name: str = parameter("manualpick", "What coordinate files end in.", options=["--pickname"])
    pixel_size: float | None = parameter(
        None, "Pixel size of the micrographs, where their STAR file gives none.", unit="Å", options=["--angpix"], gt=0
    )
    format: Literal["star", "box", "ximdisp", "xmipp", "cistem"] = parameter("star", "Format to write.")
    box_size: int = parameter(0, "Box size, which .box files need.", unit="pixels", options=["--box_size"], ge=0)
    by_id: bool = parameter(False, "In cisTEM's list, name images by ID, their number in the input, instead of name.")
    min_distance: float = parameter(
        0.0, "Smallest distance of two picks; 0: keep all.", unit="Å", options=["--min_distance"], tab=_SIEVE, ge=0
    )
    edge_distance: float = parameter(
        0.0, "Leave out picks nearer to the edge of the micrograph.", unit="Å", tab=_SIEVE, ge=0
    )
    threshold: float | None = parameter(
        None, "Leave out picks with a lower rlnAutopickFigureOfMerit.", options=["--minimum_pick_fom"], tab=_SIEVE
    )
    truth: tuple[Path, ...] = parameter(
        (), "Coordinates that are right, to tell recall and precision of these.", tab=_TRUTH
    )
    truth_distance: float = parameter(
        0.0, "Greatest distance of a pick and the particle it is; 0: 25 pixels.", unit="Å", tab=_TRUTH, ge=0
    )


def run(parameters: PickManualParameters, context: Context) -> None:
    """Read, sieve, write, compare.

    Raises
    ------
    InputError
        If inputs are missing, no coordinates belong to the micrographs, or nothing is left.
    """
    from vitrea.formats.micrograph_files import open_micrographs
    from vitrea.jobs.pick_sets import compare_sets, read_sets, sieve_set, write_sets
    from vitrea.records.micrographs import GivenOptics

    if parameters.format == "box" and not parameters.box_size:
        raise InputError("--format box needs --box_size: such files hold the corners of boxes")
    given = GivenOptics(parameters.pixel_size)
    micrographs = open_micrographs([str(path) for path in parameters.input], given, require_optics=False)
    sets = read_sets(parameters.coordinates, micrographs, context.recorder)
    truth = read_sets(parameters.truth, micrographs, context.recorder) if parameters.truth else {}
    sieved = {
        row: sieve_set(table, micrographs, row, parameters, context.recorder) for row, table in sorted(sets.items())
    }
    if not any(len(table) for table in sieved.values()):
        raise InputError(f"no picks are left of {sum(map(len, sets.values()))}; nothing was written")
    written = write_sets(parameters, micrographs, sieved, context.command)
    _tell(micrographs, sets, sieved, written, context.recorder)
    if truth:
        compare_sets(sieved, truth, micrographs, parameters.truth_distance, context.recorder)


def _tell(
    micrographs: Micrographs, before: dict[int, Table], after: dict[int, Table], written: Path, recorder: Recorder
) -> None:
    total, kept = sum(map(len, before.values())), sum(map(len, after.values()))
    without = [str(name) for row, name in enumerate(micrographs.names) if not len(after.get(row, ()))]
    if without:
        recorder.warn(f"no picks in {number_of(len(without), 'micrograph')}: {some_of(without)}")
    where = f"{len(after)} of {number_of(len(micrographs), 'micrograph')}"
    recorder.event("text", text=f"{written}: {kept} of {number_of(total, 'pick')} in {where}")


JOB = Job(
    name="pick manual",
    summary="Read, check, convert, join and sieve coordinate files of any program.",
    parameters=PickManualParameters,
    run=run,
)
