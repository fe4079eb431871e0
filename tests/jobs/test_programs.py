"""Programs that users name."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrea.jobs.programs import find_program
from vitrea.records.errors import InputError


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tool"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return path


def test_a_program_is_found_in_this_folder_on_the_path_and_in_the_environment(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_program("Tool", Path("./tool"), "--exe", "VITREA_TEST_TOOL") == str(program)
    assert Path(find_program("Tool", Path("sh"), "--exe", "VITREA_TEST_TOOL")).is_absolute()
    monkeypatch.setenv("VITREA_TEST_TOOL", str(program))
    assert find_program("Tool", None, "--exe", "VITREA_TEST_TOOL") == str(program)


def test_what_is_missing_is_told(program: Path) -> None:
    with pytest.raises(InputError, match="--exe, or in the environment variable VITREA_TEST_TOOL"):
        find_program("Tool", None, "--exe", "VITREA_TEST_TOOL")
    program.chmod(0o644)
    with pytest.raises(InputError, match="Tool tool is not there, or not executable"):
        find_program("Tool", Path("tool"), "--exe", "VITREA_TEST_TOOL")
