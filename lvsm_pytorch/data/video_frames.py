"""Extraction of sharp frames from a video: the sharpest of each of many equal intervals of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lvsm_pytorch.data.images import video_library
from lvsm_pytorch.data.photo_files import save_jpeg
from lvsm_pytorch.errors import fail

# number of candidate frames in the middle of a window; the distance to those of the next window avoids near duplicates

CANDIDATES = 10
MIDDLE = Fraction(2, 3)

# image width in pixels at which sharpness is measured, since downscaling suppresses noise

MEASURED_WIDTH = 640


class Window(NamedTuple):
    """Presentation times of the candidates for a frame, in units of the stream."""
    candidates: tuple[int, ...]


def extract_frames(video: Path, folder: Path, *, num_frames: int, max_size: int, progress: Any = None) -> list[str]:
    """Writes the sharpest frame of each window as an upright JPEG, and returns the file names in order of time.

    Args:
        video: A file that PyAV opens.
        folder: An existing folder; existing frames are kept.
        num_frames: Maximum number of frames; a short video has fewer.
        max_size: Maximum length of the longer side of the JPEGs, in pixels.
        progress: Progress bar such as tqdm, which counts windows.

    Raises:
        ImportError: Without PyAV.
        ValueError: If the file is not a video, or has fewer than two frames that can be decoded.
    """
    av = video_library()

    try:
        times = frame_times(video)
        windows = windows_of(times, num_frames)
        missing = {number: window for number, window in enumerate(windows) if not (folder / frame_name(number)).is_file()}

        if progress is not None:
            progress.reset(len(windows))
            progress.update(len(windows) - len(missing))

        for number, frame in sharpest(decoded(video, missing), missing, progress):
            save_jpeg(shrunk(upright(frame), max_size), folder / frame_name(number))
    except av.FFmpegError as error:
        raise ValueError(f'video: must be a video that can be decoded, but got {video}: {error}. Convert it, for example to MP4.') from error

    names = [frame_name(number) for number in range(len(windows)) if (folder / frame_name(number)).is_file()]

    if len(names) < 2:
        fail('video', 'must have at least two frames that can be decoded', f'{len(names)} of {len(times)} in {video}', 'Record a longer video, or convert it, for example to MP4.')

    return names


def frame_name(number: int) -> str:
    return f'frame-{number:05}.jpg'


def frame_times(video: Path) -> list[int]:
    """Returns the sorted presentation times of the frames, in units of the stream, without decoding.

    Raises:
        ValueError: If there is no video stream.
    """
    with video_library().open(str(video)) as container:
        if not container.streams.video:
            fail('video', 'must have a video stream', f'{video} without one', 'Is it an audio file?')

        return sorted({packet.pts for packet in container.demux(container.streams.video[0]) if packet.pts is not None and packet.size > 0})


def windows_of(times: Sequence[int], num_frames: int) -> list[Window]:
    """Divides a video into at most `num_frames` equal windows of time, which have three frames or more at a constant frame rate. Empty windows are skipped."""
    if not times:
        return []

    count = max(min(num_frames, len(times) // 3), 1)
    first, length = times[0], Fraction(times[-1] - times[0] + 1, count)
    inside: list[list[int]] = [[] for _ in range(count)]

    for time in times:
        inside[int((time - first) // length)].append(time)

    def from_middle(number: int, time: int) -> Fraction:
        return abs((time - first) / length - number - Fraction(1, 2))

    windows = []

    for number, all_of_it in enumerate(inside):
        middle = [time for time in all_of_it if from_middle(number, time) <= MIDDLE / 2]

        if all_of_it:
            windows.append(Window(tuple(spread(middle or [min(all_of_it, key = partial(from_middle, number))], CANDIDATES))))

    return windows


def spread(values: Sequence[int], count: int) -> list[int]:
    """Returns at most `count` of the values, evenly spaced."""
    return [values[round(index * (len(values) - 1) / max(count - 1, 1))] for index in range(count)] if len(values) > count else list(values)


def decoded(video: Path, windows: dict[int, Window]) -> Iterator[Any]:
    """Yields decoded frames from the first to the last candidate of the windows. Broken frames are skipped."""
    av = video_library()

    if not windows:
        return

    first, last = min(windows.values()).candidates[0], max(windows.values()).candidates[-1]

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = 'AUTO'
        container.seek(first, stream = stream)  # seeks to the key frame before it

        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue

            for frame in frames:
                if frame.pts is not None and frame.pts >= first:
                    yield frame

                if frame.pts is not None and frame.pts > last:
                    return


def sharpest(frames: Iterator[Any], windows: dict[int, Window], progress: Any = None) -> Iterator[tuple[int, Any]]:
    """Yields the sharpest candidate of each window, with the number of the window, at its end. One frame is kept in memory."""
    number_of = {time: number for number, window in windows.items() for time in window.candidates}
    best: tuple[float, int, Any] | None = None

    for frame in frames:
        number = number_of.get(frame.pts)

        if number is None:
            continue

        if best is not None and best[1] != number:
            yield best[1], best[2]
            best = None

            if progress is not None:
                progress.update()

        value = sharpness(small_grey(frame))
        best = (value, number, frame) if best is None or value > best[0] else best

    if best is not None:
        yield best[1], best[2]

        if progress is not None:
            progress.update()


def small_grey(frame: Any) -> Any:
    """Returns the luma (h w) of a frame, 0 to 255, at a width of about `MEASURED_WIDTH`."""
    factor = min(MEASURED_WIDTH / max(frame.width, frame.height), 1.)
    return frame.reformat(max(round(frame.width * factor), 3), max(round(frame.height * factor), 3), 'gray').to_ndarray()


def sharpness(grey: Any) -> float:
    """Returns the variance of the Laplacian of luma (h w), which is small for blurred frames (Pech-Pacheco et al. 2000)."""
    x = grey.astype('float32')
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]
    return float(laplacian.var())


def upright(frame: Any) -> Any:
    """Converts a frame to an upright Pillow RGB image. Phones record in landscape, with the rotation as metadata."""
    from lvsm_pytorch.data.images import image_library

    turn = image_library().Transpose
    turns = {90: turn.ROTATE_90, 180: turn.ROTATE_180, 270: turn.ROTATE_270}  # counterclockwise, as in Pillow
    angle = round(frame.rotation / 90) * 90 % 360
    image = frame.to_image()
    return image.transpose(turns[angle]) if angle in turns else image


def shrunk(image: Any, max_size: int) -> Any:
    """Downscales a Pillow image whose longer side is above `max_size` pixels."""
    factor = max_size / max(image.size)
    return image if factor >= 1 else image.resize([round(length * factor) for length in image.size])
