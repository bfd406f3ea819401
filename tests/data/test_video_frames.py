"""Frames of a video: sharp ones, all along it, upright."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from lvsm_pytorch.data.video_frames import MIDDLE, extract_frames, frame_times, sharpness, windows_of

av = pytest.importorskip('av')

SIZE = (96, 64)    # width, height
BACKGROUND = np.random.default_rng(0).integers(40, 200, (SIZE[1] // 4, SIZE[0] // 4, 3)).astype(np.uint8).repeat(4, 0).repeat(4, 1)


def frame_of(number, is_sharp = True):
    """A picture whose upper left block says its number by its brightness; without contrast where it is not sharp."""
    pixels = BACKGROUND.copy() if is_sharp else np.full_like(BACKGROUND, 120)
    pixels[:24, :24] = 4 * number % 256
    return pixels


def number_in(path):
    with Image.open(path) as image:
        return round(float(np.asarray(image.convert('L'))[4:20, 4:20].mean()) / 4)


def write_video(path, num_frames = 60, sharp = lambda number: True, times = None):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate = 30, options = dict(crf = '10', g = '12'))
        stream.width, stream.height, stream.pix_fmt = *SIZE, 'yuv420p'
        stream.time_base = stream.codec_context.time_base = Fraction(1, 600)

        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(frame_of(number, sharp(number)), format = 'rgb24')
            frame.pts, frame.time_base = 20 * number if times is None else times[number], Fraction(1, 600)
            container.mux(stream.encode(frame))

        container.mux(stream.encode())


def turn(path, degrees):
    """Says in an MP4 that it is to be shown turned clockwise: phones write the matrix of its track so."""
    content = bytearray(path.read_bytes())
    start = content.index(b'tkhd') + 4 + 40
    one = 1 << 16
    matrix = {90: (0, one, 0, -one, 0, 0), 180: (-one, 0, 0, 0, -one, 0), 270: (0, -one, 0, one, 0, 0)}[degrees]
    content[start:start + 24] = struct.pack('>6i', *matrix)
    path.write_bytes(content)


def test_sharpness_is_that_of_the_laplacian():
    y, x = np.mgrid[:16, :16]
    assert sharpness(3 * x + 2 * y) == 0                    # a ramp has none
    assert sharpness(np.where((x + y) % 2, 10, 0)) == pytest.approx(40 ** 2)    # a chessboard: ± 40 everywhere
    blurred = BACKGROUND[..., 0].astype(float)
    blurred = (blurred[1:-1] + blurred[:-2] + blurred[2:]) / 3
    assert sharpness(blurred) < sharpness(BACKGROUND[..., 0])


@pytest.mark.parametrize('times, num_frames', [
    (list(range(0, 3000, 7)), 20),
    (list(range(100)), 1000),
    ([*range(0, 100, 5), *range(1000, 2000, 10)], 10),     # a gap
    ([5], 10), ([3, 9], 10), ([-40, -20, 0, 20, 40, 60], 2),
])
def test_windows_are_even_and_apart(times, num_frames):
    windows = windows_of(times, num_frames)
    length = (times[-1] - times[0] + 1) / max(min(num_frames, len(times) // 3), 1)
    assert 1 <= len(windows) <= num_frames

    for before, after in pairwise(windows):
        assert after.candidates[0] - before.candidates[-1] >= (1 - MIDDLE) * length

    for window in windows:
        assert set(window.candidates) <= set(times)
        assert window.candidates[-1] - window.candidates[0] <= MIDDLE * length


def test_no_times_no_windows():
    assert windows_of([], 10) == []


def test_the_sharp_frame_of_each_window_is_taken(tmp_path):
    write_video(tmp_path / 'a.mp4', sharp = lambda number: number % 10 == 6)
    names = extract_frames(tmp_path / 'a.mp4', tmp_path, num_frames = 6, max_size = 1000)
    assert [number_in(tmp_path / name) for name in names] == [6, 16, 26, 36, 46, 56]


def test_frames_are_spread_over_the_time_of_a_video_whose_rate_changes(tmp_path):
    times = [*range(0, 600, 20), *range(600, 4200, 120)]
    write_video(tmp_path / 'a.mp4', times = times)
    assert len(frame_times(tmp_path / 'a.mp4')) == 60
    names = extract_frames(tmp_path / 'a.mp4', tmp_path, num_frames = 7, max_size = 1000)
    seconds = [times[number_in(tmp_path / name)] for name in names]
    assert all(abs(time - (window + 0.5) * 600) <= 200 for window, time in enumerate(seconds))


@pytest.mark.parametrize('degrees', [90, 180, 270])
def test_frames_are_upright(tmp_path, degrees):
    write_video(tmp_path / 'a.mp4', num_frames = 12)
    turn(tmp_path / 'a.mp4', degrees)
    name = extract_frames(tmp_path / 'a.mp4', tmp_path, num_frames = 3, max_size = 48)[0]

    with Image.open(tmp_path / name) as image:
        assert image.size == ((32, 48) if degrees != 180 else (48, 32))
        shown = np.asarray(image.resize(SIZE if degrees == 180 else SIZE[::-1]).convert('L')).astype(float)

    expected = np.rot90(np.asarray(Image.fromarray(frame_of(1)).convert('L')).astype(float), -degrees // 90)
    assert np.abs(shown - expected).mean() < 15


def test_frames_that_are_there_stay(tmp_path, monkeypatch):
    write_video(tmp_path / 'a.mp4')
    names = extract_frames(tmp_path / 'a.mp4', tmp_path, num_frames = 6, max_size = 1000)
    whole = {name: (tmp_path / name).read_bytes() for name in names}

    for name in names[3:]:
        (tmp_path / name).unlink()

    (tmp_path / names[0]).write_bytes(b'there')
    assert extract_frames(tmp_path / 'a.mp4', tmp_path, num_frames = 6, max_size = 1000) == names
    assert (tmp_path / names[0]).read_bytes() == b'there'
    assert {name: (tmp_path / name).read_bytes() for name in names[1:]} == {name: whole[name] for name in names[1:]}


def test_what_is_no_video_is_said(tmp_path):
    (tmp_path / 'a.mp4').write_bytes(b'no video' * 100)
    with pytest.raises(ValueError, match = 'video: must be a video that can be decoded'):
        extract_frames(tmp_path / 'a.mp4', tmp_path, num_frames = 6, max_size = 1000)

    write_video(tmp_path / 'short.mp4', num_frames = 1)
    with pytest.raises(ValueError, match = 'video: must have at least two frames'):
        extract_frames(tmp_path / 'short.mp4', tmp_path, num_frames = 6, max_size = 1000)


def test_a_video_that_was_cut_gives_what_there_is(tmp_path):
    write_video(tmp_path / 'a.mkv')
    content = bytearray((tmp_path / 'a.mkv').read_bytes())
    (tmp_path / 'a.mkv').write_bytes(content[:len(content) * 2 // 3])
    names = extract_frames(tmp_path / 'a.mkv', tmp_path, num_frames = 6, max_size = 1000)
    assert 2 <= len(names) <= 6
