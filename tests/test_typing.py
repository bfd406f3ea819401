"""The library is typed: a user's script passes pyright, and one with a mistake does not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = '''
from pathlib import Path

import torch
from torch import Tensor

import lvsm_pytorch
from lvsm_pytorch import LVSM, MAE, Cameras, CameraWrapper, EncodedScene, MAECameraWrapper, PerceptualLoss, EncodedPhotos, ShapeError, plucker_rays, encode_photos, synthesize, to_plucker_rays
from lvsm_pytorch.geometry.normalization import normalize_poses
from lvsm_pytorch.data import Scene, View, cameras_of, read_scene, synthetic_scene

model: LVSM = LVSM(dim = 64, max_image_size = 64, patch_size = 8, depth = 1)
version: str = lvsm_pytorch.__version__
scene: Scene = read_scene(Path('photos'))
view: View = scene.views[0]
cameras: Cameras = cameras_of(scene.views)
images: list[Tensor] = [view.load() for view in scene.views]
views: Tensor = synthesize(model, images, cameras, cameras, size = (64, 64))
seen: EncodedPhotos = encode_photos(model, images, cameras)
parts: list[Tensor] = [part.cpu() for part in seen.render(cameras, (64, 64))]
inputs, targets, _ = normalize_poses(cameras.camera_to_world, cameras.camera_to_world)
rays: Tensor = plucker_rays(inputs, cameras.intrinsics, (64, 64))
encoded: EncodedScene = model.encode(torch.rand(1, 2, 3, 64, 64), rays)
rendered: Tensor = model.render(encoded, rays)
model.save_pretrained('folder', dtype = torch.float16)
again: LVSM = LVSM.from_pretrained('solids-128', max_image_size = 256)
wrapped: list[torch.nn.Module] = [MAE(model), CameraWrapper(model), MAECameraWrapper(MAE(model)), PerceptualLoss.with_random_weights()]
'''


def errors_of(program: str, folder) -> list[str]:
    pytest.importorskip('pyright')
    (folder / 'script.py').write_text(program, encoding = 'utf-8')
    output = subprocess.run([sys.executable, '-m', 'pyright', '--outputjson', '--pythonpath', sys.executable, 'script.py'], cwd = folder, capture_output = True, text = True).stdout
    return [found['message'] for found in json.loads(output)['generalDiagnostics']]


def test_a_users_script_passes_pyright(tmp_path):
    assert errors_of(SCRIPT, tmp_path) == []


def test_a_mistake_in_it_is_found(tmp_path):
    found = errors_of(SCRIPT + "model.encode('photos')\nLVSM(dim = 64, width = 3)\nlvsm_pytorch.LSVM\n", tmp_path)
    assert any('"rays"' in message for message in found)
    assert any('"width"' in message for message in found)
    assert any('LSVM' in message for message in found)
