"""``vitrea star convert``: tables of particles between programs, and between RELION's dialects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.formats.table_kinds import TableKind
from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.star_files import output_parameter, writes_to_stdout, written
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.records.recorder import Recorder
    from vitrea.tables.conversion import Lost


class StarConvertParameters(JobParameters):
    """Convert a table of particles from one program or dialect to another, and tell what could not be carried.

    Known are RELION's files before optics groups (relion1.3, relion3.0) and with them (relion3.1 and later), cisTEM's
    (STAR and binary), FREALIGN's parameter files (versions 8 and 9, and x with phase shifts), cryoSPARC's .cs,
    XMIPP's metadata, EMAN2's .lst and .box. What a file is, its name and first lines tell; what to write, the name:
    .star (relion3.1), .cistem, .par, .cs, .xmd, .lst, .box.

    Angles, shifts, defocus, classes and half sets mean the same on both sides: signs and units are changed. What
    another program says that RELION has no label for stays in the STAR file under that program's name, and returns on
    the way back. Every column for which there is no place is named with the reason, in the log and, with --report, in
    a STAR file. Image names are kept as they are.
    """

    input: Path = parameter(..., "File to convert; - is standard input (RELION's).", options=["--i"], positional=True)
    output: Path = output_parameter("File to write")
    from_kind: TableKind | None = parameter(None, "What the input is, where it cannot be told.", options=["--from"])
    to_kind: TableKind | None = parameter(None, "What to write, where the name does not tell.", options=["--to"])
    report: Path | None = parameter(None, "STAR file to list what could not be carried in.")
    pixel_size: float = parameter(
        0.0, "Pixel size, where the file does not tell.", unit="Å", options=["--angpix"], ge=0, tab="Images"
    )
    voltage: float = parameter(
        0.0, "Voltage, where the file does not tell.", unit="kV", options=["--kV"], ge=0, tab="Images"
    )
    spherical_aberration: float = parameter(
        0.0, "Cs, where the file does not tell.", unit="mm", options=["--Cs"], ge=0, tab="Images"
    )
    amplitude_contrast: float = parameter(
        0.0, "Amplitude contrast, where the file does not tell.", options=["--Q0"], ge=0, le=1, tab="Images"
    )
    box_size: int = parameter(0, "Box of the images, where the file does not tell.", unit="pixels", ge=0, tab="Images")
    stack: str = parameter("", "Stack of the images, where the file gives their numbers alone.", tab="Images")
    passthrough: Path | None = parameter(
        None, "The pass-through file of a cryoSPARC job, for places in micrographs and CTF.", tab="cryoSPARC"
    )
    flip_y: bool = parameter(
        False,
        "Count places in micrographs from the last line: where RELION's micrographs are upside down to cryoSPARC's.",
        tab="cryoSPARC",
    )
    flip_poses: bool = parameter(
        False,
        "With --flip_y: shifts, orientations, astigmatism and beam tilt, too, for particles that will be extracted "
        "anew from those micrographs.",
        tab="cryoSPARC",
    )


def run(parameters: StarConvertParameters, context: Context) -> None:
    """Convert."""
    from vitrea.formats.table_kinds import kind_of_file
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.jobs.star_convert_files import (
        ConversionInput,
        convert_micrographs,
        holds_micrographs,
        read_any,
        write_any,
    )
    from vitrea.tables.conversion import GivenImages

    if parameters.flip_poses and not parameters.flip_y:
        raise InputError("--flip_poses goes with --flip_y: poses turn over only where micrographs do")
    kind = parameters.from_kind or kind_of_file(parameters.input)
    to = _target(parameters)
    if kind != "cryosparc":
        refuse_unused(parameters, ("passthrough",), f"belongs to a .cs file; {parameters.input} is none")
        if to != "cryosparc":
            refuse_unused(parameters, ("flip_y",), "is for conversions from or to cryoSPARC")
    if kind == "box":
        _convert_box(parameters, to, context)
        return
    given = GivenImages(parameters.pixel_size, parameters.voltage, parameters.spherical_aberration,
                        parameters.amplitude_contrast, parameters.box_size, parameters.stack)  # fmt: skip
    make_folder(parameters.output)
    if kind.startswith("relion") and to.startswith("relion") and holds_micrographs(parameters.input):
        count, lost = convert_micrographs(parameters.input, parameters.output, to, given, context.command)
        noun = "micrographs"
    else:
        source = ConversionInput(parameters.input, kind, given, parameters.passthrough,
                                 parameters.flip_y, parameters.flip_poses)  # fmt: skip
        particles, lost_in = read_any(source, context.recorder)
        lost_out = write_any(parameters.output, to, particles, box=parameters.box_size,
                             flips=(parameters.flip_y, parameters.flip_poses), comment=context.command)  # fmt: skip
        stays_flat = kind.startswith("relion") and to in ("relion1.3", "relion3.0")
        count, lost, noun = len(particles), (*(() if stays_flat else lost_in), *lost_out), "particles"
    _tell(lost, context.recorder)
    if parameters.report is not None:
        _write_report(parameters.report, lost, context.command)
    context.recorder.event("text", text=written(parameters.output, f"{count} {noun}, {kind} to {to}"))


def _target(parameters: StarConvertParameters) -> TableKind:
    from vitrea.formats.streams import is_stream
    from vitrea.formats.table_kinds import TABLE_KINDS, kind_of_name

    if is_stream(parameters.output) and (parameters.to_kind or "").startswith(("frealign", "box")):
        raise InputError(f"--to {parameters.to_kind} is not written to standard output; name a file")
    if parameters.to_kind is not None:
        return parameters.to_kind
    kind = "relion3.1" if is_stream(parameters.output) else kind_of_name(parameters.output)
    if kind is None:
        raise InputError(
            f"{parameters.output}: the name does not tell what to write; give --to {'|'.join(TABLE_KINDS)}"
        )
    return kind


def _convert_box(parameters: StarConvertParameters, to: TableKind, context: Context) -> None:
    """Convert the places of one micrograph, the one table that names no images."""
    from vitrea.formats.coordinates import read_coordinates
    from vitrea.formats.star import write_star
    from vitrea.jobs.map_inputs import make_folder

    if not to.startswith("relion"):
        raise InputError(f"{parameters.input} holds places in a micrograph, not particles: it becomes a STAR file only")
    table = read_coordinates(parameters.input, "box")
    make_folder(parameters.output)
    write_star(parameters.output, {"": table}, context.command, version=None)
    context.recorder.event("text", text=written(parameters.output, f"{len(table)} places, box to {to}"))


def _tell(lost: Sequence[Lost], recorder: Recorder) -> None:
    """Name what could not be carried, together what has the same reason."""
    if not lost:
        recorder.event("text", text="every column was carried")
    for reason in dict.fromkeys(one.reason for one in lost):
        columns = ", ".join(one.column for one in lost if one.reason == reason)
        recorder.event("text", text=f"not carried: {columns} ({reason})")


def _write_report(path: Path, lost: Sequence[Lost], comment: str) -> None:
    from vitrea.formats.star import write_star
    from vitrea.formats.star_values import text_column
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.table import Table

    make_folder(path)
    columns = {"vitreaColumn": [one.column for one in lost], "vitreaReason": [one.reason for one in lost]}
    table = Table({label: text_column(texts) for label, texts in columns.items()})
    write_star(path, {"not_carried": table}, comment)


JOB = Job(
    name="star convert",
    summary="Convert particles between RELION's dialects, cisTEM, FREALIGN, cryoSPARC, XMIPP and EMAN2.",
    parameters=StarConvertParameters,
    run=run,
    examples=(
        "vitrea star convert particles.star old.star --to relion1.3 --report lost.star",
        "vitrea star convert particles.star particles.cistem",
        "vitrea star convert particles.cs from_cryosparc.star",
        "vitrea star convert particles.star particles.par --to frealign9",
        "vitrea star convert refined.par back.star --stack stack.mrcs --pixel_size 1.5 --kV 300 --Cs 2.7 --Q0 0.1",
        "vitrea star convert particles.star particles.lst",
        "vitrea star convert particles.star particles.xmd",
        "vitrea star convert picks.box picks_from_box.star",
    ),
    writes_to_stdout=writes_to_stdout,
)
