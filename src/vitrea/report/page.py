"""One self-contained HTML page: headings, explanations, tables and pictures, nothing to fetch."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from vitrea.formats.atomic import atomic_path
from vitrea.report.png import DPI, figure_png

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #555; font-size: 0.9rem; }
table { border-collapse: collapse; } td { padding: 0.15rem 1.2rem 0.15rem 0; vertical-align: top; }
td:first-child { color: #555; } .lead { font-size: 1.15rem; }
pre { background: #f4f4f4; padding: 0.7rem; overflow-x: auto; }
"""
# Of the browser, per inch of a figure: the pictures have more pixels than that and stay sharp on fine screens.
_PIXELS_PER_INCH = 100


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes
    ----------
    title : str
    text : str
        What it shows and how to read it; plain text, an empty line begins a paragraph.
    facts : mapping of str to str
        Rows of a table: what, and its value.
    figures : sequence of (Figure or bytes, str)
        Pictures with their captions; bytes where `figure_png` has drawn them already.
    code : str
        Shown as typed; commands.
    """

    title: str
    text: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    figures: Sequence[tuple[Figure | bytes, str]] = ()
    code: str = ""


def html_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """Write a page.

    Parameters
    ----------
    title : str
    lead : str
        The result in a sentence or two.
    sections : sequence of Section

    Returns
    -------
    str
        HTML with all pictures inside.
    """
    body = "\n".join(_section(section) for section in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f'<body><h1>{html.escape(title)}</h1>\n<p class="lead">{html.escape(lead)}</p>\n{body}\n</body></html>\n'
    )


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section]) -> None:
    """Write a page to a file; the file appears complete or not at all."""
    text = html_page(title, lead, sections)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _section(section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>"]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.text.split("\n\n") if paragraph.strip()]
    if section.facts:
        rows = (f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in section.facts.items())
        parts.append(f"<table>{''.join(rows)}</table>")
    if section.code:
        parts.append(f"<pre>{html.escape(section.code)}</pre>")
    parts += [_figure(figure, caption) for figure, caption in section.figures]
    return "\n".join(parts)


def _figure(figure: Figure | bytes, caption: str) -> str:
    png = figure if isinstance(figure, bytes) else figure_png(figure)
    data = base64.b64encode(png).decode("ascii")
    alternative = html.escape(caption, quote=True)
    pixels = int.from_bytes(png[16:20], "big")  # the first number of a PNG's header
    width = round(pixels / DPI * _PIXELS_PER_INCH)
    return (
        f'<figure><img alt="{alternative}" width="{width}" src="data:image/png;base64,{data}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )
