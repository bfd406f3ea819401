"""Cross-fades between sets of input photos."""

from __future__ import annotations

from typing import NamedTuple

from lvsm_pytorch.inference.pipeline import EncodedPhotos


class InputSet(NamedTuple):
    """A set of input photos, and the mode that they are encoded in.

    Attributes:
        inputs: Numbers of the photos.
        input_attends_target: As of `encode_photos`.
    """
    inputs: tuple[int, ...]
    input_attends_target: bool


class WeightedSets(NamedTuple):
    """One of the sets that a view is rendered from.

    Attributes:
        key: The photos.
        encoded: The encoded photos.
        weight: Weight of this set in the view. The weights of a view add up to 1.
    """
    key: InputSet
    encoded: EncodedPhotos
    weight: float


class InputFade:
    """Selects the input sets of a view while the camera moves. Once the next set is encoded, the current one is faded out and the next one is faded in.

    One fade runs at a time, so a view is a mean of at most two sets.
    """

    SECONDS = 0.4
    MAX_STEP = 0.34    # of the weight, so that a fade has some steps however slow the views are

    def __init__(self) -> None:
        self.current: tuple[InputSet, EncodedPhotos] | None = None
        self.following: tuple[InputSet, EncodedPhotos] | None = None
        self.share = 0.    # of the following
        self.time = 0.

    @property
    def is_fading(self) -> bool:
        return self.following is not None

    def step(self, key: InputSet, encoded: EncodedPhotos | None, time: float) -> list[WeightedSets]:
        """The input sets of the next view. Empty while no photos are encoded.

        Args:
            key: The input set for the present camera.
            encoded: Its encoded photos; None while they are being encoded.
            time: Present time in seconds.
        """
        step, self.time = min((time - self.time) / self.SECONDS, self.MAX_STEP), time

        if encoded is not None and self.current is None:
            self.current = key, encoded

        if self.current is None:
            return []

        if self.following is not None:
            self.share += step

            if self.share >= 1:
                self.current, self.following = self.following, None

        # also when another fade has just ended, since the camera may rest and no further step may follow

        if encoded is not None and self.following is None and key != self.current[0]:
            self.following, self.share = (key, encoded), step

        parts = [(self.current, 1.)] if self.following is None else [(self.current, 1 - self.share), (self.following, self.share)]
        return [WeightedSets(*each, weight) for each, weight in parts]
