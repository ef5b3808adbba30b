"""A `Folder` over any `Bucket`: what makes whole objects out of a store that answers late, twice or not at all.

Each operation is asked again with backoff until `Patience.deadline`, then it is `StoreUnavailable`. A write whose answer was lost may
have been done: to `put` again is the same, and a `create` that then finds the name taken looks whether the bytes there are its own.
What asking again can't mend (permission, a missing bucket, a quota) is an error at once. Where the store throttles, fewer ask at a time.

A client belongs to one event loop, so there is a bucket for each loop that asks, opened when it first does. A forked child opens its
own. A cancelled caller waits for the end of the try under way, so that nothing of it lands later, and asks no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import random
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Final, Protocol, Self, TypeAlias, TypeVar
from urllib.parse import quote
from weakref import WeakKeyDictionary

from holdfast.clocks import clock
from holdfast.errors import (
    Misuse,
    ObjectExists,
    ObjectMissing,
    StoreError,
    StoreFull,
    StoreInvalid,
    StorePermission,
    StoreUnavailable,
)
from holdfast.folders.names import check_key
from holdfast.folders.patience import Pace, Patience, wait_before
from holdfast.folders.protocol import Bucket, Entry, Logs, Page, Trouble
from holdfast.folders.secrets import without
from holdfast.folders.threads import to_end

T = TypeVar("T")
Opener: TypeAlias = Callable[[], Awaitable[Bucket]]


class _PageOf(Protocol):
    def __call__(self, bucket: Bucket, more: str | None) -> Awaitable[Page]: ...


#: How many objects are named in one request to delete them.
AT_ONCE: Final = 500
#: Seconds that a client may take until it is there.
OPENING_SECONDS: Final = 60.0


class ObjectFolder:
    """The objects below `prefix` (empty, or ending with a slash) of a bucket.

    Args:
        opener: Opens the bucket for the running event loop.
        prefix: Below which everything lies.
        url: What to call it in messages; no secrets.
        patience: When to ask again.
        unfenced: Why its creates are not exclusive, where that is known.
        secrets: What no message may quote, whatever a client says.
        place: Equal for all folders that lie in the same bucket of the same server; None where nobody knows.
    """

    url: str
    place: Hashable

    def __init__(
        self,
        opener: Opener,
        prefix: str,
        url: str,
        *,
        patience: Patience | None = None,
        unfenced: str | None = None,
        secrets: Sequence[str] = (),
        place: Hashable = None,
    ) -> None:
        self.url = url
        self.place = place
        self._prefix = prefix
        self._patience = patience if patience is not None else Patience()
        self._unfenced = unfenced
        self._secrets = tuple(secrets)
        self._clients = _Clients(opener, self._secrets)

    @property
    def logs(self) -> Logs | None:
        return None

    @property
    def unfenced(self) -> str | None:
        return self._unfenced

    def child(self, prefix: str) -> ObjectFolder:
        check_key(prefix)
        seen = copy.copy(self)  # with the same clients
        seen._prefix, seen.url = f"{self._prefix}{prefix}/", f"{self.url.rstrip('/')}/{quote(prefix)}"
        return seen

    def through(self, wrap: Callable[[Bucket], Bucket]) -> ObjectFolder:
        """The same objects, by way of `wrap(bucket)` on each event loop: for tests that let a real place fail."""
        opener, seen = self._clients.opener, copy.copy(self)

        async def opened() -> Bucket:
            return wrap(await opener())

        seen._clients = _Clients(opened, self._secrets)
        return seen

    async def get(self, key: str) -> bytes:
        name = self._name(key)
        return await self._ask(key, lambda bucket: bucket.get(name), size=None)

    async def put(self, key: str, data: bytes, *, sync: bool = True) -> None:
        name = self._name(key)
        await self._ask(key, lambda bucket: bucket.put(name, data), size=len(data))

    async def create(self, key: str, data: bytes, *, sync: bool = True) -> None:
        name = self._name(key)
        try:
            await self._ask(key, lambda bucket: bucket.create(name, data), size=len(data))
        except ObjectExists:
            # Some client may have asked twice, and got its own first answer: also where we saw no error before.
            with contextlib.suppress(ObjectMissing):
                if await self.get(key) == data:
                    return
            raise

    async def delete(self, *keys: str) -> None:
        names = [self._name(key) for key in keys]
        await asyncio.gather(*(self._delete(keys[0], names[start : start + AT_ONCE]) for start in range(0, len(names), AT_ONCE)))

    async def delete_tree(self, prefix: str) -> None:
        found = await self.walk(prefix)
        below = f"{prefix}/" if prefix else ""
        if found:
            await self.delete(*(f"{below}{entry.name}" for entry in found))

    async def stat(self, key: str) -> Entry | None:
        name = self._name(key)
        try:
            return await self._ask(key, lambda bucket: bucket.stat(name), size=0)
        except ObjectMissing:
            return None

    async def touch(self, key: str) -> None:
        name = self._name(key)
        await self._ask(key, lambda bucket: bucket.touch(name), size=0)

    async def list(self, prefix: str) -> Sequence[Entry]:
        name = self._below(prefix)
        return await self._pages(prefix, lambda bucket, more: bucket.list(name, more))

    async def walk(self, prefix: str) -> Sequence[Entry]:
        name = self._below(prefix)
        return await self._pages(prefix, lambda bucket, more: bucket.walk(name, more))

    async def width(self) -> int:
        """How many operations may be under way now on this loop: fewer after the store throttled."""
        return (await self._clients.of_this_loop(self.url)).pace.width

    async def aclose(self) -> None:
        """Close the clients of every loop. A later operation opens one again."""
        await self._clients.aclose()

    # asking

    async def _pages(self, key: str, page_of: _PageOf) -> Sequence[Entry]:
        try:
            page = await self._ask(key, lambda bucket: page_of(bucket, None), size=0)
        except ObjectMissing:
            return ()
        found = [*page.entries]
        while page.more is not None:
            page = await self._ask(key, partial(page_of, more=page.more), size=0)
            found += page.entries
        return tuple(sorted(found, key=lambda entry: entry.name))

    async def _delete(self, key: str, names: Sequence[str]) -> None:
        with contextlib.suppress(ObjectMissing):
            await self._ask(key, lambda bucket: bucket.delete(names), size=0)

    async def _ask(self, key: str, operation: Callable[[Bucket], Awaitable[T]], *, size: int | None) -> T:
        hurried = asyncio.Event()
        return await to_end(self._ask_until(key, operation, size, hurried), hurry=hurried.set)

    async def _ask_until(self, key: str, operation: Callable[[Bucket], Awaitable[T]], size: int | None, hurried: asyncio.Event) -> T:
        """Ask, and ask again, until there is an answer, the deadline passes, or nobody waits any more (`hurried`).

        How much there is to read is not known (None), and asked where it took long: a large object is not a store without an answer.
        """
        began, tries = clock().monotonic(), 0
        where = self._where(key)
        while True:
            client = await self._clients.of_this_loop(where)
            bucket, pace = client.bucket, client.pace
            await pace.enter()
            try:
                if hurried.is_set():
                    raise StoreUnavailable(where=where, reason="nobody waits for the answer any more")
                async with asyncio.timeout(self._patience.limit(size or 0)):
                    answer = await operation(bucket)
            except StoreError:
                raise
            except Exception as error:
                trouble = bucket.trouble(error) if not isinstance(error, TimeoutError) else Trouble.PASSING
                cause = error
                if size is None and isinstance(error, TimeoutError):
                    size = await self._size(bucket, key)
            else:
                pace.went_well()
                return answer
            finally:
                pace.leave()
            tries += 1
            if trouble is Trouble.THROTTLED:
                pace.was_throttled()
            wait = wait_before(self._patience, trouble, tries, clock().monotonic() - began, random.random())
            if wait is None or hurried.is_set():
                raise _said(trouble, where, without(self._secrets, cause), tries) from cause
            await clock().sleep(wait)
            if hurried.is_set():
                raise _said(trouble, where, without(self._secrets, cause), tries) from cause

    async def _size(self, bucket: Bucket, key: str) -> int | None:
        try:
            async with asyncio.timeout(self._patience.one_try):
                return (await bucket.stat(self._name(key))).size
        except Exception:
            return None  # whatever it is, the next try meets it too

    # names

    def _name(self, key: str) -> str:
        return f"{self._prefix}{check_key(key)}"

    def _below(self, prefix: str) -> str:
        return f"{self._prefix}{check_key(prefix)}/" if prefix else self._prefix

    def _where(self, key: str) -> str:
        return f"{self.url.rstrip('/')}/{key}" if key else self.url


class _Client:
    """The bucket of one event loop, and how fast it may be asked."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.pace = Pace()
        self._open = _until_closed(bucket)

    async def begin(self) -> Self:
        await anext(self._open)
        return self

    async def aclose(self) -> None:
        await self._open.aclose()


