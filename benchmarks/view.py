"""How long `lvsm view` takes for a move of the camera: python benchmarks/view.py [--model MODEL] [--data DIR] [--seconds 10] [--picture PNG]

A browser without a screen opens the page and drags the camera about. A move's latency is from when the server hears of it to when the rendered
view is on its way back. Needs the extras train and view, playwright, and Chromium. With --alone no browser is opened: CPU milliseconds of one
view of the size of training, from encoded photos, on one thread in float32, as views are rendered by default, and under autocast to bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / 'tests'))

from browser import SOFTWARE, chromium_path

from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.data import cameras_of, synthetic_scene
from lvsm_pytorch.geometry.cameras import Cameras
from lvsm_pytorch.inference.pipeline import encode_photos
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size, num_inputs_of
from lvsm_pytorch.viewer.fade import WeightedSets
from lvsm_pytorch.viewer.server import Viewer
from lvsm_pytorch.viewer.session import Stage, ViewerCamera
from lvsm_pytorch.viewer.visit import Visit

WINDOW: Any = dict(width = 1280, height = 720)
STEP_BACK = 350


class TimedVisit(Visit):
    """heard: when the oldest move came that no view was begun for. answers: to moves, as seconds from there, and (height, width) of the view."""

    def __init__(self, viewer: Viewer, client: Any):
        self.heard: float | None = None
        self.answers: list[tuple[float, tuple[int, int]]] = []
        client.camera.on_update(self.hear)
        super().__init__(viewer, client)

    def hear(self, _: Any) -> None:
        self.heard = self.heard or time.perf_counter()

    def render(self, stage: Stage, camera: ViewerCamera, size: tuple[int, int], sets: Sequence[WeightedSets]) -> None:
        heard, self.heard = self.heard, None
        super().render(stage, camera, size, sets)

        if heard is not None:
            self.answers.append((time.perf_counter() - heard, size))


class TimedViewer(Viewer):
    def make_visit(self, client: Any) -> Visit:
        return TimedVisit(self, client)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument('--model', type = Path, default = ViewConfig.model)
    parser.add_argument('--seconds', type = float, default = 10.)
    parser.add_argument('--data', type = Path)
    parser.add_argument('--picture', type = Path)
    parser.add_argument('--alone', action = 'store_true')
    told = parser.parse_args()

    if told.alone:
        time_alone(told.model)
        return

    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        viewer = TimedViewer(ViewConfig(model = told.model, data = told.data, out = Path(folder)))
        browser = playwright.chromium.launch(executable_path = chromium_path(), args = SOFTWARE)
        page = browser.new_page(viewport = WINDOW)
        page.goto(f'http://127.0.0.1:{viewer.port}')
        page.wait_for_timeout(5000)
        visit, = viewer.visits.values()
        assert isinstance(visit, TimedVisit)
        visit.answers.clear()
        move(page, told.seconds)
        answers = list(visit.answers)
        page.wait_for_timeout(3000)

        if told.picture is not None:
            draw(page, visit, told.picture)

        browser.close()
        viewer.stop()

    seconds, sizes = sorted(answer[0] for answer in answers), [answer[1] for answer in answers]
    height, width = statistics.multimode(sizes)[0]
    print(f'{len(seconds) / told.seconds:.1f} views a second while the camera moves, most of {width} × {height} pixels')
    print(f'from a move to its view: {1000 * statistics.median(seconds):.0f} ms in the median, {1000 * seconds[int(0.9 * len(seconds))]:.0f} ms for nine of ten')


def time_alone(model: Path, repeats: int = 9) -> None:
    torch.set_num_threads(1)

    loaded = LVSM.from_pretrained(model).eval()
    size = default_size(loaded)
    scene = synthetic_scene(0, num_views = num_inputs_of(loaded) + 1, image_size = size[0])
    inputs, target = scene.views[:-1], scene.views[-1]
    cameras = Cameras(target.camera_to_world[None], target.intrinsics[None])

    for dtype in (torch.float32, torch.bfloat16):
        seconds = []

        with torch.autocast('cpu', dtype = torch.bfloat16, enabled = dtype == torch.bfloat16):
            encoded = encode_photos(loaded, [view.load() for view in inputs], cameras_of(inputs))

            for _ in range(repeats):
                began = time.process_time()
                next(encoded.render(cameras, size))
                seconds.append(time.process_time() - began)

        print(f'{dtype}: {1000 * statistics.median(seconds):.0f} ms of CPU time for a view of {size[1]} × {size[0]} from {len(inputs)} encoded photos')


def draw(page: Any, visit: Visit, path: Path) -> None:
    """From a step behind the cameras, without the notice that this browser has no GPU."""
    page.locator('.mantine-Notification-closeButton').click()
    visit.enter(0)
    page.wait_for_timeout(1000)
    page.mouse.wheel(0, STEP_BACK)
    page.wait_for_timeout(3000)
    page.screenshot(path = path)


def move(page: Any, seconds: float) -> None:
    ends = time.monotonic() + seconds
    page.mouse.move(400, 400)
    page.mouse.down()
    step = 0

    while time.monotonic() < ends:
        page.mouse.move(400 + 15 * (step % 7 - 3), 400 + 4 * (step % 5 - 2), steps = 5)
        step += 1

    page.mouse.up()


if __name__ == '__main__':
    main()
