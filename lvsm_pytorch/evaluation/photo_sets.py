"""Sets of photos without an evaluation index: `lvsm evaluate --protocol nearest`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.configs.yaml import config_beside
from lvsm_pytorch.data.dataset import Dataset
from lvsm_pytorch.data.images import save_image
from lvsm_pytorch.data.problems import Problems
from lvsm_pytorch.data.scene import Scene, unit_of_set
from lvsm_pytorch.errors import fail
from lvsm_pytorch.evaluation.nearest import HeldOutView, NearestInputs, cameras_digest, evaluate_set
from lvsm_pytorch.evaluation.nearest_report import summary, table, write_page
from lvsm_pytorch.evaluation.pictures import joined
from lvsm_pytorch.evaluation.protocol import lpips_of
from lvsm_pytorch.evaluation.records import PAGE, REPORT, WITHOUT_LPIPS, prepare_out, processes_of, read_record, read_records, record_path, size_of, stem_of, versions
from lvsm_pytorch.execution import pick_device
from lvsm_pytorch.files import make_folder, write_json
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import hash_of_weights

PICTURES = 'pictures'

# default for models without `trained_for`

NUM_INPUTS = 3


def evaluate_photo_sets(config: EvaluateConfig, model: LVSM, datasets: dict[str, Dataset], problems: Problems) -> dict[str, Any]:
    """Evaluates the sets without results, writes report.json and index.html, prints a table, and returns the report.

    Args:
        config: Options of the command.
        model: Model to evaluate.
        datasets: Datasets by folder.
        problems: Record of unreadable sets and photos.

    Raises:
        ValueError: As `evaluate`. Without `allow_missing`, missing sets and photos are an error after the others are evaluated and reported.
    """
    from tqdm import tqdm

    scenes, missing = read_sets(datasets, problems)
    skipped = {what: why for what, why in problems.found.items() if what not in missing}
    num_inputs, shown_inputs = inputs_of(config, model)

    with processes_of(config) as processes:
        settings = settings_of(config, model, num_inputs)
        out = prepare_out(config, settings, processes)
        make_folder(out / PICTURES)
        device = processes.device if config.device == 'auto' else pick_device(config.device)
        similarity = lpips_of(config.lpips, device) if config.lpips is not None else None
        protocol = NearestInputs(model.to(device), size_of(model, config), config.resize_filter or 'bicubic', pose_frame_of(config, model), num_inputs, config.max_views, similarity, partial(unit_for, config, model))

        own = list(scenes)[processes.process_index::processes.num_processes]
        left = [name for name in own if not is_done(read_record(out, name), scenes[name])]

        with tqdm(total = len(own), initial = len(own) - len(left), unit = 'set', desc = 'evaluate', disable = not processes.is_main_process) as bar:
            for name in left:
                views = 0

                def step(name: str = name) -> None:
                    nonlocal views
                    views += 1
                    bar.set_postfix_str(f'{name}: {views} views')

                write_json(record_path(out, name), evaluated(out, name, scenes[name], protocol, shown_inputs, problems, step))
                bar.update()

        processes.wait_for_everyone()
        records, not_evaluated = read_records(out, scenes)
        missing |= not_evaluated

        if not records:
            fail('data', 'must have at least one set of photos that can be evaluated', f'none of {len({*scenes, *missing})}', '; '.join(f'{name}: {why}' for name, why in list(missing.items())[:5]))

        report = dict(
            settings,
            versions = versions(),
            lpips = config.lpips or WITHOUT_LPIPS,
            scenes = dict(
                evaluated = len(records), missing = missing, skipped = skipped,
                missing_photos = {record['scene']: record['missing_photos'] for record in records},
                too_few = [record['scene'] for record in records if str(shown_inputs) not in record['views']],
            ),
            per_scene = records,
        ) | summary(records, num_inputs, shown_inputs)

        if processes.is_main_process:
            write_json(out / REPORT, report)
            write_page(out / PAGE, report)
            print(table(report))
            print(f'wrote {out / REPORT} and {out / PAGE}')

        processes.wait_for_everyone()

    check_missing(report, config)
    return report


def evaluated(out: Path, name: str, scene: Scene, protocol: NearestInputs, shown_inputs: int, problems: Problems, step: Callable[[], object]) -> dict[str, Any]:
    """Evaluates a set, writes its pictures, and returns its record."""
    found = problems.attempt(name, partial(evaluate_set, protocol, scene, shown_inputs, step))

    if found is None:
        return dict(scene = name, missing = problems.found[name])

    record, shown = found
    return dict(record, scene = name, cameras = cameras_digest(scene), pictures = write_pictures(out, name, shown))


def write_pictures(out: Path, name: str, shown: dict[str, HeldOutView]) -> list[dict[str, str]]:
    """Writes a PNG of each view: its inputs, the plane sweep, the model and the truth. Views are written once."""
    pictures: dict[str, dict[str, str]] = {}

    for which, view in shown.items():
        file = f'{PICTURES}/{stem_of(name)}-{which}.png'
        photo = view.figures['view']

        if photo not in pictures:
            save_image(joined([*view.inputs, view.sweep, view.pred, view.truth], across = True), out / file, durable = False)
            pictures[photo] = dict(file = file, view = photo, which = which)

    return list(pictures.values())


def is_done(record: dict[str, Any], scene: Scene) -> bool:
    """Whether a set is evaluated: nothing was missing, and photos and cameras are the same."""
    return 'missing' not in record and not record['missing_photos'] and record['cameras'] == cameras_digest(scene)


def read_sets(datasets: dict[str, Dataset], problems: Problems) -> tuple[dict[str, Scene], dict[str, str]]:
    """Returns the scenes by name in the order of the folders, and the reasons of missing ones. A name that occurs in two folders is replaced by a path.

    Raises:
        ValueError: If two sets of one folder have the same name.
    """
    found: list[tuple[str, Scene]] = []
    missing: dict[str, str] = {}

    for folder, dataset in datasets.items():
        for number in range(len(dataset)):
            what = f'{folder}, set {number}' if len(dataset) > 1 else folder
            scene = problems.attempt(what, partial(dataset.__getitem__, number))

            if scene is None:
                missing[what] = problems.found[what]
            else:
                found.append((folder, scene))

    names = [scene.name for _, scene in found]
    scenes: dict[str, Scene] = {}

    for folder, scene in found:
        alone = len(datasets[folder]) == 1
        name = scene.name if names.count(scene.name) == 1 else folder if alone else f'{folder}/{scene.name}'

        if name in scenes:
            fail('data', 'must have sets with unique names', f'{name} twice', 'Name the folders of the sets differently, or give each to --data by itself.')

        scenes[name] = scene

    return scenes, missing


def inputs_of(config: EvaluateConfig, model: LVSM) -> tuple[tuple[int, ...], int]:
    """Numbers of input views, and the one shown in the table and pictures: that of training, if it is among them."""
    own = NUM_INPUTS if model.trained_for is None else model.trained_for.num_inputs
    num_inputs = tuple(dict.fromkeys(config.num_inputs or (own,)))
    return num_inputs, own if own in num_inputs else num_inputs[0]


def pose_frame_of(config: EvaluateConfig, model: LVSM):
    """Returns the `pose_frame` for `synthesize`: by default that of training for a model of one scene, else that of the inputs."""
    if config.pose_frame == 'inputs_and_targets':
        fail('pose_frame', 'must be inputs or scene with the protocol nearest', config.pose_frame, 'inputs_and_targets belongs to the protocol index.')

    has_world = model.trained_for is not None and model.trained_for.world is not None

    if config.pose_frame == 'scene' and not has_world:
        fail('pose_frame', 'must be inputs for a model that was not trained on one scene', config.pose_frame, 'Left out, it fits the model.')

    return None if has_world and config.pose_frame != 'inputs' else 'inputs'


def unit_for(config: EvaluateConfig, model: LVSM, scene: Scene) -> float | None:
    """Unit of length of a set for models trained on photo sets, from all of its cameras; None for others, for which `synthesize` determines it."""
    run, known = config_beside(config.model), model.trained_for
    of_sets = run is not None and run.data is not None and known is not None and known.takes_unit_of_set
    return unit_of_set(scene) if of_sets else None


def settings_of(config: EvaluateConfig, model: LVSM, num_inputs: tuple[int, ...]) -> dict[str, Any]:
    """All settings that the results depend on."""
    return dict(
        protocol = 'nearest',
        weights = hash_of_weights(model),
        data = None if config.data is None else [str(folder) for folder in config.data],
        evaluated_inputs = list(num_inputs),
        max_views = config.max_views,
        image_size = list(size_of(model, config)),
        resize_filter = config.resize_filter or 'bicubic',
        pose_frame = config.pose_frame or ('inputs' if pose_frame_of(config, model) else 'scene'),
        lpips_network = config.lpips,
    )


def check_missing(report: dict[str, Any], config: EvaluateConfig) -> None:
    scenes = report['scenes']
    missing = {**scenes['missing'], **{f'{name}, {photo["photo"]}': photo['why'] for name, photos in scenes['missing_photos'].items() for photo in photos}}

    if missing and not config.allow_missing:
        fail('data', 'must have sets and photos that can be read', f'{len(missing)} missing: {dict(list(missing.items())[:3])}', 'The report has the others. --allow-missing turns this error off.')
