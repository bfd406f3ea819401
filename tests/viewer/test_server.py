"""The viewer, in a browser without a screen."""

from __future__ import annotations

import json
import threading
import time
from io import BytesIO

import numpy as np
import pytest
import torch
from browser import SOFTWARE, chromium_path
from conftest import tiny_model
from PIL import Image

from lvsm_pytorch.cli import main
from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.data import synthetic_scene, write_transforms
from lvsm_pytorch.lvsm.pretrained import TrainedFor
from lvsm_pytorch.viewer import visit as visit_module
from lvsm_pytorch.viewer.server import Viewer, view

# what viser and its server of websockets leave to the garbage collector

pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning', 'ignore::pytest.PytestUnhandledThreadExceptionWarning', 'ignore::DeprecationWarning', 'ignore:these weights are used far', 'ignore:skipped', 'ignore:.*more pixels than those of max_image_size')

WINDOW = dict(width = 1000, height = 600)


@pytest.fixture(scope = 'module')
def chromium():
    playwright = pytest.importorskip('playwright.sync_api')
    path = chromium_path()

    if path is None:
        pytest.skip('there is no Chromium here')

    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path = path, args = SOFTWARE)
        yield launched
        launched.close()


@pytest.fixture
def browser(chromium):
    """Its pages are closed after the test."""
    with chromium.new_context(viewport = WINDOW) as context:
        yield context


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    model = tiny_model(num_depth_planes = 4, input_attends_target = False)
    model.trained_for = TrainedFor('inputs', (32, 32), 2)
    model.save_pretrained(tmp_path / 'model')
    write_transforms(synthetic_scene(3, num_views = 7, image_size = 48), tmp_path / 'photos')
    return tmp_path


def config(run, **changes):
    return ViewConfig(**{**dict(model = run / 'model', data = run / 'photos', out = run / 'films', port = 8130, device = 'cpu'), **changes})


@pytest.fixture
def viewer(run):
    viewer = Viewer(config(run))
    yield viewer
    viewer.stop()


def until(condition, seconds = 120., state = lambda: ''):
    ends = time.monotonic() + seconds

    while not condition():
        assert time.monotonic() < ends, f'waited too long: {state()}'
        time.sleep(0.05)


def opened(browser, viewer):
    """A page, its visit, and when the first view is there."""
    before = set(viewer.visits)
    page = browser.new_page()
    page.goto(viewer.address.replace(viewer.config.host, '127.0.0.1'))
    until(lambda: set(viewer.visits) - before)
    number, = set(viewer.visits) - before
    visit = viewer.visits[number]
    begins = [3., 3., 3.]    # where viser's camera is before it hears of ours
    until(
        lambda: ' ms' in visit.status.content and abs(visit.camera().camera_to_world[:3, 3] - torch.tensor(begins)).max() > 0.1,
        state = lambda: f'{visit.status.content}, {visit.camera()}, {visit.thread}, needs render {visit.needs_render.is_set()}',
    )
    return page, visit


def picture(page):
    """What the page shows left of the controls, once it has settled."""
    def render_frames():
        return np.asarray(Image.open(BytesIO(page.screenshot(clip = dict(x = 0, y = 200, width = 500, height = 350)))).convert('RGB')).astype(float)

    before = render_frames()

    for _ in range(60):
        page.wait_for_timeout(400)
        now = render_frames()

        if abs(now - before).max() < 8 and now.std() > 3:
            return now

        before = now

    raise AssertionError('the page never settles')


def drag(page):
    page.mouse.move(150, 300)
    page.mouse.down()
    page.mouse.move(230, 320, steps = 6)
    page.mouse.up()


def test_a_page_opens_and_a_move_of_the_camera_changes_the_picture(browser, viewer):
    page, visit = opened(browser, viewer)
    first, camera = picture(page), visit.camera()
    assert page.get_by_text('Input photos').is_visible()
    drag(page)
    page.wait_for_timeout(500)
    second = picture(page)
    assert (visit.camera().camera_to_world - camera.camera_to_world).abs().max() > 0.05
    assert abs(second - first).mean() > 3


