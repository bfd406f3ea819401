"""One visitor of the viewer: what they have set, and the thread that renders for them."""

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

# a camera that has not moved for so long rests

REST_SECONDS = 0.25

# whether inputs attend to the target, in words

MODES = {'photos read once': False, 'photos read again for every view': True}

# of a camera as it is drawn, in the shown world, and in units of how far cameras are apart

LARGEST_FRUSTUM, FRUSTUM_BY_SPACING = 0.05, 0.3
INPUT, OTHER = (230, 130, 20), (150, 150, 150)

FRAMES_A_LEG, FPS = 30, 30.
MOST_CAMERAS = 20    # of a film

# the point that a drag turns around is moved where the subject is nearer or farther by more than this factor

PIVOT_TOLERANCE = 1.1

BLANK = torch.zeros(3, 8, 8)
RENDER, FILM = 'render', 'film'


class Visit:
    """Threads of viser call back for controls; one thread renders, whenever `asked` is set."""

    def __init__(self, viewer: Viewer, client: Any):
        self.viewer = viewer
        self.client = client
        self.stage = viewer.stage(viewer.config.scene)
        self.fade = InputFade()
        self.resolution = ResolutionController(viewer.model.patch_size)
        self.recorded: list[ViewerCamera] = []
        self.asked, self.ended = threading.Event(), threading.Event()
        self.drawing = threading.RLock()
        self.errors: dict[str, str] = {}    # what was tried, and why it failed; until it succeeds
        self.line = ''
        self.frusta: dict[int, Any] = {}
        self.highlighted: tuple[int, ...] = ()
        self.photo_number: int | None = None
        self.make_controls()
        self.thread = threading.Thread(target = self.render_on, name = f'visit {client.client_id}', daemon = True)
        self.attempt('scene', partial(self.enter, viewer.config.scene))
        self.thread.start()
        client.camera.on_update(lambda _: self.asked.set())

    def end(self) -> None:
        self.ended.set()
        self.asked.set()

    # errors and status

    def attempt(self, what: str, do: Callable[[], object]) -> None:
        """Does it. An error is shown until the same succeeds: a photo that can't be read, a device without memory, a full disk."""
        try:
            do()
            failed = self.errors.pop(what, None)
        except Exception as error:
            failed = self.errors[what] = f'**{type(error).__name__}**: {error}'

        if failed is not None:
            self.show_status()

    def attempting(self, what: str, do: Callable[[], object]) -> Callable[..., None]:
        """The same, as what viser calls back."""
        return lambda *_: self.attempt(what, do)

    def show_status(self) -> None:
        """Errors, the last view, and photos that are left out."""
        if self.ended.is_set():    # nobody is there to read it
            return

        skipped = self.stage.problems.summary(most = 5).replace('\n  ', '\n- ')    # a list, in Markdown
        text = '\n\n'.join(filter(None, (*self.errors.values(), self.line, skipped)))

        if self.status.content != text:
            self.status.content = text

    # what there is to set

    def make_controls(self) -> None:
        gui, scenes = self.client.gui, len(self.viewer.scenes)
        trained = next(name for name, attends in MODES.items() if attends == self.viewer.model.input_attends_target)
        self.status = gui.add_markdown('')
        self.scene = gui.add_number('Scene', self.viewer.config.scene, min = 0, max = scenes - 1, step = 1, visible = scenes > 1)
        most = self.stage.most_inputs
        self.count = gui.add_slider('Input photos', min = 1, max = most, step = 1, initial_value = min(num_inputs_of(self.viewer.model), most), hint = 'The nearest ones to the camera.')
        self.mode = gui.add_dropdown('Mode', list(MODES), initial_value = trained, hint = f'Weights fit both; these were trained with: {trained}.')
        self.frusta_shown = gui.add_checkbox('Cameras', True)

        with gui.add_folder('Nearest photo'):
            self.photo_name = gui.add_markdown('')
            self.photo = gui.add_image(to_pixels(BLANK), label = None)

        with gui.add_folder('Film'):
            self.film = gui.add_markdown('')
            buttons = {label: gui.add_button(label) for label in ('Add this camera', 'Forget cameras', 'Render')}

        self.say_recorded()
        self.scene.on_update(self.attempting('scene', lambda: self.enter(int(self.scene.value))))
        self.count.on_update(lambda _: self.asked.set())
        self.mode.on_update(lambda _: self.asked.set())
        self.frusta_shown.on_update(self.attempting('cameras', self.draw_frusta))
        buttons['Add this camera'].on_click(self.attempting(FILM, self.record))
        buttons['Forget cameras'].on_click(self.attempting(FILM, self.forget))
        buttons['Render'].on_click(self.attempting(FILM, self.render_film))

    def enter(self, number: int) -> None:
        """Another scene, from a camera between two photos in its middle."""
        with self.drawing:
            self.stage = self.viewer.stage(number)
            self.fade, self.photo_number = InputFade(), None
            self.count.max = self.stage.most_inputs
            self.count.value = min(self.count.value, self.stage.most_inputs)
            self.forget()
            _, between, _ = interpolate_poses(self.stage.shown[list(self.stage.middle_inputs)][[0, -1]], 3)
            self.go_to(between)
            self.draw_frusta()

    def go_to(self, camera_to_world: Tensor) -> None:
        """The visitor's camera is there, and turns around the subject."""
        centre, camera = camera_to_world[:3, 3], self.client.camera
        distance = self.stage.subject_distance(camera_to_world)

        with self.client.atomic():
            camera.fov = self.stage.fov_of_window(camera.aspect)
            camera.up_direction = up_of(self.stage.shown).numpy()
            camera.position = centre.numpy()
            camera.look_at = (centre + distance * camera_to_world[:3, 2]).numpy()

        self.asked.set()

    def turn_around_subject(self, camera: ViewerCamera) -> None:
        """After a move that took the point to turn around off the subject: the camera stays, and the point goes along its axis."""
        centre, look_at = camera.camera_to_world[:3, 3], torch.tensor(self.client.camera.look_at, dtype = torch.float32)
        now, distance = float((look_at - centre).norm()), self.stage.subject_distance(camera.camera_to_world)

        if now > 0 and abs(math.log(distance / now)) > math.log(PIVOT_TOLERANCE):
            self.client.camera.look_at = (centre + distance * camera.camera_to_world[:3, 2]).numpy()
            self.asked.set()

    def draw_frusta(self) -> None:
        """Of all photos. A click on one moves the camera there."""
        with self.drawing:
            height, width = self.stage.size
            size = min(LARGEST_FRUSTUM, FRUSTUM_BY_SPACING * self.stage.spacing())
            self.client.scene.reset()
            self.frusta, self.highlighted = {}, ()

            for number, camera_to_world in enumerate(self.stage.shown if self.frusta_shown.value else ()):
                self.frusta[number] = frustum = self.client.scene.add_camera_frustum(
                    f'/photos/{number}', fov = self.stage.fov, aspect = width / height, scale = size, thickness = size / 100, color = OTHER,
                    wxyz = rotation_to_quaternion(camera_to_world[:3, :3]).numpy(), position = camera_to_world[:3, 3].numpy(),
                )
                frustum.on_click(lambda _, there = camera_to_world: self.go_to(there))

        self.asked.set()

    def highlight(self, stage: Stage, inputs: tuple[int, ...]) -> None:
        """The frusta of the input photos, which show what the model reads of them."""
        with self.drawing:
            if stage is not self.stage or inputs == self.highlighted:
                return

            for number in {*inputs, *self.highlighted} & {*self.frusta}:
                frustum, is_input = self.frusta[number], number in inputs
                found = stage.photos.read(number) if is_input else None
                frustum.color = INPUT if is_input else OTHER
                frustum.image = None if found is None else to_pixels(found[0])

            self.highlighted = inputs

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
            self.attempt(RENDER, self.render_look)

    def render_look(self) -> None:
        """The newest view, small; and whole, when no newer one has come for a while."""
        stage, camera = self.stage, self.camera()
        sets = self.sets_for(stage, camera)

        if not sets or self.ended.is_set():
            return

        whole = stage.whole_size(camera)
        small = self.resolution.size(whole, len(sets))
        self.render(stage, camera, small, sets)

        if len(sets) > 1:    # they are fading
            self.asked.set()
        elif not self.asked.wait(REST_SECONDS):
            if small != whole:
                self.render(stage, camera, whole, sets)

            if not self.asked.is_set():
                self.turn_around_subject(camera)

    def sets_for(self, stage: Stage, camera: ViewerCamera) -> list[WeightedSets]:
        """What there is to render from. Photos that are nearer are encoded meanwhile, and then `asked` is set."""
        count = min(self.count.value, stage.most_inputs)
        key = stage.inputs_for(camera, count, MODES[self.mode.value])
        encoded = stage.sets.get(key)

        if encoded is None:
            stage.sets.request(self, key, self.asked.set)

        sets = self.fade.step(key, encoded, time.perf_counter())

        if not sets:
            self.line = f'**{stage.scene.name}**: {count} photos are encoded'
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

    # a film of where they went

    def record(self) -> None:
        if len(self.recorded) >= MOST_CAMERAS:
            fail('film', f'must have at most {MOST_CAMERAS} cameras', len(self.recorded) + 1, 'Render this one, and begin another.')

        self.recorded.append(self.camera())
        self.say_recorded()

    def forget(self) -> None:
        self.recorded.clear()
        self.say_recorded()

    def say_recorded(self, done: str = '') -> None:
        self.film.content = done or f'{len(self.recorded)} cameras on its way' + ('' if self.recorded else ': go somewhere, and add it')

    def render_film(self) -> None:
        """One at a time, of all visitors."""
        if not self.recorded:
            return

        with self.viewer.film_turn():
            self.film_way(self.stage, list(self.recorded), min(self.count.value, self.stage.most_inputs), MODES[self.mode.value])

    def film_way(self, stage: Stage, keyframes: list[ViewerCamera], count: int, attends: bool) -> None:
        """Through the recorded cameras, into a file in `out` of the config, and to the visitor. The path is kept beside it, for `lvsm render --path`."""
        size = stage.whole_size(keyframes[0])
        cameras = stage.path(keyframes, FRAMES_A_LEG, size)
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
                self.say_recorded(f'{number + 1} of {len(frames)} frames')

            write_video(frames, film, FPS)

        self.client.send_file_download(film.name, film.read_bytes(), save_immediately = True)
        self.say_recorded(f'{film} has {len(frames)} frames')
