"""From one set of input photos to the next."""

from __future__ import annotations

from typing import NamedTuple

from lvsm_pytorch.inference.pipeline import EncodedPhotos


class InputSet(NamedTuple):
    """Input photos, and how they are encoded.

    Attributes:
        inputs: Their numbers.
        input_attends_target: As of `encode_photos`.
    """
    inputs: tuple[int, ...]
    input_attends_target: bool


class WeightedSets(NamedTuple):
    """A part of a view.

    Attributes:
        key: The photos.
        encoded: They, encoded.
        weight: Their share of the view; those of all parts add up to 1.
    """
    key: InputSet
    encoded: EncodedPhotos
    weight: float


class InputFade:
    """Which photos a visitor's view is rendered from, as the camera moves on: a set is faded out while the next one, once it is encoded, is faded in.

    One at a time: what is wanted meanwhile comes after it, so that no view is a mean of more than two.
    """

    SECONDS = 0.4
    LARGEST_STEP = 0.34    # however slow the views are, there are some between two sets

    def __init__(self) -> None:
        self.current: tuple[InputSet, EncodedPhotos] | None = None
        self.following: tuple[InputSet, EncodedPhotos] | None = None
        self.share = 0.    # of the following
        self.time = 0.

    @property
    def is_fading(self) -> bool:
        return self.following is not None

    def step(self, key: InputSet, encoded: EncodedPhotos | None, time: float) -> list[WeightedSets]:
        """What the next view is rendered from; nothing where no photos are encoded yet.

        Args:
            key: The photos that are wanted now.
            encoded: They, encoded, if they are.
            time: Now, in seconds.
        """
        step, self.time = min((time - self.time) / self.SECONDS, self.LARGEST_STEP), time

        if encoded is not None and self.current is None:
            self.current = key, encoded

        if self.current is None:
            return []

        if self.following is not None:
            self.share += step

            if self.share >= 1:
                self.current, self.following = self.following, None

        # also where another fade has just ended: nobody may ask again

        if encoded is not None and self.following is None and key != self.current[0]:
            self.following, self.share = (key, encoded), step

        parts = [(self.current, 1.)] if self.following is None else [(self.current, 1 - self.share), (self.following, self.share)]
        return [WeightedSets(*each, weight) for each, weight in parts]
