"""``vitrea doctor``: is this machine fit for the work, and how fast is it?"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import vitrea
from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.records.errors import InputError, JobError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_LIBRARIES = ("torch", "numpy", "scipy", "numba", "mrcfile", "gemmi", "astropy-healpix", "scikit-image", "pydantic")
# A refinement of a small box needs about this much beside the interpreter and its libraries.
_LEAST_MEMORY = 2**30
_LEAST_DISK = 2**30


class DoctorParameters(JobParameters):
    """Check this machine before the work begins.

    Lists versions and devices, measures matrix products, looks at free memory and disk, and runs a self-test whose
    results are known. The last line is a plain verdict; the exit code is 0 where the machine is ready and 1 where it is
    not.
    """

    json_file: Path | None = parameter(None, "Write all findings to this JSON file as well.", options=["--json"])
    folder: Path = parameter(Path(), "Folder the work will be written to; its disk is looked at.")
    device: str = parameter("auto", "Device to check: auto, cpu, cuda or cuda:1.")


@dataclass(frozen=True)
class Check:
    """Outcome of one part of the self-test.

    Attributes
    ----------
    name : str
    passed : bool
    detail : str
        What was measured, against what was allowed.
    seconds : float
    """

    name: str
    passed: bool
    detail: str
    seconds: float


def run(parameters: DoctorParameters, context: Context) -> None:
    """Examine the machine.

    Raises
    ------
    InputError
        If the device or the folder is not there, or the JSON file cannot be written.
    JobError
        If the machine is not ready.
    """
    from vitrea.compute.devices import choose_device, set_threads

    device = choose_device(parameters.device)
    if not parameters.folder.is_dir():
        raise InputError(f"--folder: there is no folder {parameters.folder}.")
    set_threads()

    def say(line: str) -> None:
        context.recorder.event("text", text=line)

    findings = examine(device, parameters.folder)
    for line in describe(findings):
        say(line)
    checks = self_test(device, lambda check: say(_check_line(check)))
    problems = [f"{check.name}: {check.detail}" for check in checks if not check.passed] + _shortages(findings)
    verdict = _verdict(findings, len(checks), problems)
    say(verdict)
    if parameters.json_file:
        _write_json(parameters.json_file, {**findings, "checks": [asdict(c) for c in checks], "ready": not problems})
    if problems:
        raise JobError("the machine is not ready.")


def examine(device: torch.device, folder: Path) -> dict[str, Any]:
    """Return versions, device, measured speeds and free space.

    Parameters
    ----------
    device : torch.device
    folder : Path
        A folder on the disk to look at.

    Returns
    -------
    dict
        With ``versions`` (library to version), ``device`` (text), ``threads``,
        ``gflops_float32``, ``gflops_bfloat16``, ``gflops_fast`` (see `vitrea.compute.precision.MatrixSpeed`),
        ``memory_bytes`` (on the device), ``disk_bytes``, ``folder``.
    """
    from vitrea.compute.devices import describe_device
    from vitrea.compute.memory import available_memory
    from vitrea.compute.precision import bfloat16_hardware, matrix_speed
    from vitrea.compute.processors import available_threads

    speed = matrix_speed(device)
    return {
        "versions": {"vitrea": vitrea.__version__, "python": platform.python_version(), **_library_versions()},
        "system": platform.platform(),
        "device": describe_device(device).text,
        "threads": available_threads(),
        "bfloat16_hardware": bfloat16_hardware(device),
        "gflops_float32": round(speed.float32, 1),
        "gflops_bfloat16": round(speed.bfloat16, 1),
        "gflops_fast": round(speed.fast, 1),
        "memory_bytes": available_memory(device),
        "disk_bytes": shutil.disk_usage(folder).free,
        "folder": str(folder.resolve()),
    }


def _library_versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def describe(findings: dict[str, Any]) -> list[str]:
    """Write the findings of `examine` as lines to read."""
    from vitrea.compute.memory import format_bytes

    units = "with" if findings["bfloat16_hardware"] else "without"
    return [
        "versions  " + ", ".join(f"{name} {number}" for name, number in findings["versions"].items()),
        f"system    {findings['system']}",
        f"device    {findings['device']}",
        f"products  float32 {findings['gflops_float32']:.0f}, bfloat16 {findings['gflops_bfloat16']:.0f},"
        f" float32 with rounding allowed {findings['gflops_fast']:.0f} GFLOP/s; processor {units} bfloat16 units",
        f"memory    {format_bytes(findings['memory_bytes'])} free",
        f"disk      {format_bytes(findings['disk_bytes'])} free in {findings['folder']}",
    ]


def _shortages(findings: dict[str, Any]) -> list[str]:
    from vitrea.compute.memory import format_bytes

    wanted = (("memory", "memory_bytes", _LEAST_MEMORY), ("disk", "disk_bytes", _LEAST_DISK))
    return [
        f"{what}: {format_bytes(findings[key])} free, at least {format_bytes(least)} is needed"
        for what, key, least in wanted
        if findings[key] < least
    ]


def _verdict(findings: dict[str, Any], checks: int, problems: list[str]) -> str:
    from vitrea.compute.memory import format_bytes

    if problems:
        return "This machine is not ready: " + "; ".join(problems) + "."
    return (
        f"This machine is ready: all {checks} checks passed, comparisons run at {findings['gflops_fast']:.0f} GFLOP/s,"
        f" {format_bytes(findings['memory_bytes'])} memory and {format_bytes(findings['disk_bytes'])} disk free."
    )


def _check_line(check: Check) -> str:
    return f"{'ok  ' if check.passed else 'FAIL'}  {check.name} ({check.seconds:.1f} s): {check.detail}"


def self_test(device: torch.device, report: Callable[[Check], None]) -> list[Check]:
    """Run computations whose results are known; a crash counts as a failed check.

    Parameters
    ----------
    device : torch.device
    report : callable
        Receives each `Check` as it ends.

    Returns
    -------
    list of Check
    """
    tests: tuple[tuple[str, Callable[[torch.device], tuple[bool, str]]], ...] = (
        ("Fourier transforms", check_transforms),
        ("matrix products", check_products),
        ("compiled loops", check_compiled_loops),
        ("finding orientations", check_orientations),
        ("cache of compiled code", check_compile_cache),
        ("files", check_files),
    )
    checks = []
    for name, test in tests:
        start = time.perf_counter()
        try:
            passed, detail = test(device)
        except Exception as error:  # whatever it is, it belongs into the report
            passed, detail = False, f"{type(error).__name__}: {error}"
        checks.append(Check(name, passed, detail, round(time.perf_counter() - start, 2)))
        report(checks[-1])
    return checks


def check_transforms(device: torch.device) -> tuple[bool, str]:
    """Transform noise on the device and compare with numpy's double precision; 3D, an even and an odd box."""
    import numpy as np
    import torch

    worst = 0.0
    for size in (48, 45):
        noise = np.random.default_rng(1).standard_normal((size,) * 3)
        exact = np.fft.rfftn(noise, norm="ortho")
        found = torch.fft.rfftn(torch.from_numpy(noise.astype(np.float32)).to(device), norm="ortho").cpu().numpy()
        worst = max(worst, float(np.abs(found - exact).max()))
    # Components of unit-variance noise are of order 1; float32 rounds to 6e-8 in each of about 17 butterfly levels.
    return worst < 1e-5, f"largest error {worst:.1e} (allowed 1e-5)"


