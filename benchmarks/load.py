"""A load generator for POST /infer that accounts for every request: a closed loop of clients, or a fixed rate."""

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

_TIMEOUT = 120  # seconds
# With more open connections, the client is the bottleneck and not the service.
MAX_IN_FLIGHT = 1000
_MIN_SLEEP = 0.001  # seconds


@dataclass
class Outcome:
    """The outcome of all requests.

    Attributes:
        statuses: The number of answers by status.
        errors: The number of requests without an answer by the class of the error.
        latencies: The seconds until each answer with status 200.
        unanswered: The times (perf_counter) at which requests without an answer were sent.
        held_back: The number of requests that were not sent because too many were in flight.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    unanswered: list[float] = field(default_factory=list)
    held_back: int = 0

    @property
    def ok(self) -> int:
        """The number of answers with status 200."""
        return self.statuses[HTTPStatus.OK]

    @property
    def refused(self) -> int:
        """The number of answers with status 503."""
        return self.statuses[HTTPStatus.SERVICE_UNAVAILABLE]

    @property
    def sent(self) -> int:
        """The number of requests."""
        return self.statuses.total() + self.errors.total()

    @property
    def unexpected(self) -> int:
        """The number of requests that were answered with neither 200 nor 503."""
        return self.sent - self.ok - self.refused


class Load:
    """Clients of one service, to be used as `async with Load(...) as load`.

    Args:
        url: The address of the service.
        bodies: The request bodies, which are sent in turn.
        keep_alive: Whether connections are reused. If not, the end of a process breaks only the requests in flight.

    Attributes:
        outcome: The outcome of the requests so far.
        in_flight: The numbers of the requests in flight.
        on_ok: A function that is called after every answer with status 200, with the time of its request.
    """

    def __init__(self, url: str, bodies: Sequence[bytes], keep_alive: bool = True) -> None:
        self._url = f"{url}/infer"
        self._bodies = cycle(bodies)
        self._keep_alive = keep_alive
        self.outcome = Outcome()
        self.in_flight: set[int] = set()
        self.on_ok: Callable[[float], None] = lambda sent: None
        self._numbers = count()
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Load:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=not self._keep_alive),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT),
            headers={"Content-Type": "application/json"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def stop(self) -> None:
        """Send no more requests; those in flight are still awaited."""
        self._stopped.set()

    async def run_closed_loop(self, clients: int, seconds: float) -> float:
        """Let each client send its next request after each answer, and return the 200s per second."""
        start = time.perf_counter()
        ok_before = self.outcome.ok

        async def run_client() -> None:
            while time.perf_counter() - start < seconds:
                await self._post()

        await asyncio.gather(*(run_client() for _ in range(clients)))
        return (self.outcome.ok - ok_before) / (time.perf_counter() - start)

    async def run_at_rate(self, rate: float, seconds: float) -> None:
        """Send `rate` requests per second, for some seconds or until `stop`, then await all answers.

        With 1,000 requests in flight, further ones are held back and counted.
        """
        start = time.perf_counter()
        tasks: set[asyncio.Task[None]] = set()
        due = 0
        while not self._stopped.is_set() and time.perf_counter() - start < seconds:
            while due < (time.perf_counter() - start) * rate:
                due += 1
                if len(tasks) >= MAX_IN_FLIGHT:
                    self.outcome.held_back += 1
                    continue
                task = asyncio.create_task(self._post())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(_MIN_SLEEP, due / rate - (time.perf_counter() - start)))
        await asyncio.gather(*tasks)

    async def _post(self) -> None:
        sent, number = time.perf_counter(), next(self._numbers)
        self.in_flight.add(number)
        try:
            async with self._session.post(self._url, data=next(self._bodies)) as response:
                await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.outcome.errors[type(error).__name__] += 1
            self.outcome.unanswered.append(sent)
        else:
            self.outcome.statuses[response.status] += 1
            if response.status == HTTPStatus.OK:
                self.outcome.latencies.append(time.perf_counter() - sent)
                self.on_ok(sent)
        finally:
            self.in_flight.remove(number)
