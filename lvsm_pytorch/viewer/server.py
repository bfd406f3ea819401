"""Walk through a scene in the browser: `lvsm view`, on viser.

Every visitor has a camera, settings and a thread of their own, which renders their camera's view: small while it moves, so that it keeps
up, and whole when it rests. Photos are read once for all of them (stage.py).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.data.images import save_image, to_pixels
from lvsm_pytorch.data.posing import with_poses
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.files import make_folder, write_json
from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.geometry.conventions import quaternion_to_rotation, rotation_to_quaternion
from lvsm_pytorch.geometry.trajectories import interpolate_poses, looked_at, up_of
from lvsm_pytorch.inference.scenes import data_of, scene_of, scenes_of
from lvsm_pytorch.inference.video import write_video
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size, num_inputs_of
from lvsm_pytorch.packaged import folder_for
from lvsm_pytorch.viewer.session import ResolutionController, Stage, ViewerCamera

# a camera that has not moved for so long rests

REST_SECONDS = 0.25

# whether inputs see the target, in words

MODES = {'photos read once': False, 'photos read again for every view': True}

# of a camera as it is drawn, in the shown world, and in units of how far cameras are apart

LARGEST_FRUSTUM, FRUSTUM_BY_SPACING = 0.05, 0.3
# pixels along the longer side of photos, in their frusta and beside the controls

LARGEST_THUMBNAIL, LARGEST_PHOTO = 256, 640
INPUT, OTHER = (230, 130, 20), (150, 150, 150)

FRAMES_A_LEG, FPS = 30, 30.

# seconds that a visitor's view may take to be finished when the server stops

TIME_TO_END = 5.


def view(config: ViewConfig) -> None:
    """Serves until Ctrl-C.

    Raises:
        ImportError: Without viser.
        ValueError: For a folder that is no model, and data that can't be read.
    """
    viewer = Viewer(config)

    try:
        with obeying_sigterm():
            print(f'Walk through the scene at http://{"localhost" if config.host == "127.0.0.1" else config.host}:{viewer.port} (Ctrl-C ends it)', flush = True)
            viewer.server.sleep_forever()
    except KeyboardInterrupt:
        print('stopped', flush = True)
    finally:
        viewer.stop()


@contextmanager
def obeying_sigterm() -> Iterator[None]:
    """What stops a service ends it as Ctrl-C does, with nothing left behind. Signals reach a program's main thread; called from another one, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)

    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Viewer:
    """A server, what it shows, and its visitors."""

    def __init__(self, config: ViewConfig):
        viser = viser_library()
        self.config = config = with_poses(config)
        self.model = LVSM.from_pretrained(config.model).to(pick_device(config.device))
        size = default_size(self.model)
        self.scenes = scenes_of(data_of(config.model, config.data), size[0])
        self.lock = threading.Lock()
        self.stage = lru_cache(maxsize = 4)(lambda number: Stage(self.model, scene_of(self.scenes, number), size, self.lock, self.scenes.problems))
        self.stage(config.scene)
        self.visits: dict[int, Visit] = {}

        with redirect_stdout(StringIO()):    # viser's own greeting
            self.server = viser.ViserServer(host = config.host, port = config.port, label = 'lvsm view', verbose = False)

        self.port: int = self.server.get_port()
        self.server.gui.configure_theme(show_share_button = False)
        self.server.on_client_connect(self.welcome)
        self.server.on_client_disconnect(self.part_with)

    def welcome(self, client: Any) -> None:
        self.visits[client.client_id] = Visit(self, client)

        if client.client_id not in self.server.get_clients():    # gone while their scene was drawn
            self.part_with(client)

    def part_with(self, client: Any) -> None:
        if (visit := self.visits.pop(client.client_id, None)) is not None:
            visit.end()

    def stop(self) -> None:
        visits = list(self.visits.values())

        for visit in visits:
            visit.end()

        for visit in visits:
            visit.thread.join(TIME_TO_END)

        self.server.stop()


