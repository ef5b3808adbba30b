"""An object store that fails when it is told to, around any `Bucket`.

A `Fault` says what happens, to which operations, and how often; the first one that is due decides. What happened is kept in
`FaultyBucket.injected`, so that a test can see that it tested something.
"""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, TypeVar

from holdfast.clocks import clock
from holdfast.errors import InvalidOption
from holdfast.folders.protocol import Bucket, Entry, Page, Trouble
from holdfast.frozen import Frozen

T = TypeVar("T")

VERBS: Final = ("get", "put", "create", "delete", "stat", "touch", "list", "walk")
CHANGING: Final = frozenset({"put", "create", "delete", "touch"})
#: What can be there by halves: an object, its bytes on their way to us, and the objects of one request to delete them.
TEARABLE: Final = frozenset({"get", "put", "create", "delete"})
#: What is answered from an index, which may be behind.
INDEXED: Final = frozenset({"stat", "list", "walk"})


class Fault(Frozen):
    """What goes wrong with some operations of a bucket.

    Example::

        Fault("create", "*/journal/*", applied=True, nth=3)  # the third group is written, and its answer lost
        Fault(trouble=Trouble.THROTTLED, times=20)  # "503 Slow Down", twenty times, whatever is asked
        Fault("get", torn=True, every=10)  # of each tenth object that is read, half of the bytes come
        Fault("list", stale=5)  # listings that do not know of the last five changes
        Fault("put", slow=40.0, chance=0.1)  # seconds on the clock in force

    Attributes:
        verb: "get", "put", "create", "delete", "stat", "touch", "list" or "walk", or a pattern of those.
        name: Of the object, or the prefix that is listed, as a pattern; `*` stands for slashes too.
        trouble: What the operation is answered with. By default `Trouble.PASSING` ("it may have been done, or not"), unless the fault is
            only slow or stale, or tears what is read.
        applied: It is done, and then answered with an error.
        torn: Of a write, half of the bytes are there, and then there is the error; of a read, half of the bytes come, and no error, unless
            there is a `trouble`; of several deletions, half are done.
        slow: Seconds that pass before anything else.
        stale: The answer does not know of so many of the last changes.
        after: Not the first so many such operations; the others count from there.
        nth: Only the n-th, from 1.
        every: Only each n-th.
        times: Only the first so many.
        chance: Only so often, by the bucket's seed.
    """

    verb: str = "*"
    name: str = "*"
    trouble: Trouble | None = None
    applied: bool = False
    torn: bool = False
    slow: float = 0.0
    stale: int = 0
    after: int = 0
    nth: int | None = None
    every: int | None = None
    times: int | None = None
    chance: float = 1.0


class Injected(Frozen):
    """A fault that happened, and to what: the number of the operation among all, its verb and its name."""

    number: int
    verb: str
    name: str
    fault: Fault


class InjectedFault(OSError):
    """What a `FaultyBucket` raises."""

    trouble: Trouble

    def __init__(self, trouble: Trouble, verb: str, name: str) -> None:
        super().__init__(f"injected into {verb} {name}: {trouble.value}")
        self.trouble = trouble


