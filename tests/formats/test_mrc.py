"""MRC maps and stacks, against mrcfile as the independent reader and writer."""

import bz2
import errno
import gzip
import io
import os
from contextlib import redirect_stdout
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mrcfile.dtypes import HEADER_DTYPE

from vitrea.formats import atomic
from vitrea.formats.mrc import StackWriter, open_stack, read_header, read_map, write_map, write_stack
from vitrea.records.errors import InputError
from vitrea.records.map import Map

TYPES = {0: np.int8, 1: np.int16, 2: np.float32, 6: np.uint16, 12: np.float16}


def valid(path: Path) -> bool:
    with redirect_stdout(io.StringIO()) as report:
        good = mrcfile.validate(path)
    assert good, report.getvalue()
    return True


def raw_mrc(values: np.ndarray, mode: int, order: str = "<", extended: bytes = b"", **fields: object) -> bytes:
    """Return an MRC file made by hand, shape [n, y, x]."""
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder(order))
    header["nz"], header["ny"], header["nx"] = values.shape
    header["mz"], header["my"], header["mx"] = values.shape
    header["mode"], header["ispg"], header["nsymbt"] = mode, 1, len(extended)
    header["cella"] = tuple(2.5 * n for n in values.shape[::-1])
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["map"] = b"MAP "
    header["machst"] = (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    for name, value in fields.items():
        header[name] = value
    return header.tobytes() + extended + values.astype(values.dtype.newbyteorder(order)).tobytes()


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(sorted(TYPES)),
    order=st.sampled_from("<>"),
    extended=st.sampled_from([0, 80, 1024]),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    stamped=st.booleans(),
)
def test_every_mode_and_byte_order(
    tmp_path_factory: pytest.TempPathFactory,
    mode: int,
    order: str,
    extended: int,
    shape: tuple[int, int, int],
    stamped: bool,
) -> None:
    path = tmp_path_factory.mktemp("mrc") / "in.mrc"
    values = np.random.default_rng(mode).integers(0, 100, shape).astype(TYPES[mode])
    fields = {} if stamped else {"machst": (0, 0, 0, 0), "map": b""}
    path.write_bytes(raw_mrc(values, mode, order, bytes(extended), **fields))
    header = read_header(path)
    assert (header.shape, header.mode, header.byte_order, header.data_offset) == (shape, mode, order, 1024 + extended)
    stack = open_stack(path)
    np.testing.assert_array_equal(stack, values)
    assert stack.dtype.itemsize == values.dtype.itemsize
    density = read_map(path)
    np.testing.assert_array_equal(density.voxels, values)
    assert density.voxels.dtype == np.dtype("=f4")
    assert density.voxels.flags.writeable
    assert density.voxel_size == pytest.approx(2.5)


