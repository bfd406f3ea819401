"""Lazy reading of files of `torch.save` with thousands of tensors, of which few are used.

Such a file is a zip archive without compression, with a pickle of its structure and the bytes of each tensor. `torch.load` takes 70 µs for each tensor even with
memory mapping, a second for a chunk of RealEstate10K; here it is 5 µs. Only tensors and plain values are unpickled.
"""

from __future__ import annotations

import gc
import mmap
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from torch import Tensor

from lvsm_pytorch.errors import fail
from lvsm_pytorch.files import read_tensors

STORAGES = dict(
    UntypedStorage = torch.uint8, ByteStorage = torch.uint8, CharStorage = torch.int8, ShortStorage = torch.int16, IntStorage = torch.int32, LongStorage = torch.int64,
    HalfStorage = torch.float16, BFloat16Storage = torch.bfloat16, FloatStorage = torch.float32, DoubleStorage = torch.float64, BoolStorage = torch.bool,
)

# size of the local header before the bytes of a zip entry, and position in it of the lengths of the name and of the extra field

LOCAL_HEADER, LENGTHS = 30, 26


class StoredTensor:
    """A tensor that is read from a file on demand. The arguments are those with which torch pickles a tensor."""

    __slots__ = 'dtype', 'file', 'key', 'offset', 'shape', 'stride'

    def __init__(self, file: TensorFile, storage: tuple[Any, ...], offset: int, shape: tuple[int, ...], stride: tuple[int, ...]):
        _, self.dtype, self.key, *_ = storage
        self.file = file
        self.offset = offset
        self.shape = shape
        self.stride = stride

    @property
    def is_bytes(self) -> bool:
        return self.dtype == torch.uint8 and len(self.shape) == 1 and self.stride == (1,)

    def content(self) -> bytes:
        """Reads the bytes of a tensor that `is_bytes`."""
        return self.file.read(self.key)[self.offset:self.offset + self.shape[0]]

    def tensor(self) -> Tensor:
        """Reads the tensor.

        Raises:
            ValueError: If the file has too few values.
        """
        if 0 in self.shape:
            return torch.empty(self.shape, dtype = self.dtype)

        values = torch.frombuffer(bytearray(self.file.read(self.key)), dtype = self.dtype)
        needed = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict = True)) + 1

        if needed > len(values) or prod(self.shape) > len(values):
            fail(str(self.file.path), f'must have {needed} values of a tensor', len(values), 'Download it again.')

        return values.as_strided(self.shape, self.stride, self.offset)


class TensorFile:
    """An open file. `content` is its unpickled content, with a `StoredTensor` for each tensor.

    Raises:
        ValueError: If it has another format. No code of the file is run.
    """

    def __init__(self, path: Path):
        self.path = path

        try:
            with open(path, 'rb') as file, ZipFile(file) as archive:
                self.places = {entry.filename.split('/', 1)[-1]: (entry.header_offset, entry.file_size) for entry in archive.infolist() if entry.compress_type == ZIP_STORED}
                self.mapped = mmap.mmap(file.fileno(), 0, access = mmap.ACCESS_READ)

            with without_garbage_collection():
                self.content = Unpickler(self).load()
        except Exception as error:  # zipfile and the unpickler raise many types of errors for broken or malicious files
            raise ValueError(f'{path}: must be a file of tensors and plain values, but got {type(error).__name__}: {error}. Nothing in it was run; download it again.') from error

    def read(self, key: str) -> bytes:
        """Returns the bytes of an entry of the archive."""
        header, size = self.places[key]
        start = header + LOCAL_HEADER + sum(struct.unpack_from('<HH', self.mapped, header + LENGTHS))
        return self.mapped[start:start + size]


class Unpickler(pickle.Unpickler):
    """Unpickler that allows tensors and plain values only."""

    def __init__(self, file: TensorFile):
        super().__init__(BytesIO(file.read('data.pkl')))
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ('torch._utils', '_rebuild_tensor_v2'):
            return self.tensor

        if (module, name) == ('collections', 'OrderedDict'):
            return dict

        if module in ('torch', 'torch.storage') and name in STORAGES:
            return STORAGES[name]

        raise pickle.UnpicklingError(f'it names {module}.{name}')

    def tensor(self, storage: tuple[Any, ...], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> StoredTensor:
        return StoredTensor(self.file, storage, offset, shape, stride)

    def persistent_load(self, pid: Any) -> tuple[Any, ...]:
        kind, dtype, key, device, length = pid
        return kind, dtype, f'data/{key}', device, length


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disables the garbage collector, which would search all objects for cycles repeatedly while many are created."""
    was_enabled = gc.isenabled()
    gc.disable()

    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def open_tensors(path: Path) -> Any:
    """Reads a file of `torch.save` with tensors as `StoredTensor`; files in the format before torch 1.6 are read completely, with ordinary tensors.

    Raises:
        ValueError: If it has another format. No code of the file is run.
    """
    return TensorFile(path).content if path.is_file() and is_zipfile(path) else read_tensors(path, argument = 'data')


def materialized(value: Any) -> Any:
    """Reads a `StoredTensor`; other values are unchanged."""
    return value.tensor() if isinstance(value, StoredTensor) else value
