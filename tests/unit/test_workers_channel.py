"""The channel: bounds, order, ends that mean complete, and what a cancel leaves behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.channel import Channel
from workers.errors import ChannelBroken, single_error
from workers.simulated import VirtualClock, run_simulated

ITEMS_EACH = 12


@dataclass(frozen=True, slots=True)
class Item:
    number: int
    nbytes: int = 1


async def receive_all(channel: Channel[Item]) -> list[int]:
    async with channel.receiving():
        return [item.number async for item in channel]


def test_items_arrive_in_order_and_the_end_follows_the_last() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=3, bytes_max=100)

        async def send() -> None:
            async with channel.sending():
                for number in range(50):
                    await channel.send(Item(number))

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            received = group.create_task(receive_all(channel))
        assert received.result() == list(range(50))
        statistics = channel.statistics()
        assert (statistics.items, statistics.bytes) == (0, 0)
        assert (statistics.items_peak, statistics.items_total) == (3, 50)
        assert (statistics.bytes_peak, statistics.bytes_total) == (3, 50)

    run_simulated(program)


def test_an_item_larger_than_the_bound_passes_alone() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=10, bytes_max=10)
        sent: list[int] = []

        async def send() -> None:
            async with channel.sending():
                for number, nbytes in enumerate((4, 4, 99, 4)):
                    await channel.send(Item(number, nbytes))
                    sent.append(number)

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            await clock.sleep(1)
            assert sent == [0, 1]
            async with channel.receiving():
                assert (await anext(channel)).number == 0
                await clock.sleep(1)
                assert sent == [0, 1]
                assert (await anext(channel)).number == 1
                await clock.sleep(1)
                assert sent == [0, 1, 2]
                assert (await anext(channel)).number == 2
                assert [item.number async for item in channel] == [3]
        assert channel.statistics().bytes_peak == 99

    run_simulated(program)


@pytest.mark.parametrize("buffered", [0, 1])
def test_a_failing_sender_breaks_the_channel_with_its_error_as_the_cause(buffered: int) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=5, bytes_max=100)
        failure = ValueError("page 17")

        async def send() -> None:
            async with channel.sending():
                for number in range(buffered):
                    await channel.send(Item(number))
                raise failure

        with pytest.raises(ValueError, match="page 17"):
            await send()
        assert (channel.statistics().items, channel.statistics().bytes) == (0, 0)
        with pytest.raises(ChannelBroken) as broken:
            await receive_all(channel)
        assert broken.value.__cause__ is failure

    run_simulated(program)


def test_a_waiting_receiver_learns_that_the_sender_was_cancelled() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=5, bytes_max=100)

        async def send() -> None:
            async with channel.sending():
                await clock.sleep(60)

        async def receive() -> None:
            with pytest.raises(ChannelBroken):
                await receive_all(channel)

        async with asyncio.TaskGroup() as group:
            sender = group.create_task(send())
            group.create_task(receive())
            await clock.sleep(1)
            sender.cancel()
        assert clock.monotonic() == 1

    run_simulated(program)


def test_neighbours_of_a_failed_stage_never_see_a_complete_stream() -> None:
    """A failure in the middle of three stages surfaces as itself, and nothing looks complete."""

    async def program(clock: VirtualClock, random: Random) -> None:
        first: Channel[Item] = Channel(items_max=2, bytes_max=100)
        second: Channel[Item] = Channel(items_max=2, bytes_max=100)
        complete = False

        async def produce() -> None:
            async with first.sending():
                for number in range(1000):
                    await first.send(Item(number))

        async def forward() -> None:
            async with second.sending(), first.receiving():
                async for item in first:
                    if item.number == 17:
                        raise ValueError("page 17")
                    await second.send(item)

        async def consume() -> None:
            nonlocal complete
            async with second.receiving():
                async for item in second:
                    assert item.number < 17
            complete = True

        async def run() -> None:
            with single_error():
                async with asyncio.TaskGroup() as group:
                    group.create_task(produce())
                    group.create_task(consume())
                    group.create_task(forward())

        with pytest.raises(ValueError, match="page 17"):
            await run()
        assert not complete

    run_simulated(program)


@pytest.mark.parametrize("fails", [True, False])
def test_a_sender_does_not_wait_for_a_receiver_that_left(*, fails: bool) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=1, bytes_max=100)
        broken = 0

        async def send() -> None:
            nonlocal broken
            try:
                async with channel.sending(), asyncio.TaskGroup() as group:
                    for number in range(3):
                        group.create_task(channel.send(Item(number)))
            except* ChannelBroken:
                broken += 1

        async def receive() -> None:
            async with channel.receiving():
                await clock.sleep(1)
                if fails:
                    raise ValueError("receiver")

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            try:
                await receive()
            except ValueError:
                assert fails
        assert broken == 1
        assert channel.statistics().items == 0

    run_simulated(program)


def test_what_a_receiver_left_behind_is_let_go() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=3, bytes_max=100)
        async with channel.sending():
            for number in range(3):
                await channel.send(Item(number))
        async with channel.receiving():
            await anext(channel)
        assert (channel.statistics().items, channel.statistics().bytes) == (0, 0)

    run_simulated(program)


def test_a_cancelled_send_has_sent_nothing_and_lets_the_next_pass() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=9, bytes_max=10)
        async with asyncio.TaskGroup() as group, channel.sending():
            await channel.send(Item(0, 8))
            large = group.create_task(channel.send(Item(1, 5)))
            small = group.create_task(channel.send(Item(2, 2)))
            await clock.sleep(1)
            assert not small.done(), "nobody passes one who stands in line"
            large.cancel()
            await clock.sleep(1)
            assert large.cancelled()
            assert small.done()
        assert await receive_all(channel) == [0, 2]

    run_simulated(program)


def test_a_sender_cancelled_after_it_was_woken_has_sent_nothing() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=1, bytes_max=10)
        async with asyncio.TaskGroup() as group, channel.receiving():
            async with channel.sending():
                await channel.send(Item(0))
                woken = group.create_task(channel.send(Item(1)))
                behind = group.create_task(channel.send(Item(2)))
                await clock.sleep(1)
                assert (await anext(channel)).number == 0
                woken.cancel()
                await clock.sleep(1)
                assert woken.cancelled()
                assert behind.done()
            assert [item.number async for item in channel] == [2]

    run_simulated(program)


def test_a_receiver_cancelled_after_it_was_woken_has_taken_nothing() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=5, bytes_max=10)
        async with asyncio.TaskGroup() as group, channel.receiving():
            async with channel.sending():
                woken = group.create_task(channel.__anext__())
                behind = group.create_task(channel.__anext__())
                await clock.sleep(1)
                await channel.send(Item(0))
                woken.cancel()
                await clock.sleep(1)
                assert woken.cancelled()
                assert behind.result().number == 0
                await channel.send(Item(1))
            assert [item.number async for item in channel] == [1]

    run_simulated(program)


def test_the_waits_of_both_sides_are_told() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=1, bytes_max=10)

        async def send() -> None:
            async with channel.sending():
                await clock.sleep(2)
                for number in range(3):
                    await channel.send(Item(number))

        async with asyncio.TaskGroup() as group, channel.receiving():
            group.create_task(send())
            async for _ in channel:
                await clock.sleep(3)
        statistics = channel.statistics()
        assert statistics.receive_waited_s == pytest.approx(2)
        assert statistics.send_waited_s == pytest.approx(3)

    run_simulated(program)


def test_a_side_is_entered_once_and_used_inside() -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=1, bytes_max=10)
        with pytest.raises(AssertionError):
            await channel.send(Item(0))
        with pytest.raises(AssertionError):
            await anext(channel)
        async with channel.sending(), channel.receiving():
            pass
        for side in (channel.sending(), channel.receiving()):
            with pytest.raises(AssertionError):
                await side.__aenter__()

    run_simulated(program)


@dataclass(slots=True)
class Interleaving:
    """Two stages of several tasks that pause, give up and fail as a seed has it."""

    channel: Channel[Item]
    clock: VirtualClock
    random: Random
    ending: str
    items_max: int
    bytes_max: int
    sent: list[Item] = field(default_factory=list)
    received: list[Item] = field(default_factory=list)
    complete: int = 0

    async def pause(self) -> None:
        if self.random.random() < 0.5:
            await self.clock.sleep(self.random.choice((0.0, 0.0, 0.001, 0.01)))

    async def send(self, first: int) -> None:
        for number in range(first, first + ITEMS_EACH):
            item = Item(number, self.random.randint(0, 12))
            await self.pause()
            if self.random.random() < 0.2:  # a send that is given up and asked for again
                try:
                    async with asyncio.timeout(self.random.choice((0.0, 0.001))):
                        await self.channel.send(item)
                except TimeoutError:
                    await self.channel.send(item)
            else:
                await self.channel.send(item)
            self.sent.append(item)
            statistics = self.channel.statistics()
            assert statistics.items <= self.items_max
            assert statistics.bytes <= self.bytes_max or statistics.items == 1

    async def sending_stage(self, senders: int) -> None:
        async with self.channel.sending(), asyncio.TaskGroup() as group:
            for number in range(senders):
                group.create_task(self.send(100 * number))
            if self.ending == "failed sender":
                await self.clock.sleep(0.02)
                raise ValueError("on purpose")

    async def receive(self) -> None:
        async for item in self.channel:
            self.received.append(item)
            await self.pause()
            if self.ending == "receiver leaves" and len(self.received) >= 7:
                raise ValueError("on purpose")
        self.complete += 1

    async def receiving_stage(self, receivers: int) -> None:
        async with self.channel.receiving(), asyncio.TaskGroup() as group:
            for _ in range(receivers):
                group.create_task(self.receive())

    async def run(self, senders: int, receivers: int) -> None:
        with single_error():
            async with asyncio.TaskGroup() as group:
                group.create_task(self.receiving_stage(receivers))
                stage = group.create_task(self.sending_stage(senders))
                if self.ending == "cancelled sender":
                    await self.clock.sleep(0.02)
                    stage.cancel()


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    items_max=st.integers(1, 4),
    bytes_max=st.integers(1, 30),
    senders=st.integers(1, 4),
    receivers=st.integers(1, 3),
    ending=st.sampled_from(["end", "failed sender", "cancelled sender", "receiver leaves"]),
)
def test_any_interleaving_keeps_the_bounds_the_order_and_the_meaning_of_the_end(
    *, seed: int, items_max: int, bytes_max: int, senders: int, receivers: int, ending: str
) -> None:
    async def program(clock: VirtualClock, random: Random) -> None:
        channel: Channel[Item] = Channel(items_max=items_max, bytes_max=bytes_max)
        stages = Interleaving(channel, clock, random, ending, items_max, bytes_max)
        failed = False  # the stages may be done before the failure comes
        try:
            await stages.run(senders, receivers)
        except (ValueError, ChannelBroken):
            failed = True
        numbers = [item.number for item in stages.received]
        assert len(numbers) == len(set(numbers))
        for first in range(0, 100 * senders, 100):
            of_one = [number for number in numbers if first <= number < first + 100]
            expected = list(range(first, first + len(of_one)))
            assert (of_one if receivers == 1 else sorted(of_one)) == expected
        if stages.complete:
            assert len(stages.received) == len(stages.sent) == ITEMS_EACH * senders
        assert failed or stages.complete == receivers
        assert channel.statistics().items == 0

    run_simulated(program, seed=seed)