def check_products(device: torch.device) -> tuple[bool, str]:
    """Multiply noise in float32, as it is and with rounding allowed, and compare with double precision."""
    import torch

    from vitrea.compute.precision import fast_products

    generator = torch.Generator().manual_seed(1)
    left = torch.randn(256, 512, generator=generator, dtype=torch.float64)
    right = torch.randn(512, 256, generator=generator, dtype=torch.float64)
    exact = left @ right
    single = left.float().to(device), right.float().to(device)
    plain = single[0] @ single[1]
    with fast_products():
        rounded = single[0] @ single[1]
    # float32: rounding errors of 512 additions, one after the other at worst, add up as a random walk. bfloat16: both
    # factors are rounded, about the format's rounding error in all; four times that is a fault.
    outcomes = (
        (plain, 512**0.5 * torch.finfo(torch.float32).eps, "float32"),
        (rounded, 4 * torch.finfo(torch.bfloat16).eps, "with rounding allowed"),
    )
    details, passed = [], True
    for found, allowed, name in outcomes:
        error = float((found.double().cpu() - exact).square().mean().sqrt() / exact.square().mean().sqrt())
        passed = passed and error < allowed
        details.append(f"{name}: relative error {error:.1e} (allowed {allowed:.1e})")
    return passed, ", ".join(details)


def check_compiled_loops(device: torch.device) -> tuple[bool, str]:
    """Project a random Fourier grid with the compiled loop of the device and with plain torch in double precision."""
    import torch

    from vitrea.kernels.project import project_slices, project_slices_torch

    generator = torch.Generator().manual_seed(2)
    half, radius = 18, 16
    shape = (2 * half + 1, 2 * half + 1, half + 1)
    grid = torch.randn(shape, generator=generator, dtype=torch.complex128)
    matrices, _ = torch.linalg.qr(torch.randn(8, 3, 3, generator=generator, dtype=torch.float64))
    axis = torch.arange(-radius, radius + 1, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis[radius:], indexing="ij")
    inside = x**2 + y**2 <= radius**2
    coordinates = torch.stack([x[inside], y[inside], torch.zeros_like(x[inside])], dim=1)
    exact = project_slices_torch(grid, half, half, matrices, coordinates, 1.0)
    single = [tensor.to(device) for tensor in (grid.to(torch.complex64), matrices.float(), coordinates.float())]
    found = project_slices(single[0], half, half, single[1], single[2], 1.0).cpu()
    # A sample within rounding of a grid plane may be read from either side of it; the median is free of such cases.
    error = float((found - exact).abs().median())
    return error < 1e-5, f"projection: median difference {error:.1e} from double precision (allowed 1e-5)"


