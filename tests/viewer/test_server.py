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
from lvsm_pytorch.viewer import server as view_module
from lvsm_pytorch.viewer.server import Viewer, view

# what viser and its server of websockets leave to the garbage collector

pytestmark = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning', 'ignore::pytest.PytestUnhandledThreadExceptionWarning', 'ignore::DeprecationWarning', 'ignore:these weights are used far')

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


def until(condition, seconds = 60.):
    ends = time.monotonic() + seconds

    while not condition():
        assert time.monotonic() < ends, 'waited too long'
        time.sleep(0.05)


def opened(browser, viewer):
    """A page, its visit, and when the first view is there."""
    before = set(viewer.visits)
    page = browser.new_page()
    page.goto(f'http://127.0.0.1:{viewer.port}')
    until(lambda: set(viewer.visits) - before)
    number, = set(viewer.visits) - before
    visit = viewer.visits[number]
    until(lambda: ' ms' in visit.status.content)
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
    visit.mode.value = next(name for name, attends in view_module.MODES.items() if attends)
    visit.asked.set()
    until(lambda: viewer.stage(0).read.cache_info().currsize >= 2)
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
    monkeypatch.setattr(view_module, 'FRAMES_A_LEG', 3)
    page, visit = opened(browser, viewer)
    page.get_by_role('button', name = 'Add this camera').click()
    until(lambda: len(visit.recorded) == 1)
    visit.go_to(visit.stage.shown[4])
    until(lambda: (visit.camera().camera_to_world[:3, 3] - visit.stage.shown[4, :3, 3]).norm() < 1e-3)
    page.get_by_role('button', name = 'Add this camera').click()
    until(lambda: len(visit.recorded) == 2)
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
    visit.asked.set()
    until(lambda: ' ms' in visit.status.content)


def test_what_can_not_be_rendered_is_shown_and_does_not_end_the_visit(browser, viewer, run):
    _, visit = opened(browser, viewer)
    number, = set(visit.stage.inputs(3)) - set(visit.stage.inputs(2))
    photo = sorted((run / 'photos' / 'images').iterdir())[number]
    whole = photo.read_bytes()
    photo.write_bytes(whole[:200])
    visit.count.value = 3
    visit.asked.set()
    until(lambda: photo.name in visit.status.content)

    photo.write_bytes(whole)
    visit.asked.set()
    until(lambda: ' ms' in visit.status.content)


def test_other_scenes_are_entered(browser, run):
    viewer = Viewer(config(run, data = None, scene = 5))
    _, visit = opened(browser, viewer)
    assert visit.stage.scene.name == 'synthetic-5'
    visit.scene.value = 7
    visit.enter(7)
    until(lambda: 'synthetic-7' in visit.status.content)
    viewer.stop()


@pytest.mark.filterwarnings('ignore:skipped')
def test_a_photo_that_can_not_be_read_is_skipped_and_named(browser, run):
    with_all = Viewer(config(run))
    broken = sorted((run / 'photos' / 'images').iterdir())[with_all.stage(0).inputs(2)[0]]
    with_all.stop()
    broken.write_bytes(broken.read_bytes()[:200])

    viewer = Viewer(config(run))
    _, visit = opened(browser, viewer)
    assert broken.name in visit.status.content
    assert broken.name not in {visit.stage.scene.views[number].name for number in visit.stage.inputs(2)}
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
    monkeypatch.setattr(view_module, 'FRAMES_A_LEG', 3)
    viewer = Viewer(config(run, data = None))
    _, visit = opened(browser, viewer)
    first, films, rendered = visit.stage, [], []
    monkeypatch.setattr(view_module, 'write_video', lambda frames, film, fps: (films.append(film), film.write_bytes(b'film')))

    def render(stage, *told):
        rendered.append(stage)
        if len(rendered) == 1:
            visit.stage = viewer.stage(1)
            visit.render_film()    # another click, while this one goes on
        return torch.zeros(3, 8, 8)

    monkeypatch.setattr(type(first), 'render_camera', render)
    visit.recorded += [visit.camera(), visit.camera()]
    visit.render_film()
    assert len(films) == 1
    assert rendered.count(first) == len(rendered) - sum(stage is not first for stage in rendered) >= 4
    visit.render_film()
    assert len(films) == 2
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
    second = Viewer(config(run))
    assert second.port != viewer.port
    viewer.stop()
    second.stop()


@pytest.mark.parametrize('told, message', [
    (['--scene', '3'], 'scene: must be from 0 up to below 1'),
    (['--model', 'nowhere'], 'folder_or_hub_id'),
    (['--data', 'nowhere'], 'data: must be'),
])
def test_mistakes_are_named(told, message, run, monkeypatch):
    monkeypatch.setattr('sys.argv', ['lvsm', 'view', *(['--model', str(run / 'model')] if '--model' not in told else []), *(['--data', str(run / 'photos')] if '--data' not in told else []), *told])
    with pytest.raises(SystemExit, match = message):
        main()


def test_without_viser_it_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'viser', None)
    with pytest.raises(ImportError, match = r'pip install "lvsm-pytorch\[train,view\]"'):
        view(config(run))
