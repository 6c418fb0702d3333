"""A long way to hosts that are near: a proxy that holds back what it passes on.

Every byte takes half a round trip, the handshake of TCP included; there is no netem in every
kernel. Whenever someone speaks after having been answered, that is one round trip, counted.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

Address = tuple[str, int]
PIECE = 1 << 16


class Trips:
    """How often, through all connections so far, the near side spoke after the far side had."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def delayed(
    addresses: Sequence[Address], round_trip: float
) -> Iterator[tuple[Sequence[int], Trips]]:
    """A port on 127.0.0.1 for each address, from which it is ``round_trip`` seconds away."""
    loop, trips = asyncio.new_event_loop(), Trips()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen(address: Address) -> int:
        async def meet(near: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1.5 * round_trip)  # SYN, SYN-ACK, ACK
            far, speak = await asyncio.open_connection(*address)
            await _join((near, answer), (far, speak), round_trip / 2, trips)

        server = await asyncio.start_server(meet, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    try:
        ports = [asyncio.run_coroutine_threadsafe(listen(each), loop) for each in addresses]
        yield [port.result() for port in ports], trips
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(near: End, far: End, delay: float, trips: Trips) -> None:
    answered = False

    def passed(from_near: bool) -> None:
        nonlocal answered
        if from_near and answered:
            trips.count += 1
        answered = not from_near

    await asyncio.gather(
        _pass(near[0], far[1], delay, lambda: passed(True)),
        _pass(far[0], near[1], delay, lambda: passed(False)),
    )


async def _pass(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay: float,
    passed: Callable[[], None],
) -> None:
    """Pass on what comes, in order, each piece ``delay`` seconds after it came."""
    clock = asyncio.get_running_loop().time
    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def deliver() -> None:
        piece = b"-"
        while piece:
            due, piece = await held.get()
            await asyncio.sleep(max(0.0, due - clock()))
            writer.write(piece)
        writer.close()

    delivering = asyncio.create_task(deliver())
    piece = b"-"
    while piece:
        try:
            piece = await reader.read(PIECE)
        except ConnectionError:
            piece = b""
        if piece:
            passed()
        held.put_nowait((clock() + delay, piece))
    await delivering
