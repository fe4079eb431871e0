"""A file is written whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from vitrea.formats import atomic
from vitrea.formats.atomic import atomic_path
from vitrea.records.errors import InputError


def contents(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_success_replaces_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "map.mrc"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
    assert target.read_text() == "new"
    assert contents(tmp_path) == ["map.mrc"]


@pytest.mark.parametrize("failure", [RuntimeError("bug"), KeyboardInterrupt(), SystemExit(1)])
def test_failure_in_the_block_keeps_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "map.mrc"
    target.write_text("old")
    with pytest.raises(type(failure)), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert contents(tmp_path) == ["map.mrc"]


def test_full_disk_is_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "map.mrc"
    with (
        pytest.raises(InputError, match=r"cannot write .*map\.mrc: no space left on the disk"),
        atomic_path(target) as t,
    ):
        t.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents(tmp_path) == []


def test_full_disk_at_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    target = tmp_path / "map.mrc"
    target.write_text("old")
    with pytest.raises(InputError, match="no space left"), atomic_path(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "old"
    assert contents(tmp_path) == ["map.mrc"]


def test_file_systems_that_cannot_sync_folders_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with atomic_path(tmp_path / "map.mrc") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "map.mrc").read_text() == "new"


def test_error_about_another_file_is_not_a_failure_to_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "out") as temporary:
        temporary.write_text((tmp_path / "absent").read_text())
    assert contents(tmp_path) == []


def test_folder_that_does_not_exist_and_folder_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"), atomic_path(tmp_path / "no" / "x"):
        pass
    with pytest.raises(InputError, match="folder of that name"), atomic_path(tmp_path):
        pass


def test_symbolic_link_is_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
