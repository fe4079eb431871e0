"""`vitrea preprocess` and `vitrea star loopheader|datablock`: what RELION's page on preparing input needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.cli.main import main
from vitrea.formats.imagic import write_imagic
from vitrea.formats.mrc import open_stack, write_stack
from vitrea.formats.particle_files import read_particles
from vitrea.formats.spider import write_spider
from vitrea.jobs.base import Context
from vitrea.jobs.preprocess import PreprocessParameters, run
from vitrea.records.errors import InputError, JobError
from vitrea.records.particles import Particles
from vitrea.records.recorder import SilentRecorder

IMAGES = np.random.default_rng(1).normal(10, 2, (6, 24, 24)).astype(np.float32)
CTFPARAM = "sampling_rate= 3\nvoltage= 200\ndefocusU= -16000\ndefocusV= -15500\nazimuthal_angle= 33.5\nQ0= -0.1\n"


def preprocess(recorder: SilentRecorder | None = None, **values: Any) -> Particles:
    run(PreprocessParameters(**values), Context(recorder or SilentRecorder(), "vitrea preprocess"))
    return read_particles(f"{values.get('output', 'preprocessed')}.star", require_ctf=False)


def written(name: str = "preprocessed") -> NDArray[Any]:
    return np.asarray(open_stack(f"{name}.mrcs"))


def test_a_stack_is_processed_as_relion_does(in_tmp: Path, data_dir: Path) -> None:
    """What relion_preprocess made of the particles when it extracted them can be made of the raw stack, too."""
    folder = data_dir / "extraction"
    given = {"input": folder / "raw/mic1.mrcs", "pixel_size": 2.0, "normalise": True}
    for name, options in (("norm", {"background_radius": 24}),
                          ("norm_invert", {"background_radius": 24, "invert_contrast": True}),
                          ("scaled", {"background_radius": 12, "invert_contrast": True, "scale": 32})):  # fmt: skip
        particles = preprocess(output=name, **given, **options)
        assert np.abs(written(name) - open_stack(folder / name / "mic1.mrcs")).max() < 1e-5
        assert particles.optics[0].pixel_size == (4.0 if name == "scaled" else 2.0)
        assert particles.table["rlnImageName"][6] == f"000007@{name}.mrcs"


@pytest.mark.parametrize("name", ["a.stk", "a.hed", "a.mrcs"])
def test_stacks_of_every_format(name: str, in_tmp: Path) -> None:
    if name == "a.stk":
        write_spider(name, IMAGES, 1.5)
    elif name == "a.hed":
        write_imagic(name, IMAGES)
    else:
        write_stack(name, IMAGES, 1.5)
    particles = preprocess(input=name, pixel_size=1.5, window=20)
    assert np.array_equal(written(), IMAGES[:, 2:22, 2:22])
    assert (particles.optics[0].pixel_size, particles.optics[0].image_size) == (1.5, 20)
    larger = preprocess(input=name, pixel_size=1.5, window=30, output="larger")
    assert larger.optics[0].image_size == 30
    assert np.allclose(written("larger")[:, 3:27, 3:27], IMAGES, atol=1e-5)


def test_frealign(in_tmp: Path) -> None:
    write_stack("stack.mrc", IMAGES, 1.0)
    lines = [f"{n} {n} 20 30 {n}.5 -3 20000 {n % 2 + 1} 19847 19019 -57 100 -723 1.2 21.3 0.1" for n in (2, 4, 6)]
    Path("a.par").write_text("C a comment\n" + "\n".join(lines) + "\n")
    optics = {"pixel_size": 2.5, "voltage": 300, "spherical_aberration": 2.7, "amplitude_contrast": 0.07}
    particles = preprocess(input="stack.mrc", par="a.par", invert_contrast=True, output="Out/p", **optics)
    assert np.array_equal(written("Out/p"), -IMAGES[[1, 3, 5]])
    assert particles.eulers[:, 2].tolist() == [2, 4, 6]
    assert particles.shifts[:, 0].tolist() == [-2.5, -4.5, -6.5]
    assert particles.defocus[0].tolist() == [19847, 19019, -57]
    assert particles.table["rlnMicrographName"].tolist() == ["1", "1", "1"]
    assert (particles.optics[0].voltage, particles.optics[0].amplitude_contrast) == (300, 0.07)
    with pytest.raises(InputError, match="--kV"):
        preprocess(input="stack.mrc", par="a.par", pixel_size=2.5)


def test_xmipp(in_tmp: Path) -> None:
    """Single SPIDER files, two micrographs with CTFs of their own."""
    for number, image in enumerate(IMAGES):
        write_spider(f"img{number}.xmp", image)
    for name, cs in (("m1", 2.0), ("m2", 2.26)):
        Path(f"{name}_Periodogramavg.ctfparam").write_text(CTFPARAM + f"spherical_aberration= {cs}\n")
    lines = [f"img{n}.xmp m{n % 2 + 1}_Periodogramavg.ctfparam\n" for n in range(6)]
    Path("all.ctfdat").write_text("".join(lines))
    particles = preprocess(ctfdat="all.ctfdat")
    assert np.array_equal(written(), IMAGES)
    assert particles.table["rlnMicrographName"].tolist() == ["m1", "m2"] * 3
    assert particles.defocus[0].tolist() == [16000, 15500, 33.5]
    assert [group.spherical_aberration for group in particles.optics] == [2.0, 2.26]
    assert particles.optics_index.tolist() == [0, 1] * 3
    assert particles.optics[0].pixel_size == 3


def test_what_a_particle_file_knows_is_kept_and_bad_images_are_named(in_tmp: Path) -> None:
    images = IMAGES.copy()
    images[2, 5, 5] = np.nan
    write_stack("s.mrcs", images, 1.5)
    rows = "".join(f"{n:06d}@s.mrcs {n}.5 7 1.5\n" for n in range(1, 7))
    Path("p.star").write_text(f"data_\nloop_\n_rlnImageName\n_rlnAnglePsi\n_myColumn\n_rlnPixelSize\n{rows}")
    recorder = SilentRecorder()
    particles = preprocess(recorder, input="p.star", normalise=True, scale=12, float16=True)
    assert particles.table["rlnAnglePsi"].tolist() == [1.5, 2.5, 4.5, 5.5, 6.5]
    assert particles.table["myColumn"].tolist() == [7] * 5
    assert particles.optics[0].pixel_size == 3
    assert written().dtype == np.float16
    assert recorder.warnings == ["000003@s.mrcs set aside: no numbers, or nothing but one value"]


def test_wrong_input(in_tmp: Path) -> None:
    write_stack("a.mrcs", IMAGES, 1.5)
    for values, message in (
        ({}, "give either"),
        ({"input": "a.mrcs", "output": "a"}, "would overwrite a.mrcs"),
        ({"par": "x.par", "ctfdat": "b.ctfdat"}, "--from_par goes with"),
        ({"input": "gone.mrcs"}, "gone.mrcs does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            preprocess(**values)
    write_imagic("b.hed", IMAGES)
    with pytest.raises(InputError, match="does not tell its pixel size"):
        preprocess(input="b.hed")
    write_stack("flat.mrcs", np.ones((3, 24, 24), dtype=np.float32), 1.5)
    with pytest.raises(JobError, match="none of the images"):
        preprocess(input="flat.mrcs", normalise=True)
    assert not list(in_tmp.glob("preprocessed*"))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_relions_star_scripts(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of RELION's own usage messages; appended to each other they are a STAR file."""
    head = said(capsys, "star", "loopheader", "rlnImageName", "_rlnDefocusU", "rlnVoltage")
    assert head == "data_\nloop_\n_rlnImageName\n_rlnDefocusU\n_rlnVoltage\n"
    rows = said(capsys, "star", "datablock", "stack", "3", "my_images.mrcs", "10000", "200")
    assert rows.splitlines()[2] == "000003@my_images.mrcs 10000 200"
    for name in ("t2.spi", "t1.spi"):
        write_spider(name, IMAGES[0])
    assert said(capsys, "star", "datablock", "singlefiles", "t*.spi", "1", "2") == "t1.spi 1 2\nt2.spi 1 2\n"
    Path("m1.ctfparam").write_text(CTFPARAM + "spherical_aberration= 2\n")
    Path("a.ctfdat").write_text("t1.spi m1.ctfparam\n")
    row = said(capsys, "star", "datablock", "ctfdat", "a.ctfdat").split()
    assert row[:2] == ["t1.spi", "m1"]
    assert [float(word) for word in row[2:]] == [200, 16000, 15500, 33.5, 2, 0.1]
    for words in (("stack", "x", "a.mrcs"), ("ctfdat", "a.ctfdat", "b"), ("singlefiles", "none*")):
        assert main(["star", "datablock", *words]) == 2
    assert main(["star", "loopheader", "a", "a"]) == 2


def test_images_of_real_programs(in_tmp: Path, shared_data: Path) -> None:
    for name in ("smallStack.stk", "smallStack.hed", "smallStack.img"):
        shutil.copy(shared_data / "formats" / name, name)
    original = open_stack(shared_data / "formats" / "smallStack.mrcs")
    for name in ("smallStack.stk", "smallStack.hed"):
        preprocess(input=name, pixel_size=2.0, output="o")
        assert np.array_equal(written("o"), original)
