"""Images that are decoded when they are needed, and no larger than they are needed: of 12 megapixels, a model of 256² takes half of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lvsm_pytorch.data.images import image_size, load_image, load_reduced, resized_by_torch
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import scale_intrinsics


class LazyImage(ABC):
    """An image (3 h w) in [0, 1], decoded by calling it: what `View.load` is, where the image can also be had at a fraction of its size."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of what calling it gives."""

    @abstractmethod
    def __call__(self) -> Tensor:
        """The whole image.

        Raises:
            BadView: For one that can't be read.
        """

    @abstractmethod
    def reduced(self, intrinsics: Tensor, at_least: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """A smaller copy with its intrinsics.

        Args:
            intrinsics: (3 3), in pixels of the whole image.
            at_least: (height, width) that the copy is larger than, by twice or more where the image is.

        Returns:
            The image (3 h w) and its intrinsics (3 3).
        """


@dataclass(frozen = True)
class ImageFile(LazyImage):
    """An image file.

    Args:
        source: Its path; of some formats, its bytes in a tensor, which a subclass takes.
        expected: (height, width) that cameras are of. A file of another size and the same proportions is resized to it. None: as the file has it.
        where: For messages.
    """
    source: Path | Tensor
    expected: tuple[int, int] | None = None
    where: str = ''

    def content(self) -> Path | bytes:
        assert isinstance(self.source, Path)
        return self.source

    def named_content(self) -> tuple[Path | bytes, str]:
        content = self.content()
        return content, '' if isinstance(content, Path) else self.where

    @property
    def size(self) -> tuple[int, int]:
        return image_size(self.content()) if self.expected is None else self.expected

    def __call__(self) -> Tensor:
        image = load_image(*self.named_content())
        size = image.shape[1], image.shape[2]

        if self.expected is None or size == self.expected:
            return image

        self.check_proportions(size)
        return resized_by_torch(image, self.expected)

    def reduced(self, intrinsics: Tensor, at_least: tuple[int, int]) -> tuple[Tensor, Tensor]:
        content, name = self.named_content()
        image, stored, factor = load_reduced(content, at_least, name)

        if self.expected is not None and stored != self.expected:
            self.check_proportions(stored)
            intrinsics = scale_intrinsics(intrinsics, self.expected, stored)

        return image, scaled_down(intrinsics, factor)

    def check_proportions(self, size: tuple[int, int]) -> None:
        assert self.expected is not None
        (height, width), (expected_height, expected_width) = size, self.expected

        if abs(expected_height * width / expected_width - height) > 1.5:
            fail(self.where or str(self.source), f'must have the size of its scene, {expected_width} × {expected_height}', f'{width} × {height}', 'Is it another image, or turned by its EXIF orientation?', BadView)


def scaled_down(intrinsics: Tensor, factor: float) -> Tensor:
    """Intrinsics (3 3) of an image whose pixels are `factor` times as large."""
    return intrinsics * intrinsics.new_tensor([[1 / factor], [1 / factor], [1.]])


class StoredSizes:
    """Sizes of image files, of which few are opened: those of one folder that are said to be of one size are of one, or are found out when they are loaded."""

    def __init__(self) -> None:
        self.known: dict[tuple[Path, object], tuple[int, int]] = {}

    def of(self, path: Path, kind: object) -> tuple[int, int]:
        """(height, width).

        Args:
            path: Of the file.
            kind: What all files of one size have in common, for example the size that they had before they were made smaller. None: nothing is known, and the file is opened.

        Raises:
            BadView: For a file that is opened and is no image.
        """
        if kind is None:
            return image_size(path)

        key = path.parent, kind

        if key not in self.known:
            self.known[key] = image_size(path)

        return self.known[key]


def as_lazy(load: object) -> LazyImage | None:
    return load if isinstance(load, LazyImage) else None


