"""Where plots of tables go: text to a terminal, PNG or HTML to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES = (".png", ".html")


def write_plot(output: Path, text: Callable[[], str], figure: Callable[[], Figure], title: str, command: str) -> None:
    """Write a plot in the form that the name of its file asks for.

    Parameters
    ----------
    output : Path
        ``.png`` and ``.html`` make a picture; any other name, and ``-`` for standard output, text.
    text, figure : callable
        Draw it as text, or as a figure.
    title : str
        What it shows, for the page.
    command : str
        What made it, for the page.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    from vitrea.formats.streams import text_output
    from vitrea.jobs.map_inputs import make_folder

    make_folder(output)
    suffix = output.suffix.lower()
    if suffix in (".pdf", ".svg", ".jpg", ".jpeg"):
        raise InputError(f"{output}: pictures are written as {' or '.join(_PICTURES)}")
    if suffix == ".png":
        from vitrea.report.png import save_png

        save_png(figure(), output)
    elif suffix == ".html":
        from vitrea.report.page import Section, write_page

        section = Section(title, figures=[(figure(), "")], code=command)
        write_page(output, title, "", [section])
    else:
        with text_output(output) as file:
            file.write(text() + "\n")
