"""Datasets as tools lay them out: scenes are found once, under names of their own; splits are what they say; no writer replaces what is not its own."""

from __future__ import annotations

import json
import shutil
from codecs import BOM_UTF8
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest
import torch
from PIL import Image

from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.data import (
    Problems,
    hold_out,
    open_dataset,
    read_colmap,
    read_scene,
    split_dataset,
    synthetic_scene,
    write_chunks,
    write_colmap,
    write_lvsm,
    write_transforms,
)
from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.data.scene import file_names
from lvsm_pytorch.evaluation.evaluate import numbers_by_name
from lvsm_pytorch.evaluation.index import make_index, write_index
from lvsm_pytorch.seeds import seed_of


def scene(seed = 0, num_views = 4):
    return synthetic_scene(seed, num_views = num_views, image_size = 16)


# nested copies

def undistorted(folder, seed):
    """What `colmap image_undistorter` writes."""
    write_colmap(scene(seed), folder)
    for path in (folder / 'sparse/0').iterdir():
        path.rename(folder / 'sparse' / path.name)
    (folder / 'sparse/0').rmdir()


def dense_beside(folder, seed):
    write_colmap(scene(seed), folder)
    shutil.copytree(folder / 'images', folder / 'dense/images')
    shutil.copytree(folder / 'sparse/0', folder / 'dense/sparse')


def processed_by_nerfstudio(folder, seed):
    write_colmap(scene(seed), folder)
    (folder / 'colmap').mkdir()
    (folder / 'sparse').rename(folder / 'colmap/sparse')
    shutil.rmtree(folder / 'images')
    write_transforms(scene(seed), folder)


def converted_for_splatting(folder, seed):
    write_colmap(scene(seed), folder)
    shutil.copytree(folder / 'images', folder / 'input')
    shutil.copytree(folder / 'sparse', folder / 'distorted/sparse')


def in_two_formats(folder, seed):
    """DL3DV's benchmark."""
    write_transforms(scene(seed), folder / 'nerfstudio')
    write_colmap(scene(seed), folder / 'gaussian_splat')


@pytest.mark.filterwarnings('ignore:.* folders are left out')
@pytest.mark.parametrize('write', [undistorted, dense_beside, processed_by_nerfstudio, converted_for_splatting, in_two_formats])
@pytest.mark.parametrize('depth', ['', 'batch'])
def test_every_scene_is_found_once(tmp_path, write, depth):
    for seed in range(4):
        write(tmp_path / depth / f'scene{seed}', seed)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 4
    assert len({dataset.name(index) for index in range(4)}) == 4
    training, held_out = split_dataset(tmp_path)
    photos = [{float(view.load().mean()) for index in range(len(part)) for view in part[index].views} for part in (training, held_out)]
    assert len(photos[0]) == 12
    assert not photos[0] & photos[1]


def test_copies_that_are_left_out_are_said_once(tmp_path):
    for seed in range(3):
        in_two_formats(tmp_path / f'scene{seed}', seed)
    with pytest.warns(UserWarning, match = r'3 folders are left out.*such as .*gaussian_splat') as warned:
        open_dataset(tmp_path)
    assert len(warned) == 1


def test_a_workspace_with_nothing_but_one_model_is_one_scene(tmp_path):
    undistorted(tmp_path / 'dense', 0)
    assert len(open_dataset(tmp_path)) == 1
    assert len(read_scene(tmp_path).views) == 4


def test_a_scene_that_is_linked_twice_is_one(tmp_path):
    write_transforms(scene(0), tmp_path / 'elsewhere/real')
    (tmp_path / 'data').mkdir()
    for name in ('a', 'b'):
        (tmp_path / 'data' / name).symlink_to(tmp_path / 'elsewhere/real')
    write_transforms(scene(1), tmp_path / 'data/c')
    assert len(open_dataset(tmp_path / 'data')) == 2


# names

def test_scenes_are_called_by_their_paths_where_their_folders_have_one_name(tmp_path):
    for seed in range(3):
        write_transforms(scene(seed, 6), tmp_path / f'hash{seed}' / 'nerfstudio')
    write_transforms(scene(3, 6), tmp_path / 'other')
    dataset = open_dataset(tmp_path)
    names = [dataset.name(index) for index in range(len(dataset))]
    assert names == ['hash0/nerfstudio', 'hash1/nerfstudio', 'hash2/nerfstudio', 'other']
    assert [dataset[index].name for index in range(4)] == names
    assert list(make_index(dataset, num_inputs = 2)) == names
    assert numbers_by_name(dataset) == {name: index for index, name in enumerate(names)}


