"""Named sizes of `LVSM`: the paper's, and small ones."""

from __future__ import annotations

from typing import Any

# Arguments of LVSM by name. Above them, what the paper's tables have for each, as PSNR / SSIM / LPIPS: on RealEstate10K at
# 256² from two views, trained in full or for the paper's ablation of model sizes, and on objects of ABO and GSO at 512²

SIZES: dict[str, dict[str, Any]] = {
    # in full 29.67 / 0.906 / 0.098, in the ablation 28.89 / 0.894 / 0.108
    'paper-256': dict(dim = 768, depth = 24, patch_size = 8, max_image_size = 256),
    # ABO 32.10 / 0.938 / 0.045, GSO 32.36 / 0.962 / 0.028
    'paper-512': dict(dim = 768, depth = 24, patch_size = 8, max_image_size = 512),
    # in the ablation 28.77 / 0.892 / 0.109
    'paper-18-layers': dict(dim = 768, depth = 18, patch_size = 8, max_image_size = 256),
    # in the ablation 28.61 / 0.890 / 0.111
    'paper-12-layers': dict(dim = 768, depth = 12, patch_size = 8, max_image_size = 256),
    # in the ablation 27.62 / 0.869 / 0.129
    'paper-6-layers': dict(dim = 768, depth = 6, patch_size = 8, max_image_size = 256),
    # not the paper's: the network that learned fastest in a study of small ones (docs/sample-efficiency.md), in the paper's size
    'modern-256': dict(dim = 768, depth = 24, patch_size = 8, max_image_size = 256, camera_encoding = 'prope', num_depth_planes = 32, near_plane = 1., input_attends_target = False),
    # for tests and demos
    'tiny': dict(dim = 64, depth = 2, patch_size = 8, max_image_size = 64, dim_head = 32),
}
