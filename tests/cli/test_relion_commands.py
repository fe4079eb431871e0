"""Command lines written for RELION run as they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest

Call = Callable[..., int]

# Commands of RELION 5 as its users type them, after the name of the program.
_COMMANDS = {
    "refine3d": "--o Refine3D/run --auto_refine --split_random_halves --i first1000.star --ref start_map_64.mrc "
    "--firstiter_cc --ini_high 50 --dont_combine_weights_via_disc --pool 3 --pad 2 --ctf --particle_diameter 200 "
    "--flatten_solvent --zero_mask --oversampling 1 --healpix_order 2 --auto_local_healpix_order 4 --offset_range 5 "
    "--offset_step 2 --sym D2 --low_resol_join_halves 40 --norm --scale --j 1 --random_seed 1",
    "class2d": "--o Class2D/run --iter 10 --i particles.star --dont_combine_weights_via_disc --pool 3 --pad 2 --ctf "
    "--tau2_fudge 2 --particle_diameter 200 --K 20 --flatten_solvent --zero_mask --center_classes --oversampling 1 "
    "--psi_step 12 --offset_range 5 --offset_step 2 --norm --scale --j 1 --random_seed 1",
    "class3d": "--o Class3D/run --i particles.star --ref map.mrc --firstiter_cc --ini_high 40 "
    "--dont_combine_weights_via_disc --pool 3 --pad 2 --ctf --iter 25 --tau2_fudge 4 --particle_diameter 200 --K 3 "
    "--flatten_solvent --zero_mask --strict_highres_exp 12 --solvent_mask mask.mrc --skip_align --sigma_ang 1.667 "
    "--oversampling 1 --healpix_order 4 --offset_range 3 --offset_step 2 --sym C2 --norm --scale --j 4 --gpu 0",
    "initial-model": "--o InitialModel/run --iter 100 --i particles.star --denovo_3dref --ctf --K 1 --sym C1 "
    "--flatten_solvent --zero_mask --dont_combine_weights_via_disc --pool 3 --pad 1 --particle_diameter 200 "
    "--oversampling 1 --healpix_order 1 --offset_range 6 --offset_step 2 --j 4",
    "ctf": "--i MotionCorr/job002/corrected_micrographs.star --o CtfFind/job003/ --CS 2.7 --HT 300 --AmpCnst 0.1 "
    "--XMAG 10000 --DStep 1.5 --Box 512 --ResMin 30 --ResMax 5 --dFMin 5000 --dFMax 40000 --FStep 500 --dAst 100 "
    "--use_noDW --ctffind_exe /opt/ctffind --ctfWin -1 --is_ctffind4 --fast_search --do_phaseshift --phase_min 10 "
    "--phase_max 170 --phase_step 10 --j 2 --only_do_unfinished --pipeline_control CtfFind/job003/",
    "extract": "--i CtfFind/job003/micrographs_ctf.star --coord_list AutoPick/job006/autopick.star "
    "--part_star Extract/job007/particles.star --part_dir Extract/job007/ --extract --extract_size 256 --float16 "
    "--scale 64 --norm --bg_radius 25 --white_dust -1 --black_dust -1 --invert_contrast --minimum_pick_fom 0 "
    "--recenter --recenter_x 0 --recenter_y 0 --recenter_z 0 --only_do_unfinished --pipeline_control Extract/job007/",
    "preprocess": "--operate_on stack.spi --operate_out out --set_angpix 1.77 --window 64 --norm --bg_radius 24 "
    "--no_ramp",
    "map": "--i emd.mrc --o ref.mrc --angpix 4.1 --rescale_angpix 3.85 --force_header_angpix 3.85 --new_box 200 "
    "--lowpass 25 --filter_edge_width 5 --flipX --multiply_constant -1 --sym D2",
    "mask": "--i run_class001.mrc --o mask.mrc --lowpass 15 --ini_threshold 0.05 --extend_inimask 2 "
    "--width_soft_edge 5 --j 1",
    "postprocess": "--i run_half1_class001_unfil.mrc --mask mask.mrc --mtf mtf_k2_200kV.star --mtf_angpix 0.885 "
    "--auto_bfac --autob_lowres 10 --o postprocess",
}
# What must come of them, by our own names: RELION's values, not our defaults.
_EXPECTED = {
    "refine3d": ["--initial-low-pass 50.0", "--particle-diameter 200.0", "--symmetry D2"],
    "class2d": ["--classes 20", "--iterations 10", "--particle-diameter 200.0"],
    "class3d": ["--skip-align", "--sigma-ang 1.667", "--strict-highres 12.0", "--healpix-order 4", "--firstiter-cc"],
    "initial-model": ["--iterations 100", "--padding 1", "--healpix-order 1", "--offset-range 6.0"],
    "ctf": [
        "--defocus-max 40000.0",
        "--tolerated-astigmatism 100.0",
        "--detector-pixel 1.5",
        "--use-no-dw",
        "--is-ctffind4",
        "--phase-min 10.0",
        "--spherical-aberration 2.7",
        "--only-do-unfinished",
    ],
    "extract": ["--box-size 256", "--scale 64", "--normalise", "--background-radius 25.0", "--float16", "--recenter"],
    "preprocess": ["--pixel-size 1.77", "--window 64", "--no-ramp"],
    "map": ["--pixel-size 4.1", "--rescale-angpix 3.85", "--new-box 200", "--flip-x", "--symmetry D2"],
    "mask": ["--threshold 0.05", "--extend 2.0", "--soft-edge 5.0", "--lowpass 15.0"],
    "postprocess": ["--mtf-pixel-size 0.885", "--auto-bfactor", "--mask mask.mrc"],
}


@pytest.mark.parametrize("job", list(_COMMANDS))
def test_a_relion_command_line_is_understood(job: str, vitrea: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert vitrea(job, *shlex.split(_COMMANDS[job]), "--print-command") == 0
    printed = capsys.readouterr().out
    for option in _EXPECTED[job]:
        assert option in printed
