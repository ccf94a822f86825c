"""Work in threads, results in order, memory bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

Job = TypeVar("Job")
Slot = TypeVar("Slot")
Result = TypeVar("Result")


def in_order(
    jobs: Iterable[Job], work: Callable[[Job, Slot], Result], *, slots: Sequence[Slot], threads: int
) -> Generator[Result, None, None]:
    """Yield `work(job, slot)` for each job, in the order of `jobs`, computed by `threads` threads.

    A slot holds what a job needs (buffers, contexts). It is lent to one job at a time and comes back when the consumer
    asks for the next result, so at most `len(slots)` jobs are under way and memory is bounded. `jobs` is advanced in
    the consumer's thread. A single job is done there, too: sooner than a thread is started. When the consumer stops
    early, or anything raises, no work is running any more once this returns: whoever owns the descriptors may close
    them.
    """
    jobs = iter(jobs)
    begun = list(islice(jobs, 2))
    if len(begun) < 2:
        for job in begun:
            yield work(job, slots[0])
        return
    # concurrent.futures costs milliseconds of start-up (it imports logging): only whoever copies pays for it.
    from concurrent.futures import ThreadPoolExecutor

    free: deque[Slot] = deque(slots)
    running: deque[tuple[Future[Result], Slot]] = deque()
    pool = ThreadPoolExecutor(threads, "pages")
    try:
        for job in chain(begun, jobs):
            if not free:
                future, slot = running.popleft()
                yield future.result()
                free.append(slot)
            slot = free.popleft()
            running.append((pool.submit(work, job, slot), slot))
        while running:
            yield running.popleft()[0].result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
