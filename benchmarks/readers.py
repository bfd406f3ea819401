"""How fast datasets are read, beside nothing but decoding their JPEGs, and what the number of their scenes costs: on one core, in one process.

python benchmarks/readers.py [FOLDER]
python benchmarks/readers.py --many

FOLDER: RealEstate10K chunks. Left out, some are made from synthetic scenes, 360 × 640 pixels as the real ones are.
--many: datasets of 100 to 1,000,000 scenes, whose files are links to one chunk of 50 scenes; and folders of scenes.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from lvsm_pytorch.data import Chunks, DatasetSource, Problems, Scene, Split, Subset, split_dataset, synthetic_scene, write_chunks
from lvsm_pytorch.data.formats.chunks import bytes_of
from lvsm_pytorch.data.images import load_image
from lvsm_pytorch.files import read_tensors, write_json

SIZE = (360, 640)
SCENES, VIEWS, SCENES_PER_FILE, SAMPLES = 16, 40, 4, 64
ROUNDS = 5

# of the file that many links lead to

SCENES_OF_LINKED = 50


def wide_scene(seed: int) -> Scene:
    """A synthetic scene whose photos are stretched to the size of RealEstate10K's: what is in them does not matter here."""
    scene = synthetic_scene(seed, num_views = VIEWS, image_size = 96)

    def stretched(load: Callable[[], torch.Tensor]) -> torch.Tensor:
        return F.interpolate(load().unsqueeze(0), SIZE, mode = 'bilinear')[0]

    return replace(scene, views = tuple(replace(view, load = lambda load = view.load: stretched(load)) for view in scene.views))


def seconds(work: Callable[[], object]) -> list[float]:
    times = []

    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)

    return times[1:]


def source_of(split: Split) -> DatasetSource:
    return DatasetSource(split, num_inputs = 2, num_targets = 1, image_size = 256, frame_distances = (5, 30))


def many_scenes() -> None:
    """What a run's start and each of its samples cost, by the number of scenes."""
    with tempfile.TemporaryDirectory() as made:
        write_chunks([wide_scene(seed) for seed in range(SCENES_OF_LINKED)], Path(made), scenes_per_file = SCENES_OF_LINKED, with_index = False)
        chunk, = Path(made).iterdir()

        for number in (100, 1_000, 10_000, 100_000, 1_000_000):
            linked_scenes(chunk, number)

    for number in (1_000, 10_000, 100_000):
        scene_folders(number)


def linked_scenes(chunk: Path, number: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = [f'{file:06d}.torch' for file in range(number // SCENES_OF_LINKED)]

        for file in files:
            os.link(chunk, folder / file)

        write_json(folder / 'index.json', {f'{scene:016x}': files[scene // SCENES_OF_LINKED] for scene in range(number)})
        start = time.perf_counter()
        source = source_of(split_dataset(folder))
        source.held_out()
        source.sample(0)
        begun = time.perf_counter() - start
        middle, order = len(source.split.training) // 2, source.order(0)
        start = time.perf_counter()

        for sample in range(middle, middle + 400):
            order[sample % len(order)]

        in_order = (time.perf_counter() - start) / 400
        start = time.perf_counter()

        for sample in range(middle, middle + 400):
            source.sample(sample)

        print(f'{number:9,} scenes: a run starts after {begun:6.2f} s, an entry of the order takes {in_order * 1e6:5.1f} µs and a sample {(time.perf_counter() - start) / 400 * 1e3:6.2f} ms')


def scene_folders(number: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        for scene in range(number):
            folder = Path(temporary) / f'{scene:06d}'
            folder.mkdir()
            (folder / 'transforms.json').write_text('{"frames": [{}]}')

        start = time.perf_counter()
        dataset = split_dataset(Path(temporary))
        print(f'{number:9,} folders of a scene each are found in {time.perf_counter() - start:6.2f} s, of which {len(dataset.held_out)} are held out')


def main() -> None:
    torch.set_num_threads(1)

    if sys.argv[1:] == ['--many']:
        many_scenes()
        return

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)

        if len(sys.argv) == 1:
            write_chunks([wide_scene(seed) for seed in range(SCENES)], folder, scenes_per_file = SCENES_PER_FILE)

        files = sorted(folder.glob('*.torch'))
        images = [bytes_of(image) for path in files[:2] for example in read_tensors(path, argument = 'data') for image in example['images']]
        examples = min(len(Chunks(folder, Problems())), SCENES)

        def open_files() -> None:
            for path in files:
                read_tensors(path, argument = 'data', mmap = True)

        def read_scenes() -> None:
            dataset = Chunks(folder, Problems())

            for index in range(examples):
                dataset[index]

        def whole_views() -> None:
            dataset = Chunks(folder, Problems())

            for index in range(min(examples, 4)):
                for view in dataset[index].views:
                    view.load()

        def samples() -> None:
            dataset = Chunks(folder, Problems())
            part = Subset(dataset, range(len(dataset)))
            source = source_of(Split(part, part))

            for number in range(SAMPLES):
                source.sample(number)

        num_views = sum(len(Chunks(folder, Problems())[index].views) for index in range(min(examples, 4)))
        print(f'{len(files)} files, {len(images[0])} bytes an image; a second, median (least to most) of {ROUNDS}')

        for name, work, count in (
            ('views decoded, and nothing else', lambda: [load_image(image) for image in images], len(images)),
            ('views read and decoded', whole_views, num_views),
            ('views in training samples: read, decoded, made 256 × 256, with rays', samples, SAMPLES * 3),
            ('scenes read, no view decoded', read_scenes, examples),
            ('files opened', open_files, len(files)),
        ):
            rates = [count / each for each in seconds(work)]
            print(f'{statistics.median(rates):9.1f} ({min(rates):.1f} to {max(rates):.1f}) {name}')


if __name__ == '__main__':
    main()
