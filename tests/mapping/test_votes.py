from __future__ import annotations

import numpy as np

from m2h_runtime.mapping.votes import KEPT, NO_LABEL, vote, winners


def counted(*votes: int) -> int:
    labels, counts = np.full((1, KEPT), NO_LABEL, np.uint8), np.zeros((1, KEPT), np.uint16)
    for label in votes:
        vote(labels, counts, np.array([0]), np.array([label], np.uint8))
    return int(winners(labels, counts)[0])


def test_nobody_voted() -> None:
    assert counted() == NO_LABEL


def test_one_look_names_nothing() -> None:
    assert counted(4) == NO_LABEL
    assert counted(4, 9) == NO_LABEL
    assert counted(4, 4) == 4


def test_the_most_frequent_label_wins() -> None:
    assert counted(4, 9, 9, 4, 9) == 9


def test_a_label_with_most_votes_wins_against_more_labels_than_are_kept() -> None:
    rng = np.random.default_rng(0)
    votes = [12] * 60 + rng.integers(20, 40, 50).tolist()
    rng.shuffle(votes)
    assert counted(*votes) == 12


def test_voxels_vote_apart_from_each_other() -> None:
    labels, counts = np.full((5, KEPT), NO_LABEL, np.uint8), np.zeros((5, KEPT), np.uint16)
    for _ in range(2):
        vote(labels, counts, np.array([4, 1]), np.array([8, 3], np.uint8))
    assert winners(labels, counts).tolist() == [NO_LABEL, 3, NO_LABEL, NO_LABEL, 8]
