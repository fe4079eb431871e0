"""How a job ends: exit codes, sentences, logs; and what the list of jobs costs."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vitrea.jobs import JOBS, JobEntry, load_job
from vitrea.jobs.base import Context
from vitrea.records.errors import InputError, JobError

from .conftest import Toy

Call = Callable[..., int]


def _raise(error: BaseException) -> Callable[[Context], None]:
    def action(context: Context) -> None:
        context.recorder.stage("Reading", 3, "particles")
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (InputError("a.star: no optics block."), 2, "vitrea toy: a.star: no optics block."),
        (JobError("not ready."), 1, "vitrea toy: not ready."),
        (KeyboardInterrupt(), 130, "vitrea toy: stopped by Ctrl-C."),
        (OSError(errno.ENOSPC, "No space left on device", "map.mrc"), 2, "map.mrc: No space left on device."),
    ],
)
def test_a_bad_end_is_one_line_an_exit_code_and_no_log(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, expected: str
) -> None:
    toy.action = _raise(error)
    assert vitrea("toy", "--i", "a.star") == code
    text = capsys.readouterr().err
    assert expected in text
    assert text.count("\n") == 1
    assert not Path("toy.log").exists()


def test_a_fault_of_the_program_keeps_its_traceback(toy: Toy, vitrea: Call) -> None:
    toy.action = _raise(RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        vitrea("toy", "--i", "a.star")


def _iterate(context: Context) -> None:
    context.recorder.stage("Expectation", 2, "particles")
    context.recorder.advance(2)
    context.recorder.event("iteration", iteration=3, resolution_angstrom=20.6, accuracy_rotation_deg=19.5)
    context.recorder.warn("one particle set aside: 000004@a.mrcs")


def test_an_iteration_is_one_greppable_line_on_stdout_and_in_the_log(
    toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.action = _iterate
    assert vitrea("toy", "--i", "a.star", "--K", "2") == 0
    line = "iteration=3 resolution_angstrom=20.6 accuracy_rotation_deg=19.5"
    captured = capsys.readouterr()
    assert line in captured.out.splitlines()
    assert captured.err == "Warning: one particle set aside: 000004@a.mrcs\n"
    log = Path("toy.log").read_text()
    assert re.search(rf"^{line} elapsed_seconds=\d+\.\d$", log, re.M)
    assert 'command="vitrea toy --i a.star --K 2"' in log
    assert "classes=2" in log
    assert "tau2_fudge" not in log  # unchanged parameters stay out
    assert 'event=warning message="one particle set aside: 000004@a.mrcs"' in log
    assert log.splitlines()[-1].startswith("event=finished")


def test_the_log_is_continued_and_says_how_a_run_failed(toy: Toy, vitrea: Call) -> None:
    toy.action = _iterate
    assert vitrea("toy", "--i", "a.star") == 0

    def stop(context: Context) -> None:
        _iterate(context)
        raise KeyboardInterrupt

    toy.action = stop
    assert vitrea("toy", "--i", "a.star") == 130
    log = Path("toy.log").read_text()
    assert log.count("iteration=3") == 2
    assert "event=failed error=KeyboardInterrupt" in log


@pytest.mark.parametrize(
    "error",
    [MemoryError("Unable to allocate 250. GiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 250 bytes")],
)
def test_too_little_memory_is_one_sentence(
    toy: Toy, vitrea: Call, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: Context) -> None:
        raise error

    toy.action = fail
    assert vitrea("toy", "--i", "a.star") == 1
    assert capsys.readouterr().err.splitlines() == [f"vitrea toy: not enough memory ({error})."]


def test_quiet_shows_warnings_only(toy: Toy, vitrea: Call, capsys: pytest.CaptureFixture[str]) -> None:
    toy.action = _iterate
    assert vitrea("toy", "--i", "a.star", "--quiet") == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Warning" in captured.err


@pytest.mark.parametrize("words", [["--help"], *([entry.name, "--help"] for entry in JOBS)])
def test_help_imports_no_heavy_library(words: list[str]) -> None:
    code = (
        "import sys; from vitrea.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'numba', 'scipy', 'matplotlib', 'skimage', 'gemmi', 'astropy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_help_is_instant() -> None:
    """No library that takes long to load is loaded to list the jobs."""
    code = (
        "import sys\nfrom vitrea.cli.main import main\nsys.argv = ['vitrea', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'numba', 'scipy', 'matplotlib', 'skimage', 'gemmi', 'astropy_healpix'}\n"
        "print('LOADED', sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.rsplit("LOADED", 1)[1].strip() == "[]"


def test_unknown_jobs_are_refused_with_a_suggestion(vitrea: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert vitrea("doctr") == 2
    assert "Did you mean 'doctor'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["simulate", "particles"], ["simulate"]])
def test_names_of_two_words_and_the_default_of_a_family(
    words: list[str], vitrea: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert vitrea(*words, "--map", "a.mrc", "--o", "out", "--number", "3", "--print-command") == 0
    assert capsys.readouterr().out.startswith("vitrea simulate particles --map a.mrc")


@pytest.mark.parametrize(("words", "code"), [(["scale"], 2), (["scale", "--help"], 0)])
def test_a_family_without_a_default_lists_its_jobs(
    words: list[str], code: int, vitrea: Call, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = (JobEntry("scale up", "Make larger."), JobEntry("scale down", "Make smaller."))
    monkeypatch.setattr("vitrea.cli.main.JOBS", entries)
    assert vitrea(*words) == code
    assert capsys.readouterr().out == "vitrea scale up    Make larger.\nvitrea scale down  Make smaller.\n"


def test_without_a_job_the_list_is_shown(vitrea: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert vitrea() == 2
    assert "doctor" in capsys.readouterr().out


@pytest.mark.parametrize("name", [entry.name for entry in JOBS])
def test_each_job_is_listed_as_it_describes_itself(name: str) -> None:
    job = load_job(name)
    assert job.name == name
    assert job.summary == next(entry.summary for entry in JOBS if entry.name == name)


@pytest.mark.parametrize("name", [entry.name for entry in JOBS])
def test_no_option_name_stands_for_two_things(name: str) -> None:
    from vitrea.cli.options import normalize_option, option_specs

    job = load_job(name)
    specs = option_specs(job.parameters)
    names = [normalize_option(n) for spec in specs for n in (*spec.names, spec.off_name) if n]
    names += [normalize_option(option.rstrip("=")) for option in job.ignored_options]
    names += ["--params", "--print-command", "--quiet", "--help"]
    assert sorted(names) == sorted(set(names))
    assert all(spec.help for spec in specs)
