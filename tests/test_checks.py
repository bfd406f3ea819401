from __future__ import annotations

import pytest
import torch

from lvsm_pytorch.checks import check_floating, check_shape, make_valid_mask
from lvsm_pytorch.errors import ShapeError


def test_sizes_come_back_and_bind_later_checks():
    sizes = check_shape('b v 3 h w', images = torch.zeros(2, 4, 3, 8, 16))
    assert sizes == dict(b = 2, v = 4, h = 8, w = 16)
    assert check_shape('b v 6 h w', sizes, rays = torch.zeros(2, 4, 6, 8, 16)) == sizes
    with pytest.raises(ShapeError, match = 'rays: must have shape .* with width 16, but got width 8'):
        check_shape('b v 6 h w', sizes, rays = torch.zeros(2, 4, 6, 8, 8))


def test_the_same_letter_is_the_same_size():
    check_shape('h h', square = torch.zeros(3, 3))
    with pytest.raises(ShapeError, match = 'square'):
        check_shape('h h', square = torch.zeros(3, 4))


def test_leading_axes_may_be_any():
    for leading in ((), (2,), (2, 3)):
        check_shape('... 4 4', camera_to_world = torch.zeros(*leading, 4, 4))
    with pytest.raises(ShapeError, match = 'at least 2 axes'):
        check_shape('... 4 4', camera_to_world = torch.zeros(4))


def test_advice_is_given():
    with pytest.raises(ShapeError, match = 'Turn it.$'):
        check_shape('3', None, 'Turn it.', x = torch.zeros(4))
    with pytest.raises(ShapeError, match = 'channels seem to come last'):
        check_shape('3 h w', image = torch.zeros(8, 8, 3))
    with pytest.raises(ShapeError, match = 'x: must be a torch.Tensor, but got list'):
        check_shape('3', x = [1, 2, 3])


def test_a_shape_error_is_a_value_error():
    assert issubclass(ShapeError, ValueError)


def test_errors_for_integers_have_advice():
    check_floating(x = torch.zeros(1, dtype = torch.bfloat16))
    with pytest.raises(ValueError, match = 'x: .*uint8. Divide it by 255'):
        check_floating(x = torch.zeros(1, dtype = torch.uint8))
    with pytest.raises(ValueError, match = r'x: .*int64. Convert it with .float\(\)'):
        check_floating(x = torch.zeros(1, dtype = torch.int64))


def test_real_views_come_first():
    valid_mask = make_valid_mask(dict(b = 3, v = 4), count = torch.tensor([1, 2, 4]))
    assert valid_mask.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert make_valid_mask(dict(b = 3, v = 4), count = None) is None
    assert make_valid_mask(dict(b = 2, v = 4), count = torch.tensor([4, 4])) is None  # a mask of nothing would cost time
    with pytest.raises(ValueError, match = 'count: must be from 2 to the number of views 4'):
        make_valid_mask(dict(b = 1, v = 4), at_least = 2, count = torch.tensor([1]))
