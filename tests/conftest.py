"""What all tests share: where data lie, and a quiet, repeatable machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _shared(folder: str) -> Path:
    """Return a folder of the data kept beside the checkout (or where VITREA_SHARED says); skip the test without it."""
    base = Path(os.environ.get("VITREA_SHARED", ROOT.parent / "shared"))
    path = base / folder
    if not path.is_dir():
        pytest.skip(f"no {path}: this test needs the data kept beside the checkout (VITREA_SHARED)")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of large input data that are not part of the repository."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of inputs and outputs of a real RELION that are not part of the repository."""
    return _shared("reference")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the small files that come with the tests."""
    return ROOT / "tests" / "data"


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test inside a temporary folder, as a user would run a job in a project folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """Keep torch within the processors this process may use; containers often show more than they give."""
    import torch

    torch.set_num_threads(max(1, min(4, len(os.sched_getaffinity(0)))))
