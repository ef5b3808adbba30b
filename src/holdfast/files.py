"""Local files at size: read and written in chunks through aiofiles, small ones in one hop into a thread, never whole in memory.

What is read is of one moment: the file's `Stat` is the same before and after, or `Changed` is raised and nothing of it counts. That is
as much as a file system tells: a writer through mmap, or two writes within one tick of its clock, can escape it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, BinaryIO, Final, Literal

from holdfast.errors import translate_os_error
from holdfast.folders.threads import call, in_thread, pool, to_end
from holdfast.frozen import Frozen

#: How large data is cut. Large enough that a request is worth its while, small enough to hold several and to send only what changed.
CHUNK: Final = 4 * 1024 * 1024

#: Bytes that are digested where we are.
_QUICK: Final = 64 * 1024

_BINARY = getattr(os, "O_BINARY", 0)
#: What stands in a file's place meanwhile is not followed, where it is a link, and not waited for, where it is a pipe.
_READ = os.O_RDONLY | _BINARY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_FICLONE: Final = 0x40049409
#: What `copy_file_range` and `FICLONE` answer where they can't: another file system, an old kernel, a kind of file that has neither.
_NOT_HERE = frozenset({errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EBADF, errno.EPERM, errno.ETXTBSY})

#: What opening a file answers that was there: nothing, or a link, a socket, or a file in a folder's place.
_GONE: Final = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENOTDIR})


class Stat(Frozen):
    """By what a file is known to be unchanged without reading it. Whoever sets `mtime` back moves `ctime` on.

    Attributes:
        size: Bytes.
        mtime_ns: When its content was last written, by the file system's clock or as somebody set it.
        ctime_ns: When its content, mode, owner, times or number of names last changed; nobody can set it.
        inode: Which file of its device.
        device: Which file system.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stat:
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev)


class Changed(Exception):
    """The file changed while it was read, or is not there any more."""


class Opened(Frozen):
    """What is known of a file when its reading begins."""

    stat: Stat
    mode: int


# reading


async def read_small(path: str) -> tuple[bytes, str, Opened] | None:
    """Read a file and its sha256 in one hop; None, if it is larger than a chunk. Raises: Changed; OSError."""
    return await in_thread(call(_read_small, path))


def _read_small(path: str) -> tuple[bytes, str, Opened] | None:
    with _opened(path) as file:
        before = _look(file)
        if before.stat.size > CHUNK:
            return None
        data = _read(file, before.stat.size + 1)
        if len(data) != before.stat.size or _look(file) != before:
            raise Changed(path)
        return data, sha256(data).hexdigest(), before


@asynccontextmanager
async def open_large(path: str) -> AsyncGenerator[LargeSource]:
    """Open a file to be read in chunks. Raises: Changed, here or at the block's end; OSError."""
    async with _open(path, "rb", _open_to_read) as file:
        source = LargeSource(path, file, await in_thread(call(_look, file)))
        yield source
        if source.read != source.opened.stat.size or await in_thread(call(_look, file)) != source.opened:
            raise Changed(path)


class LargeSource:
    """An open file, read once, chunk by chunk, in any order."""

    read: int

    def __init__(self, path: str, file: Any, opened: Opened) -> None:
        self.opened = opened
        self.read = 0
        self._path = path
        self._file = file
        self._at = 0
        self._turn = asyncio.Lock()

    async def read_at(self, offset: int) -> bytes:
        """The `CHUNK` bytes from `offset` on, fewer at the end. Raises: Changed."""
        wanted = min(CHUNK, self.opened.stat.size - offset)
        async with self._turn:
            if offset != self._at:
                await to_end(self._file.seek(offset))
            data: bytes = await to_end(self._file.read(wanted))
            while len(data) < wanted:  # a raw read may be short
                more: bytes = await to_end(self._file.read(wanted - len(data)))
                if not more:
                    raise Changed(self._path)
                data += more
            self._at = offset + wanted
            self.read += wanted
        return data


# writing


async def write_small(path: str, data: bytes) -> None:
    """Write a new file, in one hop. Raises: StoreError."""
    await in_thread(call(_write_small, path, data))


