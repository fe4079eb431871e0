from __future__ import annotations

import numpy as np
import pytest

from vitrea.simulate.scoring import area_under_roc, score_assignment, score_selection


def test_selection_counts_by_kind() -> None:
    kinds = np.array(["particle"] * 4 + ["ice", "pair", "pair", "noise"], dtype=object)
    kept = np.array([1, 1, 1, 0, 0, 1, 0, 0], dtype=bool)
    score = score_selection(kinds, kept)
    assert score.real_kept == 0.75
    assert score.junk_dropped == 0.75
    assert score.kinds == {"particle": (4, 3), "ice": (1, 0), "pair": (2, 1), "noise": (1, 0)}
    assert np.isnan(score_selection(kinds[:4], kept[:4]).junk_dropped)


def test_classes_are_matched_one_to_one_whatever_their_numbers() -> None:
    molecules = np.repeat([1, 2, 3], [50, 30, 20])
    classes = np.repeat([7, 5, 9], [50, 30, 20])
    classes[:5] = 9
    score = score_assignment(molecules, classes)
    assert score.matches == {7: 1, 5: 2, 9: 3}
    assert score.accuracy == score.purity == 0.95
    assert score.counts.tolist() == [[0, 45, 5], [30, 0, 0], [0, 0, 20]]


def test_matching_is_best_for_all_not_greedy() -> None:
    """Class 1 holds most of both molecules; giving it to the first, which fills it most, would be worse."""
    molecules = np.repeat([1, 1, 2], [10, 9, 9])
    classes = np.repeat([1, 2, 1], [10, 9, 9])
    score = score_assignment(molecules, classes)
    assert score.matches == {1: 2, 2: 1}
    assert score.accuracy == pytest.approx(18 / 28)


def test_split_molecules_cost_accuracy_but_not_purity() -> None:
    score = score_assignment(np.repeat([1, 2], 10), np.repeat([1, 2, 3, 4], 5))
    assert score.accuracy == 0.5
    assert score.purity == 1.0
    assert score_assignment(np.repeat([1, 2], 10), np.ones(20, dtype=np.int64)).purity == 0.5
    with pytest.raises(ValueError, match="no particles"):
        score_assignment(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def test_area_under_roc_counts_pairs() -> None:
    rng = np.random.default_rng(1)
    scores, junk = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    bad, good = scores[junk][:, None], scores[~junk][None, :]
    assert area_under_roc(scores, junk) == pytest.approx(((bad > good) + 0.5 * (bad == good)).mean())
    assert area_under_roc(np.arange(4.0), np.array([False, False, True, True])) == 1
    assert np.isnan(area_under_roc(scores, np.zeros(40, dtype=bool)))
