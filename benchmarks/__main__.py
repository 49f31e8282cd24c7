"""``python -m benchmarks [CASE ...] [--quick] [--rounds N] [--pictures FOLDER]``."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from .cases import CASES
from .checkpoints import CHECKPOINTS
from .failures import FAILURES
from .harness import machine, measure, ray_that_stays_up, table
from .latency import LATENCIES
from .libraries import LIBRARIES
from .scale import SCALES


def main() -> None:
    """Run the cases and print a table for each."""
    cases = CASES | LATENCIES | CHECKPOINTS | LIBRARIES | FAILURES | SCALES
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the package beside its peers.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all. One of {', '.join(cases)}")
    parser.add_argument("--rounds", type=int, help="how often each contender is measured (default: 5; for pictures: 3)")
    parser.add_argument("--quick", action="store_true", help="small inputs and one round, to see that all of it runs")
    parser.add_argument(
        "--pictures", metavar="FOLDER", help="draw the README's pictures there; without --quick, measure no CASE"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(cases):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if arguments.cases and arguments.pictures and not arguments.quick:
        parser.error("--pictures takes no CASE without --quick")
    print(machine())
    tables = arguments.quick or not arguments.pictures
    rounds = arguments.rounds or (1 if arguments.quick else 5 if tables else 3)
    chosen = [cases[name] for name in arguments.cases or cases] if tables else []
    # With --quick no figure counts. So two cases run at once, and those that need Ray share one.
    with ray_that_stays_up(arguments.quick), ThreadPoolExecutor(2 if arguments.quick else 1) as threads:
        measure_all = partial(threads.map, partial(measure, rounds=rounds, quick=arguments.quick))
        for case, result in zip(chosen, measure_all(chosen), strict=True):
            print("\n".join(table(case, result)), flush=True)
        if arguments.pictures:
            from . import pictures  # only now: it imports Ray, which reads the environment

            pictures.draw(arguments.pictures, measure_all, quick=arguments.quick)


if __name__ == "__main__":
    main()
