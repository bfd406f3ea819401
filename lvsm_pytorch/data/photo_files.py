"""Loose photos and videos of phones: finding the files, EXIF orientation, and the lens from EXIF."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from lvsm_pytorch.data.images import image_library, opened, to_rgb
from lvsm_pytorch.data.problems import BadView
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_whole
from lvsm_pytorch.text import counted

PHOTOS = frozenset(('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.tif', '.tiff', '.bmp', '.avif', '.heic', '.heif'))
HEIF = frozenset(('.heic', '.heif'))
VIDEOS = frozenset(('.mp4', '.mov', '.m4v', '.avi', '.mkv', '.webm', '.3gp', '.mts', '.m2ts', '.mpg', '.mpeg'))

# EXIF tags

ORIENTATION, MAKE, MODEL, EXIF_IFD = 0x0112, 0x010F, 0x0110, 0x8769
FOCAL_LENGTH, FOCAL_LENGTH_35MM, PIXEL_WIDTH, PIXEL_HEIGHT = 0x920A, 0xA405, 0xA002, 0xA003

# diagonal of 36 × 24 mm; equivalent focal lengths compare diagonals (CIPA DCG-001)

DIAGONAL_35MM = math.hypot(36, 24)

# JPEG quality of photos that are re-encoded: visually lossless

JPEG_QUALITY = 95


class Lens(NamedTuple):
    """The lens of a photo, from EXIF.

    Attributes:
        name: The same for photos of one lens; empty without EXIF.
        focal: Focal length as a fraction of the photo's diagonal; None if it is unknown.
    """
    name: str
    focal: float | None


class Prepared(NamedTuple):
    """A photo after rotation to upright and downscaling.

    Attributes:
        size: (height, width) in pixels.
        focal: Focal length in pixels of that size; None if EXIF has none.
    """
    size: tuple[int, int]
    lens: str
    focal: float | None


def list_photos(folder: Path) -> list[Path]:
    """Photos in a folder, sorted by name; without any, those in its subfolders. Hidden files and folders are ignored."""
    return direct if (direct := files_with(folder.iterdir(), PHOTOS, folder)) else files_with(folder.rglob('*'), PHOTOS, folder)


def list_videos(folder: Path) -> list[Path]:
    """Videos in a folder, sorted by name."""
    return files_with(folder.iterdir(), VIDEOS, folder)


def files_with(paths: Any, endings: frozenset[str], root: Path) -> list[Path]:
    def is_hidden(path: Path) -> bool:
        return any(part.startswith('.') for part in path.relative_to(root).parts)

    return sorted(path for path in paths if path.suffix.lower() in endings and not is_hidden(path) and path.is_file())


def describe_unposed(path: Path) -> str | None:
    """Description of the loose photos or the video in a folder; None without any."""
    if path.is_file():
        return 'a video' if path.suffix.lower() in VIDEOS else None

    if not path.is_dir():
        return None

    photos = len(list_photos(path))

    if photos:
        return counted(photos, 'photo')

    return 'a video' if list_videos(path) else None


def posed_folder(path: Path) -> Path:
    """Default output folder for the poses of a folder of photos or a video, beside it."""
    path = path if path.name else path.resolve()
    return path.with_name(f'{path.stem if path.is_file() else path.name}-posed')


def open_upright(path: Path, max_size: int) -> tuple[Any, Lens]:
    """Opens a photo as a Pillow RGB image, rotated by its EXIF orientation, with transparency composited on white. Also returns its lens.

    A JPEG much larger than `max_size` is decoded at a fraction of its size, but no less than twice `max_size`.

    Raises:
        BadView: If it can't be read, or has more than 8 bits per channel.
    """
    if path.suffix.lower() in HEIF:
        register_heif()

    try:
        with without_warnings(), opened(path) as file:
            lens = read_lens(file)

            if file.mode == 'RGB':
                file.draft('RGB', (2 * max_size, 2 * max_size))

            return transposed(to_rgb(file, str(path)), file), lens
    except BadView:
        raise
    except Exception as error:  # Pillow's plugins raise many types of errors for broken files
        raise BadView(f'image: must be a readable image file, but got {path}: {type(error).__name__}: {error}. Replace it, or take it out.') from error


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silences warnings of Pillow about broken EXIF, which is optional, and about large photos."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def register_heif() -> None:
    """Registers the HEIF plugin of Pillow.

    Raises:
        BadView: Without pillow-heif.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise BadView('image: HEIC photos need pillow-heif: pip install "lvsm-pytorch[colmap]", or convert them to JPEG') from error

    register_heif_opener()