def check_orientations(device: torch.device) -> tuple[bool, str]:
    """Find the orientations of noisy images whose projections are known in closed form, by the engine's coarse search.

    The particle is a handful of Gaussian balls: its projection is a handful of Gaussian discs at the balls' positions
    as seen from there.
    """
    import numpy as np
    import torch

    from vitrea.fourier.packed import packed_samples
    from vitrea.fourier.transforms import to_fourier
    from vitrea.geometry.euler import angular_distance, euler_to_matrix
    from vitrea.geometry.sampling import angular_step, orientation_grid
    from vitrea.geometry.shifts import shift_grid
    from vitrea.matching.dense import DenseSearch
    from vitrea.matching.images import PreparedImages
    from vitrea.matching.poses import PoseGrid
    from vitrea.matching.reference import ReferenceSet, reference_from_map

    size, width, count, radius = 32, 1.6, 16, 9
    generator = np.random.default_rng(4)
    balls = generator.uniform(-7.0, 7.0, (12, 3))  # x, y, z in pixels from the centre
    rotations = euler_to_matrix(generator.uniform(0.0, 180.0, (count, 3)))
    seen = np.einsum("mij,bj->mbi", rotations, balls)
    line_integral = width * np.sqrt(2.0 * np.pi)
    discs = [_discs(seen[..., axis], size, width) for axis in (1, 0)]
    images = line_integral * np.einsum("mby,mbx->myx", *discs)
    noise = float(images.std())
    images += generator.normal(0.0, noise, images.shape)
    samples, order = packed_samples(size, radius), 2
    packed = samples.gather(to_fourier(torch.from_numpy(images.astype(np.float32)))).to(device)
    axes = [_discs(balls[:, axis], size, width) for axis in (2, 1, 0)]
    voxels = torch.from_numpy(np.einsum("bz,by,bx->zyx", *axes).astype(np.float32))
    shifts = shift_grid(0.0, 1.0)
    poses = PoseGrid(orientation_grid(order, "C1"), shifts, shifts, 0)
    even = np.zeros(poses.direction_count, dtype=np.float32)
    references = ReferenceSet((reference_from_map(voxels.to(device), radius),))
    search = DenseSearch(references, samples, poses, even)
    ones = torch.ones_like(packed.real)
    unused = torch.zeros(0, dtype=torch.float64, device=device)
    best = search.best(PreparedImages(packed, packed, ones, ones / (noise**2 / 2.0), unused, unused)).orientation
    errors = angular_distance(poses.coarse_matrices(best).double().numpy(), rotations)
    # No orientation is farther from the grid than about three quarters of its step.
    step = angular_step(order)
    return bool(errors.max() < step), (
        f"{count} noisy images, {poses.orientation_count} orientations: largest error {errors.max():.1f}° "
        f"(grid step {step:g}°)"
    )


def _discs(centres: NDArray[np.float64], size: int, width: float) -> NDArray[np.float64]:
    """Gaussian profiles along one axis of a box; centres in pixels from its centre, shape [..., size]."""
    import numpy as np

    return np.exp(-0.5 * ((np.arange(size) - size // 2 - centres[..., None]) / width) ** 2)


def check_compile_cache(device: torch.device) -> tuple[bool, str]:
    """Compile a function and see that numba can keep it for the next start."""
    import numba

    @numba.njit(cache=True)
    def twice(value: int) -> int:
        return 2 * value

    correct = twice(21) == 42
    folder = Path(str(twice.stats.cache_path))
    writable = os.access(folder, os.W_OK)
    mend = "" if writable else "; set NUMBA_CACHE_DIR to a folder that can be written, or every start compiles anew"
    return correct and writable, f"compiled code is kept in {folder}{mend}"


def check_files(device: torch.device) -> tuple[bool, str]:
    """Write a map to the temporary folder and read it back unchanged."""
    import mrcfile
    import numpy as np

    voxels = np.random.default_rng(3).standard_normal((16, 16, 16)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.mrc"
        with mrcfile.new(path) as file:
            file.set_data(voxels)
        with mrcfile.open(path) as file:
            same = bool(np.array_equal(file.data, voxels))
    return same, f"a map written to {tempfile.gettempdir()} {'reads back unchanged' if same else 'has changed'}"


def _write_json(path: Path, findings: dict[str, Any]) -> None:
    from vitrea.formats.atomic import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(findings, indent=2) + "\n", encoding="utf-8")


JOB = Job("doctor", "Check this machine: versions, devices, speed, memory, a self-test.", DoctorParameters, run)
