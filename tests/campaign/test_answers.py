"""An object store answers late, wrongly or not at all, at any operation: the result is right, or the error says what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from campaign.programs import ledger, mixed, right
from servers.faults import Fault as HttpFault
from servers.faults import What
from servers.fixtures import Faulty

from holdfast import Status, run
from holdfast.errors import HoldfastError, StoreFull, StorePermission, StoreUnavailable
from holdfast.folders.protocol import Trouble
from holdfast.stores import Store
from holdfast.testing import Fault, FaultyBucket, MemoryBucket, bucket_store, no_backoff
from holdfast.testing.bucket_faults import VERBS
from holdfast.testing.crashes import RUN_NAME
from holdfast.testing.loops import VirtualLoop, run_in

WIDTH = 3
#: One after the other they take up all the patience that there is, and a bit more.
LASTING = 40


def lived(bucket: FaultyBucket, loop: VirtualLoop) -> list[Any] | HoldfastError:
    """One life of the program, in virtual time: its result, or what it was told."""

    async def main() -> list[Any]:
        return await run(mixed(WIDTH), run_name=RUN_NAME, store=bucket_store(bucket=bucket), handle_signals=False)

    try:
        return run_in(loop, main)
    except HoldfastError as error:
        return error


def asked(verbs: Sequence[str]) -> dict[str, int]:
    """How often each verb is asked when all is well."""
    inner = MemoryBucket()
    ledger.clear()
    lived(FaultyBucket(inner), VirtualLoop())
    return {verb: inner.requests.get(verb, 0) for verb in verbs}


def hold(fault: Fault, refusals: tuple[type[HoldfastError], ...] = ()) -> int:
    """Run the program with the fault, and where it was told one of `refusals`, once more when all is well again.

    Returns how often the fault happened.
    """
    inner, loop = MemoryBucket(), VirtualLoop()
    ledger.clear()
    bucket = FaultyBucket(inner, [fault])
    got = lived(bucket, loop)
    if isinstance(got, HoldfastError):
        assert isinstance(got, refusals), f"{fault}: {got!r}"
        bucket.heal()
        got = lived(bucket, VirtualLoop(loop.time()))
    assert got == right(WIDTH), f"{fault}: {got!r}"
    assert ledger.again == [], f"{fault}: {ledger.again}"
    store = bucket_store(bucket=inner)
    assert store.state_sync(RUN_NAME).status is Status.COMPLETED, fault
    return len(bucket.injected)


def each(fault: Callable[[str, int], Fault], verbs: Sequence[str] = VERBS, step: int = 1) -> Iterator[Fault]:
    """The fault at each operation of each verb, where the program has one."""
    for verb, count in asked(verbs).items():
        for nth in range(1, count + 1, step):
            yield fault(verb, nth)


CHANGES = ("put", "create", "delete", "touch")

#: What passes by itself: it must not be noticed at all.
PASSING: dict[str, tuple[Callable[[str, int], Fault], Sequence[str]]] = {
    "reset": (lambda verb, nth: Fault(verb, trouble=Trouble.PASSING, nth=nth), VERBS),
    "503": (lambda verb, nth: Fault(verb, trouble=Trouble.THROTTLED, nth=nth), VERBS),
    "applied, then failed": (lambda verb, nth: Fault(verb, applied=True, nth=nth), CHANGES),
    "slower than its limit": (lambda verb, nth: Fault(verb, slow=45.0, nth=nth), VERBS),
    "slow": (lambda verb, nth: Fault(verb, slow=20.0, nth=nth), VERBS),
    "torn, and written whole again": (lambda verb, nth: Fault(verb, torn=True, nth=nth), ("put", "delete")),
}
#: What asking again does not mend: the run is left as it is, and goes on when it is mended.
LASTING_TROUBLE: dict[str, tuple[Trouble, type[HoldfastError]]] = {
    "resets for ever": (Trouble.PASSING, StoreUnavailable),
    "503 for ever": (Trouble.THROTTLED, StoreUnavailable),
    "403": (Trouble.REFUSED, StorePermission),
    "quota": (Trouble.FULL, StoreFull),
}


@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_by_itself_is_not_noticed(kind: str) -> None:
    fault, verbs = PASSING[kind]
    assert sum(hold(fault) for fault in each(fault, verbs, step=7)) > 0


@pytest.mark.parametrize("kind", LASTING_TROUBLE)
def test_what_lasts_is_told_by_its_name_and_the_run_goes_on_when_it_is_mended(kind: str) -> None:
    trouble, error = LASTING_TROUBLE[kind]
    assert sum(hold(fault, (error,)) for fault in lasting(trouble, step=7)) > 2


def lasting(trouble: Trouble, step: int = 1) -> Iterator[Fault]:
    """All is well up to some operation, and from there on nothing."""
    for count in range(0, sum(asked(VERBS).values()), step):
        yield Fault(trouble=trouble, after=count)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_by_itself_is_not_noticed_at_any_operation(kind: str, record_property: Any) -> None:
    fault, verbs = PASSING[kind]
    record_property(f"tried: bucket in memory, {kind}, at each operation", sum(hold(fault) for fault in each(fault, verbs)))


@pytest.mark.campaign
@pytest.mark.parametrize("kind", LASTING_TROUBLE)
def test_what_lasts_is_told_from_any_operation_on(kind: str, record_property: Any) -> None:
    trouble, error = LASTING_TROUBLE[kind]
    record_property(f"tried: bucket in memory, {kind}, from each operation on", sum(hold(f, (error,)) > 0 for f in lasting(trouble)))


@pytest.mark.campaign
@pytest.mark.parametrize("hundred", range(5))
def test_a_bad_day_costs_lives_and_nothing_else(hundred: int, record_property: Any) -> None:
    """Much goes wrong at once. Sometimes it takes up all the patience that there is; then the same line goes on."""
    happened = 0
    for seed in range(hundred * 100, hundred * 100 + 100):
        faults = [
            Fault(trouble=Trouble.PASSING, chance=0.1),
            Fault(applied=True, chance=0.2),
            Fault(trouble=Trouble.THROTTLED, chance=0.1),
            Fault(slow=40.0, chance=0.02),
        ]
        bucket, loop = FaultyBucket(MemoryBucket(), faults, seed=seed), VirtualLoop()
        ledger.clear()
        while isinstance(got := lived(bucket, loop), HoldfastError):
            assert isinstance(got, StoreUnavailable), f"{seed}: {got!r}"
            loop = VirtualLoop(loop.time())
        assert got == right(WIDTH), seed
        assert ledger.again == [], seed
        happened += len(bucket.injected)
    record_property("tried: bucket in memory, faults on bad days (500 programs)", happened)


# over HTTP, by S3


HTTP: dict[str, tuple[What, int]] = {
    "503": ("refuse", 503),
    "500": ("refuse", 500),
    "reset": ("reset", 0),
    "500, applied": ("applied", 500),
    "reset, applied": ("applied_reset", 0),
    "half-written": ("truncate", 0),
    "no answer": ("stall", 0),
}
#: Seconds in all for one operation, and half of them for one try: so that a request without an answer is asked again soon.
DEADLINE = 6.0
#: What is asked for over HTTP, by method and path.
REQUESTS = {
    "run.json": ("PUT", "*/run.json*"),
    "a group": ("PUT", "*/journal/*"),
    "a heartbeat": ("PUT", "*/owner/*"),
    "a manifest": ("PUT", "*/checkpoints/*"),
    "a blob": ("PUT", "*/blobs/*"),
    "an intent": ("PUT", "*/gc/*"),
    "a listing": ("GET", "*list-type=2*"),
    "an object": ("GET", "*/runs/*.json*"),
    "a look": ("HEAD", "*"),
    "deletions": ("POST", "*delete*"),
    "a deletion": ("DELETE", "*"),
}


def hold_over_http(faulty: Faulty, place: str, fault: HttpFault) -> int:
    """Run the program with the fault, and ask for its result again. Returns how often the fault happened."""

    async def main() -> list[Any]:
        async with Store.on(faulty.folder(place, deadline=DEADLINE)) as store:
            return await run(mixed(1), run_name=RUN_NAME, store=store, handle_signals=False)

    times = fault.times
    faulty.between.clear()
    faulty.between.add(fault)
    ledger.clear()
    with no_backoff():
        for _ in range(2):
            assert asyncio.run(main()) == right(1), fault
    assert ledger.again == [], fault
    return times - fault.times


@pytest.mark.slow
@pytest.mark.parametrize("kind", HTTP)
def test_what_passes_by_itself_is_not_noticed_over_http(kind: str, faulty_s3: Faulty) -> None:
    what, status = HTTP[kind]
    method = "GET" if kind == "half-written" else "PUT"
    assert hold_over_http(faulty_s3, f"answers-{kind.replace(', ', '-')}", HttpFault(what, status, method, "*", times=1)) == 1


@pytest.mark.campaign
@pytest.mark.parametrize("request_of", REQUESTS)
@pytest.mark.parametrize("kind", HTTP)
def test_what_passes_by_itself_is_not_noticed_whatever_was_asked_over_http(
    kind: str, request_of: str, faulty_s3: Faulty, record_property: Any
) -> None:
    what, status = HTTP[kind]
    method, path = REQUESTS[request_of]
    happened = 0
    for times in (1, 3) if what != "stall" else (1,):
        place = f"answers/{kind}-{request_of}-{times}".replace(", ", "-").replace(" ", "-")
        happened += hold_over_http(faulty_s3, place, HttpFault(what, status, method, path, times=times))
    record_property(f"tried: S3 over HTTP, {kind}", happened)
