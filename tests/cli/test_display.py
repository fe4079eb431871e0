"""What a watcher sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from vitrea.cli.display import PlainRecorder, RichRecorder, headline_text
from vitrea.cli.joblog import event_line


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("iteration", {"iteration": 3, "resolution_angstrom": 20.6}, "iteration=3 resolution_angstrom=20.6"),
        ("memory", {"peak_bytes": np.int64(5), "fits": True}, "event=memory peak_bytes=5 fits=true"),
        ("fsc", {"curve": np.linspace(0, 1, 50), "first": [1.0, 0.5]}, "event=fsc first=1,0.5"),
        (
            "note",
            {"text": "two words", "empty": "", "nan": float("nan")},
            'event=note text="two words" empty="" nan=nan',
        ),
    ],
)
def test_an_event_is_one_line_of_key_and_value(name: str, values: dict[str, object], expected: str) -> None:
    assert event_line(name, values) == expected


def test_the_headline_shows_what_is_known() -> None:
    assert headline_text({"iteration": 4, "resolution_angstrom": 12.63, "accuracy_rotation_deg": 999.0}) == ("12.6 Å")


def test_a_terminal_shows_the_stage_the_iteration_and_the_line() -> None:
    out = io.StringIO()
    recorder = RichRecorder(Console(file=out, force_terminal=True, width=200))
    recorder.event("iteration", iteration=3, resolution_angstrom=20.6, accuracy_rotation_deg=9.5)
    recorder.stage("Expectation", 10, "particles")
    for _ in range(10):
        recorder.advance()
    recorder.warn("careful [bold]")
    recorder.close()
    text = out.getvalue()
    assert "iteration=3 resolution_angstrom=20.6" in text
    assert "Expectation" in text
    assert "10/10 particles" in text
    assert "20.6 Å  ±9.5°" in text
    assert "Warning: careful [bold]" in text


def test_plain_lines_report_a_long_stage_with_its_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 100.0, 100.0, 110.0, 110.0, 110.5])
    monkeypatch.setattr("vitrea.cli.display.time.monotonic", lambda: next(clock))
    recorder = PlainRecorder()
    recorder.stage("Expectation", 50, "particles")  # ends the nameless stage; reads the clock twice
    recorder.advance(50)
    recorder.stage("Maximisation")
    recorder.close()
    assert capsys.readouterr().out == "stage=Expectation seconds=10 particles=50 per_second=5\n"
