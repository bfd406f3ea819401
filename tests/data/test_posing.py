"""From loose photos to posed ones: stages that go on where they were cut, messages, and folders that nothing else is lost in."""

from __future__ import annotations

import shutil
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from PIL import Image

from lvsm_pytorch.cli import main
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.pose import PoseConfig
from lvsm_pytorch.configs.render import RenderConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.view import ViewConfig
from lvsm_pytorch.data import find_poses, open_dataset, posing, read_scene, structure_from_motion, synthetic_scene, write_transforms
from lvsm_pytorch.data.pose_folder import claim
from lvsm_pytorch.data.posing import Photo, find_files, groups_of, posed_data, unique_names
from lvsm_pytorch.data.structure_from_motion import Found, exhaustive_pairs, sequential_pairs
from lvsm_pytorch.evaluation.evaluate import evaluate
from lvsm_pytorch.evaluation.inspection import inspect
from lvsm_pytorch.inference.render import render
from lvsm_pytorch.training.loop import train

sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))


def photo_folder(folder, count = 6, size = (96, 64)):
    folder.mkdir(parents = True)

    for number in range(count):
        Image.new('RGB', size, (40 * number % 256, 80, 120)).save(folder / f'IMG {number}.png')

    return folder


class Stages:
    """Stands for COLMAP: places all photos but those in `lost`, and notes what it was called with."""

    def __init__(self):
        self.called = []
        self.lost = set()
        self.stop_in = None

    def note(self, stage):
        if self.stop_in == stage:
            self.stop_in = None
            raise KeyboardInterrupt

        self.called.append(stage)

    def add_photos(self, database, photos, groups):
        self.note('add_photos')
        self.groups = groups
        database.touch()

    def find_features(self, database, photos, names, effort, *, threads, progress):
        self.note('find_features')

    def match(self, database, names, pairs, effort, *, seed, threads, progress):
        self.note('match')
        self.pairs = pairs

    def reconstruct(self, database, photos, model, effort, *, seed, placed):
        self.note('reconstruct')
        self.names = sorted(path.name for path in photos.glob('*.jpg'))
        placed(2)
        model.mkdir()

    def read_model(self, model):
        names = tuple(name for name in self.names if name not in self.lost)
        return Found(names, 100, 0.5, (70.,)) if names else None

    def undistort(self, model, photos, out, *, threads):
        self.note('undistort')
        (out / 'images').mkdir(parents = True)
        (out / 'sparse').mkdir()
        (out / 'sparse' / 'cameras.bin').write_bytes(b'')

        for name in self.read_model(model).names:
            shutil.copy(photos / name, out / 'images' / name)


@pytest.fixture
def stages(monkeypatch):
    fake = Stages()

    for name in ('add_photos', 'find_features', 'match', 'reconstruct', 'read_model', 'undistort'):
        monkeypatch.setattr(structure_from_motion, name, getattr(fake, name))

    return fake


ALL = ['add_photos', 'find_features', 'match', 'reconstruct', 'undistort']


# pairs and cameras

@pytest.mark.parametrize('count', [0, 1, 2, 9, 30])
def test_pairs(count):
    every = set(combinations(range(count), 2))
    assert len(exhaustive_pairs(count)) == len(every)
    assert set(exhaustive_pairs(count)) == every
    near = set(sequential_pairs(count))
    assert len(sequential_pairs(count)) == len(near)
    assert {(number, number + 1) for number in range(count - 1)} <= near <= every


def test_pairs_of_frames_are_far_fewer_than_all_and_close_loops():
    assert len(sequential_pairs(300)) < 0.2 * len(exhaustive_pairs(300))
    assert (0, 295) in sequential_pairs(300)


def test_photos_of_one_lens_share_a_camera():
    photos = [
        Photo('a', 'a', (60, 80), 'wide', 70.), Photo('b', 'b', (80, 60), 'wide', 70.), Photo('c', 'c', (60, 80), 'wide', 70.),
        Photo('d', 'd', (60, 80), 'tele', 200.), Photo('e', 'e', (60, 80)),
    ]
    assert [group.names for group in groups_of(photos, 'auto')] == [('a', 'c'), ('b',), ('d',), ('e',)]
    assert [(group.size, group.focal) for group in groups_of(photos, 'auto')] == [((60, 80), 70.), ((80, 60), 70.), ((60, 80), 200.), ((60, 80), None)]
    assert [group.names for group in groups_of(photos, 'one')] == [('a', 'c', 'd', 'e'), ('b',)]
    assert [group.names for group in groups_of(photos, 'each')] == [('a',), ('b',), ('c',), ('d',), ('e',)]


