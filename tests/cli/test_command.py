"""Options made from a parameter model: names, values, refusals."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrea.cli.options import option_specs, repeat_names
from vitrea.jobs.base import JobParameters, parameter

from .conftest import Toy

Call = Callable[..., int]


@pytest.mark.parametrize("name", ["--particle-diameter", "--particle_diameter"])
def test_a_field_has_its_name_with_hyphens_and_with_underscores(toy: Toy, vitrea: Call, name: str) -> None:
    assert vitrea("toy", "--input", "a.star", name, "180.5") == 0
    assert toy.seen[0].particle_diameter == 180.5


def test_relion_names_are_accepted_with_their_capitals(toy: Toy, vitrea: Call) -> None:
    assert vitrea("toy", "--i", "a.star", "--tau2_fudge", "4", "--K", "3") == 0
    assert toy.seen[0].input == Path("a.star")
    assert (toy.seen[0].tau2_fudge, toy.seen[0].classes) == (4.0, 3)


@pytest.mark.parametrize(
    ("words", "expected"),
    [([], True), (["--zero_mask"], True), (["--no-zero-mask"], False), (["--no-zero_mask"], False)],
)
def test_booleans_are_flags_with_a_no_form(toy: Toy, vitrea: Call, words: list[str], expected: bool) -> None:
    assert vitrea("toy", "--i", "a.star", *words) == 0
    assert toy.seen[0].zero_mask is expected


def test_values_may_begin_with_a_minus_and_lists_with_commas(toy: Toy, vitrea: Call) -> None:
    assert vitrea("toy", "--i", "a", "--centre", "-1.5,2", "--centre", "3", "--names", "a,b", "--names", "c") == 0
    assert toy.seen[0].centre == [-1.5, 2.0, 3.0]
    assert toy.seen[0].names == ["a,b", "c"]


class Lists(JobParameters):
    """A list and other options."""

    input: tuple[str, ...] = parameter(..., "Files.", options=["--i"], positional=True)
    sizes: tuple[float, ...] = parameter((), "Sizes.")
    title: str = parameter("", "Title.")
    plain: bool = parameter(False, "Plain.")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("toy --i a b c --title t", "toy --i a --i b --i c --title t"),
        ("toy --i=a b --plain --sizes 1 2", "toy --i=a --i b --plain --sizes 1 2"),  # 2 may be an input
        ("toy --input a --input b c", "toy --input a --input b --input c"),
        ("toy --sizes -1 --i - b", "toy --sizes -1 --i - --i b"),
        ("toy --title t a b --i", "toy --title t a b --i"),
        ("toy --i a -- b", "toy --i a -- b"),
    ],
)
def test_several_values_may_follow_one_name_as_a_shell_expands_them(words: str, expected: str) -> None:
    assert repeat_names(words.split(), option_specs(Lists)) == expected.split()


def test_words_without_a_name_stay_where_the_job_has_other_positional_parameters(toy: Toy, vitrea: Call) -> None:
    assert vitrea("toy", "--i", "x.star", "--names", "a", "second.star") == 0
    assert (toy.seen[0].names, toy.seen[0].second) == (["a"], Path("second.star"))


def test_a_positional_parameter_needs_no_name_but_may_have_it(toy: Toy, vitrea: Call) -> None:
    assert vitrea("toy", "b.mrc", "--i", "a.star") == 0
    assert vitrea("toy", "--second", "c.mrc", "--i", "a.star") == 0
    assert [seen.second for seen in toy.seen] == [Path("b.mrc"), Path("c.mrc")]


def test_a_positional_parameter_given_twice_is_refused(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vitrea("toy", "b.mrc", "--second", "c.mrc", "--i", "a.star") == 2
    assert "--second is given twice" in capsys.readouterr().err


def test_ignored_relion_options_are_noted_in_one_line(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vitrea("toy", "--i", "a.star", "--j", "4", "--dont_wait") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "--j (threads" in line
    assert "--dont_wait (there is nothing" in line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--i", "a.star", "--particle_diameter", "-3"],
            "--particle_diameter: input should be greater than 0 (given: -3)",
        ),
        (["--i", "a.star", "--K", "many"], "--K: input should be a valid integer"),
        (["--i", "a.star", "--mode", "loud"], "--mode: input should be 'soft' or 'hard' (given: loud)"),
        ([], "--input is required: Particles."),
        (["--i"], "Option '--i' requires an argument"),
        (["--i", "a.star", "--paticle_diameter", "3"], "--particle-diameter"),
    ],
)
def test_a_mistake_is_one_sentence_naming_the_option(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert vitrea("toy", *words) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not toy.seen
    assert not list(Path.cwd().iterdir())


def test_a_json_file_gives_parameters_and_options_override_it(toy: Toy, vitrea: Call) -> None:
    Path("p.json").write_text(json.dumps({"input": "f.star", "classes": 5, "zero_mask": False}))
    assert vitrea("toy", "--params", "p.json", "--K", "2") == 0
    assert (toy.seen[0].input, toy.seen[0].classes, toy.seen[0].zero_mask) == (Path("f.star"), 2, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"input": "a", "classes": 0}', "p.json, field classes: input should be greater than or equal to 1"),
        ('{"input": "a", "klasses": 1}', "p.json, field klasses: extra inputs are not permitted"),
        ("[1]", "must hold one JSON object"),
        ("{", "is not JSON"),
    ],
)
def test_a_mistake_in_a_json_file_names_file_and_field(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str], text: str, expected: str
) -> None:
    Path("p.json").write_text(text)
    assert vitrea("toy", "--params", "p.json") == 2
    assert expected in capsys.readouterr().err


def test_the_printed_command_gives_the_same_parameters(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["toy", "--i", "a b.star", "--no-zero-mask", "--centre", "1,2.25", "--tau2_fudge", "0.1", "--mode", "hard"]
    assert vitrea(*words, "--print-command") == 0
    assert not toy.seen
    printed = shlex.split(capsys.readouterr().out)
    assert printed[0] == "vitrea"
    assert vitrea(*printed[1:]) == 0
    assert vitrea(*words) == 0
    assert toy.seen[0] == toy.seen[1]


def test_the_help_page_shows_units_defaults_sections_and_relion_names(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    assert vitrea("toy", "--help") == 0
    page = capsys.readouterr().out
    for text in (
        "NUMBER Å",
        "default: 200",
        "--K",
        "--tau2_fudge",
        "Reference",
        "Optimisation",
        "Expert options",
        "[z, y, x]",
        "soft|hard",
    ):
        assert text in page, text
    assert page.index("Optimisation") < page.index("Expert options") < page.index("--mode")
    assert "--dont_wait" not in page