def test_nothing_is_read_for_names_of_folders(tmp_path):
    for name in 'ab':
        write_transforms(scene(0), tmp_path / name)
        (tmp_path / name / 'transforms.json').write_text('{"frames": 3}')
    dataset = open_dataset(tmp_path)
    assert [dataset.name(index) for index in range(2)] == ['a', 'b']


def test_scenes_of_one_name_are_an_error_where_names_matter(tmp_path):
    for folder in 'ab':
        write_chunks([scene(5, 6)], tmp_path / folder)
    dataset = open_dataset(tmp_path)
    with pytest.raises(ValueError, match = 'data: must have scenes with unique names, but got synthetic-5 2 times'):
        numbers_by_name(dataset)
    with pytest.raises(ValueError, match = 'data: must have scenes with unique names'):
        make_index(dataset, frame_distances = (2, 4))


def test_seeds_are_of_the_whole_name():
    names = [f'{index:04x}' for index in range(7000)]
    assert len({seed_of(name) for name in names}) == 7000
    assert seed_of('ab') != seed_of('ba')
    assert seed_of('ab', 1) != seed_of('ab', 0) == seed_of('ab')
    assert min(map(seed_of, names)) >= 0
    torch.Generator().manual_seed(max(map(seed_of, names)))


def test_held_out_stretches_of_videos_differ(tmp_path):
    from lvsm_pytorch.data import DatasetSource

    write_lvsm([replace(synthetic_scene(seed, num_views = 30, image_size = 8), name = f'video {seed}') for seed in range(17)], tmp_path)
    source = DatasetSource(split_dataset(tmp_path), num_inputs = 2, num_targets = 1, image_size = 8, frame_distances = (5, 25))
    names = [name.split('/')[-1] for name in source.held_out().names]
    assert len(names) == 3
    assert len(set(names)) == 3
    assert source.held_out().names == source.held_out().names


# links, slashes, marks

@pytest.mark.parametrize('write', [write_transforms, write_colmap, lambda one, folder: write_lvsm([one], folder)])
@pytest.mark.parametrize('whole_folder', [False, True])
def test_links_are_followed(tmp_path, write, whole_folder):
    write(scene(), tmp_path / 'data')
    (tmp_path / 'data/images').rename(tmp_path / 'real')
    if whole_folder:
        (tmp_path / 'data/images').symlink_to(tmp_path / 'real')
    else:
        for path in [path for path in (tmp_path / 'real').rglob('*.png')]:
            link = tmp_path / 'data/images' / path.relative_to(tmp_path / 'real')
            link.parent.mkdir(parents = True, exist_ok = True)
            link.symlink_to(path)
    views = read_scene(tmp_path / 'data').views
    assert len(views) == 4
    assert views[0].load().shape == (3, 16, 16)


@pytest.mark.parametrize('write', [write_transforms, write_colmap])
def test_a_link_that_leads_nowhere_is_named(tmp_path, write):
    write(scene(), tmp_path)
    shutil.rmtree(tmp_path / 'images')
    (tmp_path / 'images').symlink_to('nowhere')
    with pytest.raises(ValueError, match = 'images is a link to nowhere, which is not there'):
        read_scene(tmp_path)


def test_absolute_paths_into_the_folder_are_taken(tmp_path):
    write_transforms(scene(), tmp_path / 'data')
    file = tmp_path / 'data/transforms.json'
    content = json.loads(file.read_text())
    for frame in content['frames']:
        frame['file_path'] = str(tmp_path / 'data' / frame['file_path'])
    file.write_text(json.dumps(content))
    assert [view.name for view in read_scene(tmp_path / 'data').views] == [f'images/{index:04d}.png' for index in range(4)]


def backslashes(path):
    file = path / 'transforms.json'
    file.write_text(file.read_text().replace('images/', 'images\\\\'))