@pytest.mark.parametrize("shape", [(5, 6, 7), (4, 4, 4), (1, 3, 3)])
def test_maps_round_trip_and_validate(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    path = tmp_path / "map.mrc"
    voxels = np.random.default_rng(0).normal(5, 2, shape).astype(np.float32)
    write_map(path, Map(voxels, 1.237, (1.0, -2.5, 3.0)))
    assert valid(path)
    read = read_map(path)
    np.testing.assert_array_equal(read.voxels, voxels)
    assert read.voxel_size == pytest.approx(1.237, rel=1e-6)
    assert read.origin == (1.0, -2.5, 3.0)
    with mrcfile.open(path) as peer:
        np.testing.assert_array_equal(peer.data, voxels)
        assert peer.is_volume()
        assert (int(peer.header.ispg), int(peer.header.mz)) == (1, shape[0])
        assert float(peer.voxel_size.x) == pytest.approx(1.237, rel=1e-6)
        assert float(peer.header.dmean) == pytest.approx(voxels.mean(dtype=np.float64), rel=1e-6)
        assert float(peer.header.rms) == pytest.approx(voxels.std(dtype=np.float64), rel=1e-6)


def test_constant_and_not_finite_maps_validate(tmp_path: Path) -> None:
    for fill in (0.0, 3.0, np.nan):
        write_map(tmp_path / "map.mrc", Map(np.full((2, 3, 4), fill, np.float32), 1.0))
        assert valid(tmp_path / "map.mrc")


@pytest.mark.parametrize(("mode", "dtype"), [(2, np.float32), (12, np.float16)])
def test_stacks_written_in_pieces(tmp_path: Path, mode: int, dtype: type) -> None:
    path = tmp_path / "stack.mrcs"
    images = np.random.default_rng(0).normal(100, 2, (7, 5, 6)).astype(np.float32)
    with StackWriter(path, 3.54, mode) as writer:  # type: ignore[arg-type]
        writer.append(images[:3])
        writer.append(images[3])
        writer.append(images[4:])
        assert not path.exists()
    assert writer.count == 7
    assert valid(path)
    header = read_header(path)
    assert header.is_stack
    assert header.shape == (7, 5, 6)
    assert header.pixel_size == pytest.approx(3.54)
    np.testing.assert_array_equal(open_stack(path), images.astype(dtype))
    with mrcfile.open(path) as peer:
        assert peer.is_image_stack()
        assert (int(peer.header.ispg), int(peer.header.mz)) == (0, 1)
        # The mean of float16 values far from zero: pieces must be merged without loss.
        assert float(peer.header.rms) == pytest.approx(images.astype(dtype).std(dtype=np.float64), rel=1e-6)
    write_stack(tmp_path / "whole.mrcs", images, 3.54, mode)  # type: ignore[arg-type]
    assert (tmp_path / "whole.mrcs").read_bytes()[1024:] == path.read_bytes()[1024:]


def test_single_image(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_stack(tmp_path / "one.mrc", image, 1.5)
    assert valid(tmp_path / "one.mrc")
    assert open_stack(tmp_path / "one.mrc").shape == (1, 3, 4)


def test_stacks_are_mapped_not_read_and_cannot_be_changed(tmp_path: Path) -> None:
    write_stack(tmp_path / "s.mrcs", np.zeros((2, 4, 4), np.float32), 1.0)
    stack = open_stack(tmp_path / "s.mrcs")
    assert isinstance(stack, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        stack[0] = 1


def test_failed_stack_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), StackWriter(tmp_path / "s.mrcs", 1.0) as writer:
        writer.append(np.zeros((2, 4, 4)))
        raise RuntimeError
    with pytest.raises(ValueError, match="not \\(4, 5\\)"), StackWriter(tmp_path / "s.mrcs", 1.0) as writer:
        writer.append(np.zeros((2, 4, 4)))
        writer.append(np.zeros((2, 4, 5)))
    with pytest.raises(ValueError, match="no images"), StackWriter(tmp_path / "s.mrcs", 1.0):
        pass
    with pytest.raises(InputError, match="65504"):
        write_stack(tmp_path / "s.mrcs", np.full((1, 2, 2), 1e6), 1.0, mode=12)
    with pytest.raises(InputError, match="no space left"), StackWriter(tmp_path / "s.mrcs", 1.0) as writer:
        writer.append(np.zeros((2, 4, 4)))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_the_old_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.mrc"
    write_map(path, Map(np.ones((2, 2, 2), np.float32), 1.0))
    before = path.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with pytest.raises(InputError, match=r"cannot write .*map\.mrc: no space left"):
        write_map(path, Map(np.zeros((2, 2, 2), np.float32), 1.0))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


VALUES = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (raw_mrc(VALUES, 2)[:-1], "needs? 1120 bytes, the file has 1119"),
        (raw_mrc(VALUES, 2, extended=bytes(80))[:-80], "need 1200 bytes, the file has 1120"),
        (raw_mrc(VALUES, 2)[:500], "an MRC header has 1024 bytes, the file 500"),
        (raw_mrc(VALUES, 2, nx=-5), "header is corrupt"),
        (raw_mrc(VALUES, 77), "mode 77"),
        (raw_mrc(VALUES, 4), "mode 4 .*complex"),
        (bytes(2000), "not an MRC file"),
        (b"data_particles\n" * 200, "not an MRC file"),
        (b"", "has 1024 bytes, the file 0"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "in.mrc"
    path.write_bytes(content)
    for read in (read_header, read_map, open_stack):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mrc does not exist"):
        open_stack(tmp_path / "none.mrc")
    with pytest.raises(InputError, match="cannot read"):
        read_map(tmp_path)


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress])
def test_compressed_maps(tmp_path: Path, squeeze: object) -> None:
    path = tmp_path / "map.mrc.z"
    content = raw_mrc(VALUES, 2)
    path.write_bytes(squeeze(content))  # type: ignore[operator]
    np.testing.assert_array_equal(read_map(path).voxels, VALUES)
    path.write_bytes(squeeze(content[:-8]))  # type: ignore[operator]
    with pytest.raises(InputError, match="need 1120 bytes, the file has 1112"):
        read_map(path)
    packed = squeeze(content)  # type: ignore[operator]
    for damaged in (packed[:-9], packed[:40], packed[:30] + bytes(30) + packed[60:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"cannot read .*map\.mrc\.z"):
            read_map(path)


def test_axes_come_out_in_order(tmp_path: Path) -> None:
    stored = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # sections y, rows x, columns z
    path = tmp_path / "map.mrc"
    path.write_bytes(raw_mrc(stored, 2, mapc=3, mapr=1, maps=2, mx=3, my=2, mz=4, cella=(7.5, 5.0, 10.0)))
    density = read_map(path)
    assert density.voxels.shape == (4, 2, 3)
    assert density.voxels[3, 1, 2] == stored[1, 2, 3]
    assert density.voxels[1, 0, 2] == stored[0, 2, 1]


def test_origin_from_start_indices(tmp_path: Path) -> None:
    path = tmp_path / "map.mrc"
    path.write_bytes(raw_mrc(VALUES, 2, nxstart=-2, nystart=1))
    assert read_map(path).origin == (-5.0, 2.5, 0.0)


def test_voxels_must_be_cubes_and_stacks_are_no_maps(tmp_path: Path) -> None:
    path = tmp_path / "in.mrc"
    path.write_bytes(raw_mrc(VALUES, 2, cella=(4.0, 3.0, 4.0)))
    with pytest.raises(InputError, match="1 x 1 x 2 Å are not cubes"):
        read_map(path)
    path.write_bytes(raw_mrc(VALUES, 2, ispg=0, mz=1))
    with pytest.raises(InputError, match="stack of 2 images of 4 x 3 pixels"):
        read_map(path)


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_stacks_without_a_pixel_size_open(tmp_path: Path, size: float) -> None:
    path = tmp_path / "in.mrcs"
    path.write_bytes(raw_mrc(VALUES, 2, cella=(4 * size, 3 * size, 2 * size)))
    assert open_stack(path).shape == (2, 3, 4)
    assert read_header(path).pixel_size == size
    assert read_map(path).voxel_size == 1.0


def test_files_of_other_programs(shared_data: Path) -> None:
    folder = shared_data / "formats"
    for name in ("smallStack.mrcs", "singleImage.mrc", "rln_proj_65.mrcs", "sav_data.mrcs", "EMD-3197.map"):
        peer = mrcfile.read(folder / name)
        np.testing.assert_array_equal(open_stack(folder / name).reshape(peer.shape), peer)
    plain = read_map(folder / "EMD-3197.map")
    for name in ("EMD-3197.map.bz2", "emd_3197.map.gz"):
        packed = read_map(folder / name)
        np.testing.assert_array_equal(packed.voxels, plain.voxels)
        assert (packed.voxel_size, packed.origin) == (plain.voxel_size, plain.origin)
    assert plain.voxel_size == pytest.approx(11.4, rel=1e-5)
    with pytest.raises(InputError, match="need 34280108 bytes, the file has 1108"):
        open_stack(folder / "test_data_corrupt_header.map")
    for name in ("smallVolume.vol", "singleImage.spi"):
        with pytest.raises(InputError, match="not an MRC file"):
            open_stack(folder / name)
    # No "MAP ", no machine stamp, header of a map: still a stack of 220 images.
    assert open_stack(next((shared_data / "tilt").glob("*.mrcs"))).shape == (220, 64, 64)


def test_a_write_the_system_refuses(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # as a disk with room for 100 kB
    try:
        with pytest.raises(InputError, match=r"cannot write .*s\.mrcs: the file grew larger"):
            write_stack(tmp_path / "s.mrcs", np.zeros((100, 32, 32)), 1.0)
        with pytest.raises(InputError, match=r"cannot write .*m\.mrc: the file grew larger"):
            write_map(tmp_path / "m.mrc", Map(np.zeros((64, 64, 64), np.float32), 1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