def test_two_visitors_do_not_disturb_each_other_and_a_reload_is_a_new_visit(browser, viewer):
    first, visit = opened(browser, viewer)
    second, other = opened(browser, viewer)
    before = other.camera()
    drag(first)
    visit.count.value = 5
    visit.mode.value = next(name for name, attends in visit_module.MODES.items() if attends)
    visit.needs_render.set()
    until(lambda: any(len(key.inputs) == 5 and key.input_attends_target for key in viewer.stage(0).sets.values))
    assert other.count.value == 2
    assert (other.camera().camera_to_world - before.camera_to_world).abs().max() < 1e-6
    assert picture(first).shape == picture(second).shape

    first.reload()
    until(lambda: visit.ended.is_set() and len(viewer.visits) == 2)
    again = next(each for each in viewer.visits.values() if each is not other)
    until(lambda: ' ms' in again.status.content)
    assert picture(first).std() > 3


def test_closing_the_page_ends_its_work(browser, viewer):
    page, visit = opened(browser, viewer)
    assert visit.thread in threading.enumerate()
    page.close()
    until(lambda: not viewer.visits)
    visit.thread.join(timeout = 10)
    assert not visit.thread.is_alive()


def test_a_film_goes_through_the_recorded_cameras(browser, viewer, run, monkeypatch):
    monkeypatch.setattr(visit_module, 'FRAMES_PER_SEGMENT', 3)
    page, visit = opened(browser, viewer)
    page.get_by_role('button', name = 'Add this camera').click()
    until(lambda: len(visit.keyframes) == 1)
    visit.go_to(visit.stage.shown[4])
    until(lambda: (visit.camera().camera_to_world[:3, 3] - visit.stage.shown[4, :3, 3]).norm() < 1e-3)
    page.get_by_role('button', name = 'Add this camera').click()
    until(lambda: len(visit.keyframes) == 2)
    with page.expect_download() as download:
        page.get_by_role('button', name = 'Render').click()
    film, = (run / 'films').glob('*.mp4')
    assert download.value.suggested_filename == film.name
    path = json.loads(film.with_suffix('.json').read_text())
    assert len(path['camera_to_world']) == 4
    poses = torch.tensor(path['camera_to_world'])
    assert (poses[-1] - visit.stage.scene.views[4].camera_to_world).abs().max() < 1e-2
    av = pytest.importorskip('av')
    with av.open(str(film)) as container:
        assert sum(1 for _ in container.decode(video = 0)) == 4


def test_a_camera_that_looks_away_from_everything_is_fine(browser, viewer):
    _, visit = opened(browser, viewer)
    away = torch.eye(4)
    away[:3, 3] = torch.tensor([0., 0., 50.])
    visit.go_to(away)
    until(lambda: visit.camera().camera_to_world[2, 3] > 40)
    visit.status.content = ''
    visit.needs_render.set()
    until(lambda: ' ms' in visit.status.content)


def test_what_fails_is_shown_until_it_succeeds(browser, viewer, monkeypatch):
    _, visit = opened(browser, viewer)
    with monkeypatch.context() as patch:
        patch.setattr(type(visit.stage), 'render', lambda *_: 1 / 0)
        visit.needs_render.set()
        until(lambda: 'ZeroDivisionError' in visit.status.content)
        visit.attempt('cameras', visit.draw_frusta)    # that something else succeeds takes nothing away
        assert 'ZeroDivisionError' in visit.status.content
    visit.needs_render.set()
    until(lambda: 'ZeroDivisionError' not in visit.status.content and ' ms' in visit.status.content)
    assert visit.thread.is_alive()


def test_a_set_that_can_not_be_encoded_is_shown_and_tried_again(browser, viewer, monkeypatch):
    _, visit = opened(browser, viewer)
    with monkeypatch.context() as patch:
        patch.setattr(visit.stage.sets, 'compute', lambda key: 1 / 0)
        visit.count.value = 4
        visit.needs_render.set()
        until(lambda: 'ZeroDivisionError' in visit.status.content)
    visit.needs_render.set()
    until(lambda: 'ZeroDivisionError' not in visit.status.content and ' ms' in visit.status.content)
    until(lambda: len(visit.highlighted) == 4)


