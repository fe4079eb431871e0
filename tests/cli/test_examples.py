"""The examples of the help pages run, pipes and all."""

from __future__ import annotations

import io
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from vitrea.cli.main import main
from vitrea.jobs import JOBS, load_job

from .example_files import write_example_files

_EXAMPLES = [(entry.name, example) for entry in JOBS for example in load_job(entry.name).examples]
_DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the example files once."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_example_files()
    return folder


@pytest.fixture
def project(files: Path, in_tmp: Path) -> Path:
    """Work in a folder with a copy of the example files."""
    shutil.copytree(files, in_tmp, dirs_exist_ok=True)
    return in_tmp


def documented(name: str) -> list[str]:
    """Return the commands of a page, each on a line of its own in a block."""
    page = (_DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("vitrea ")]


def run_pipe(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run commands joined by ``|`` as a shell does, in this process; return what the last one writes."""
    given = ""
    for command in re.split(r" \| ", line):
        words = shlex.split(command)
        if words[0] == "cat":
            given = "".join(Path(name).read_text() for name in words[1:])
            continue
        assert words[0] == "vitrea", f"an example is made of vitrea and cat: {line}"
        output = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
            patch.setattr(sys, "stdout", output)
            assert main(words[1:]) == 0, line
        given = output.getvalue()
    return given


@pytest.mark.parametrize(("name", "example"), _EXAMPLES, ids=[example for _, example in _EXAMPLES])
def test_an_example_runs(name: str, example: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(project.iterdir())
    printed = run_pipe(example, monkeypatch)
    assert f"vitrea {name}" in example
    assert printed.strip() or set(project.iterdir()) - before, "an example shows or writes something"


@pytest.mark.parametrize(("page", "least"), [("tables.md", 16), ("maps.md", 16), ("validation.md", 5)])
def test_all_examples_of_a_page_run(page: str, least: int, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = documented(page)
    assert len(commands) >= least
    for command in commands:
        run_pipe(command, monkeypatch)


@pytest.mark.parametrize("name", [entry.name for entry in JOBS if entry.name.startswith("star ")])
def test_every_job_on_tables_has_an_example_on_its_help_page(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main([*name.split(), "--help"]) == 0
    page = capsys.readouterr().out
    examples = load_job(name).examples
    assert examples
    for example in examples:
        assert example in page