def test_names_are_unique_and_without_spaces():
    assert unique_names([Path('a b.png'), Path('a b.jpg'), Path('A B.jpg'), Path('sub/a b.jpg')]) == ['a_b.jpg', 'a_b-2.jpg', 'A_B-3.jpg', 'a_b-4.jpg']


# stages

def test_photos_are_placed_and_nothing_is_written_among_them(tmp_path, stages, capsys):
    photos = photo_folder(tmp_path / 'photos')
    before = {path: path.read_bytes() for path in photos.iterdir()}
    stages.lost = {'IMG_2.jpg'}
    found = find_poses(photos, tmp_path / 'out', PoseConfig(threads = 1))
    assert found.placed == {f'IMG_{number}.jpg': f'IMG {number}.png' for number in (0, 1, 3, 4, 5)}
    assert found.unplaced == ['IMG 2.png']
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    assert sorted(path.name for path in (tmp_path / 'out' / 'images').iterdir()) == sorted(found.placed)
    assert (tmp_path / 'out' / 'sparse' / '0' / 'cameras.bin').is_file()
    assert '5 of 6 photos placed' in found.report()
    assert 'not placed         IMG 2.png' in found.report()
    assert [group.names for group in stages.groups] == [tuple(f'IMG_{number}.jpg' for number in range(6))]
    assert stages.pairs == exhaustive_pairs(6)


def test_the_same_call_finds_what_is_there(tmp_path, stages):
    photos = photo_folder(tmp_path / 'photos')
    found = find_poses(photos, tmp_path / 'out')
    assert stages.called == ALL
    assert find_poses(photos, tmp_path / 'out') == found
    shutil.rmtree(tmp_path / 'out' / 'work')
    assert find_poses(photos, tmp_path / 'out') == found
    assert stages.called == ALL


@pytest.mark.parametrize('stage', ALL)
def test_what_was_cut_goes_on(tmp_path, stages, stage, monkeypatch):
    photos = photo_folder(tmp_path / 'photos')
    stages.stop_in = stage
    with pytest.raises(KeyboardInterrupt):
        find_poses(photos, tmp_path / 'out')

    monkeypatch.setattr(posing, 'prepare_photo', None)    # photos are not read again
    assert len(find_poses(photos, tmp_path / 'out').placed) == 6
    assert stages.called.count('reconstruct') == stages.called.count('add_photos') == 1


def test_a_cut_while_results_are_moved_goes_on(tmp_path, stages, monkeypatch):
    photos = photo_folder(tmp_path / 'photos')
    rename = Path.rename

    def cut(self, target):
        if self.name == 'sparse':
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, 'rename', cut)
        with pytest.raises(KeyboardInterrupt):
            find_poses(photos, tmp_path / 'out')

    assert (tmp_path / 'out' / 'images').is_dir()
    find_poses(photos, tmp_path / 'out')
    assert (tmp_path / 'out' / 'sparse' / '0' / 'cameras.bin').is_file()
    assert stages.called == ALL


def test_photos_that_were_read_are_not_read_again(tmp_path, stages, monkeypatch):
    photos = photo_folder(tmp_path / 'photos', count = 45)
    calls = []
    prepare = posing.prepare_photo

    def counted(file, *given):
        calls.append(file.name)
        if len(calls) == 43:
            raise KeyboardInterrupt
        return prepare(file, *given)

    monkeypatch.setattr(posing, 'prepare_photo', counted)
    with pytest.raises(KeyboardInterrupt):
        find_poses(photos, tmp_path / 'out')
    find_poses(photos, tmp_path / 'out')
    assert len(calls) == 43 + 5     # notes were written after 40


def test_where_many_are_lost_it_is_tried_once_more(tmp_path, stages, monkeypatch, capsys):
    photos = photo_folder(tmp_path / 'photos')
    read_model = stages.read_model
    monkeypatch.setattr(structure_from_motion, 'read_model', lambda model: None if model.name == 'model-plain' else read_model(model))
    assert len(find_poses(photos, tmp_path / 'out').placed) == 6
    assert stages.called == [*ALL[:4], *ALL]
    assert '0 of 6 photos placed; once more' in capsys.readouterr().out


def test_too_few_placed_is_an_error_that_says_what_to_do(tmp_path, stages):
    photos = photo_folder(tmp_path / 'photos')
    (photos / 'broken.jpg').write_bytes(b'no image')
    stages.lost = {f'IMG_{number}.jpg' for number in range(2, 6)}
    with pytest.warns(UserWarning, match = 'skipped broken.jpg'), pytest.raises(ValueError, match = r'photos: must be at least 3 that can be placed, but got 2 of 6 .*overlap.*broken.jpg was skipped'):
        find_poses(photos, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'images').exists()