def test_the_view_goes_on_while_photos_are_encoded_and_then_fades_to_them(browser, viewer, monkeypatch):
    page, visit = opened(browser, viewer)
    picture(page)    # the page sends the camera that it begins with some time after the first view
    stage, go_on, rendered = visit.stage, threading.Event(), []
    encode, render = stage.sets.compute, stage.render
    monkeypatch.setattr(stage.sets, 'compute', lambda key: go_on.wait(60) and encode(key))
    monkeypatch.setattr(stage, 'render', lambda camera, size, sets: (rendered.append([(part.key.inputs, part.weight) for part in sets]), render(camera, size, sets))[1])
    old = visit.highlighted
    there = next(pose for number, pose in enumerate(stage.shown) if number not in old)
    visit.go_to(there)
    until(lambda: (visit.camera().camera_to_world[:3, 3] - there[:3, 3]).norm() < 1e-3)
    for _ in range(2):
        rendered.clear()
        visit.needs_render.set()
        until(lambda: rendered)
    assert rendered[-1] == [(old, 1.)]
    go_on.set()
    until(lambda: visit.highlighted != old and not visit.fade.is_fading)
    assert any(len(each) == 2 for each in rendered)
    picture(page)
    new = stage.inputs_for(visit.camera(), 2, False).inputs
    until(lambda: rendered[-1] == [(new, 1.)])
    until(lambda: visit.highlighted == new)
    for number, frustum in visit.frusta.items():
        assert (frustum.color == visit_module.INPUT) == (number in new)
        assert (frustum.image is not None) == (number in new)


def test_a_drag_turns_around_the_subject_also_after_moves(browser, viewer):
    page, visit = opened(browser, viewer)
    stage = visit.stage

    def pivot():
        return torch.tensor(visit.client.camera.look_at, dtype = torch.float32)

    def is_at_the_subject():
        camera = visit.camera().camera_to_world
        return abs(float((pivot() - camera[:3, 3]).norm()) / stage.subject_distance(camera) - 1) < visit_module.PIVOT_TOLERANCE - 1 + 0.01

    def settled():
        until(lambda: not visit.needs_render.is_set() and is_at_the_subject())

    settled()
    visit.go_to(stage.shown[5])    # what a click on a frustum does
    until(lambda: (visit.camera().camera_to_world[:3, 3] - stage.shown[5, :3, 3]).norm() < 1e-3)
    settled()
    before, there = pivot(), visit.camera().camera_to_world
    picture(page)
    drag(page)
    until(lambda: (visit.camera().camera_to_world - there).abs().max() > 0.05)
    settled()
    assert (pivot() - before).norm() < 0.2 * (there[:3, 3] - before).norm()

    picture(page)    # the page moves the camera smoothly, and takes a while

    camera = visit.camera().camera_to_world    # a walk sideways and forward takes the point along, which then goes back to the subject
    visit.client.camera.look_at = (camera[:3, 3] + 0.2 * stage.subject_distance(camera) * camera[:3, 2]).numpy()
    until(lambda: not is_at_the_subject())
    visit.needs_render.set()
    settled()
    assert (visit.camera().camera_to_world - camera).abs().max() < 1e-2


def test_other_scenes_are_entered(browser, run):
    viewer = Viewer(config(run, data = None, scene = 5))
    _, visit = opened(browser, viewer)
    assert visit.stage.scene.name == 'synthetic-5'
    visit.scene.value = 7
    visit.enter(7)
    until(lambda: 'synthetic-7' in visit.status.content)
    viewer.stop()


def test_a_photo_that_can_not_be_read_is_named_and_left_out(browser, run):
    viewer = Viewer(config(run))
    number = next(number for number in range(7) if number not in viewer.stage(0).middle_inputs)
    broken = sorted((run / 'photos' / 'images').iterdir())[number]
    broken.write_bytes(broken.read_bytes()[:200])
    _, visit = opened(browser, viewer)
    visit.go_to(visit.stage.shown[number])
    until(lambda: broken.name in visit.status.content and ' ms' in visit.status.content)
    until(lambda: visit.highlighted == visit.stage.inputs_for(visit.camera(), 2, False).inputs)
    assert number not in visit.highlighted
    assert broken.name in visit.status.content    # it stays there
    viewer.stop()


def test_a_scene_may_have_more_photos_than_the_one_before(browser, run):
    write_transforms(synthetic_scene(1, num_views = 4, image_size = 48), run / 'both' / 'a')
    write_transforms(synthetic_scene(2, num_views = 9, image_size = 48), run / 'both' / 'b')
    viewer = Viewer(config(run, data = run / 'both'))
    _, visit = opened(browser, viewer)
    assert visit.count.max == 4
    visit.enter(1)
    assert visit.count.max == 9
    visit.count.value = 8
    visit.enter(0)
    assert (visit.count.value, visit.count.max) == (4, 4)
    viewer.stop()


