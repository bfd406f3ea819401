"""Orders by formula: every scene once, and an entry costs the same however many scenes there are."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from lvsm_pytorch.data.order import Complement, Permutation, ShuffledFiles, mix, shuffled


@pytest.mark.parametrize('length', [0, 1, 2, 3, 5, 16, 17, 100, 1001])
def test_a_permutation_has_every_number_once(length):
    for seed in range(4):
        assert sorted(Permutation(length, seed)) == list(range(length))


def test_permutations_of_seeds_are_spread_evenly():
    count = Counter(tuple(Permutation(4, mix(seed))) for seed in range(4800))
    assert len(count) == 24
    assert all(120 < each < 290 for each in count.values())    # 200, and six standard deviations about it
    firsts = Counter(Permutation(1000, mix(seed))[17] // 100 for seed in range(4000))
    assert all(280 < firsts[tenth] < 520 for tenth in range(10))


def test_neighbours_are_not_near_each_other():
    order = list(Permutation(10_000, 3))
    steps = [abs(after - before) for before, after in pairwise(order)]
    assert sum(steps) / len(steps) == pytest.approx(3333, rel = 0.05)


def test_a_billion_scenes_take_no_memory_and_no_time():
    order = shuffled(range(10 ** 9), 10 ** 9, seed = 0, epoch = 3)
    assert len({order[position] for position in range(0, 10 ** 9, 10 ** 7)}) == 100
    assert order[-1] == order[10 ** 9 - 1]
    with pytest.raises(IndexError):
        order[10 ** 9]


def test_what_is_left_out_is_missing():
    kept = Complement(20, range(0, 20, 8))
    assert list(kept) == [number for number in range(20) if number not in (0, 8, 16)]
    assert kept[2:4] == [3, 4]
    assert list(Complement(3, [])) == [0, 1, 2]


@pytest.mark.parametrize('starts, length', [([0, 3, 10, 11], 20), ([0], 5), (range(0, 64, 4), 64), (range(0, 66, 4), 66)])
@pytest.mark.parametrize('lanes', [1, 2, 3, 8])
def test_scenes_of_files_come_once_each(starts, length, lanes):
    assert sorted(ShuffledFiles(starts, length, 5, lanes)) == list(range(length))


def test_a_process_of_as_many_as_there_are_lanes_reads_a_file_to_its_end():
    """And a batch of as many samples has a scene of each of as many files."""
    order = list(ShuffledFiles(range(0, 800, 50), 800, seed = 1, lanes = 8))
    assert all(len({scene // 50 for scene in order[start:start + 8]}) == 8 for start in range(0, 800, 8))
    for rank in range(8):
        files = [scene // 50 for scene in order[rank::8]]
        assert sum(before != after for before, after in pairwise(files)) == 1
    assert order[::8][:50] != sorted(order[::8][:50])


def test_epochs_and_seeds_have_orders_of_their_own():
    for starts in (range(24), range(0, 24, 4)):
        orders = {tuple(shuffled(starts, 24, seed = seed, epoch = epoch)) for seed in (0, 1, -1, 2 ** 40) for epoch in range(3)}
        assert len(orders) == 12
        assert list(shuffled(starts, 24, seed = 1, epoch = 2)) == list(shuffled(starts, 24, seed = 1, epoch = 2))
