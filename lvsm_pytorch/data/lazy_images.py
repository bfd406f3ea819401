"""Images that are decoded on demand, at a reduced size: a model of 256² pixels needs about half a megapixel of a 12 megapixel photo."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lvsm_pytorch.data.images import image_size, load_image, load_reduced, resized_by_torch
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.geometry.cameras import scale_intrinsics


class LazyImage(ABC):
    """Base class of images for `View.load`: a call decodes the image (3 h w) in [0, 1]. It can also be decoded at a reduced size."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) of the full image."""

    @abstractmethod
    def __call__(self) -> Tensor:
        """Decodes the full image.

        Raises:
            BadView: If the image is unreadable.
        """

    @abstractmethod
    def reduced(self, intrinsics: Tensor, at_least: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Decodes a reduced image, with its intrinsics.

        Args:
            intrinsics: (3 3), in pixels of the full image.
            at_least: Required (height, width). The result is at least twice as large, if the image is.

        Returns:
            The image (3 h w), uint8 if it is as decoded or else in [0, 1], and its intrinsics (3 3).
        """


@dataclass(frozen = True)
class ImageFile(LazyImage):
    """An image file.

    Args:
        source: Path, or for some subclasses the bytes in a tensor.
        expected: (height, width) to which the intrinsics refer. A file of another size and the same aspect ratio is resized to it. None: the size of the file.
        where: Name in errors.
    """
    source: Any
    expected: tuple[int, int] | None = None
    where: str = ''

    def content(self) -> Path | bytes:
        assert isinstance(self.source, Path)
        return self.source

    def original(self) -> bytes | None:
        """Returns the bytes of the file; None if loading also transforms the image.

        Raises:
            BadView: If it can't be read.
        """
        if type(self).__call__ is not ImageFile.__call__:
            return None

        content = self.content()

        try:
            return content if isinstance(content, bytes) else content.read_bytes()
        except OSError as error:
            raise BadView(f'image: must be a readable image file, but got {content}: {error}. Replace it, or take it out of the scene.') from error

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
    """Returns the intrinsics (3 3) of an image downscaled by `factor`."""
    return intrinsics * intrinsics.new_tensor([[1 / factor], [1 / factor], [1.]])


class StoredSizes:
    """Cache of image sizes. Files of one folder and one `kind` are assumed to have the same size; loading a file checks this."""

    def __init__(self) -> None:
        self.known: dict[tuple[Path, object], tuple[int, int]] = {}

    def of(self, path: Path, kind: object) -> tuple[int, int]:
        """Returns the (height, width) of an image file.

        Args:
            path: Path of the file.
            kind: Value that files of one size share, for example the size before downscaling. With None the file is opened.

        Raises:
            BadView: If the file is unreadable.
        """
        if kind is None:
            return image_size(path)

        key = path.parent, kind

        if key not in self.known:
            self.known[key] = image_size(path)

        return self.known[key]


def as_lazy(load: object) -> LazyImage | None:
    return load if isinstance(load, LazyImage) else None


