"""``vitrea star datablock``: rows of a STAR table for the images of a stack, for single files, or for XMIPP's list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.star_files import writes_to_stdout
from vitrea.records.errors import InputError


class StarDatablockParameters(JobParameters):
    """Write rows that go under a head made with vitrea star loopheader, as RELION's star_datablock_ scripts do.

    stack N NAME VALUES: one row for each of the N images of a stack, 000001@NAME and so on, then the values.

    singlefiles PATTERN VALUES: one row for each file of a pattern in quotes ("mic1/*.spi"), then the values.

    ctfdat FILE: one row for each image of XMIPP's list: image, micrograph, voltage, defocus U and V, angle, Cs and
    amplitude contrast, in RELION's signs and in this order.

    A negative value needs -- before the first of all words.
    """

    kind: Literal["stack", "singlefiles", "ctfdat"] = parameter(..., "What the rows are of.", positional=True)
    words: list[str] = parameter(..., "What follows: see above.", positional=True)
    output: Path = parameter(Path("-"), "File to write; - is standard output.", options=["--o"])


def run(parameters: StarDatablockParameters, context: Context) -> None:
    """Write.

    Raises
    ------
    InputError
        If the words do not fit the kind, or there are no images.
    """
    from vitrea.formats.star_values import format_value
    from vitrea.formats.streams import text_output

    makers = {"stack": _stack_rows, "singlefiles": _file_rows, "ctfdat": _ctfdat_rows}
    rows = list(makers[parameters.kind](parameters.words))
    with text_output(parameters.output) as file:
        file.writelines(" ".join(map(format_value, row)) + "\n" for row in rows)


def _stack_rows(words: list[str]) -> Iterator[Sequence[object]]:
    from vitrea.formats.image_names import join_image_name

    if len(words) < 2 or not words[0].isdecimal() or int(words[0]) < 1:
        raise InputError(f"stack takes the number of images and the stack's name, then values, not {' '.join(words)!r}")
    yield from ([join_image_name(words[1], index), *words[2:]] for index in range(int(words[0])))


def _file_rows(words: list[str]) -> Iterator[Sequence[object]]:
    from vitrea.formats.micrograph_files import expand_names

    yield from ([str(path), *words[1:]] for path in expand_names(words[:1], (".spi", ".mrc", ".xmp")))


def _ctfdat_rows(words: list[str]) -> Iterator[Sequence[object]]:
    from vitrea.formats.ctfdat import read_ctfdat

    if len(words) != 1:
        raise InputError(f"ctfdat takes the name of one file, not {len(words)} words")
    for entry in read_ctfdat(words[0]):
        ctf = entry.ctf
        yield [entry.image, entry.micrograph, ctf.voltage, ctf.defocus_u, ctf.defocus_v, ctf.defocus_angle,
               ctf.spherical_aberration, ctf.amplitude_contrast]  # fmt: skip


JOB = Job(
    name="star datablock",
    summary="Write rows of a STAR table for the images of a stack, for files, or for XMIPP's list.",
    parameters=StarDatablockParameters,
    run=run,
    writes_to_stdout=writes_to_stdout,
    examples=("vitrea star datablock stack 3 my_images.mrcs 10000 10500 0.0",),
)
