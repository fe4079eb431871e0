"""Pages stand by themselves."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import image as images

from vitrea.fourier.filters import lowpass
from vitrea.records.errors import InputError
from vitrea.report.figures import class_gallery, histogram
from vitrea.report.page import Section, html_page, write_page
from vitrea.report.png import figure_png, save_png

_SECTION = Section(
    "Resolution <final>",
    "First paragraph & more.\n\nSecond paragraph.",
    facts={"resolution": "8.4 Å"},
    figures=[(histogram([1.0, 2.0], "Å"), 'A "caption".')],
    code="vitrea refine3d --i a.star",
)


def test_a_page_needs_nothing_but_itself_and_its_pictures_are_images() -> None:
    page = html_page("A <title>", "All is well.", [_SECTION])
    assert not re.search(r"https?://|<script|<link", page)
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    pixels = images.imread(io.BytesIO(base64.b64decode(data)), format="png")
    assert min(pixels.shape[:2]) > 100
    assert np.ptp(pixels[..., :3]) > 0.5


def test_text_is_escaped_and_divided_into_paragraphs() -> None:
    page = html_page("A <title>", "All is well.", [_SECTION])
    assert "<h1>A &lt;title&gt;</h1>" in page
    assert "<h2>Resolution &lt;final&gt;</h2>" in page
    assert "<p>First paragraph &amp; more.</p>\n<p>Second paragraph.</p>" in page
    assert "<tr><td>resolution</td><td>8.4 Å</td></tr>" in page
    assert 'alt="A &quot;caption&quot;."' in page
    assert "<pre>vitrea refine3d --i a.star</pre>" in page


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_page(tmp_path / "report.html", "T", "L", [_SECTION])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == html_page("T", "L", [_SECTION])
    with pytest.raises(InputError, match="nowhere"):
        write_page(tmp_path / "nowhere" / "report.html", "T", "L", [])


def test_a_gallery_of_200_classes_makes_a_page_of_less_than_5_megabytes() -> None:
    # Noise up to 12 Å compresses worse than averages; outside the mask they are empty.
    noise = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 64, 64)).astype(np.float32))
    radius = np.hypot(*(np.indices((64, 64)) - 32))
    averages = lowpass(noise, 12.0, 3.5, dims=2).numpy() * (radius < 30)
    figure = class_gallery(averages, 3.5, np.full(200, 0.005), np.full(200, 12), np.full(200, 15.0))
    page = html_page("T", "L", [Section("Classes", figures=[(figure, "All of them.")])])
    assert len(page.encode()) < 5_000_000
    (width,) = re.findall(r'<img alt="All of them." width="(\d+)"', page)
    assert int(width) <= 928  # the column of text on the page: 60 rem less its padding


def test_what_is_drawn_once_serves_file_and_page(tmp_path: Path) -> None:
    figure = histogram([1.0, 2.0], "Å")
    drawn = figure_png(figure)
    save_png(drawn, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == drawn
    pages = [html_page("T", "L", [Section("S", figures=[(one, "C")])]) for one in (figure, drawn)]
    assert pages[0] == pages[1]


def test_a_picture_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    figure = histogram([1.0, 2.0], "Å")
    save_png(figure, tmp_path / "a.png", dpi=100)
    width, height = figure.get_size_inches()
    assert images.imread(tmp_path / "a.png").shape[:2] == (round(100 * height), round(100 * width))
    with pytest.raises(InputError, match="nowhere"):
        save_png(figure, tmp_path / "nowhere" / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
