"""Frames to films: MP4 by PyAV, GIF by Pillow. Frames are read one after the other, so that a film may be as long as it likes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lvsm_pytorch.data.images import image_library
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_whole

# of x264: 18 can hardly be told from the frames

QUALITY = '18'


def write_video(frames: Sequence[Path], path: Path, fps: float) -> None:
    """Image files of one size as .mp4 or .gif, whole or not at all. Errors: ValueError for another ending, ImportError without PyAV."""
    writers = {'.mp4': write_mp4, '.gif': write_gif}

    if path.suffix not in writers or not frames:
        fail('video', f'must be frames in a file that ends with one of {list(writers)}', f'{len(frames)} in {path}', 'Frames themselves are PNG files.')

    write_whole(path, lambda temporary: writers[path.suffix](frames, temporary, fps))


def write_mp4(frames: Sequence[Path], path: Path, fps: float) -> None:
    try:
        import av
    except ImportError as error:
        raise ImportError('MP4 needs PyAV: pip install "lvsm-pytorch[train]", or take --video gif') from error

    from fractions import Fraction

    with av.open(str(path), 'w', format = 'mp4') as container:
        stream = container.add_stream('libx264', rate = Fraction(fps).limit_denominator(1001), options = dict(crf = QUALITY))
        first = next(pictures(frames))
        stream.width, stream.height = (length + length % 2 for length in first.size)  # H.264 halves colours: of odd sizes the last row or column comes twice
        stream.pix_fmt = 'yuv420p'

        for picture in pictures(frames):
            even = picture.resize((stream.width, stream.height))
            even.paste(picture)
            container.mux(stream.encode(av.VideoFrame.from_image(even)))

        container.mux(stream.encode())


def write_gif(frames: Sequence[Path], path: Path, fps: float) -> None:
    first, *_ = pictures(frames[:1])
    first.save(path, save_all = True, append_images = pictures(frames[1:]), duration = round(1000 / fps), loop = 0)


def pictures(frames: Sequence[Path]) -> Iterator:
    for frame in frames:
        with image_library().open(frame) as picture:
            yield picture.convert('RGB')
