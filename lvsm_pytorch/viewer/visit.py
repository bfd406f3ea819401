"""One client of the viewer: its controls, and the thread that renders its views."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lvsm_pytorch.data.images import save_image, to_pixels
from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import make_folder, write_json
from lvsm_pytorch.geometry.cameras import pose
from lvsm_pytorch.geometry.conventions import quaternion_to_rotation, rotation_to_quaternion
from lvsm_pytorch.geometry.trajectories import interpolate_poses, up_of
from lvsm_pytorch.inference.video import write_video
from lvsm_pytorch.lvsm.pretrained import num_inputs_of
from lvsm_pytorch.packaged import folder_for
from lvsm_pytorch.viewer.fade import InputFade, WeightedSets
from lvsm_pytorch.viewer.session import ResolutionController, Stage, ViewerCamera

if TYPE_CHECKING:
    from lvsm_pytorch.viewer.server import Viewer

# a camera that has not moved for this long rests

REST_SECONDS = 0.25

# labels of the attention modes, and their `input_attends_target`

MODES = {'photos encoded once (key-value cache)': False, 'photos encoded for every view (paper)': True}

# size of a camera frustum: at most, in the viewer's world, and as a fraction of the cameras' spacing

MAX_FRUSTUM, FRUSTUM_BY_SPACING = 0.05, 0.3
INPUT, OTHER = (230, 130, 20), (150, 150, 150)

FRAMES_PER_SEGMENT, FPS = 30, 30.
MAX_KEYFRAMES = 20    # of a film

# the pivot of a drag is moved when the subject is nearer or farther by more than this factor

PIVOT_TOLERANCE = 1.1

BLANK = torch.zeros(3, 8, 8)
RENDER, FILM = 'render', 'film'


class Visit:
    """A client's state. Callbacks of its controls run in viser's threads; one thread renders a view whenever `needs_render` is set."""

    def __init__(self, viewer: Viewer, client: Any):
        self.viewer = viewer
        self.client = client
        self.stage = viewer.stage(viewer.config.scene)
        self.fade = InputFade()
        self.resolution = ResolutionController(viewer.model.patch_size)
        self.keyframes: list[ViewerCamera] = []
        self.needs_render, self.ended = threading.Event(), threading.Event()
        self.drawing = threading.RLock()
        self.errors: dict[str, str] = {}    # by operation, until it succeeds
        self.line = ''
        self.frusta: dict[int, Any] = {}
        self.highlighted: tuple[int, ...] = ()
        self.photo_number: int | None = None
        self.make_controls()
        self.thread = threading.Thread(target = self.render_loop, name = f'visit {client.client_id}', daemon = True)
        self.attempt('scene', partial(self.enter, viewer.config.scene))
        self.thread.start()
        client.camera.on_update(lambda _: self.needs_render.set())

    def end(self) -> None:
        self.ended.set()
        self.needs_render.set()

    # errors and status

    def attempt(self, what: str, do: Callable[[], object]) -> None:
        """Runs an operation. Its error, such as an unreadable photo, a full disk or out of memory, is shown until the same operation succeeds."""
        try:
            do()
            failed = self.errors.pop(what, None)
        except Exception as error:
            failed = self.errors[what] = f'**{type(error).__name__}**: {error}'

        if failed is not None:
            self.show_status()

    def guarded_callback(self, what: str, do: Callable[[], object]) -> Callable[..., None]:
        """The same, as a callback for viser."""
        return lambda *_: self.attempt(what, do)

    def show_status(self) -> None:
        """Shows errors, size and time of the last view, and skipped photos."""
        if self.ended.is_set():    # the page is closed
            return

        skipped = self.stage.problems.summary(most = 5).replace('\n  ', '\n- ')    # a list, in Markdown
        text = '\n\n'.join(filter(None, (*self.errors.values(), self.line, skipped)))

        if self.status.content != text:
            self.status.content = text

    # controls

    def make_controls(self) -> None:
        gui, scenes = self.client.gui, len(self.viewer.scenes)
        trained = next(name for name, attends in MODES.items() if attends == self.viewer.model.input_attends_target)
        self.status = gui.add_markdown('')
        self.scene = gui.add_number('Scene', self.viewer.config.scene, min = 0, max = scenes - 1, step = 1, visible = scenes > 1)
        most = self.stage.max_inputs
        self.count = gui.add_slider('Input photos', min = 1, max = most, step = 1, initial_value = min(num_inputs_of(self.viewer.model), most), hint = 'Number of input photos. The nearest to the camera are used.')
        self.mode = gui.add_dropdown('Mode', list(MODES), initial_value = trained, hint = f'The weights fit both modes. This model was trained with: {trained}.')
        self.frusta_shown = gui.add_checkbox('Cameras', True)

        with gui.add_folder('Nearest photo'):
            self.photo_name = gui.add_markdown('')
            self.photo = gui.add_image(to_pixels(BLANK), label = None)

        with gui.add_folder('Film'):
            self.film = gui.add_markdown('')
            buttons = {label: gui.add_button(label) for label in ('Add this camera', 'Forget cameras', 'Render')}

        self.show_keyframes()
        self.scene.on_update(self.guarded_callback('scene', lambda: self.enter(int(self.scene.value))))
        self.count.on_update(lambda _: self.needs_render.set())
        self.mode.on_update(lambda _: self.needs_render.set())
        self.frusta_shown.on_update(self.guarded_callback('cameras', self.draw_frusta))
        buttons['Add this camera'].on_click(self.guarded_callback(FILM, self.record))
        buttons['Forget cameras'].on_click(self.guarded_callback(FILM, self.forget))
        buttons['Render'].on_click(self.guarded_callback(FILM, self.render_film))

    def enter(self, number: int) -> None:
        """Shows another scene, from a camera between two of its middle photos."""
        with self.drawing:
            self.stage = self.viewer.stage(number)
            self.fade, self.photo_number = InputFade(), None
            self.count.max = self.stage.max_inputs
            self.count.value = min(self.count.value, self.stage.max_inputs)
            self.forget()
            _, between, _ = interpolate_poses(self.stage.shown[list(self.stage.middle_inputs)][[0, -1]], 3)
            self.go_to(between)
            self.draw_frusta()

    def go_to(self, camera_to_world: Tensor) -> None:
        """Moves the client's camera. Drags then turn around the subject."""
        centre, camera = camera_to_world[:3, 3], self.client.camera
        distance = self.stage.subject_distance(camera_to_world)

        with self.client.atomic():
            camera.fov = self.stage.fov_of_window(camera.aspect)
            camera.up_direction = up_of(self.stage.shown).numpy()
            camera.position = centre.numpy()
            camera.look_at = (centre + distance * camera_to_world[:3, 2]).numpy()

        self.needs_render.set()

    def turn_around_subject(self, camera: ViewerCamera) -> None:
        """Moves the pivot of drags along the optical axis to the subject, if a camera move has taken it off. The camera stays."""
        centre, look_at = camera.camera_to_world[:3, 3], torch.tensor(self.client.camera.look_at, dtype = torch.float32)
        now, distance = float((look_at - centre).norm()), self.stage.subject_distance(camera.camera_to_world)

        if now > 0 and abs(math.log(distance / now)) > math.log(PIVOT_TOLERANCE):
            self.client.camera.look_at = (centre + distance * camera.camera_to_world[:3, 2]).numpy()
            self.needs_render.set()

    def draw_frusta(self) -> None:
        """Draws the camera frusta of all photos. A click on one moves the camera there."""
        with self.drawing:
            height, width = self.stage.size
            size = min(MAX_FRUSTUM, FRUSTUM_BY_SPACING * self.stage.spacing())
            self.client.scene.reset()
            self.frusta, self.highlighted = {}, ()

            for number, camera_to_world in enumerate(self.stage.shown if self.frusta_shown.value else ()):
                self.frusta[number] = frustum = self.client.scene.add_camera_frustum(
                    f'/photos/{number}', fov = self.stage.fov, aspect = width / height, scale = size, thickness = size / 100, color = OTHER,
                    wxyz = rotation_to_quaternion(camera_to_world[:3, :3]).numpy(), position = camera_to_world[:3, 3].numpy(),
                )
                frustum.on_click(lambda _, there = camera_to_world: self.go_to(there))

        self.needs_render.set()

    def highlight(self, stage: Stage, inputs: tuple[int, ...]) -> None:
        """Colours the frusta of the input photos, and shows the photos in them as they are encoded."""
        with self.drawing:
            if stage is not self.stage or inputs == self.highlighted:
                return

            for number in {*inputs, *self.highlighted} & {*self.frusta}:
                frustum, is_input = self.frusta[number], number in inputs
                found = stage.photos.read(number) if is_input else None
                frustum.color = INPUT if is_input else OTHER
                frustum.image = None if found is None else to_pixels(found[0])

            self.highlighted = inputs

    # rendering

    def camera(self) -> ViewerCamera:
        camera = self.client.camera
        rotation = quaternion_to_rotation(torch.tensor(camera.wxyz, dtype = torch.float32))
        return ViewerCamera(pose(rotation, torch.tensor(camera.position, dtype = torch.float32)), camera.fov, camera.aspect)

    def render_loop(self) -> None:
        """Renders until the client leaves. Errors are shown, and the loop goes on."""
        while not self.ended.is_set():
            self.needs_render.wait()
            self.needs_render.clear()
            self.attempt(RENDER, self.render_view)

    def render_view(self) -> None:
        """Renders the newest camera at low resolution, and at full resolution once it rests."""
        stage, camera = self.stage, self.camera()
        sets = self.sets_for(stage, camera)

        if not sets or self.ended.is_set():
            return

        whole = stage.whole_size(camera)
        small = self.resolution.size(whole, len(sets))
        self.render(stage, camera, small, sets)

        if len(sets) > 1:    # a fade is in progress
            self.needs_render.set()
        elif not self.needs_render.wait(REST_SECONDS):
            if small != whole:
                self.render(stage, camera, whole, sets)

            if not self.needs_render.is_set():
                self.turn_around_subject(camera)

    def sets_for(self, stage: Stage, camera: ViewerCamera) -> list[WeightedSets]:
        """Input sets of the next view. Nearer photos are encoded in the background, which sets `needs_render` when done."""
        count = min(self.count.value, stage.max_inputs)
        key = stage.inputs_for(camera, count, MODES[self.mode.value])
        encoded = stage.sets.get(key)

        if encoded is None:
            stage.sets.request(self, key, self.needs_render.set)

        sets = self.fade.step(key, encoded, time.perf_counter())

        if not sets:
            self.line = f'**{stage.scene.name}**: encoding {count} photos'
            self.show_status()

        return sets

    def render(self, stage: Stage, camera: ViewerCamera, size: tuple[int, int], sets: Sequence[WeightedSets]) -> None:
        if self.ended.is_set():
            return

        began = time.perf_counter()
        image = stage.render(camera, size, sets)
        seconds = time.perf_counter() - began
        self.resolution.took(size, seconds, len(sets))
        self.client.scene.set_background_image(to_pixels(image), format = 'jpeg', jpeg_quality = 95)
        self.highlight(stage, sets[-1].key.inputs)
        self.request_photo(stage, camera)
        self.line = f'**{stage.scene.name}**, {size[1]} × {size[0]} in {seconds * 1000:.0f} ms'
        self.show_status()

    def request_photo(self, stage: Stage, camera: ViewerCamera) -> None:
        number = stage.nearest(camera)

        if number != self.photo_number:
            self.photo_number = number
            stage.pictures.request(self, number, partial(self.attempt, 'photo', partial(self.show_photo, stage, number)))

    def show_photo(self, stage: Stage, number: int) -> None:
        picture = stage.pictures.get(number)

        if picture is not None and stage is self.stage and not self.ended.is_set():
            self.photo.image = to_pixels(picture)
            self.photo_name.content = stage.scene.views[number].name

    # films along recorded cameras

    def record(self) -> None:
        if len(self.keyframes) >= MAX_KEYFRAMES:
            fail('film', f'must have at most {MAX_KEYFRAMES} cameras', len(self.keyframes) + 1, 'Render this one, then start another.')

        self.keyframes.append(self.camera())
        self.show_keyframes()

    def forget(self) -> None:
        self.keyframes.clear()
        self.show_keyframes()

    def show_keyframes(self, done: str = '') -> None:
        self.film.content = done or f'{len(self.keyframes)} keyframes' + ('' if self.keyframes else ': move the camera and add one')

    def render_film(self) -> None:
        """Renders a film along the keyframes. One film is rendered at a time over all clients."""
        if not self.keyframes:
            return

        with self.viewer.film_slot():
            self.render_keyframes(self.stage, list(self.keyframes), min(self.count.value, self.stage.max_inputs), MODES[self.mode.value])

    def render_keyframes(self, stage: Stage, keyframes: list[ViewerCamera], count: int, attends: bool) -> None:
        """Renders a film through keyframes to a file in `config.out` and sends it to the client. Its camera path is saved beside it, for `lvsm render --path`."""
        size = stage.whole_size(keyframes[0])
        cameras = stage.path(keyframes, FRAMES_PER_SEGMENT, size)
        out = self.viewer.config.out or folder_for('view', self.viewer.config.model)
        make_folder(out)
        film = out / f'{time.strftime("%Y-%m-%d-%H-%M-%S")}-{self.client.client_id}.mp4'
        write_json(film.with_suffix('.json'), dict(camera_to_world = cameras.camera_to_world.tolist(), intrinsics = cameras.intrinsics.tolist(), size = list(size), fps = FPS))

        with TemporaryDirectory() as folder:
            frames = [Path(folder) / f'{number:05}.png' for number in range(len(cameras))]

            for number, view in enumerate(stage.film(cameras, size, count, attends)):
                if self.ended.is_set():
                    return

                save_image(view, frames[number], durable = False)
                self.show_keyframes(f'{number + 1} of {len(frames)} frames')

            write_video(frames, film, FPS)

        self.client.send_file_download(film.name, film.read_bytes(), save_immediately = True)
        self.show_keyframes(f'{film} has {len(frames)} frames')