def test_unreadable_photos_are_skipped_and_named(tmp_path, stages):
    photos = photo_folder(tmp_path / 'photos')
    (photos / 'broken.jpg').write_bytes(b'no image')
    with pytest.warns(UserWarning, match = 'skipped broken.jpg'):
        found = find_poses(photos, tmp_path / 'out')
    assert list(found.skipped) == ['broken.jpg']
    assert 'skipped            broken.jpg' in found.report()

    few = photo_folder(tmp_path / 'few', count = 2)
    (few / 'broken.jpg').write_bytes(b'no image')
    with pytest.warns(UserWarning, match = 'skipped broken.jpg'), pytest.raises(ValueError, match = r'photos: must be at least 3 that can be read, but got 2 .*\n.*broken.jpg'):
        find_poses(few, tmp_path / 'other')


def test_frames_of_a_video_are_matched_in_time(tmp_path, stages):
    pytest.importorskip('av')
    from test_video_frames import write_video

    write_video(tmp_path / 'film.mp4', num_frames = 120)
    found = find_poses(tmp_path / 'film.mp4', tmp_path / 'out', PoseConfig(frames = 40))
    assert len(found.placed) == 40
    assert stages.pairs == sequential_pairs(40)
    assert [len(group.names) for group in stages.groups] == [40]

    (tmp_path / 'phone').mkdir()
    shutil.copy(tmp_path / 'film.mp4', tmp_path / 'phone' / 'VID_1.MP4')
    assert find_files(tmp_path / 'phone') == [tmp_path / 'phone' / 'VID_1.MP4']
    shutil.copy(tmp_path / 'film.mp4', tmp_path / 'phone' / 'VID_2.MP4')
    with pytest.raises(ValueError, match = 'photos: must be a folder of photos or a video, but got 2 videos'):
        find_files(tmp_path / 'phone')


@pytest.mark.parametrize('name, message', [('missing', 'does not exist'), ('a.txt', 'a file of another kind'), ('empty', 'got none in')])
def test_what_holds_no_photos_is_said(tmp_path, name, message):
    (tmp_path / 'a.txt').write_text('')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match = f'photos: must be a folder of photos or a video, but .*{message}'):
        find_poses(tmp_path / name, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


# folders

def test_other_folders_are_left_alone(tmp_path, stages):
    photos = photo_folder(tmp_path / 'photos')
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'letter.txt').write_text('dear')

    for overwrite in (False, True):
        with pytest.raises(ValueError, match = 'out: must be a new or empty folder'):
            find_poses(photos, tmp_path / 'full', PoseConfig(overwrite = overwrite))

    for inside in (photos, photos / 'posed'):
        with pytest.raises(ValueError, match = r'out: must be outside the folder of photos.*photos-posed'):
            find_poses(photos, inside)

    assert [path.name for path in (tmp_path / 'full').iterdir()] == ['letter.txt']
    assert all(path.suffix == '.png' for path in photos.iterdir())
    assert stages.called == []


def test_other_photos_or_options_need_to_be_said(tmp_path, stages):
    photos = photo_folder(tmp_path / 'my photos')
    find_poses(photos, tmp_path / 'out')
    with pytest.raises(ValueError, match = r"features 4096 instead of 99.*lvsm pose --data '.*my photos' --out .*out --overwrite"):
        find_poses(photos, tmp_path / 'out', PoseConfig(features = 99))
    find_poses(photos, tmp_path / 'out', PoseConfig(threads = 1))   # which changes nothing

    Image.new('RGB', (96, 64)).save(photos / 'new.png')
    with pytest.raises(ValueError, match = r'photos 6 files .* instead of 7 files'):
        find_poses(photos, tmp_path / 'out')
    assert len(find_poses(photos, tmp_path / 'out', PoseConfig(overwrite = True)).placed) == 7
    assert len(list((tmp_path / 'out' / 'images').iterdir())) == 7


def test_overwriting_loses_nothing_that_was_not_written(tmp_path, stages):
    photos = photo_folder(tmp_path / 'photos')
    find_poses(photos, tmp_path / 'out')
    (tmp_path / 'out' / 'notes.txt').write_text('mine')
    find_poses(photos, tmp_path / 'out', PoseConfig(overwrite = True))
    assert (tmp_path / 'out' / 'notes.txt').read_text() == 'mine'

    (tmp_path / 'out' / 'images' / 'mine.jpg').write_bytes(b'mine')
    with pytest.raises(ValueError, match = r'out: must have no photos beside those that lvsm pose wrote, but got .*mine.jpg'):
        find_poses(photos, tmp_path / 'out', PoseConfig(overwrite = True))
    assert len(list((tmp_path / 'out' / 'images').iterdir())) == 7


