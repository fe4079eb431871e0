"""``vitrea star copy``: read a STAR file of any dialect and write it afresh."""

from __future__ import annotations

from pathlib import Path

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.star_files import choose_block, output_parameter, writes_to_stdout


class StarCopyParameters(JobParameters):
    """Read a STAR file of any dialect and write it in RELION's look: one row a line, aligned, columns numbered.

    Values are the same to the last digit, text stays text (001 does not become 1), all blocks and unknown columns are
    kept, and the file keeps its version note or its lack of one, by which RELION tells the dialects apart. Line ends
    of Windows, missing line ends, comments and quotes of other programs are cleaned up, so that grep and awk find what
    they expect. A file that is not STAR, or has a row too long or too short, is refused with the line.
    """

    input: Path = parameter(..., "STAR file to read; - is standard input.", options=["--i"], positional=True)
    output: Path = output_parameter()
    blocks: list[str] = parameter([], "Blocks to copy, such as data_optics; may be repeated. All by default.")


def run(parameters: StarCopyParameters, context: Context) -> None:
    """Copy."""
    from vitrea.formats.star import read_star_content, write_star
    from vitrea.formats.streams import display_name
    from vitrea.jobs.map_inputs import make_folder
    from vitrea.records.table import Table

    content = read_star_content(parameters.input)
    blocks = content.blocks
    if parameters.blocks:
        names = [choose_block(blocks, name, display_name(parameters.input)) for name in parameters.blocks]
        blocks = {name: blocks[name] for name in names}
    make_folder(parameters.output)
    write_star(parameters.output, blocks, context.command, content.version, exact=True)
    for name, block in blocks.items():
        what = f"{len(block)} rows, {len(list(block))} columns" if isinstance(block, Table) else f"{len(block)} values"
        context.recorder.event("text", text=f"data_{name}: {what}")


JOB = Job(
    name="star copy",
    summary="Read a STAR file of any dialect and write it afresh, the same to the last digit.",
    parameters=StarCopyParameters,
    run=run,
    examples=(
        "vitrea star copy particles.star copy.star",
        "vitrea star copy particles.star --blocks optics",
        "cat particles.star | vitrea star copy - - | vitrea star print - rlnDefocusU",
    ),
    writes_to_stdout=writes_to_stdout,
)
