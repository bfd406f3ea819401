"""Evaluation by an index: PSNR, SSIM and LPIPS of the views that the index lists, cropped to a square.

The report lists every scene of the index as evaluated, null in the index, or missing. Each scene has a result file of its own, so that
several processes share the scenes and an interrupted evaluation resumes.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from functools import cache, partial
from typing import Any

from torch import Tensor

from lvsm_pytorch.configs.common import Frame
from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.train import TrainConfig
from lvsm_pytorch.configs.yaml import config_beside, data_beside
from lvsm_pytorch.data import BadView, Batch, Dataset, Problems, has_split, open_test, split_each, split_scenes, synthetic_dataset
from lvsm_pytorch.data.posing import with_poses
from lvsm_pytorch.data.several import joined_by_name, place
from lvsm_pytorch.errors import fail
from lvsm_pytorch.evaluation.index import Index, make_index, read_index
from lvsm_pytorch.evaluation.photo_sets import evaluate_photo_sets
from lvsm_pytorch.evaluation.protocol import Protocol, evaluate_views, lpips_of
from lvsm_pytorch.evaluation.records import PAGE, REPORT, WITHOUT_LPIPS, prepare_out, processes_of, read_record, read_records, record_path, size_of, versions
from lvsm_pytorch.evaluation.report import baselines, summary, table, write_page
from lvsm_pytorch.evaluation.robustness import by_inputs, in_moved_worlds
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.files import write_json
from lvsm_pytorch.geometry.view_selection import evenly
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import hash_of_weights, num_inputs_of

BUILT_IN = 'built-in scenes'
NUM_SYNTHETIC = 64


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluates the scenes without results, writes report.json and index.html, prints a table, and returns the report.

    Processes started by `accelerate launch` or torchrun share the scenes.

    Raises:
        ImportError: For packages that are not installed.
        ValueError: If the folder has no model, the index is invalid, the output folder has another evaluation, or scenes are missing without `allow_missing`. Scenes that are not in the
            dataset are an error at the start; unreadable scenes are an error after the others are evaluated and reported.
    """
    config.check()
    config = with_poses(config)
    model = load_model(config)
    problems = Problems()
    datasets = datasets_of(config, model, problems)

    if is_nearest(config, datasets):
        return evaluate_photo_sets(config, model, datasets, problems)

    return evaluate_by_index(config, model, joined_by_name(datasets, problems), problems)


def is_nearest(config: EvaluateConfig, datasets: dict[str, Dataset]) -> bool:
    """Whether to use the protocol nearest. Without an index, photo sets use it; videos and built-in scenes use a generated index."""
    if config.protocol is not None:
        return config.protocol == 'nearest'

    if config.index is not None or BUILT_IN in datasets:
        return False

    found = (is_video(dataset, number) for dataset in datasets.values() for number in range(len(dataset)))
    return not next((each for each in found if each is not None), False)


def is_video(dataset: Dataset, number: int) -> bool | None:
    """Whether a scene is a video; None for a scene that can't be read, which is reported later."""
    try:
        return dataset[number].is_video
    except BadView:
        return None


def evaluate_by_index(config: EvaluateConfig, model: LVSM, dataset: Dataset, problems: Problems) -> dict[str, Any]:
    """`evaluate` by the index of the config, or by a generated one."""
    from tqdm import tqdm

    frame = frame_of(model, config)
    index = read_index(config.index) if config.index is not None else make_index(dataset, num_inputs = num_inputs_of(model), frame_distances = frame_distances_of(config))
    numbers = numbers_by_name(dataset)
    entries = {name: entry for name, entry in index.items() if entry is not None}
    missing = {name: 'is not in the dataset' for name in entries if name not in numbers}
    wanted = [name for name in entries if name not in missing]
    checked = set(spread(wanted, config.robustness_scenes))
    check_missing(missing, index, config)

    with processes_of(config) as processes:
        settings = settings_of(config, model, frame, index)
        out = prepare_out(config, settings, processes)
        device = processes.device if config.device == 'auto' else pick_device(config.device)
        protocol = Protocol(model.to(device), size_of(model, config), config.resize_filter or 'lanczos', frame, config.chunk_size)
        similarity = lpips_of(config.lpips, device) if config.lpips is not None else None

        def found_of(name: str) -> dict[str, Any]:
            scene, entry = dataset[numbers[name]], entries[name]
            batch = protocol.batch(scene, entry)
            pred = protocol.render(batch)
            found = evaluate_views(batch, pred, similarity)
            return found if name not in checked else found | dict(moved = in_moved_worlds(protocol, batch, pred), by_inputs = by_inputs(protocol, scene, entry))

        def rendered(name: str) -> tuple[Batch, Tensor]:
            batch = protocol.batch(dataset[numbers[name]], entries[name])
            return batch, protocol.render(batch)

        own = wanted[processes.process_index::processes.num_processes]
        left = [name for name in own if 'missing' in read_record(out, name)]

        for name in tqdm(left, initial = len(own) - len(left), total = len(own), unit = 'scene', desc = 'evaluate', disable = not processes.is_main_process):
            found = problems.attempt(name, partial(found_of, name))
            write_json(record_path(out, name), dict(scene = name, **(dict(missing = problems.found[name]) if found is None else found)))

        processes.wait_for_everyone()
        records, not_evaluated = read_records(out, wanted)
        missing |= not_evaluated

        if not records:
            fail('index', 'must have at least one scene that can be evaluated', f'none of {len(index)}', problems.summary(most = 5) or 'All of them are null.')

        report = dict(
            settings,
            versions = versions(),
            lpips = config.lpips or WITHOUT_LPIPS,
            scenes = dict(evaluated = len(records), null = [name for name, entry in index.items() if entry is None], missing = missing),
            metrics = summary(records),
            baselines = baselines(records),
            per_scene = records,
        )

        if processes.is_main_process:
            write_json(out / REPORT, report)
            write_page(out / PAGE, report, rendered)
            print(table(report))
            print(f'wrote {out / REPORT} and {out / PAGE}')

        processes.wait_for_everyone()

    check_missing(missing, index, config)
    return report