def test_what_another_process_has_written_half_is_not_removed_while_it_works(tmp_path, stages):
    """The second waits for the first, then uses what it wrote."""
    import threading

    photos = photo_folder(tmp_path / 'photos')
    second, match = [], stages.match

    def match_while_another_comes(*given, **named):
        thread = threading.Thread(target = lambda: second.append(find_poses(photos, tmp_path / 'out')), daemon = True)
        thread.start()
        thread.join(0.3)
        second.append('waits' if thread.is_alive() else 'does not wait')
        stages.thread = thread
        return match(*given, **named)

    structure_from_motion.match = match_while_another_comes
    found = find_poses(photos, tmp_path / 'out')
    stages.thread.join(10)
    assert second == ['waits', found]
    assert stages.called == ALL


@pytest.mark.parametrize('change, message', [(dict(frames = 2), 'frames: must be at least 3'), (dict(image_size = 8), 'image_size'), (dict(features = 0), 'features'), (dict(threads = 0), 'threads: must be at least 1')])
def test_options_out_of_range(tmp_path, change, message):
    with pytest.raises(ValueError, match = message):
        find_poses(tmp_path, tmp_path / 'out', PoseConfig(**change))


def test_the_settings_of_a_folder_are_noted_before_anything_is_done(tmp_path):
    (tmp_path / 'out').mkdir()
    claim(tmp_path, tmp_path / 'out', dict(photos = '3 files'), overwrite = False)
    with pytest.raises(ValueError, match = 'photos 3 files instead of 4 files'):
        claim(tmp_path, tmp_path / 'out', dict(photos = '4 files'), overwrite = False)


# other commands

def test_loose_photos_and_videos_name_the_command(tmp_path):
    photos = photo_folder(tmp_path / 'my photos')
    with pytest.raises(ValueError, match = r"data: must have poses, but got 6 photos in .*my photos without any. Find them by `lvsm pose --data '.*my photos' --out '.*my photos-posed'`, or add --pose"):
        open_dataset(photos)

    (tmp_path / 'film.mov').write_bytes(b'')
    with pytest.raises(ValueError, match = r'but got a video in .*film.mov without any. Find them by `lvsm pose --data .*film.mov --out .*film-posed`'):
        open_dataset(tmp_path / 'film.mov')


COMMANDS = {
    'render': lambda data, pose, out: render(RenderConfig(model = Path('solids-128'), data = data, pose = pose, out = out)),
    'evaluate': lambda data, pose, out: evaluate(EvaluateConfig(model = Path('solids-128'), data = (data,), pose = pose, out = out)),
    'train': lambda data, pose, out: train(TrainConfig(data = data, pose = pose, out = out, device = 'cpu', patch_size = 8, image_size = 16, dim = 16, depth = 1, dim_head = 16, tensorboard = False)),
    'inspect': lambda data, pose, out: inspect(data, out, pose = pose),
    'view': lambda data, pose, out: pytest.importorskip('viser') and __import__('lvsm_pytorch.viewer.server', fromlist = ['Viewer']).Viewer(ViewConfig(data = data, pose = pose, out = out)),
}


class Reached(Exception):
    pass


@pytest.mark.parametrize('command', COMMANDS)
def test_commands_find_poses_where_that_is_said(tmp_path, command, monkeypatch):
    photos = photo_folder(tmp_path / 'photos')

    with pytest.raises(ValueError, match = 'Find them by `lvsm pose'):
        COMMANDS[command](photos, False, tmp_path / 'out')

    def reached(given, out):
        assert (given, out) == (photos, tmp_path / 'photos-posed')
        raise Reached

    monkeypatch.setattr(posing, 'find_poses', reached)
    with pytest.raises(Reached):
        COMMANDS[command](photos, True, tmp_path / 'out')


def test_poses_are_found_once(tmp_path, stages, capsys):
    photos = photo_folder(tmp_path / 'photos')
    assert posed_data(photos) == posed_data(photos) == tmp_path / 'photos-posed'
    assert stages.called == ALL
    assert 'its poses are in' in capsys.readouterr().out

    find_poses(photos, tmp_path / 'photos-posed', PoseConfig(features = 99, overwrite = True))
    assert posed_data(photos) == tmp_path / 'photos-posed'     # by other options: these poses will do

    Image.new('RGB', (96, 64)).save(photos / 'new.png')
    with pytest.raises(ValueError, match = r'photos 6 files .* instead of 7 files.*--overwrite'):
        posed_data(photos)


