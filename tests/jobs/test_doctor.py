"""`vitrea doctor`: a sound machine is ready, a broken one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vitrea.jobs import doctor
from vitrea.jobs.base import Context
from vitrea.jobs.doctor import (
    DoctorParameters,
    check_compiled_loops,
    check_orientations,
    check_transforms,
    examine,
    self_test,
)
from vitrea.kernels import project
from vitrea.matching.reference import Reference
from vitrea.records.errors import InputError, JobError
from vitrea.records.recorder import SilentRecorder


def _lines(recorder: SilentRecorder) -> list[str]:
    return [str(values["text"]) for name, values in recorder.events if name == "text"]


def test_this_machine_is_ready_and_everything_is_in_the_file(in_tmp: Path) -> None:
    recorder = SilentRecorder()
    doctor.run(DoctorParameters(json_file=Path("report.json"), device="cpu"), Context(recorder))
    assert _lines(recorder)[-1].startswith("This machine is ready: all ")
    report = json.loads(Path("report.json").read_text())
    assert report["ready"] is True
    assert report["gflops_float32"] > 0
    assert report["versions"]["torch"] == torch.__version__.split("+")[0] or "+" in report["versions"]["torch"]
    assert all(check["passed"] for check in report["checks"])
    assert sum(check["seconds"] for check in report["checks"]) < 30


def test_a_failing_check_is_named_in_the_verdict(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(device: torch.device) -> tuple[bool, str]:
        raise RuntimeError("no FFT library")

    monkeypatch.setattr(doctor, "check_transforms", broken)
    recorder = SilentRecorder()
    with pytest.raises(JobError):
        doctor.run(DoctorParameters(json_file=Path("report.json"), device="cpu"), Context(recorder))
    assert _lines(recorder)[-1] == ("This machine is not ready: Fourier transforms: RuntimeError: no FFT library.")
    assert json.loads(Path("report.json").read_text())["ready"] is False


def test_a_full_disk_is_a_problem(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = examine(torch.device("cpu"), in_tmp)
    monkeypatch.setattr(doctor, "examine", lambda device, folder: {**findings, "disk_bytes": 1000})
    monkeypatch.setattr(doctor, "self_test", lambda device, report: [])
    recorder = SilentRecorder()
    with pytest.raises(JobError):
        doctor.run(DoctorParameters(device="cpu"), Context(recorder))
    assert "disk: 1000 B free" in _lines(recorder)[-1]


def test_wrong_transforms_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true_rfftn = torch.fft.rfftn
    monkeypatch.setattr(torch.fft, "rfftn", lambda data, norm: 1.001 * true_rfftn(data, norm=norm))
    passed, detail = check_transforms(torch.device("cpu"))
    assert not passed
    assert "allowed" in detail


def test_projections_along_inverted_rotations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true_project = Reference.project
    monkeypatch.setattr(
        Reference,
        "project",
        lambda reference, matrices, *more: true_project(reference, matrices.transpose(1, 2).contiguous(), *more),
    )
    passed, _ = check_orientations(torch.device("cpu"))
    assert not passed


def test_a_compiled_loop_that_differs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true_project = project.project_slices
    monkeypatch.setattr(project, "project_slices", lambda *arguments: 1.001 * true_project(*arguments))
    passed, _ = check_compiled_loops(torch.device("cpu"))
    assert not passed


def test_each_check_is_reported_as_it_ends() -> None:
    seen: list[doctor.Check] = []
    assert self_test(torch.device("cpu"), seen.append) == seen


@pytest.mark.parametrize(("field", "value"), [("device", "abacus"), ("folder", Path("nowhere"))])
def test_what_is_not_there_is_refused(field: str, value: object, in_tmp: Path) -> None:
    with pytest.raises(InputError, match=str(value)):
        doctor.run(DoctorParameters.model_validate({field: value}), Context())