def test_paths_of_windows_are_read(tmp_path):
    write_transforms(scene(), tmp_path / 'a')
    backslashes(tmp_path / 'a')
    assert [view.name for view in read_scene(tmp_path / 'a').views] == [f'images/{index:04d}.png' for index in range(4)]
    write_lvsm([scene()], tmp_path / 'b')
    for file in (tmp_path / 'b/metadata').iterdir():
        file.write_text(file.read_text().replace('images/', 'C:\\\\data\\\\images\\\\').replace('synthetic-0/', 'synthetic-0\\\\'))
    (tmp_path / 'b/full_list.txt').write_text('C:\\data\\metadata\\synthetic-0.json\n')
    assert len(read_scene(tmp_path / 'b').views) == 4
    model = pycolmap.Reconstruction
    write_colmap(scene(), tmp_path / 'c')
    (tmp_path / 'c/images/left').mkdir()
    (tmp_path / 'c/images/0001.png').rename(tmp_path / 'c/images/left/0001.png')
    found = model(str(tmp_path / 'c/sparse/0'))
    found.images[2].name = 'left\\0001.png'
    found.write(str(tmp_path / 'c/sparse/0'))
    assert len(read_scene(tmp_path / 'c').views) == 4


def test_byte_order_marks_are_no_content(tmp_path):
    def mark(path):
        path.write_bytes(BOM_UTF8 + path.read_bytes())

    write_transforms(scene(), tmp_path / 'a')
    mark(tmp_path / 'a/transforms.json')
    write_lvsm([scene()], tmp_path / 'b')
    for path in (tmp_path / 'b/full_list.txt', *(tmp_path / 'b/metadata').iterdir()):
        mark(path)
    write_chunks([scene()], tmp_path / 'c')
    mark(tmp_path / 'c/index.json')
    write_colmap(scene(), tmp_path / 'd')
    model = tmp_path / 'd/sparse/0'
    pycolmap.Reconstruction(str(model)).write_text(str(model))
    for path in model.glob('*.bin'):
        path.unlink()
    for path in model.glob('*.txt'):
        mark(path)
    assert [len(read_scene(tmp_path / name).views) for name in 'abcd'] == [4] * 4


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('USERPROFILE', str(tmp_path))
    write_transforms(scene(), tmp_path / 'photos')
    assert len(read_scene('~/photos').views) == 4
    assert TrainConfig(data = Path('~/photos'), out = Path('~/run')) == TrainConfig(data = tmp_path / 'photos', out = tmp_path / 'run')


def test_photos_without_poses_are_told_how_to_find_them(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'film').mkdir()
    save_image(torch.rand(3, 8, 8), tmp_path / 'images/IMG_1.JPG.png')
    (tmp_path / 'film/walk.MOV').write_bytes(b'film')
    for path in (tmp_path, tmp_path / 'images', tmp_path / 'film', tmp_path / 'film/walk.MOV'):
        with pytest.raises(ValueError, match = f'data: must have poses.*lvsm pose --data {path}'):
            open_dataset(path)


# COLMAP's several models

def test_of_several_models_the_largest_is_read(tmp_path):
    write_colmap(scene(num_views = 6), tmp_path)
    shutil.copytree(tmp_path / 'sparse/0', tmp_path / 'sparse/1')
    small = pycolmap.Reconstruction(str(tmp_path / 'sparse/0'))
    for number in list(small.images)[2:]:
        small.deregister_frame(small.images[number].frame_id)
    small.write(str(tmp_path / 'sparse/0'))
    with pytest.warns(UserWarning, match = r'sparse/1 with 6 images is read; not read: .*sparse/0 with 2'):
        assert len(read_scene(tmp_path).views) == 6
    model = tmp_path / 'sparse/1'
    pycolmap.Reconstruction(str(model)).write_text(str(model))
    for path in model.glob('*.bin'):
        path.unlink()
    with pytest.warns(UserWarning, match = r'sparse/1 with 6 images'):
        assert len(read_scene(tmp_path).views) == 6
    shutil.rmtree(tmp_path / 'sparse/1')
    assert len(read_scene(tmp_path).views) == 2    # without a warning


