"""How much goes on at one time."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.flow import Room, side_by_side


def test_no_more_is_taken_than_there_is_and_who_waits_is_served_in_turn() -> None:
    async def main() -> list[str]:
        room, took = Room(10), list[str]()

        async def take(name: str, size: int) -> None:
            async with room.hold(size):
                took.append(name)
                await asyncio.sleep(0)
                await asyncio.sleep(0)

        await asyncio.gather(take("a", 6), take("b", 6), take("c", 3), take("d", 100), take("e", 1))
        assert await room.take(10) == 10
        return took

    assert asyncio.run(main()) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("served_first", [False, True])
def test_who_is_cancelled_in_line_leaves_no_gap(served_first: bool) -> None:
    async def main() -> int:
        room = Room(10)
        await room.take(10)
        waiting = [asyncio.create_task(room.take(size)) for size in (8, 5)]
        await asyncio.sleep(0)
        if served_first:
            room.give_back(10)  # its turn comes, and its cancellation before it sees that
        waiting[0].cancel()
        await asyncio.wait({waiting[0]})
        if not served_first:
            room.give_back(10)
        assert await waiting[1] == 5
        return await room.take(5)

    assert asyncio.run(asyncio.wait_for(main(), 5)) == 5


def test_results_come_in_the_order_of_the_items_and_few_run_at_one_time() -> None:
    running = most = 0

    async def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(number % 7):
            await asyncio.sleep(0)
        running -= 1
        return number * 10

    assert asyncio.run(side_by_side(work, range(100), width=4)) == [n * 10 for n in range(100)]
    assert most == 4
    assert asyncio.run(side_by_side(work, [], width=4)) == []


def test_the_first_error_ends_the_others_and_is_raised_when_they_have_ended() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            if number == 3:
                raise LookupError(number)
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append(number)
            raise OSError(number) from None

    with pytest.raises(LookupError):
        asyncio.run(side_by_side(work, range(10), width=4))
    assert sorted(ended) == [0, 1, 2]


def test_whoever_cancels_it_cancels_all_and_waits_for_their_end() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async def main() -> None:
        working = asyncio.create_task(side_by_side(work, range(10), width=3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        assert sorted(ended) == [0, 1, 2]

    asyncio.run(main())


def test_what_was_cancelled_from_within_is_no_result_less() -> None:
    async def work(number: int) -> int:
        if number == 4:
            raise asyncio.CancelledError
        return number

    for count in (5, 9):
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(side_by_side(work, range(count), width=2))
