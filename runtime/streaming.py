"""Results of many items one after the other, in threads on request."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future
    from queue import SimpleQueue

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 2
"""Items per worker that are taken before their turn: one that runs, one that waits."""


def stream(
    items: Iterable[Item],
    run: Callable[[Item], Result],
    fork: Callable[[], Callable[[Item], Result]],
    workers: int,
) -> Generator[Result, None, None]:
    """`run` of each item, in order, each taken when its result is wanted.

    With several workers, each is a thread with what `fork` gives in place of `run`, and up to
    `LOOK_AHEAD` items per worker are taken early. An error, of `items` too, is raised at its place.
    Once the generator has ended or is closed there are no threads.
    """
    if workers == 1:
        return (run(item) for item in items)
    return _in_threads(iter(items), fork, workers)


def _in_threads(
    items: Iterator[Item], fork: Callable[[], Callable[[Item], Result]], workers: int
) -> Generator[Result, None, None]:
    # Imported here: it takes as long as a small inference.
    from concurrent.futures import ThreadPoolExecutor
    from queue import SimpleQueue

    idle: SimpleQueue[Callable[[Item], Result]] = SimpleQueue()
    for _ in range(workers):
        idle.put(fork())
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vta-stream")
    is_over = False
    try:
        while True:
            while not is_over and len(waiting) < LOOK_AHEAD * workers:
                try:
                    item = next(items)
                except StopIteration:
                    is_over = True
                except Exception as error:  # noqa: BLE001  it is raised when its turn comes
                    is_over = True
                    waiting.append(_failed(error))
                else:
                    waiting.append(pool.submit(_run, idle, item))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _failed(error: Exception) -> Future[Result]:
    from concurrent.futures import Future

    future: Future[Result] = Future()
    future.set_exception(error)
    return future


def _run(idle: SimpleQueue[Callable[[Item], Result]], item: Item) -> Result:
    run = idle.get()
    try:
        return run(item)
    finally:
        idle.put(run)