def test_data_with_poses_stay(tmp_path):
    write_transforms(synthetic_scene(0, num_views = 3, image_size = 16), tmp_path / 'scene')
    assert posed_data(tmp_path / 'scene') == tmp_path / 'scene'
    with pytest.raises(ValueError, match = 'pose: must come with data'):
        posed_data(None)


# COLMAP itself

@pytest.mark.slow
def test_real_photos_are_placed_as_they_were(tmp_path, shared, monkeypatch, capsys):
    """Photos of a façade, half of them stored on their sides, by the command; then as a video. Another run, with two threads, gives the same cameras."""
    pytest.importorskip('pycolmap')
    from posing import compare

    source = shared / 'scenes' / 'lund_door'
    given = {Path(view.name).name: view.camera_to_world for view in read_scene(source).views}
    photos = tmp_path / 'photos'
    photos.mkdir()

    for number, name in enumerate(sorted(given)):
        with Image.open(source / 'images' / name) as image:
            if number % 2:
                exif = Image.Exif()
                exif[0x0112] = 6
                image.transpose(Image.Transpose.ROTATE_90).save(photos / name, exif = exif, quality = 95)
            else:
                image.save(photos / name, quality = 95)

    def judged(out, named):
        views = read_scene(out).views
        assert len(views) == 12
        poses = [given[named(view.name)] for view in views]
        compared = compare(torch.stack([view.camera_to_world for view in views]), torch.stack(poses), torch.stack(poses)[:, :3, 3].double().std(dim = 0).norm().item())
        assert compared.relative < 0.5
        assert compared.centre < 0.02
        return views

    monkeypatch.setattr(sys, 'argv', ['lvsm', 'pose', '--data', str(photos), '--out', str(tmp_path / 'out'), '--threads', '1'])
    main()
    printed = capsys.readouterr().out
    assert '12 of 12 photos placed' in printed
    assert 'cameras agree with the images' in printed
    views = judged(tmp_path / 'out', lambda name: name)

    find_poses(photos, tmp_path / 'again', PoseConfig(threads = 2))
    assert all(torch.equal(a.camera_to_world, b.camera_to_world) and torch.equal(a.intrinsics, b.intrinsics) for a, b in zip(views, read_scene(tmp_path / 'again').views, strict = True))

    av = pytest.importorskip('av')

    with av.open(str(tmp_path / 'film.mp4'), 'w') as container:
        stream = container.add_stream('libx264', rate = 30, options = dict(crf = '12'))
        stream.width, stream.height, stream.pix_fmt = 256, 384, 'yuv420p'

        for name in sorted(given):
            with Image.open(source / 'images' / name) as image:
                for _ in range(3):
                    container.mux(stream.encode(av.VideoFrame.from_image(image.convert('RGB'))))

        container.mux(stream.encode())

    find_poses(tmp_path / 'film.mp4', tmp_path / 'film', PoseConfig(threads = 1))
    judged(tmp_path / 'film', lambda name: sorted(given)[int(name.removesuffix('.jpg').split('-')[1])])


@pytest.mark.slow
def test_a_stage_of_colmap_that_was_cut_goes_on(tmp_path, shared):
    """Features and matches that are in the database are not found again."""
    pytest.importorskip('pycolmap')
    photos = shared / 'scenes' / 'lund_door' / 'images'
    names = sorted(path.name for path in photos.iterdir())[:4]
    database = tmp_path / 'a.db'
    effort = structure_from_motion.Effort(500)
    structure_from_motion.add_photos(database, photos, [structure_from_motion.Group(tuple(names), (384, 256), 480.)])

    class Progress:
        def __init__(self, most):
            self.steps, self.most = [], most

        def update(self, count):
            if sum(self.steps) + count > self.most:
                raise KeyboardInterrupt
            self.steps.append(count)

    with pytest.raises(KeyboardInterrupt):
        structure_from_motion.find_features(database, photos, names, effort, threads = 1, progress = Progress(0))

    second = Progress(4)
    structure_from_motion.find_features(database, photos, names, effort, threads = 1, progress = second)
    assert second.steps == [2, 2]    # the first two were there

    pairs = exhaustive_pairs(4)
    structure_from_motion.match(database, names, pairs[:4], effort, seed = 0, threads = 1, progress = Progress(9))
    third = Progress(9)
    structure_from_motion.match(database, names, pairs, effort, seed = 0, threads = 1, progress = third)
    assert third.steps == [4, 2]