def orientation_of(file: Any) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 without valid EXIF."""
    with suppress(Exception):  # Pillow raises many types of errors for broken EXIF, also in valid photos
        value = file.getexif().get(ORIENTATION, 1)
        return value if value in range(1, 9) else 1

    return 1


def transposed(image: Any, file: Any) -> Any:
    """Rotates `image`, the pixels of `file`, to upright."""
    turn = image_library().Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM, 5: turn.TRANSPOSE, 6: turn.ROTATE_270, 7: turn.TRANSVERSE, 8: turn.ROTATE_90,
    }
    orientation = orientation_of(file)
    return image.transpose(turns[orientation]) if orientation in turns else image


def read_lens(file: Any) -> Lens:
    """Reads make, model and focal length from EXIF.

    A photo with another aspect ratio than in EXIF is a crop of unknown focal length.
    """
    with suppress(Exception):  # as in `orientation_of`
        exif = file.getexif()
        details = exif.get_ifd(EXIF_IFD)
        equivalent, length = (float(details.get(tag) or 0) for tag in (FOCAL_LENGTH_35MM, FOCAL_LENGTH))
        words = (str(exif.get(tag) or '').strip('\0 ') for tag in (MAKE, MODEL))
        name = ' '.join(filter(None, (*words, f'{length:g} mm' if length > 0 else '', f'{equivalent:g} mm equivalent' if equivalent > 0 else '')))
        stored = [float(details.get(tag) or 0) for tag in (PIXEL_WIDTH, PIXEL_HEIGHT)]
        is_whole = min(stored) <= 0 or abs(max(stored) / min(stored) / (max(file.size) / min(file.size)) - 1) < 0.02
        focal = equivalent / DIAGONAL_35MM
        return Lens(name, focal if is_whole and 0.1 < focal < 20 else None)

    return Lens('', None)


def prepare_photo(path: Path, out: Path, max_size: int) -> Prepared:
    """Writes a photo upright, as a JPEG whose longer side is at most `max_size` pixels, atomically.

    A file that already is such a JPEG is copied.

    Raises:
        BadView: As `open_upright`.
        OSError: If it can't be written.
    """
    image, lens = open_upright(path, max_size)
    factor = min(max_size / max(image.size), 1.)

    if min(image.size) * factor < 32:
        fail('image', 'must be at least 32 pixels high and wide', f'{path} of {image.width} × {image.height}', 'Use larger photos.', BadView)

    with without_warnings(), opened(path) as file:
        is_fit = factor == 1 and file.format == 'JPEG' and file.mode == 'RGB' and orientation_of(file) == 1

    if is_fit:
        write_whole(out, lambda temporary: shutil.copyfile(path, temporary))
    else:
        image = image if factor == 1 else image.resize([round(length * factor) for length in image.size], image_library().Resampling.LANCZOS)
        save_jpeg(image, out)

    focal = None if lens.focal is None else lens.focal * math.hypot(*image.size)
    return Prepared((image.height, image.width), lens.name, focal)


def save_jpeg(image: Any, path: Path) -> None:
    """Writes a Pillow image as JPEG, without its EXIF."""
    write_whole(path, lambda temporary: image.save(temporary, format = 'JPEG', quality = JPEG_QUALITY, subsampling = 0))