class FaultyBucket:
    """A bucket whose operations meet `faults`.

    Args:
        inner: Where everything goes.
        faults: What goes wrong. More can be added with `add`, and all of them ended with `heal`.
        seed: For faults with a `chance`.

    Raises:
        InvalidOption: A fault that no operation could meet.
    """

    unfenced: str | None
    injected: list[Injected]

    def __init__(self, inner: Bucket, faults: Iterable[Fault] = (), *, seed: int = 0) -> None:
        self.unfenced = inner.unfenced
        self.injected = []
        self._inner = inner
        self._seed = seed
        self._numbers = itertools.count(1)
        self._armed: list[_Armed] = []
        self._past: list[dict[str, Entry]] = []  # what there was before each of the last changes
        self.add(*faults)

    def around(self, inner: Bucket) -> FaultyBucket:
        """The same faults, counted together, around another client of the same place: each event loop needs its own.

        Example::

            bucket = FaultyBucket(MemoryBucket(), faults)
            folder = open_folder("s3://bucket/tests").through(bucket.around)
        """
        twin = copy.copy(self)
        twin.unfenced, twin._inner = inner.unfenced, inner
        return twin

    def add(self, *faults: Fault) -> None:
        """From here on these faults happen too. They count what is asked from now on. Raises: InvalidOption."""
        for fault in faults:
            _check(fault)
            self._armed.append(_Armed(fault, random.Random(f"{self._seed} {len(self._armed)}")))

    def heal(self) -> None:
        """From here on nothing goes wrong."""
        self._armed.clear()

    async def get(self, name: str) -> bytes:
        async def half() -> bytes:
            data = await self._inner.get(name)
            return data[: len(data) // 2]

        return await self._do("get", (name,), lambda: self._inner.get(name), half)

    async def put(self, name: str, data: bytes) -> None:
        await self._do("put", (name,), lambda: self._inner.put(name, data), lambda: self._inner.put(name, data[: len(data) // 2]))

    async def create(self, name: str, data: bytes) -> None:
        await self._do("create", (name,), lambda: self._inner.create(name, data), lambda: self._inner.create(name, data[: len(data) // 2]))

    async def delete(self, names: Sequence[str]) -> None:
        await self._do("delete", names, lambda: self._inner.delete(names), lambda: self._inner.delete(names[: len(names) // 2]))

    async def stat(self, name: str) -> Entry:
        return await self._do("stat", (name,), lambda: self._inner.stat(name), stale=lambda past: _stat(past, name))

    async def touch(self, name: str) -> None:
        await self._do("touch", (name,), lambda: self._inner.touch(name))

    async def list(self, prefix: str, more: str | None = None) -> Page:
        return await self._do("list", (prefix,), lambda: self._inner.list(prefix, more), stale=lambda past: Page(_list(past, prefix)))

    async def walk(self, prefix: str, more: str | None = None) -> Page:
        return await self._do("walk", (prefix,), lambda: self._inner.walk(prefix, more), stale=lambda past: Page(_walk(past, prefix)))

    def trouble(self, error: Exception) -> Trouble:
        return error.trouble if isinstance(error, InjectedFault) else self._inner.trouble(error)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _do(
        self,
        verb: str,
        names: Sequence[str],
        whole: Callable[[], Awaitable[T]],
        half: Callable[[], Awaitable[T]] | None = None,
        *,
        stale: Callable[[dict[str, Entry]], T] | None = None,
    ) -> T:
        number = next(self._numbers)
        fault = self._due(verb, names)
        shown = names[0] if names else ""
        if fault is not None:
            self.injected.append(Injected(number, verb, shown, fault))
            if fault.slow:
                await clock().sleep(fault.slow)
        if verb in CHANGING and (deepest := max((armed.fault.stale for armed in self._armed), default=0)):
            self._past.append({entry.name: entry for entry in await all_in(self._inner)})
            del self._past[:-deepest]
        if fault is None:
            return await whole()
        if fault.stale and stale is not None and self._past:
            return stale(self._past[max(len(self._past) - fault.stale, 0)])
        if fault.torn and half is not None:
            answer = await half()
            if verb == "get" and fault.trouble is None:
                return answer
        elif fault.applied:
            await whole()
        trouble = _trouble_of(fault)
        if trouble is None:
            return await whole()
        raise InjectedFault(trouble, verb, shown)

    def _due(self, verb: str, names: Sequence[str]) -> Fault | None:
        due = [armed.fault for armed in self._armed if armed.meets(verb, names)]  # each of them counts, whichever comes first
        return due[0] if due else None


class _Armed:
    """A fault, and how many operations it has met."""

    def __init__(self, fault: Fault, rng: random.Random) -> None:
        self.fault = fault
        self._rng = rng
        self._met = -fault.after
        self._done = 0

    def meets(self, verb: str, names: Sequence[str]) -> bool:
        fault = self.fault
        if not fnmatchcase(verb, fault.verb) or not any(fnmatchcase(name, fault.name) for name in names):
            return False
        if (fault.torn and verb not in TEARABLE) or (fault.applied and verb not in CHANGING) or (fault.stale and verb not in INDEXED):
            return False
        self._met += 1
        if self._met < 1:
            return False
        if fault.times is not None and self._done >= fault.times:
            return False
        if fault.nth is not None and self._met != fault.nth:
            return False
        if fault.every is not None and self._met % fault.every:
            return False
        if fault.chance < 1.0 and self._rng.random() >= fault.chance:
            return False
        self._done += 1
        return True


def _trouble_of(fault: Fault) -> Trouble | None:
    """What the operation is answered with at last; None: as if nothing had been."""
    if fault.trouble is not None or fault.applied or fault.torn:
        return fault.trouble if fault.trouble is not None else Trouble.PASSING
    return None if fault.slow or fault.stale else Trouble.PASSING


def _check(fault: Fault) -> None:
    """Raises: InvalidOption, for a fault that would never happen, or is two things."""
    met = [verb for verb in VERBS if fnmatchcase(verb, fault.verb)]
    if not met:
        raise InvalidOption(option="verb", value=fault.verb, reason=f"choose among {', '.join(VERBS)}")
    for option, verbs in (("torn", TEARABLE), ("applied", CHANGING), ("stale", INDEXED)):
        if getattr(fault, option) and not verbs.intersection(met):
            raise InvalidOption(option=option, value=fault.verb, reason=f"only {', '.join(sorted(verbs))} can be that")
    if bool(fault.torn) + bool(fault.applied) + bool(fault.stale) > 1:
        raise InvalidOption(option="Fault", value=fault, reason="it is torn, or applied, or stale: take a fault for each")
    if fault.after < 0:
        raise InvalidOption(option="after", value=fault.after, reason="it is 0 or more")
    numbers: dict[str, Any] = {"nth": fault.nth, "every": fault.every, "times": fault.times}
    for option, number in numbers.items():
        if number is not None and number < 1:
            raise InvalidOption(option=option, value=number, reason="it counts from 1")
    if not 0.0 <= fault.chance <= 1.0:
        raise InvalidOption(option="chance", value=fault.chance, reason="it is from 0 to 1")


async def all_in(bucket: Bucket, prefix: str = "") -> Sequence[Entry]:
    """Every object below `prefix`, page for page."""
    page = await bucket.walk(prefix)
    found = [*page.entries]
    while page.more is not None:
        page = await bucket.walk(prefix, page.more)
        found += page.entries
    return found


# what an index says that has not heard of everything


def _stat(past: dict[str, Entry], name: str) -> Entry:
    if name not in past:
        raise InjectedFault(Trouble.MISSING, "stat", name)
    known = past[name]
    return Entry(name.rpartition("/")[2], False, known.size, known.modified)


def _walk(past: dict[str, Entry], prefix: str) -> Sequence[Entry]:
    return [
        Entry(name[len(prefix) :], False, known.size, known.modified)
        for name, known in past.items()
        if name.startswith(prefix)
    ]  # fmt: skip


def _list(past: dict[str, Entry], prefix: str) -> Sequence[Entry]:
    found: dict[str, Entry] = {}
    for entry in _walk(past, prefix):
        head, slash, _ = entry.name.partition("/")
        found.setdefault(head, Entry(head, True, 0) if slash else entry)
    return list(found.values())
