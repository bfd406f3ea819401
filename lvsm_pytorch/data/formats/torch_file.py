"""Files of `torch.save` with many thousands of tensors, of which few are used: none is made before it is asked for.

Such a file is a zip archive without compression: a pickle with what is in it, and the bytes of each tensor. `torch.load` takes 70 µs for each tensor also
where they stay in the file, a second for a chunk of RealEstate10K; here it is 5 µs. What is unpickled is tensors and plain values alone.
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

# of a zip archive, what stands before the bytes of an entry: 26 bytes on, the lengths of its name and of what else is said of it

LOCAL_HEADER, LENGTHS = 30, 26


class StoredTensor:
    """A tensor in a file. Its arguments are those by which torch pickles one."""

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
        """Of what `is_bytes`, the bytes."""
        return self.file.read(self.key)[self.offset:self.offset + self.shape[0]]

    def tensor(self) -> Tensor:
        """The tensor itself.

        Raises:
            ValueError: For one that is not whole.
        """
        if 0 in self.shape:
            return torch.empty(self.shape, dtype = self.dtype)

        values = torch.frombuffer(bytearray(self.file.read(self.key)), dtype = self.dtype)
        needed = self.offset + sum((length - 1) * step for length, step in zip(self.shape, self.stride, strict = True)) + 1

        if needed > len(values) or prod(self.shape) > len(values):
            fail(str(self.file.path), f'must have {needed} values of a tensor', len(values), 'Download it anew.')

        return values.as_strided(self.shape, self.stride, self.offset)


class TensorFile:
    """An open file, whose `content` is what is in it, with a `StoredTensor` for each tensor.

    Raises:
        ValueError: For what is no such file; nothing in it is run.
    """

    def __init__(self, path: Path):
        self.path = path

        try:
            with open(path, 'rb') as file, ZipFile(file) as archive:
                self.places = {entry.filename.split('/', 1)[-1]: (entry.header_offset, entry.file_size) for entry in archive.infolist() if entry.compress_type == ZIP_STORED}
                self.mapped = mmap.mmap(file.fileno(), 0, access = mmap.ACCESS_READ)

            with without_garbage_collection():
                self.content = Unpickler(self).load()
        except Exception as error:  # whatever a broken or malicious file makes zipfile and the unpickler say
            raise ValueError(f'{path}: must be a file of tensors and plain values, but got {type(error).__name__}: {error}. Nothing in it was run; download it anew.') from error

    def read(self, key: str) -> bytes:
        """The bytes of an entry."""
        header, size = self.places[key]
        start = header + LOCAL_HEADER + sum(struct.unpack_from('<HH', self.mapped, header + LENGTHS))
        return self.mapped[start:start + size]


class Unpickler(pickle.Unpickler):
    """Of tensors and plain values alone."""

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
    """Python would search all of its objects for cycles again and again while it makes so many."""
    was_enabled = gc.isenabled()
    gc.disable()

    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def open_tensors(path: Path) -> Any:
    """What `torch.save` wrote into a file: tensors as `StoredTensor`; of the format that torch wrote before 1.6, as tensors.

    Raises:
        ValueError: For what is no such file; nothing in it is run.
    """
    return TensorFile(path).content if path.is_file() and is_zipfile(path) else read_tensors(path, argument = 'data')


def materialized(value: Any) -> Any:
    """A stored tensor as a tensor; all else as it is."""
    return value.tensor() if isinstance(value, StoredTensor) else value
