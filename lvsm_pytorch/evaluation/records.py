"""Result files of evaluations, one for each scene, so that interrupted work resumes and processes can share the scenes."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lvsm_pytorch.configs.evaluate import EvaluateConfig
from lvsm_pytorch.isolation import own_accelerate_state
from lvsm_pytorch.lvsm.model import LVSM
from lvsm_pytorch.lvsm.pretrained import default_size
from lvsm_pytorch.output_dir import beside, prepare_output_dir
from lvsm_pytorch.packaged import folder_for

REPORT, PAGE, SCENES = 'report.json', 'index.html', 'scenes'
WITHOUT_LPIPS = 'not computed, because its weights are a download: --lpips vgg'


@contextmanager
def processes_of(config: EvaluateConfig) -> Iterator[Any]:
    """Context manager of the processes of a launcher, as accelerate.PartialState."""
    from accelerate import PartialState

    with own_accelerate_state():
        yield PartialState(cpu = config.device == 'cpu')


def prepare_out(config: EvaluateConfig, settings: dict[str, Any], processes: Any) -> Path:
    """Returns the output folder of an evaluation with these settings. All processes call this; the main process creates the folder."""
    usual = folder_for('evaluation', config.model)
    out = config.out or (usual if config.overwrite else beside(usual, settings))

    if processes.is_main_process:
        prepare_output_dir(out, SCENES, settings, overwrite = config.overwrite)

    processes.wait_for_everyone()
    return out


def size_of(model: LVSM, config: EvaluateConfig) -> tuple[int, int]:
    if config.image_size is not None:
        return config.image_size, config.image_size

    return default_size(model)


def versions() -> dict[str, str]:
    found = dict(python = platform.python_version())

    for name in ('lvsm-pytorch', 'torch', 'torchmetrics', 'torchvision', 'pillow'):
        with suppress(PackageNotFoundError):
            found[name] = version(name)

    return found


def read_records(out: Path, names: Iterable[str]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Returns the records of scenes, and the reasons of missing ones by name."""
    records = [read_record(out, name) for name in names]
    return [record for record in records if 'missing' not in record], {record['scene']: record['missing'] for record in records if 'missing' in record}


def read_record(out: Path, name: str) -> dict[str, Any]:
    """Reads the record of a scene, which has the reason if the scene is missing. Missing scenes are evaluated again when work resumes."""
    path = record_path(out, name)
    return json.loads(path.read_text(encoding = 'utf-8')) if path.exists() else dict(scene = name, missing = 'was not evaluated yet')


def record_path(out: Path, name: str) -> Path:
    return out / SCENES / f'{stem_of(name)}.json'


def stem_of(name: str) -> str:
    """Returns a file name for a scene, whose own name may have any characters."""
    return hashlib.sha256(name.encode()).hexdigest()[:24]