class Visit:
    """One visitor: what they have set, and the thread that renders for them."""

    def __init__(self, viewer: Viewer, client: Any):
        self.viewer = viewer
        self.client = client
        self.stage = viewer.stage(viewer.config.scene)
        self.resolution = ResolutionController(viewer.model.patch_size)
        self.recorded: list[ViewerCamera] = []
        self.asked, self.ended = threading.Event(), threading.Event()
        self.drawing, self.filming = threading.RLock(), threading.Lock()    # viser calls back in many threads
        self.make_controls()
        self.thread = threading.Thread(target = self.render_on, name = f'visit {client.client_id}', daemon = True)
        self.thread.start()
        self.telling(lambda: self.enter(viewer.config.scene))()
        client.camera.on_update(lambda _: self.asked.set())

    def end(self) -> None:
        self.ended.set()
        self.asked.set()

    def telling(self, do: Callable[[], object]) -> Callable[..., None]:
        """The same, with errors shown to the visitor: a photo that can't be read, a device without memory, a full disk."""
        def guarded(*_: object) -> None:
            try:
                do()
            except Exception as error:
                if not self.ended.is_set():    # or nobody is there to read it
                    self.status.content = f'**{type(error).__name__}**: {error}'

        return guarded

    # what there is to set

    def make_controls(self) -> None:
        gui, scenes = self.client.gui, len(self.viewer.scenes)
        trained = next(name for name, attends in MODES.items() if attends == self.viewer.model.input_attends_target)
        self.status = gui.add_markdown('')
        self.scene = gui.add_number('Scene', self.viewer.config.scene, min = 0, max = scenes - 1, step = 1, visible = scenes > 1)
        most = self.stage.most_inputs
        self.count = gui.add_slider('Input photos', min = 1, max = most, step = 1, initial_value = min(num_inputs_of(self.viewer.model), most))
        self.mode = gui.add_dropdown('Mode', list(MODES), initial_value = trained, hint = f'Weights fit both; these were trained with: {trained}.')
        self.frusta_shown = gui.add_checkbox('Cameras', True)

        with gui.add_folder('Nearest photo'):
            self.photo_name = gui.add_markdown('')
            self.photo = gui.add_image(to_pixels(torch.zeros(3, 8, 8)), label = None)

        with gui.add_folder('Film'):
            self.film = gui.add_markdown('')
            buttons = {label: gui.add_button(label) for label in ('Add this camera', 'Forget cameras', 'Render')}

        self.say_recorded()
        self.scene.on_update(self.telling(lambda: self.enter(int(self.scene.value))))
        self.count.on_update(self.telling(self.draw_frusta))
        self.mode.on_update(lambda _: self.asked.set())
        self.frusta_shown.on_update(self.telling(self.draw_frusta))
        buttons['Add this camera'].on_click(self.telling(self.record))
        buttons['Forget cameras'].on_click(self.telling(self.forget))
        buttons['Render'].on_click(self.telling(self.render_film))

    def enter(self, number: int) -> None:
        """Another scene, from a camera between two inputs."""
        with self.drawing:
            self.stage = self.viewer.stage(number)
            self.photo_name.content = ''
            self.count.max = self.stage.most_inputs
            self.count.value = min(self.count.value, self.stage.most_inputs)
            self.forget()
            _, between, _ = interpolate_poses(self.stage.shown[list(self.stage.inputs(2))], 3)
            self.go_to(between)
            self.draw_frusta()

    def go_to(self, camera_to_world: Tensor) -> None:
        """The visitor's camera turns around what the photos look at."""
        centre, camera = camera_to_world[:3, 3], self.client.camera
        distance = (looked_at(self.stage.shown) - centre).norm()

        with self.client.atomic():
            camera.fov = self.stage.fov_of_window(camera.aspect)
            camera.up_direction = up_of(self.stage.shown).numpy()
            camera.position = centre.numpy()
            camera.look_at = (centre + distance * camera_to_world[:3, 2]).numpy()

        self.asked.set()

    def draw_frusta(self) -> None:
        """Of photos: inputs with their pictures. A click on one moves the camera there."""
        self.asked.set()

        with self.drawing:
            inputs, (height, width) = self.stage.inputs(self.count.value), self.stage.size
            size = min(LARGEST_FRUSTUM, FRUSTUM_BY_SPACING * self.stage.spacing())
            self.client.scene.reset()

            for number, camera_to_world in enumerate(self.stage.shown if self.frusta_shown.value else ()):
                image = self.stage.picture(number, LARGEST_THUMBNAIL) if number in inputs else None
                aspect = width / height if image is None else image.shape[-1] / image.shape[-2]
                frustum = self.client.scene.add_camera_frustum(
                    f'/photos/{number}', fov = self.stage.fov, aspect = aspect, scale = size, thickness = size / 100, color = INPUT if number in inputs else OTHER,
                    image = None if image is None else to_pixels(image), wxyz = rotation_to_quaternion(camera_to_world[:3, :3]).numpy(), position = camera_to_world[:3, 3].numpy(),
                )
                frustum.on_click(lambda _, there = camera_to_world: self.go_to(there))

    # what is rendered

    def camera(self) -> ViewerCamera:
        camera = self.client.camera
        rotation = quaternion_to_rotation(torch.tensor(camera.wxyz, dtype = torch.float32))
        return ViewerCamera(pose(rotation, torch.tensor(camera.position, dtype = torch.float32)), camera.fov, camera.aspect)

    def render_on(self) -> None:
        """Until the visitor leaves. Errors are shown, and the next view is tried."""
        while not self.ended.is_set():
            self.asked.wait()
            self.asked.clear()
            self.telling(self.render_look)()

    def render_look(self) -> None:
        """The newest view, small; and whole, when no newer one has come for a while."""
        stage, camera = self.stage, self.camera()
        whole = stage.whole_size(camera)
        small = self.resolution.size(whole)
        self.render(stage, camera, small)

        if small != whole and not self.asked.wait(REST_SECONDS):
            self.render(stage, camera, whole)

    def render(self, stage: Stage, camera: ViewerCamera, size: tuple[int, int]) -> None:
        if self.ended.is_set():
            return

        began, count = time.perf_counter(), min(self.count.value, stage.most_inputs)
        image = stage.render(camera, size, count, MODES[self.mode.value])
        seconds = time.perf_counter() - began
        self.resolution.took(size, seconds)
        nearest = stage.nearest(camera, count)
        self.client.scene.set_background_image(to_pixels(image), format = 'jpeg', jpeg_quality = 95)
        name = f'{nearest.view.name}, {"an input" if nearest.is_input else "not an input"}'

        if self.photo_name.content != name:
            photo = stage.picture(nearest.number, LARGEST_PHOTO)
            self.photo.image = to_pixels(torch.zeros(3, 8, 8) if photo is None else photo)
            self.photo_name.content = name

        skipped = stage.problems.summary(most = 5).replace('\n  ', '\n- ')    # a list, in Markdown
        self.status.content = f'**{stage.scene.name}**, {size[1]} × {size[0]} in {seconds * 1000:.0f} ms\n\n{skipped}'

    # a film of where they went

    def record(self) -> None:
        self.recorded.append(self.camera())
        self.say_recorded()

    def forget(self) -> None:
        self.recorded.clear()
        self.say_recorded()

    def say_recorded(self, done: str = '') -> None:
        self.film.content = done or f'{len(self.recorded)} cameras on its way' + ('' if self.recorded else ': go somewhere, and add it')

    def render_film(self) -> None:
        """One at a time."""
        if self.recorded and self.filming.acquire(blocking = False):
            try:
                self.film_way(self.stage, list(self.recorded), self.count.value, MODES[self.mode.value])
            finally:
                self.filming.release()

    def film_way(self, stage: Stage, keyframes: list[ViewerCamera], count: int, attends: bool) -> None:
        """Through the recorded cameras, into a file in `out` of the config, and to the visitor. The path is kept beside it, for `lvsm render --path`."""
        size = stage.whole_size(keyframes[0])
        cameras = stage.path(keyframes, FRAMES_A_LEG, size)
        out = self.viewer.config.out or folder_for('view', self.viewer.config.model)
        make_folder(out)
        film = out / f'{time.strftime("%Y-%m-%d-%H-%M-%S")}-{self.client.client_id}.mp4'
        write_json(film.with_suffix('.json'), dict(camera_to_world = cameras.camera_to_world.tolist(), intrinsics = cameras.intrinsics.tolist(), size = list(size), fps = FPS))

        with TemporaryDirectory() as folder:
            frames = [Path(folder) / f'{number:05}.png' for number in range(len(cameras.camera_to_world))]

            for number, frame in enumerate(frames):
                if self.ended.is_set():
                    return

                save_image(stage.render_camera(cameras, number, size, count, attends), frame, durable = False)
                self.say_recorded(f'{number + 1} of {len(frames)} frames')

            write_video(frames, film, FPS)

        self.client.send_file_download(film.name, film.read_bytes(), save_immediately = True)
        self.say_recorded(f'{film} has {len(frames)} frames')


def viser_library() -> Any:
    try:
        import viser
    except ImportError as error:
        raise ImportError('lvsm view needs viser: pip install "lvsm-pytorch[train,view]"') from error

    return viser