async def _until_closed(bucket: Bucket) -> AsyncGenerator[None]:
    """Lives as long as the bucket is open. A loop ends its generators before it closes, and those that nobody refers to any more: so
    sockets are closed on the loop that they belong to, also where nobody called `aclose`."""
    try:
        yield
    finally:
        await bucket.aclose()


#: What a forked child got from its parent: sockets that are not its own, and that it must neither use nor close.
_inherited: list[object] = []


class _Clients:
    """The clients of all loops that ask a folder or a child of it."""

    def __init__(self, opener: Opener, secrets: Sequence[str]) -> None:
        self.opener = opener
        self._secrets = secrets
        self._pid = os.getpid()
        self._changing = threading.Lock()  # loops of several threads come and go
        self._open: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[_Client]] = WeakKeyDictionary()

    async def of_this_loop(self, where: str) -> _Client:
        if self._pid != os.getpid():
            _inherited.append(dict(self._open))
            self._open, self._pid = WeakKeyDictionary(), os.getpid()
        loop = asyncio.get_running_loop()
        opening = self._open.get(loop)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            self._forget_ended()
            opening = self._open[loop] = asyncio.ensure_future(self._new())
        if opening.done():
            return opening.result()
        try:
            return await asyncio.shield(opening)
        except (StoreError, Misuse):
            raise
        except Exception as error:
            raise StoreInvalid(where=where, reason=f"its client can't be made ({without(self._secrets, error)})") from error

    def _forget_ended(self) -> None:
        """A client refers to its loop, which therefore would not end by itself. It closed when the loop did."""
        for loop in list(self._open):
            if loop.is_closed():
                self._open.pop(loop, None)

    async def _new(self) -> _Client:
        async with asyncio.timeout(OPENING_SECONDS):
            return await _Client(await self.opener()).begin()

    async def aclose(self) -> None:
        if self._pid != os.getpid():
            return
        here = asyncio.get_running_loop()
        with self._changing:
            open_now = list(self._open.items())
            self._open.clear()
        for loop, opening in open_now:
            if not opening.done() or opening.cancelled() or opening.exception() is not None:
                opening.cancel()
            elif loop is here:
                await opening.result().aclose()
            elif loop.is_running():
                with contextlib.suppress(RuntimeError):  # it ended in this very moment, and its sockets with it
                    closing = asyncio.run_coroutine_threadsafe(opening.result().aclose(), loop)
                    await asyncio.wrap_future(closing)


def _said(trouble: Trouble, where: str, said: str, tries: int) -> StoreError:
    """Our words for a foreign error."""
    match trouble:
        case Trouble.MISSING:
            return ObjectMissing(where=where)
        case Trouble.EXISTS:
            return ObjectExists(where=where)
        case Trouble.REFUSED:
            return StorePermission(where=where, reason=said)
        case Trouble.NO_PLACE:
            return StoreInvalid(where=where, reason=f"there is no such bucket or container; create it first ({said})")
        case Trouble.FULL:
            return StoreFull(where=where)
        case Trouble.WRONG:
            return StoreInvalid(where=where, reason=said)
        case Trouble.THROTTLED | Trouble.PASSING:
            return StoreUnavailable(where=where, reason=f"{said} ({tries} {'try' if tries == 1 else 'tries'})")
