"""Requests to POST /infer of which every single one is accounted for: a closed loop of clients, or a fixed rate."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count, cycle

import aiohttp

_PATIENCE = 120  # seconds
# More open connections than this and the client is measured, not the service.
_MOST_IN_FLIGHT = 1000


@dataclass
class Outcome:
    """What became of the requests: answers by status, `errors` by what broke, latencies of the 200s in seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    # When each request that got no answer was sent (perf_counter).
    broken: list[float] = field(default_factory=list)
    held_back: int = 0

    @property
    def ok(self) -> int:
        return self.statuses[HTTPStatus.OK]

    @property
    def refused(self) -> int:
        return self.statuses[HTTPStatus.SERVICE_UNAVAILABLE]

    @property
    def sent(self) -> int:
        return self.statuses.total() + self.errors.total()

    @property
    def neither(self) -> int:
        """Requests that were answered with neither 200 nor 503."""
        return self.sent - self.ok - self.refused


class Load:
    """Clients of one service, that post `bodies` in turn; `async with Load(...) as load`.

    With `keep_alive` off each request has a connection of its own, so that what breaks with a process is exactly what
    was in flight.
    """

    def __init__(self, url: str, bodies: Sequence[bytes], keep_alive: bool = True) -> None:
        self._url = f"{url}/infer"
        self._bodies = cycle(bodies)
        self._keep_alive = keep_alive
        self.outcome = Outcome()
        self.in_flight: set[int] = set()
        # Told of every 200: when it was asked for.
        self.on_ok: Callable[[float], None] = lambda sent: None
        self._numbers = count()
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Load:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=not self._keep_alive),
            timeout=aiohttp.ClientTimeout(total=_PATIENCE),
            headers={"Content-Type": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def stop(self) -> None:
        """Sends no more; what is in flight is waited for."""
        self._stopped.set()

    async def closed(self, clients: int, seconds: float) -> float:
        """Lets `clients` ask again as soon as they are answered; gives the 200s a second."""
        start = time.perf_counter()
        before = self.outcome.ok

        async def ask() -> None:
            while time.perf_counter() - start < seconds:
                await self._post()

        await asyncio.gather(*(ask() for _ in range(clients)))
        return (self.outcome.ok - before) / (time.perf_counter() - start)

    async def at_rate(self, rate: float, seconds: float) -> None:
        """Asks `rate` times a second, answered or not, until `seconds` are over or `stop`; then awaits the answers.

        A request is held back, and counted as such, where 1,000 are in flight.
        """
        start = time.perf_counter()
        asked: set[asyncio.Task[None]] = set()
        due = 0
        while not self._stopped.is_set() and time.perf_counter() - start < seconds:
            while due < (time.perf_counter() - start) * rate:
                due += 1
                if len(asked) >= _MOST_IN_FLIGHT:
                    self.outcome.held_back += 1
                    continue
                task = asyncio.create_task(self._post())
                asked.add(task)
                task.add_done_callback(asked.discard)
            await asyncio.sleep(max(0.001, due / rate - (time.perf_counter() - start)))
        await asyncio.gather(*asked)

    async def _post(self) -> None:
        sent, number = time.perf_counter(), next(self._numbers)
        self.in_flight.add(number)
        try:
            async with self._session.post(self._url, data=next(self._bodies)) as answer:
                await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.outcome.errors[type(error).__name__] += 1
            self.outcome.broken.append(sent)
        else:
            self.outcome.statuses[answer.status] += 1
            if answer.status == HTTPStatus.OK:
                self.outcome.latencies.append(time.perf_counter() - sent)
                self.on_ok(sent)
        finally:
            self.in_flight.remove(number)
