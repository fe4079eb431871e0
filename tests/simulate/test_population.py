from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from vitrea.simulate.population import CLASS_LABEL, JUNK_NAMES, KIND_LABEL, Population, draw_population

MIXTURE = Population((3.0, 1.0), 0.2, ("noise", "contaminant"))


def test_shares_are_those_asked_for_in_the_whole_and_in_every_micrograph() -> None:
    drawn = draw_population(MIXTURE, 5000, seed=1)
    kinds, classes = drawn[KIND_LABEL], drawn[CLASS_LABEL]
    for part, slack in ((slice(None), 0.002), (slice(1000, 1250), 0.02), (slice(4000, 4250), 0.02)):
        assert (classes[part] == 1).mean() == pytest.approx(0.6, abs=slack)
        assert (classes[part] == 2).mean() == pytest.approx(0.2, abs=slack)
        assert (kinds[part] == "noise").mean() == pytest.approx(0.1, abs=slack)
    counts = Counter(kinds)
    for name in JUNK_NAMES["contaminant"]:
        assert counts[name] == pytest.approx(100, abs=5)
    assert ((classes == 0) == (kinds != "particle")).all()


def test_an_image_does_not_depend_on_the_size_of_the_set_but_on_the_seed() -> None:
    few, many, other = (draw_population(MIXTURE, number, seed) for number, seed in ((50, 1), (500, 1), (500, 2)))
    for label in (KIND_LABEL, CLASS_LABEL):
        assert np.array_equal(few[label], many[label][:50])
        assert not np.array_equal(many[label], other[label])


def test_all_junk_and_no_junk() -> None:
    assert set(draw_population(Population((1.0,), 1.0, ("pair", "picked_noise")), 100, 3)[KIND_LABEL]) == {
        "pair",
        "picked_noise",
    }
    clean = draw_population(Population((1.0, 1.0)), 100, 3)
    assert set(clean[KIND_LABEL]) == {"particle"}
    assert Counter(clean[CLASS_LABEL].tolist())[1] == pytest.approx(50, abs=1)
