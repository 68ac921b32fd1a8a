"""What it costs to send an item that does nothing to a worker and back: milliseconds an item, memory beside it.

Run::

    python benchmarks/scheduling.py                         # 10,000 items, 2 worker processes
    python benchmarks/scheduling.py --items 1000 --workers 1

The time is that of the whole run, from the first item sent to the last one collected, start of the workers excluded;
memory is what the process that holds client and scheduler grows by. Work of 5 ms an item shows what is left of two
workers when there is something to do.
"""

from __future__ import annotations

import argparse
import json
import resource
import time

from lib.measure import machine

from deepfinder_dask.execution import DaskExecutor, open_executor


def nothing(item: int) -> int:
    """An item that costs nothing."""
    return item


def short(item: int) -> int:
    """An item that keeps its worker for 5 ms."""
    time.sleep(0.005)
    return item


def peak_mib() -> float:
    """Peak memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(items: int, workers: int) -> dict[str, object]:
    """All figures of one size."""
    with open_executor(workers=workers) as executor:
        if not isinstance(executor, DaskExecutor):
            raise TypeError("expected worker processes")
        list(executor.run(nothing, range(100), label="warm up"))
        tasks = 0
        send = executor.client.map

        def counted(*arguments, **options):
            nonlocal tasks
            futures = send(*arguments, **options)
            tasks += len(futures)
            return futures

        executor.client.map = counted
        before = peak_mib()
        started, cpu = time.perf_counter(), time.process_time()
        found = sum(1 for _ in executor.run(nothing, range(items), label="nothing"))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        sent = tasks
        grown = peak_mib() - before
        started = time.perf_counter()
        few = items // 10
        list(executor.run(short, range(few), label="short"))
        busy = few * 0.005 / workers / (time.perf_counter() - started)
    return {
        "items": found,
        "workers": workers,
        "tasks": sent,
        "ms_an_item": 1000 * seconds / items,
        "client_and_scheduler_cpu_ms_an_item": 1000 * cpu / items,
        "client_and_scheduler_peak_mib": before + grown,
        "client_and_scheduler_growth_mib": grown,
        "busy_with_items_of_5_ms": busy,
        "machine": machine(),
    }


def main() -> None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000, help="how many (default %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    figures = run(options.items, options.workers)
    if options.json:
        print(json.dumps(figures))
        return
    for key, value in figures.items():
        print(f"{key:38}{value:.3f}" if isinstance(value, float) else f"{key:38}{value}")


if __name__ == "__main__":
    main()