def numbers_by_name(dataset: Dataset) -> dict[str, int]:
    """Numbers of the scenes by name.

    Raises:
        ValueError: If two scenes have the same name, since an index refers to scenes by name.
    """
    names = [dataset.name(number) for number in range(len(dataset))]
    numbers = {name: number for number, name in enumerate(names)}

    if len(numbers) < len(names):
        twice = next(name for name in numbers if names.count(name) > 1)
        fail('data', 'must have scenes with unique names', f'{twice} {names.count(twice)} times, as in {dataset.label(numbers[twice])}', 'Rename one of them.')

    return numbers


def check_missing(missing: dict[str, str], index: Index, config: EvaluateConfig) -> None:
    if missing and not config.allow_missing:
        fail('data', 'must have all scenes of the index', f'{len(missing)} of {len(index)} missing: {dict(list(missing.items())[:3])}', 'Is the index of this dataset? --allow-missing reports on the others.')


# model and data of an evaluation

def load_model(config: EvaluateConfig) -> LVSM:
    model = LVSM.from_pretrained(config.model)
    size = config.image_size or model.max_image_size

    if size % model.patch_size != 0:
        fail('image_size', f'must be a multiple of patch_size {model.patch_size}', size, f'For example {max(size // model.patch_size, 1) * model.patch_size}.')

    return model


def frame_distances_of(config: EvaluateConfig) -> tuple[int, int]:
    """Frame distances of a generated index: those of the run, or the paper's."""
    trained = config_beside(config.model) or TrainConfig()
    return trained.min_frame_distance, trained.max_frame_distance


def datasets_of(config: EvaluateConfig, model: LVSM, problems: Problems) -> dict[str, Dataset]:
    """Datasets by folder: those of the config, or that of the run, or built-in scenes. Without an index, training data of the run are reduced to the held-out scenes."""
    beside = data_beside(config.model)
    own = () if beside is None else beside if isinstance(beside, tuple) else (beside,)
    folders = config.data or own

    if not folders:
        size, _ = size_of(model, config)
        return {BUILT_IN: synthetic_dataset(NUM_SYNTHETIC, size, problems)}

    datasets = {str(folder): open_test(folder, problems) for folder in folders}
    places = [place(folder) for folder in own]
    splits_of_run = cache(partial(split_each, own, problems))    # opens all of them, only if needed

    for folder in folders:
        dataset = datasets[str(folder)]
        was_trained_with = place(folder) in places and not has_split(folder) and len(dataset) * len(own) > 1

        if was_trained_with and config.index is not None:
            warnings.warn('the run was trained on these data: scenes of the index that were not held out are training scenes. Without --index, held-out scenes alone are evaluated', stacklevel = 2)
        elif was_trained_with:
            held_out = (split_scenes(dataset) if len(own) == 1 else splits_of_run()[own[places.index(place(folder))]]).held_out
            datasets[str(folder)] = held_out

            if len(held_out) == 0:
                warnings.warn(f'{folder} is left out: the run was trained on its only scene', stacklevel = 2)
                del datasets[str(folder)]

    if not datasets:
        fail('data', 'must have scenes that the run was not trained on', ', '.join(map(str, folders)), 'Name other data.')

    return datasets


def frame_of(model: LVSM, config: EvaluateConfig) -> Frame:
    known = model.trained_for
    fitting = 'inputs_and_targets' if known is None else 'scene' if known.pose_frame == 'scene' else 'inputs'
    frame = config.pose_frame or fitting

    if frame == 'scene' and (known is None or known.world is None):
        fail('pose_frame', 'must be inputs or inputs_and_targets for a model that was not trained on one scene', frame, 'Left out, it fits the model.')

    return frame


# settings of a report

def spread(names: list[str], count: int) -> list[str]:
    """`count` of the names, evenly spread, with the first and the last."""
    if count >= len(names):
        return names

    return [names[place] for place in evenly(len(names) - 1, count)]


def settings_of(config: EvaluateConfig, model: LVSM, frame: Frame, index: Index) -> dict[str, Any]:
    """All settings that the results depend on."""
    listed = json.dumps({name: entry for name, entry in sorted(index.items())})
    return dict(
        weights = hash_of_weights(model),
        index = hashlib.sha256(config.index.read_bytes() if config.index is not None else listed.encode()).hexdigest(),
        index_file = None if config.index is None else str(config.index),
        data = None if config.data is None else [str(folder) for folder in config.data],
        image_size = list(size_of(model, config)),
        resize_filter = config.resize_filter or 'lanczos',
        pose_frame = frame,
        lpips_network = config.lpips,
        robustness_scenes = config.robustness_scenes,
    )

