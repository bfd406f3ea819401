"""Encoding of frames as MP4 or GIF with PyAV. Frames are read one at a time, so that memory does not grow with the length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

from lvsm_pytorch.data.images import image_library, video_library
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import write_whole

# CRF of x264; 18 is visually lossless

QUALITY = '18'

# dithering of GIFs: an ordered pattern, which does not flicker between frames

DITHERING = 'dither=bayer:bayer_scale=3'


def write_video(frames: Sequence[Path], path: Path, fps: float) -> None:
    """Writes image files of one size as an .mp4 or .gif file, atomically.

    Raises:
        ValueError: If the suffix is another, or there are no frames.
        ImportError: Without PyAV.
    """
    writers = {'.mp4': write_mp4, '.gif': write_gif}

    if path.suffix not in writers or not frames:
        fail('video', f'must be frames in a file that ends with one of {list(writers)}', f'{len(frames)} in {path}', 'Frames themselves are PNG files.')

    write_whole(path, lambda temporary: writers[path.suffix](frames, temporary, Fraction(fps).limit_denominator(1001)))


def write_mp4(frames: Sequence[Path], path: Path, rate: Fraction) -> None:
    av = video_library()

    with av.open(str(path), 'w', format = 'mp4') as container:
        stream = container.add_stream('libx264', rate = rate, options = dict(crf = QUALITY))
        first = next(pictures(frames))
        stream.width, stream.height = (length + length % 2 for length in first.size)  # H.264 subsamples chroma: odd sizes are padded by repeating the last row or column
        stream.pix_fmt = 'yuv420p'

        for picture in pictures(frames):
            even = picture.resize((stream.width, stream.height))
            even.paste(picture)
            container.mux(stream.encode(av.VideoFrame.from_image(even)))

        container.mux(stream.encode())


def write_gif(frames: Sequence[Path], path: Path, rate: Fraction) -> None:
    """Writes a GIF with ffmpeg's filters palettegen and paletteuse. Frames are read twice instead of kept in memory."""
    av = video_library()
    width, height = next(pictures(frames)).size
    time_base = f'time_base={rate.denominator}/{rate.numerator}'
    like_frames = f'video_size={width}x{height}:pix_fmt=rgb24:{time_base}'

    finding = av.filter.Graph()
    finding.link_nodes(finding.add('buffer', like_frames), finding.add('palettegen'), finding.add('buffersink')).configure()

    for picture in pictures(frames):
        finding.push(av.VideoFrame.from_image(picture))

    finding.push(None)
    palette = finding.pull()

    graph = av.filter.Graph()
    of_frames, of_palette = graph.add('buffer', like_frames), graph.add('buffer', f'video_size=16x16:pix_fmt={palette.format.name}:{time_base}')
    in_palette, shown = graph.add('paletteuse', DITHERING), graph.add('buffersink')
    of_frames.link_to(in_palette, 0, 0)
    of_palette.link_to(in_palette, 0, 1)
    in_palette.link_to(shown)
    graph.configure()
    of_palette.push(palette)
    of_palette.push(None)

    with av.open(str(path), 'w', format = 'gif') as container:
        stream = container.add_stream('gif', rate = rate)
        stream.width, stream.height, stream.pix_fmt = width, height, 'pal8'

        def write_rendered() -> None:
            with suppress(BlockingIOError, EOFError):  # raised when the next frame is needed, and at the end
                while True:
                    container.mux(stream.encode(graph.pull()))

        for number, picture in enumerate(pictures(frames)):
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, 1 / rate
            of_frames.push(frame)
            write_rendered()

        of_frames.push(None)
        write_rendered()
        container.mux(stream.encode())


def pictures(frames: Sequence[Path]) -> Iterator[Any]:
    for frame in frames:
        with image_library().open(frame) as picture:
            yield picture.convert('RGB')