def test_a_film_is_of_the_scene_that_it_was_begun_in_and_one_at_a_time(browser, run, monkeypatch):
    monkeypatch.setattr(visit_module, 'FRAMES_PER_SEGMENT', 3)
    viewer = Viewer(config(run, data = None))
    _, visit = opened(browser, viewer)
    first, films, rendered = visit.stage, [], []
    monkeypatch.setattr(visit_module, 'write_video', lambda frames, film, fps: (films.append(film), film.write_bytes(b'film')))

    def film(stage, cameras, *arguments):
        for _ in range(len(cameras)):
            rendered.append(stage)
            if len(rendered) == 1:
                visit.stage = viewer.stage(1)
                visit.attempt('another click', visit.render_film)    # while this one goes on
            yield torch.zeros(3, 8, 8)

    monkeypatch.setattr(type(first), 'film', film)
    visit.keyframes += [visit.camera(), visit.camera()]
    visit.render_film()
    assert len(films) == 1
    assert rendered == [first] * 4
    assert 'must wait for the one that is rendered now' in visit.errors['another click']
    visit.render_film()
    assert len(films) == 2
    viewer.stop()


def test_a_viewer_has_so_many_films(run):
    viewer = Viewer(config(run, max_films = 1))
    with viewer.film_slot():
        pass
    with pytest.raises(ValueError, match = r'film: must be one of at most 1 of a viewer \(--max-films\)'), viewer.film_slot():
        pass
    viewer.stop()


def test_a_film_has_so_many_cameras(browser, viewer):
    _, visit = opened(browser, viewer)
    visit.keyframes += [visit.camera()] * visit_module.MAX_KEYFRAMES
    visit.attempt(visit_module.FILM, visit.record)
    assert f'at most {visit_module.MAX_KEYFRAMES} cameras' in visit.status.content
    visit.attempt(visit_module.FILM, visit.forget)
    assert 'cameras' not in visit.status.content


def test_a_viewer_has_so_many_visitors(browser, run):
    viewer = Viewer(config(run, max_visitors = 1))
    page, _ = opened(browser, viewer)
    second = browser.new_page()
    second.goto(f'http://127.0.0.1:{viewer.port}')
    second.get_by_text('This viewer has 1 visitors').wait_for(timeout = 60000)
    assert len(viewer.visits) == 1
    page.close()
    until(lambda: not viewer.visits)
    second.reload()
    until(lambda: len(viewer.visits) == 1)
    viewer.stop()


def test_a_model_that_does_not_say_what_it_was_trained_for_is_used_at_its_own_size(run):
    tiny_model(max_image_size = 32).save_pretrained(run / 'bare')
    viewer = Viewer(config(run, model = run / 'bare', data = None))
    assert viewer.stage(0).size == (32, 32)
    assert viewer.stage(0).scene.views[0].load().shape == (3, 32, 32)
    viewer.stop()


def test_it_serves_this_machine_alone_by_default(run):
    assert ViewConfig().host == '127.0.0.1'
    viewer = Viewer(config(run))
    assert viewer.server.get_host() == '127.0.0.1'
    assert viewer.address == f'http://localhost:{viewer.port}'
    second = Viewer(config(run))
    assert second.port != viewer.port
    viewer.stop()
    second.stop()


@pytest.mark.parametrize('arguments, message', [
    (['--scene', '3'], 'scene: must be from 0 up to below 1'),
    (['--model', 'nowhere'], 'folder_or_hub_id'),
    (['--data', 'nowhere'], 'data: must be'),
])
def test_mistakes_are_named(arguments, message, run, monkeypatch):
    monkeypatch.setattr('sys.argv', ['lvsm', 'view', *(['--model', str(run / 'model')] if '--model' not in arguments else []), *(['--data', str(run / 'photos')] if '--data' not in arguments else []), *arguments])
    with pytest.raises(SystemExit, match = message):
        main()


def test_without_viser_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'viser', None)
    with pytest.raises(ImportError, match = r'pip install "lvsm-pytorch\[train,view\]"'):
        view(config(run))
