"""Shuffled orders of scenes in constant memory: entries are computed by a formula, at a cost that does not depend on the number of scenes."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from math import isqrt
from typing import overload

from lvsm_pytorch.data.recent import Recent

# number of files that are read in turns: consecutive scenes come from different files, and each file is read to its end before another replaces it

LANES = 8

ROUNDS = 6
BITS = 2 ** 64 - 1


def mix(number: int) -> int:
    """Hashes a 64-bit integer to 64 bits; each input bit changes about half of them (splitmix64, Steele et al. 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & BITS
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & BITS
    return number ^ (number >> 31)


class Numbers(Sequence[int]):
    """Sequence of integers that are computed on access. Slices are lists."""

    @abstractmethod
    def at(self, position: int) -> int:
        """Returns the entry at a position in range."""

    @overload
    def __getitem__(self, index: int) -> int: ...

    @overload
    def __getitem__(self, index: slice) -> list[int]: ...

    def __getitem__(self, index: int | slice) -> int | list[int]:
        if isinstance(index, slice):
            return [self.at(position) for position in range(len(self))[index]]

        return self.at(range(len(self))[index])


class Permutation(Numbers):
    """Pseudorandom permutation of the integers below `length`.

    It is a Feistel network on the cells of the smallest sufficient a × b grid, with cycle walking for results out of range (Black & Rogaway 2002).
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
    """The integers below `length` except those of `left_out`, ascending."""

    def __init__(self, length: int, left_out: Sequence[int]):
        self.length = length - len(left_out)
        self.shifted = [number - index for index, number in enumerate(sorted(left_out))]

    def __len__(self) -> int:
        return self.length

    def at(self, position: int) -> int:
        return position + bisect_right(self.shifted, position)


class ShuffledFiles(Numbers):
    """Shuffled order of scenes stored in files of several scenes, which shuffles the files, and the scenes within each.

    The shuffled files are divided into lanes, and entries are taken from the lanes in turns. Consecutive scenes thus come from different files, few files are
    read at a time, each to its end, and processes that share a batch evenly read different lanes.

    Args:
        starts: Number of the first scene of each file, ascending from 0.
        length: Number of scenes.
        seed: Seed of the order.
        lanes: Number of files that are read in turns.
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
        # lanes are the rows of a table that is read column by column; the last column may be incomplete

        step, lane = divmod(position, self.lanes)
        whole, longer = divmod(self.length, self.lanes)
        place = lane * whole + min(lane, longer) + step

        rank = bisect_right(self.ends, place)
        file = self.files[rank]
        within = self.shuffled(self.count(file), mix(self.seed ^ mix(file)))
        return self.starts[file] + within[place - (self.ends[rank - 1] if rank else 0)]


def shuffled(starts: Sequence[int], length: int, *, seed: int, epoch: int, lanes: int = LANES) -> Sequence[int]:
    """Returns the numbers of all scenes in an order that depends on seed and epoch only.

    Args:
        starts: Number of the first scene of each file, ascending from 0; a range if each scene has its own file.
        length: Number of scenes.
        seed: Seed of the order.
        epoch: Number of the epoch.
        lanes: Number of files that are read in turns.
    """
    of_epoch = mix(mix(seed & BITS) ^ epoch)
    return Permutation(length, of_epoch) if len(starts) == length else ShuffledFiles(starts, length, of_epoch, lanes)
