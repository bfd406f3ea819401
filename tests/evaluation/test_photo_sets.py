"""Sets of photos without an index: what is held out, which inputs are taken, what is counted, kept and shown."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from conftest import tiny_model

from lvsm_pytorch import Cameras, synthesize
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import save_config
from lvsm_pytorch.data import BadView, Problems, cameras_of, open_dataset, read_scene, synthetic_scene, write_chunks, write_transforms
from lvsm_pytorch.data.images import load_image, resize_and_crop
from lvsm_pytorch.data.scene import unit_of_set
from lvsm_pytorch.evaluation import nearest, photo_sets
from lvsm_pytorch.evaluation.evaluate import evaluate
from lvsm_pytorch.evaluation.metrics import best_blur
from lvsm_pytorch.evaluation.nearest import NearestInputs, evaluate_set
from lvsm_pytorch.evaluation.nearest_report import input_rows, summary, table
from lvsm_pytorch.evaluation.photo_sets import PICTURES, read_sets
from lvsm_pytorch.evaluation.records import PAGE, REPORT, SCENES
from lvsm_pytorch.geometry.view_selection import nearest_views
from lvsm_pytorch.lvsm.losses import psnr
from lvsm_pytorch.lvsm.pretrained import TrainedFor

METHODS = 'model', 'sweep', 'blur', 'copy'


def photo_set(seed, num_views):
    return replace(synthetic_scene(seed, num_views = num_views, image_size = 16), name = f'<set & {seed}>')


@pytest.fixture(scope = 'module')
def made(tmp_path_factory):
    """A folder with a model of 2 inputs and 16², and two sets of 17 and of 9 photos."""
    folder = tmp_path_factory.mktemp('sets')
    model = tiny_model()
    model.trained_for = TrainedFor('inputs', (16, 16), 2, unit = 3.)
    model.save_pretrained(folder / 'model')

    for name, scene in dict(large = photo_set(1, 17), small = photo_set(2, 9)).items():
        write_transforms(scene, folder / 'sets' / name)

    return folder


@pytest.fixture
def here(made, tmp_path):
    return shutil.copytree(made, tmp_path / 'here')


def config(here, **changes):
    return EvaluateConfig(**{**dict(model = here / 'model', data = (here / 'sets',), out = here / 'out', device = 'cpu'), **changes})


def protocol(**changes):
    return NearestInputs(**{**dict(model = tiny_model().eval(), size = (16, 16), filter = 'bicubic', pose_frame = 'inputs', num_inputs = (3,), max_views = None, similarity = None, unit = lambda scene: None), **changes})


def evaluated(scene, **changes):
    return evaluate_set(protocol(**changes), scene, changes.get('num_inputs', (3,))[0], lambda: None)


def unreadable(scene, *names):
    def load():
        raise BadView('broken')

    return replace(scene, views = tuple(replace(view, load = load) if view.name in names else view for view in scene.views))


# one set

def test_every_eighth_photo_is_rendered_from_the_nearest_of_the_others():
    scene = photo_set(1, 20)
    record, _ = evaluated(scene)
    names = [view.name for view in scene.views]
    assert [view['view'] for view in record['views']['3']] == names[::8]
    assert (record['photos'], record['held_out'], record['missing_photos']) == (20, 3, [])
    others = [view for view in scene.views if view.name not in names[::8]]
    by_name = {view.name: view for view in scene.views}

    for view in record['views']['3']:
        expected = nearest_views(cameras_of(others).camera_to_world, by_name[view['view']].camera_to_world, 3)
        assert view['inputs'] == [others[number].name for number in expected]


def test_figures_are_those_of_the_call_that_people_make():
    scene, model = photo_set(1, 20), tiny_model().eval()
    record, shown = evaluated(scene, model = model)
    view = record['views']['3'][1]
    by_name = {each.name: each for each in scene.views}
    target = by_name[view['view']]
    truth, intrinsics = resize_and_crop(target.load(), target.intrinsics, (16, 16))
    photos = [by_name[name] for name in view['inputs']]
    pred = synthesize(model, [photo.load() for photo in photos], cameras_of(photos), Cameras(target.camera_to_world, intrinsics), (16, 16), input_size = (16, 16))
    fitted = torch.stack([resize_and_crop(photo.load(), photo.intrinsics, (16, 16))[0] for photo in photos])
    assert view['model']['psnr'] == pytest.approx(float(psnr(pred, truth)), abs = 1e-3)
    assert view['copy']['psnr'] == pytest.approx(float(psnr(fitted, truth).max()), abs = 1e-3)
    assert view['blur']['psnr'] == pytest.approx(float(psnr(best_blur(fitted.mean(dim = 0), truth), truth)), abs = 1e-3)
    assert all(set(view[method]) == {'psnr', 'ssim'} for method in METHODS)

    best, worst = (one(record['views']['3'], key = lambda view: view['model']['psnr']) for one in (max, min))
    assert (shown['best'].figures, shown['worst'].figures, shown['first'].figures) == (best, worst, record['views']['3'][0])
    assert shown['best'].inputs.shape == (3, 3, 16, 16)


def test_views_and_inputs_are_as_many_as_wanted():
    scene = photo_set(1, 20)
    record, _ = evaluated(scene, num_inputs = (4, 2), max_views = 2)
    assert list(record['views']) == ['4', '2']
    assert [len(view['inputs']) for views in record['views'].values() for view in views] == [4, 4, 2, 2]
    assert all(few['inputs'] == many['inputs'][:2] for few, many in zip(record['views']['2'], record['views']['4'], strict = True))
    record, _ = evaluated(scene, similarity = lambda pred, target: [0.25] * len(pred))
    assert all(view[method]['lpips'] == 0.25 for view in record['views']['3'] for method in METHODS)


def test_photos_that_cannot_be_read_are_named_and_the_next_nearest_takes_their_place():
    scene = photo_set(1, 20)
    whole, _ = evaluated(scene, num_inputs = (4,))
    first, second, _ = whole['views']['4']
    broken = unreadable(scene, first['inputs'][0], second['view'])
    record, _ = evaluated(broken)
    assert [view['view'] for view in record['views']['3']] == [view['view'] for view in whole['views']['4'] if view is not second]
    assert record['views']['3'][0]['inputs'] == first['inputs'][1:]
    assert sorted((photo['photo'], photo['held_out'], photo['why']) for photo in record['missing_photos']) == sorted([(first['inputs'][0], False, 'broken'), (second['view'], True, 'broken')])


def test_a_set_that_is_too_small_says_so():
    with pytest.raises(BadView, match = 'must have at least three views beside those held out'):
        evaluated(photo_set(1, 3))
    with pytest.raises(BadView, match = 'rendered from 9 others, but got 7 views beside those held out'):
        evaluated(photo_set(1, 8), num_inputs = (9,))
    record, _ = evaluated(photo_set(1, 8), num_inputs = (9, 7))
    assert list(record['views']) == ['7']
    scene = photo_set(1, 8)
    with pytest.raises(BadView, match = 'broken'):
        evaluated(unreadable(scene, scene.views[0].name))


# several

def test_all_sets_of_all_folders(here, capsys):
    shutil.copytree(here / 'sets' / 'small', here / 'more')
    report = evaluate(config(here, data = (here / 'sets', here / 'more')))
    assert report['protocol'] == 'nearest'
    assert report['scenes'] == dict(evaluated = 3, missing = {}, skipped = {}, missing_photos = dict(large = [], small = [], more = []), too_few = [])
    assert report['num_inputs'] == 2    # as the model was trained
    assert [len(record['views']['2']) for record in report['per_scene']] == [3, 2, 2]
    assert report['sets']['more'] == report['sets']['small'] != report['sets']['large']
    assert json.loads((here / 'out' / REPORT).read_text()) == json.loads(json.dumps(report))

    for method, figures in dict(report['baselines'], model = report['metrics']).items():
        means = [sum(view[method]['psnr'] for view in record['views']['2']) / len(record['views']['2']) for record in report['per_scene']]
        assert figures['psnr'] == pytest.approx(sum(means) / 3)

    said = capsys.readouterr().out
    assert f'{report["metrics"]["psnr"]:.2f} / {report["metrics"]["ssim"]:.3f}' in said
    assert all(word in said for word in ('mean of 3 sets', 'plane sweep', 'blurred mean', 'copied', 'large', 'by the truth', '3 sets evaluated, 0 missing'))


def test_the_page_shows_the_worst_sets_first(here):
    report = evaluate(config(here))
    page = (here / 'out' / PAGE).read_text()
    worst, best = sorted(report['sets'], key = lambda name: report['sets'][name]['model']['psnr'])
    assert 0 < page.index(f'<h2>{worst}</h2>') < page.index(f'<h2>{best}</h2>')
    pictures = [picture for record in report['per_scene'] for picture in record['pictures']]
    assert page.count('<img ') == len(pictures) >= 4

    for picture in pictures:
        assert f'src="{picture["file"]}"' in page
        assert load_image(here / 'out' / picture['file']).shape == (3, 16, 5 * 16 + 4 * 4)    # two inputs, sweep, model, truth, and gaps

    assert all(word in page for word in (report['weights'], 'plane sweep', 'truth', 'input 2', f'{report["metrics"]["psnr"]:.2f}'))


def test_names_are_escaped_on_the_page(here):
    write_transforms(photo_set(1, 9), here / 'more' / '<b>')
    evaluate(config(here, data = (here / 'more',)))
    page = (here / 'out' / PAGE).read_text()
    assert '&lt;b&gt;' in page
    assert '<b>' not in page


def test_numbers_of_inputs_are_compared_over_the_sets_that_have_so_many(here, capsys):
    report = evaluate(config(here, num_inputs = (2, 3, 8), max_views = 1))    # the small set has 7 others
    assert report['num_inputs'] == 2
    assert report['by_inputs']['sets'] == 1
    assert list(report['by_inputs']['metrics']) == ['2', '3', '8']
    assert report['by_inputs']['metrics']['2']['model'] == {figure: value for figure, value in report['sets']['large']['model'].items()}
    assert '1 sets with enough photos' in capsys.readouterr().out

    with pytest.warns(UserWarning, match = 'skipped small: .*rendered from 8 others, but got 7 views'):
        report = evaluate(config(here, num_inputs = (8,), max_views = 1, out = here / 'eight', allow_missing = True))

    assert (report['num_inputs'], list(report['sets']), list(report['scenes']['missing'])) == (8, ['large'], ['small'])
    assert evaluate(config(here, num_inputs = (4, 3), max_views = 1, out = here / 'four'))['num_inputs'] == 4


def test_stopped_work_resumes(here, monkeypatch):
    whole = evaluate(config(here, out = here / 'whole'))
    once, sets = photo_sets.evaluate_set, []

    def stopped(protocol, scene, *more):
        sets.append(scene.name)
        if len(sets) == 2:
            raise KeyboardInterrupt
        return once(protocol, scene, *more)

    monkeypatch.setattr(photo_sets, 'evaluate_set', stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate(config(here))
    assert len(list((here / 'out' / SCENES).glob('*.json'))) == 1
    assert not (here / 'out' / REPORT).exists()
    assert evaluate(config(here))['per_scene'] == whole['per_scene']
    assert sets == ['large', 'small', 'small']
    evaluate(config(here))
    assert len(sets) == 3
    assert (here / 'out' / PICTURES).is_dir()

    # photos that were added change what is held out: that set alone is evaluated anew

    shutil.rmtree(here / 'sets' / 'small')
    write_transforms(photo_set(2, 12), here / 'sets' / 'small')
    assert evaluate(config(here))['per_scene'][0] == whole['per_scene'][0]
    assert sets[3:] == ['small']

    with pytest.raises(ValueError, match = 'out: must be a new folder, or one with the same settings, but got .*max_views None instead of 1'):
        evaluate(config(here, max_views = 1))
    assert len(evaluate(config(here, max_views = 1, overwrite = True))['per_scene'][0]['views']['2']) == 1


def test_what_is_missing_is_named_and_is_an_error_unless_it_may(here, capsys):
    images = here / 'sets' / 'large' / 'images'
    photo = sorted(images.iterdir())[8]
    data = photo.read_bytes()
    photo.write_bytes(data[:len(data) // 2])
    write_transforms(photo_set(3, 3), here / 'sets' / 'tiny')

    with pytest.warns(UserWarning, match = 'skipped tiny'), pytest.raises(ValueError, match = 'data: must have sets and photos that can be read, but got 2 missing'):
        evaluate(config(here))
    report = json.loads((here / 'out' / REPORT).read_text())
    assert (report['scenes']['evaluated'], list(report['scenes']['missing'])) == (2, ['tiny'])
    assert [(each['photo'], each['held_out']) for each in report['scenes']['missing_photos']['large']] == [(f'images/{photo.name}', True)]
    said = capsys.readouterr().out
    assert f'large: images/{photo.name}, held out' in said
    assert 'missing: tiny: ' in said

    with pytest.warns(UserWarning, match = 'skipped tiny'):
        assert len(evaluate(config(here, allow_missing = True))['per_scene'][0]['views']['2']) == 2

    # and is tried again

    photo.write_bytes(data)
    shutil.rmtree(here / 'sets' / 'tiny')
    assert len(evaluate(config(here))['per_scene'][0]['views']['2']) == 3

    shutil.rmtree(here / 'sets' / 'large')
    shutil.rmtree(here / 'sets' / 'small')
    write_transforms(photo_set(3, 3), here / 'sets' / 'tiny')
    with pytest.warns(UserWarning, match = 'skipped tiny'), pytest.raises(ValueError, match = 'data: must have at least one set of photos that can be evaluated, but got none of 1'):
        evaluate(config(here, out = here / 'none'))


def test_processes_share_the_sets(here, monkeypatch):
    """Two processes, the second of which runs while the first waits for it."""
    expected = evaluate(config(here, max_views = 1))
    sets, once = {0: [], 1: []}, photo_sets.evaluate_set

    class Process:
        device, num_processes = torch.device('cpu'), 2

        def __init__(self, index):
            self.process_index, self.is_main_process, self.waits = index, index == 0, 0

        def wait_for_everyone(self):
            self.waits += 1
            if self.is_main_process and self.waits == 2:
                other = run(1)
                assert other['per_scene'] == expected['per_scene']

    def run(index):
        monkeypatch.setattr(photo_sets, 'processes_of', lambda config: nullcontext(Process(index)))
        monkeypatch.setattr(photo_sets, 'evaluate_set', lambda protocol, scene, *more: sets[index].append(scene.name) or once(protocol, scene, *more))
        return evaluate(config(here, max_views = 1, out = here / 'two'))

    assert run(0)['per_scene'] == expected['per_scene']
    assert sets == {0: ['large'], 1: ['small']}


def test_names_that_two_folders_have_get_their_paths(here):
    shutil.copytree(here / 'sets' / 'small', here / 'other' / 'small')
    folders = 'sets', 'other'
    scenes, missing = read_sets({name: open_dataset(here / name) for name in folders}, Problems())
    assert (list(scenes), missing) == (['large', 'sets/small', 'other'], {})
    shutil.copytree(here / 'sets' / 'small', here / 'sets' / 'deep' / 'small')
    assert list(read_sets(dict(sets = open_dataset(here / 'sets')), Problems())[0]) == ['deep/small', 'large', 'small']
    for name in 'ab':
        write_chunks([synthetic_scene(0, num_views = 3, image_size = 8)], here / 'chunks' / name)
    with pytest.raises(ValueError, match = 'data: must have sets with unique names, but got sets/synthetic-0 twice'):
        read_sets(dict(sets = open_dataset(here / 'chunks')), Problems())


# which protocol, and which unit

def test_videos_and_built_in_scenes_keep_the_index(here):
    write_chunks([replace(synthetic_scene(seed, num_views = 40, image_size = 16), name = f'video {seed}', is_video = True) for seed in (1, 2)], here / 'chunks')
    assert 'index' in evaluate(config(here, data = (here / 'chunks',), out = here / 'videos', robustness_scenes = 0))
    by_choice = evaluate(config(here, data = (here / 'chunks',), protocol = 'nearest', out = here / 'nearest', max_views = 1))
    assert list(by_choice['sets']) == ['video 1', 'video 2']
    assert 'index' in evaluate(config(here, protocol = 'index', out = here / 'by-index', robustness_scenes = 0))


def test_a_run_on_sets_of_photos_is_evaluated_with_the_unit_it_was_trained_with(here, monkeypatch):
    units = []
    monkeypatch.setattr(nearest, 'synthesize', lambda *args, unit, **options: units.append(unit) or synthesize(*args, unit = unit, **options))
    evaluate(config(here, max_views = 1))
    assert units == [None, None]    # the pipeline finds it
    model = tiny_model()
    model.trained_for = TrainedFor('inputs', (16, 16), 2)
    model.save_pretrained(here / 'run')
    save_config(here / 'run', TrainConfig(data = here / 'sets'))
    report = evaluate(config(here, model = here / 'run', data = None, out = None, max_views = 1))
    held_out, = report['sets']    # one of its sets
    assert units[2:] == [pytest.approx(unit_of_set(read_scene(here / 'sets' / held_out)))]


def test_a_model_of_one_scene_works_in_its_world(here, monkeypatch):
    frames = []
    monkeypatch.setattr(nearest, 'synthesize', lambda *args, pose_frame, **options: frames.append(pose_frame) or synthesize(*args, pose_frame = pose_frame, **options))
    model = tiny_model()
    model.trained_for = TrainedFor('scene', (16, 16), 2, world = torch.eye(4).tolist())
    model.save_pretrained(here / 'model')
    report = evaluate(config(here, max_views = 1))
    assert (frames, report['pose_frame']) == ([None, None], 'scene')
    assert evaluate(config(here, max_views = 1, pose_frame = 'inputs', out = here / 'inputs'))['pose_frame'] == 'inputs'
    assert frames[2:] == ['inputs', 'inputs']


@pytest.mark.parametrize('changes, message', [
    (dict(data = 'sets'), 'data: must be a tuple of folders'),
    (dict(num_inputs = (2, 0)), 'num_inputs: must be numbers of at least 1'),
    (dict(num_inputs = ()), 'num_inputs: must be numbers of at least 1'),
    (dict(max_views = 0), 'max_views: must be at least 1'),
    (dict(protocol = 'nearest', index = 'index.json'), 'index: must be left out with the protocol nearest'),
    (dict(pose_frame = 'inputs_and_targets'), 'pose_frame: must be inputs or scene'),
    (dict(pose_frame = 'scene'), 'pose_frame: must be inputs'),
])
def test_mistakes_are_named(here, changes, message):
    with pytest.raises(ValueError, match = message):
        evaluate(config(here, **changes))


# the report

def record(scene, *psnrs, blur = 15., counts = ('3',)):
    views = [dict(view = str(number), inputs = [], **{method: dict(psnr = blur if method == 'blur' else psnr, ssim = 0.5) for method in METHODS}) for number, psnr in enumerate(psnrs)]
    return dict(scene = scene, photos = 9, views = dict.fromkeys(counts, views), missing_photos = [], pictures = [])


def test_each_set_counts_once():
    found = summary([record('a', 10., 20.), record('b', 30.)], (3,), 3)
    assert found['metrics'] == dict(psnr = 22.5, ssim = 0.5)
    assert found['baselines']['blur'] == dict(psnr = 15., ssim = 0.5)
    assert (found['sets']['a']['model']['psnr'], found['sets']['a']['views'], found['by_inputs']) == (15., 2, None)
    assert found['below_blurred_mean'] == {}


def test_sets_below_the_blurred_mean_are_named():
    found = summary([record('good', 14.8), record('bad', 14.6), record('worse', 5.)], (3,), 3)
    assert found['below_blurred_mean'] == dict(bad = pytest.approx(-0.4), worse = pytest.approx(-10.))
    report = dict(found, lpips = 'left out', scenes = dict(evaluated = 3, missing = {}, skipped = {}, missing_photos = {}, too_few = []))
    assert 'below the blurred mean by more than 0.3 dB: bad (-0.40 dB), worse (-10.00 dB)' in table(report)


def test_the_table_by_inputs_has_a_row_for_each_number():
    found = summary([record('a', 10., counts = ('2', '8')), record('b', 30., counts = ('2',))], (2, 8), 2)
    assert [row[1] for row in input_rows(found)] == ['inputs', '2', '8']
    assert found['by_inputs']['sets'] == 1
    assert found['metrics']['psnr'] == 20