def test_equal_names_in_two_folders_are_two_photos(tmp_path):
    one = scene()
    views = [replace(view, name = name) for view, name in zip(one.views, ('left/1.png', 'right/1.png', 'left_1.png', 'left/1'), strict = True)]
    twins = replace(one, views = tuple(views))
    assert len(set(file_names(twins))) == 4
    for number, write in enumerate((write_transforms, write_colmap)):
        write(twins, tmp_path / str(number))
        found = read_scene(tmp_path / str(number))
        assert len({float(view.load().mean()) for view in found.views}) == 4

    # COLMAP's own subfolders

    (tmp_path / '1/images/left').mkdir()
    (tmp_path / '1/images/right').mkdir()
    model = pycolmap.Reconstruction(str(tmp_path / '1/sparse/0'))
    for number, name in ((1, 'left/1.png'), (2, 'right/1.png')):
        (tmp_path / '1/images' / model.images[number].name).rename(tmp_path / '1/images' / name)
        model.images[number].name = name
    model.write(str(tmp_path / '1/sparse/0'))
    assert {'left/1.png', 'right/1.png'} < {view.name for view in read_scene(tmp_path / '1').views}


# splits

def with_lists(folder, num_views = 12, **lists):
    write_transforms(scene(7, num_views), folder, overwrite = True)
    content = json.loads((folder / 'transforms.json').read_text())
    (folder / 'transforms.json').write_text(json.dumps({**content, **lists}))
    training, held_out = hold_out(read_scene(folder))
    return [view.name for view in training.views], [view.name for view in held_out.views]


def names(*numbers):
    return [f'images/{number:04d}.png' for number in numbers]


def test_lists_of_frames_hold_however_their_paths_are_written(tmp_path):
    for prefix in ('', './', '.\\', f'{tmp_path}/'):
        training, held_out = with_lists(tmp_path, test_filenames = [prefix + name for name in names(2, 3, 4)])
        assert held_out == names(2, 3, 4)
        assert training == names(0, 1, *range(5, 12))


@pytest.mark.filterwarnings('ignore:.* are in no split')
def test_training_has_what_it_is_said_to_have(tmp_path):
    assert with_lists(tmp_path, train_filenames = names(2, 3, 4, 9), test_filenames = names(10)) == (names(2, 3, 4, 9), names(10))
    assert with_lists(tmp_path, train_filenames = names(2, 3, 4, 9), val_filenames = names(1), test_filenames = names(10)) == (names(2, 3, 4, 9), names(1, 10))
    assert with_lists(tmp_path, train_filenames = names(*range(9))) == (names(*range(9)), names(9, 10, 11))
    assert with_lists(tmp_path, val_filenames = names(5)) == (names(*range(5), *range(6, 12)), names(5))


def test_what_a_split_leaves_out_is_said(tmp_path):
    with pytest.warns(UserWarning, match = '7 of 12 frames are in no split'):
        with_lists(tmp_path, train_filenames = names(2, 3, 4, 9), test_filenames = names(10))


def test_names_that_name_no_frame_are_said(tmp_path):
    with pytest.warns(UserWarning, match = r"1 of 2 test_filenames name no frame: \['images/0099.png'\]"):
        assert with_lists(tmp_path, test_filenames = names(2, 99))[1] == names(2)