def _write_small(path: str, data: bytes) -> None:
    try:
        with open(path, "xb", buffering=0) as file:
            _write(file, data)
    except OSError as error:
        raise translate_os_error(error, path) from error


@asynccontextmanager
async def create_large(path: str, size: int) -> AsyncGenerator[LargeTarget]:
    """Create a file of `size` bytes, to be written in chunks, in any order. Raises: StoreError."""
    try:
        async with _open(path, "xb", None) as file:
            await to_end(file.truncate(size))
            yield LargeTarget(path, file)
    except OSError as error:
        raise translate_os_error(error, path) from error


class LargeTarget:
    """A file that is being written, by several at one time."""

    def __init__(self, path: str, file: Any) -> None:
        self._path = path
        self._file = file
        self._turn = asyncio.Lock()

    async def write(self, offset: int, data: bytes) -> None:
        async with self._turn:
            await to_end(self._file.seek(offset))
            rest = memoryview(data)
            while rest:
                rest = rest[await to_end(self._file.write(rest)) :]


@asynccontextmanager
async def _open(path: str, mode: Literal["rb", "xb"], opener: Callable[[str, int], int] | None) -> AsyncGenerator[Any]:
    """aiofiles leaves an operation at work when its caller is cancelled, so each is awaited to its end: a file is closed when it rests."""
    import aiofiles  # with the first large file: importing Holdfast does not load it

    opening = asyncio.ensure_future(aiofiles.open(path, mode, buffering=0, opener=opener, executor=pool()).__aenter__())
    try:
        file = await to_end(opening)
    except asyncio.CancelledError:
        if not opening.cancelled() and opening.exception() is None:
            await to_end(opening.result().close())
        raise
    try:
        yield file
    finally:
        await to_end(file.close())


# copying


def copy_stable(source: str, target: str) -> Opened:
    """Copy the content of `source` to the new file `target`, as it was at one moment. Blocks. Raises: Changed; StoreError; OSError."""
    with _opened(source) as reading:
        before = _look(reading)
        try:
            with open(target, "xb", buffering=0) as writing:
                _copy(reading, writing)
                size = os.fstat(writing.fileno()).st_size
            if size != before.stat.size or _look(reading) != before:
                raise Changed(source)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(target)
            if isinstance(error, OSError):
                raise translate_os_error(error, target) from error
            raise
        return before


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    """By sharing the blocks, by the kernel, or by hand: the first that the file systems can do."""
    if _clone(source, target) or _copy_in_kernel(source, target):
        return
    source.seek(0)
    target.seek(0)
    while data := source.read(CHUNK):
        _write(target, data)


def _clone(source: BinaryIO, target: BinaryIO) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return False
    return True


def _copy_in_kernel(source: BinaryIO, target: BinaryIO) -> bool:
    copy_file_range = getattr(os, "copy_file_range", None)
    if copy_file_range is None:
        return False
    size = os.fstat(source.fileno()).st_size
    done = 0
    while done < size:
        try:
            count = copy_file_range(source.fileno(), target.fileno(), size - done)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            return False
        if count == 0:  # cut off meanwhile, or a file system that says so for what it can't copy
            return False
        done += count
    return True


# digests


async def digest_aside(data: bytes) -> str:
    """sha256, off the loop where it takes longer than to go there and back."""
    if len(data) <= _QUICK:
        return sha256(data).hexdigest()
    return await in_thread(lambda: sha256(data).hexdigest())


# small things


def _opened(path: str) -> BinaryIO:
    return open(_open_to_read(path, 0), "rb", buffering=0)


def _open_to_read(path: str, _: int) -> int:
    try:
        file = os.open(path, _READ)
    except OSError as error:
        if error.errno not in _GONE:
            raise
        raise Changed(path) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Changed(path)
    return file


def _look(file: Any) -> Opened:
    found = os.fstat(file.fileno())
    return Opened(Stat.of(found), stat.S_IMODE(found.st_mode) & 0o777)


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _write(file: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
