"""Orders of scenes by formula: whatever their number, an entry costs the same, and nothing is stored for each scene."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import isqrt
from typing import overload

from lvsm_pytorch.data.recent import Recent

# how many files are read in turns: neighbours in the order are of different files, and a file is read to its end before the next one is opened in its place

LANES = 8

ROUNDS = 6
BITS = 2 ** 64 - 1


def mix(number: int) -> int:
    """64 bits of 64 bits, each of which changes about half of them (splitmix64, Steele et al. 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & BITS
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & BITS
    return number ^ (number >> 31)


class Numbers(Sequence[int]):
    """A sequence of integers of which none is stored: slices are lists."""

    @abstractmethod
    def at(self, position: int) -> int:
        """The entry at a position that is in range."""

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self.at(position) for position in range(len(self))[index]]

        return self.at(range(len(self))[index])


class Permutation(Numbers):
    """The integers below `length`, shuffled by a seed.

    A Feistel network on pairs of an a × b grid that is just large enough, whose results out of range are walked on from (Black & Rogaway 2002).
    """

    def __init__(self, length: int, seed: int):
        self.length = length
        self.rows = isqrt(max(length - 1, 0)) + 1
        self.columns = -(-length // self.rows)
        self.keys = [mix(seed + number) for number in range(ROUNDS)]

    def __len__(self) -> int:
        return self.length

    def at(self, position: int) -> int:
        while True:
            row, column = divmod(position, self.columns)

            for key in self.keys:
                row = (row + mix(key ^ column)) % self.rows
                column = (column + mix(key ^ row ^ BITS)) % self.columns

            position = row * self.columns + column

            if position < self.length:
                return position


class Complement(Numbers):
    """The integers below `length` without some of them, ascending."""

    def __init__(self, length: int, left_out: Sequence[int]):
        self.length = length - len(left_out)
        self.shifted = [number - index for index, number in enumerate(sorted(left_out))]

    def __len__(self) -> int:
        return self.length

    def at(self, position: int) -> int:
        return position + bisect_right(self.shifted, position)


class ShuffledFiles(Numbers):
    """The scenes of files of several each, shuffled: files, and the scenes of each.

    The shuffled files are divided into lanes, and entries are taken from the lanes in turns. So neighbours are of different files, few files are read at a
    time, each to its end, and of several processes that share a batch evenly, each reads its own lanes.

    Args:
        starts: Number of the first scene of each file, ascending from 0.
        length: Of all scenes.
        lanes: Files that are read in turns.
    """

    def __init__(self, starts: Sequence[int], length: int, seed: int, lanes: int = LANES):
        self.starts = starts
        self.length = length
        self.seed = seed
        self.lanes = max(min(lanes, len(starts)), 1)
        self.files = list(Permutation(len(starts), seed))
        self.ends = list(accumulate(self.count(file) for file in self.files))
        self.shuffled = Recent(Permutation, 2 * lanes)

    def __len__(self) -> int:
        return self.length

    def count(self, file: int) -> int:
        return (self.starts[file + 1] if file + 1 < len(self.starts) else self.length) - self.starts[file]

    def at(self, position: int) -> int:
        # the lanes as rows of a table that is read by columns, whose last one may be short

        step, lane = divmod(position, self.lanes)
        whole, longer = divmod(self.length, self.lanes)
        place = lane * whole + min(lane, longer) + step

        rank = bisect_right(self.ends, place)
        file = self.files[rank]
        within = self.shuffled(self.count(file), mix(self.seed ^ mix(file)))
        return self.starts[file] + within[place - (self.ends[rank - 1] if rank else 0)]


def shuffled(starts: Sequence[int], length: int, *, seed: int, epoch: int, lanes: int = LANES) -> Sequence[int]:
    """Every scene once, in an order that seed and epoch alone decide.

    Args:
        starts: Number of the first scene of each file, ascending from 0; a range where each scene has its own.
        length: Of all scenes.
        lanes: Files that are read in turns.
    """
    of_epoch = mix(mix(seed & BITS) ^ epoch)
    return Permutation(length, of_epoch) if len(starts) == length else ShuffledFiles(starts, length, of_epoch, lanes)