def test_a_frame_of_two_files_counts_once(tmp_path):
    write_transforms(scene(7, 12), tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    frames = content.pop('frames')
    (tmp_path / 'transforms.json').unlink()
    for split, some in dict(train = frames[:8], val = frames[8:], test = frames[8:]).items():
        (tmp_path / f'transforms_{split}.json').write_text(json.dumps(dict(content, frames = some)))
    training, held_out = hold_out(read_scene(tmp_path))
    assert (len(training.views), len(held_out.views)) == (8, 4)

    # a test that is a copy of the training: every eighth is held out, and that is said

    (tmp_path / 'transforms_val.json').unlink()
    shutil.copy(tmp_path / 'transforms_train.json', tmp_path / 'transforms_test.json')
    with pytest.warns(UserWarning, match = '8 of 8 training frames are also in val or test'):
        training, held_out = hold_out(read_scene(tmp_path))
    assert (len(training.views), len(held_out.views)) == (7, 1)
    assert not {view.name for view in training.views} & {view.name for view in held_out.views}


# one bad photo costs one photo

def test_a_bad_frame_of_any_kind_costs_that_frame(tmp_path):
    write_transforms(scene(7, 12), tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    bad = [dict(fl_x = None), dict(k1 = 'much'), dict(camera_model = 'EQUIRECTANGULAR'), dict(w = 7), dict(file_path = '../x.png'), dict(cx = .5, cy = .5), dict(h = -1)]
    for frame, change in zip(content['frames'][1:], bad, strict = False):
        frame.update(change)
    content['frames'][11] = 'no frame'
    (tmp_path / 'transforms.json').write_text(json.dumps(content))
    problems = Problems()
    with pytest.warns(UserWarning, match = 'skipped'):
        found = open_dataset(tmp_path, problems)[0]
    assert len(found.views) == 4
    assert len(problems.found) == 8


def test_where_all_frames_are_bad_one_error_says_why(tmp_path):
    write_transforms(scene(7, 12), tmp_path)
    content = json.loads((tmp_path / 'transforms.json').read_text())
    (tmp_path / 'transforms.json').write_text(json.dumps(dict(content, frames = [dict(frame, fl_x = 0., fl_y = 0.) for frame in content['frames']])))
    with pytest.raises(ValueError, match = 'none of 12. The first of them, .*frame 0: must have fl_x in pixels'):    # and no warnings, which tests make errors
        read_scene(tmp_path)


# times

@pytest.mark.parametrize('change', [lambda t: t.double() / 30, lambda t: t - 10, lambda t: (t.double() - 4.5) / 7, lambda t: t.flip(0)])
def test_views_of_a_chunk_are_in_the_order_of_their_times(tmp_path, change):
    write_chunks([scene(num_views = 20)], tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    times = content[0]['timestamps'] = change(content[0]['timestamps'])
    torch.save(content, tmp_path / '000000.torch')
    found = read_scene(tmp_path)
    assert list(found.numbers) == times.argsort().tolist()
    assert [view.name for view in found.views] == sorted(view.name for view in found.views)


def test_a_time_that_is_none_costs_that_view(tmp_path):
    write_chunks([scene(num_views = 6)], tmp_path)
    content = torch.load(tmp_path / '000000.torch')
    content[0]['timestamps'] = content[0]['timestamps'].double()
    content[0]['timestamps'][2] = torch.nan
    torch.save(content, tmp_path / '000000.torch')
    with pytest.warns(UserWarning, match = 'must have a finite time, but got nan'):
        assert list(read_scene(tmp_path).numbers) == [0, 1, 3, 4, 5]


# writers

@pytest.mark.parametrize('write, photo', [(write_transforms, 'images/0000.png'), (write_colmap, 'images/0002.png'), (lambda one, folder: write_lvsm([one], folder), 'images/synthetic-0/00001.png')])
def test_no_writer_replaces_files_of_others(tmp_path, write, photo):
    path = tmp_path / photo
    path.parent.mkdir(parents = True)
    path.write_bytes(b'mine')
    with pytest.raises(ValueError, match = 'folder: must have no files that would be replaced'):
        write(scene(), tmp_path)
    assert path.read_bytes() == b'mine'
    assert len(list(tmp_path.rglob('*.*'))) == 1


def test_an_evaluation_index_replaces_no_index_of_chunks(tmp_path):
    write_chunks([scene()], tmp_path)
    before = (tmp_path / 'index.json').read_bytes()
    with pytest.raises(ValueError, match = 'out: must be a new file, or an evaluation index'):
        write_index({'a': None}, tmp_path / 'index.json')
    assert (tmp_path / 'index.json').read_bytes() == before
    for _ in range(2):
        write_index({'a': None}, tmp_path / 'own.json')


def test_inspect_replaces_no_picture_of_others(tmp_path):
    from lvsm_pytorch.evaluation.inspection import inspect

    write_transforms(synthetic_scene(3, num_views = 4, image_size = 32), tmp_path / 'data')
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / 'cameras.png')
    with pytest.raises(ValueError, match = 'out: must be a new file, or a picture by lvsm inspect'):
        inspect(tmp_path / 'data', tmp_path / 'cameras.png')
    for _ in range(2):
        inspect(tmp_path / 'data', tmp_path / 'own.png', pairs = 2)


def test_a_model_is_read_by_its_name_too(tmp_path):
    write_colmap(scene(), tmp_path / 'data')
    assert read_colmap(tmp_path / 'data', name = 'called so').name == 'called so'
