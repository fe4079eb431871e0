"""Choices of a refinement that exclude each other."""

from __future__ import annotations

import pytest

from vitrea.cli.main import main
from vitrea.jobs.refinement_parameters import Refine3dParameters
from vitrea.records.errors import InputError


def test_an_absolute_greyscale_excludes_cross_correlation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["refine3d", "--i", "p.star", "--o", "run", "--absolute_greyscale", "--firstiter_cc"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("vitrea refine3d: --absolute_greyscale and --firstiter_cc contradict each other")
    assert told.count("\n") == 1
    with pytest.raises(InputError, match="contradict"):  # as --continue meets it, in stored parameters
        Refine3dParameters.model_validate({"firstiter_cc": True, "absolute_greyscale": "true"})


@pytest.mark.parametrize("given", [{"firstiter_cc": True}, {"absolute_greyscale": True, "firstiter_cc": False}, {}])
def test_either_of_them_alone_is_a_choice(given: dict[str, bool]) -> None:
    parameters = Refine3dParameters.model_validate(given)
    assert parameters.model_dump(include=set(given)) == given
