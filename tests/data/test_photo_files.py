"""Loose photos: which files they are, how they are turned, what EXIF says."""

from __future__ import annotations

import math

import pytest
from PIL import Image

from lvsm_pytorch.data.photo_files import describe_unposed, list_photos, open_upright, posed_folder, prepare_photo, read_lens
from lvsm_pytorch.data.problems import BadView


def picture(size = (120, 80)):
    """Red, with a blue corner on the top left."""
    image = Image.new('RGB', size, 'red')
    image.paste('blue', (0, 0, size[0] // 4, size[1] // 4))
    return image


def exif_of(orientation = None, focal = None, size = None, make = 'Maker', model = 'Phone 3', length = 4.2):
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)

    if orientation is not None:
        exif[0x0112] = orientation

    if focal is not None:
        exif[0x010F], exif[0x0110] = make, model
        details[0x920A], details[0xA405] = length, focal

    if size is not None:
        details[0xA002], details[0xA003] = size

    return exif


def corner_of(image):
    """Which corner is blue."""
    width, height = image.size
    corners = {'top left': (3, 3), 'top right': (width - 4, 3), 'bottom left': (3, height - 4), 'bottom right': (width - 4, height - 4)}
    return [name for name, place in corners.items() if image.getpixel(place)[2] > 128]


# how the stored picture has to be turned for its blue corner to be where it was in what was photographed: EXIF 2.32, 4.6.4

STORED = {
    1: lambda image: image,
    2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    3: lambda image: image.transpose(Image.Transpose.ROTATE_180),
    4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.transpose(Image.Transpose.ROTATE_90),     # stored on its left side: to be turned clockwise
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.transpose(Image.Transpose.ROTATE_270),
}


@pytest.mark.parametrize('orientation', STORED)
@pytest.mark.parametrize('ending', ['.jpg', '.png'])
def test_photos_are_turned_as_they_were_taken(tmp_path, orientation, ending):
    STORED[orientation](picture()).save(tmp_path / f'a{ending}', exif = exif_of(orientation))
    prepared = prepare_photo(tmp_path / f'a{ending}', tmp_path / 'out.jpg', 60)
    assert prepared.size == (40, 60)

    with Image.open(tmp_path / 'out.jpg') as image:
        assert image.size == (60, 40)
        assert corner_of(image) == ['top left']
        assert not image.getexif().get(0x0112)


def test_heic_photos_are_not_turned_twice(tmp_path):
    """How they are to be shown is in HEIF itself, whose reader has done so; their EXIF may say it once more."""
    pytest.importorskip('pillow_heif').register_heif_opener()
    picture().save(tmp_path / 'a.heic', exif = exif_of(6, focal = 26))
    prepared = prepare_photo(tmp_path / 'a.heic', tmp_path / 'out.jpg', 60)
    assert prepared.size == (40, 60)
    assert prepared.focal == pytest.approx(26 / math.hypot(36, 24) * math.hypot(40, 60))

    with Image.open(tmp_path / 'out.jpg') as image:
        assert corner_of(image) == ['top left']


def test_a_photo_that_fits_is_copied(tmp_path):
    picture().save(tmp_path / 'a.jpg', quality = 60)
    prepare_photo(tmp_path / 'a.jpg', tmp_path / 'out.jpg', 120)
    assert (tmp_path / 'out.jpg').read_bytes() == (tmp_path / 'a.jpg').read_bytes()


def test_focal_lengths_are_those_of_the_written_pixels(tmp_path):
    """43.27 mm, the diagonal of 36 × 24 mm, are as many pixels as the photo's diagonal has, upright or turned."""
    for orientation in (1, 6):
        STORED[orientation](picture((1200, 900))).save(tmp_path / 'a.jpg', exif = exif_of(orientation, focal = 26))
        prepared = prepare_photo(tmp_path / 'a.jpg', tmp_path / 'out.jpg', 400)
        assert prepared.focal == pytest.approx(26 / math.hypot(36, 24) * 500)
        assert prepared.lens == 'Maker Phone 3 4.2 mm 26 mm equivalent'


@pytest.mark.parametrize('exif', [exif_of(), exif_of(focal = 0), exif_of(focal = 26, size = (1200, 400))])
def test_a_focal_length_that_is_not_known_is_none(tmp_path, exif):
    """Of a crop, too."""
    picture((1200, 900)).save(tmp_path / 'a.jpg', exif = exif)
    assert prepare_photo(tmp_path / 'a.jpg', tmp_path / 'out.jpg', 400).focal is None


def test_a_broken_exif_costs_nothing_else(tmp_path):
    picture().save(tmp_path / 'a.jpg', exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x05' + b'\xff' * 40)
    image, lens = open_upright(tmp_path / 'a.jpg', 100)
    assert corner_of(image) == ['top left']
    assert lens == ('', None)


def test_bad_photos_are_named(tmp_path):
    (tmp_path / 'text.jpg').write_text('no image')
    picture((300, 300)).save(tmp_path / 'cut.png')
    (tmp_path / 'cut.png').write_bytes((tmp_path / 'cut.png').read_bytes()[:60])
    Image.new('I;16', (200, 200)).save(tmp_path / 'deep.png')
    picture((2000, 16)).save(tmp_path / 'flat.png')

    for name in ('text.jpg', 'cut.png', 'deep.png', 'flat.png', 'missing.jpg'):
        with pytest.raises(BadView, match = f'image: .*{name}'):
            prepare_photo(tmp_path / name, tmp_path / 'out.jpg', 400)

    assert not (tmp_path / 'out.jpg').exists()


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'pillow_heif', None)
    (tmp_path / 'a.heic').write_bytes(b'x')
    with pytest.raises(BadView, match = 'pillow-heif'):
        open_upright(tmp_path / 'a.heic', 100)


def test_transparency_is_white(tmp_path):
    Image.new('RGBA', (64, 64), (255, 0, 0, 0)).save(tmp_path / 'a.png')
    image, _ = open_upright(tmp_path / 'a.png', 100)
    assert image.getpixel((3, 3)) == (255, 255, 255)


def test_which_files_are_photos(tmp_path):
    for name in ('b.JPG', 'a.png', '.hidden.jpg', '._b.JPG', 'notes.txt', 'film.mov', 'sub/c.jpg', '.cache/d.jpg'):
        (tmp_path / name).parent.mkdir(exist_ok = True)
        (tmp_path / name).write_bytes(b'')

    assert [path.name for path in list_photos(tmp_path)] == ['a.png', 'b.JPG']
    (tmp_path / 'a.png').unlink()
    (tmp_path / 'b.JPG').unlink()
    assert [path.name for path in list_photos(tmp_path)] == ['c.jpg']
    assert describe_unposed(tmp_path) == '1 photo'
    assert describe_unposed(tmp_path / 'film.mov') == 'a video'
    assert describe_unposed(tmp_path / 'notes.txt') is None
    assert describe_unposed(tmp_path / 'missing') is None


def test_poses_are_written_beside_the_photos(tmp_path, monkeypatch):
    (tmp_path / 'photos.old').mkdir()
    (tmp_path / 'film.mov').write_bytes(b'')
    assert posed_folder(tmp_path / 'photos.old') == tmp_path / 'photos.old-posed'
    assert posed_folder(tmp_path / 'film.mov') == tmp_path / 'film-posed'
    monkeypatch.chdir(tmp_path / 'photos.old')
    assert posed_folder(type(tmp_path)('.')) == tmp_path / 'photos.old-posed'


def test_a_lens_is_read_from_what_pillow_opened(tmp_path):
    picture().save(tmp_path / 'a.jpg', exif = exif_of(focal = 50))
    with Image.open(tmp_path / 'a.jpg') as file:
        assert read_lens(file).focal == pytest.approx(50 / math.hypot(36, 24))
