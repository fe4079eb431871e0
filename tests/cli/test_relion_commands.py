"""Command lines written for RELION run as they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

Call = Callable[..., int]

# RELION 5's auto-refine, mask and post-processing as its users type them, after the program's name.
_COMMANDS = {
    "refine3d": "--o Refine3D/run --auto_refine --split_random_halves --i first1000.star --ref start_map_64.mrc "
    "--firstiter_cc --ini_high 50 --dont_combine_weights_via_disc --pool 3 --pad 2 --ctf --particle_diameter 200 "
    "--flatten_solvent --zero_mask --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 --offset_range 5 "
    "--offset_step 2 --sym D2 --low_resol_join_halves 40 --norm --scale --j 1 --random_seed 1",
    "mask": "--i run_class001.mrc --o mask.mrc --lowpass 15 --ini_threshold 0.05 --extend_inimask 2 "
    "--width_soft_edge 5 --j 1",
    "postprocess": "--i run_half1_class001_unfil.mrc --mask mask.mrc --mtf mtf_k2_200kV.star --mtf_angpix 0.885 "
    "--auto_bfac --autob_lowres 10 --o postprocess",
}
# What must come of them, by our own names: RELION's values, not our defaults.
_EXPECTED = {
    "refine3d": ["--initial-low-pass 50.0", "--particle-diameter 200.0", "--symmetry D2"],
    "mask": ["--threshold 0.05", "--extend 2.0", "--soft-edge 5.0", "--lowpass 15.0"],
    "postprocess": ["--mtf-pixel-size 0.885", "--auto-bfactor", "--mask mask.mrc"],
}


@pytest.mark.parametrize("job", list(_COMMANDS))
def test_a_relion_command_line_is_understood(job: str, vitrea: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert vitrea(job, *shlex.split(_COMMANDS[job]), "--print-command") == 0
    printed = capsys.readouterr().out
    for option in _EXPECTED[job]:
        assert option in printed
