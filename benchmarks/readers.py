"""How fast datasets are read, beside nothing but decoding their JPEGs: on one core, in one process.

python benchmarks/readers.py [FOLDER]

FOLDER: RealEstate10K chunks. Left out, some are made from synthetic scenes, 360 × 640 pixels as the real ones are.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from lvsm_pytorch.data import Chunks, DatasetSource, Problems, Scene, Split, Subset, synthetic_scene, write_chunks
from lvsm_pytorch.data.formats.chunks import bytes_of
from lvsm_pytorch.data.images import load_image
from lvsm_pytorch.files import read_tensors

SIZE = (360, 640)
SCENES, VIEWS, SCENES_PER_FILE, SAMPLES = 16, 40, 4, 64
ROUNDS = 5


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


def main() -> None:
    torch.set_num_threads(1)

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
            source = DatasetSource(Split(part, part), num_inputs = 2, num_targets = 1, image_size = 256, frame_distances = (5, 30))

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
