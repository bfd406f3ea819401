from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import lvsm_pytorch

OPTIONAL = {
    'PIL', 'accelerate', 'cv2', 'huggingface_hub', 'matplotlib', 'pillow_heif', 'pycolmap', 'safetensors', 'scipy', 'tensorboard',
    'torchmetrics', 'torchvision', 'tqdm', 'tyro', 'viser', 'wandb', 'yaml',
}


def modules_after(program: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded."""
    program += '\nimport json, sys; print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))'
    output = subprocess.run([sys.executable, '-W', 'ignore', '-c', program], capture_output = True, text = True, check = True).stdout
    return set(json.loads(output.splitlines()[-1]))


def test_importing_the_library_loads_nothing_optional():
    core = modules_after('import torch, einops, einx, x_transformers')
    loaded = modules_after('import lvsm_pytorch; from lvsm_pytorch.lvsm import LVSM, MAE, MAECameraWrapper')
    assert 'lvsm_pytorch' in loaded
    assert not (loaded - core) & OPTIONAL


@pytest.mark.parametrize('command', ['', 'train', 'render', 'evaluate', 'make-index', 'pose', 'inspect', 'import-official', 'demo', 'view'])
def test_help_loads_what_it_needs_alone(command):
    told = [command, '--help'] if command else ['--help']
    loaded = modules_after(f"""
import sys
sys.argv = ['lvsm', *{told}]
from lvsm_pytorch.cli import main
try:
    main()
except SystemExit as stopped:
    assert stopped.code == 0
""")
    assert 'tyro' in loaded
    assert not loaded & {'torch', 'einops', 'einx', 'x_transformers', 'numpy', *OPTIONAL - {'tyro', 'yaml'}}


def test_all_public_names_are_there():
    assert all(hasattr(lvsm_pytorch, name) for name in lvsm_pytorch.__all__)
    from lvsm_pytorch import LVSM, MAE, CameraWrapper, MAECameraWrapper, to_plucker_rays
    from lvsm_pytorch import lvsm as module

    assert (module.LVSM, module.MAE, module.CameraWrapper, module.MAECameraWrapper) == (LVSM, MAE, CameraWrapper, MAECameraWrapper)
    assert callable(to_plucker_rays)


def test_the_version_is_the_installed_one():
    assert metadata.version('lvsm-pytorch') == lvsm_pytorch.__version__


def test_core_dependencies_are_four():
    required = [r for r in metadata.requires('lvsm-pytorch') or [] if 'extra' not in r]
    assert sorted(r.split('>')[0].split('=')[0] for r in required) == ['einops', 'einx', 'torch', 'x-transformers']


def test_it_is_typed():
    assert (Path(lvsm_pytorch.__file__).parent / 'py.typed').is_file()


if __name__ == '__main__':
    test_importing_the_library_loads_nothing_optional()
    print('nothing')
