"""``python -m benchmarks [CASE ...] [--quick] [--rounds N] [--pictures FOLDER]``."""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor

from .cases import CASES
from .checkpoints import CHECKPOINTS
from .failures import FAILURES
from .harness import Case, machine, measure, ray_that_stays_up, table
from .latency import LATENCIES
from .libraries import LIBRARIES
from .scale import SCALES


def main() -> None:
    """Run the cases and print a table for each."""
    cases = CASES | LATENCIES | CHECKPOINTS | LIBRARIES | FAILURES | SCALES
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the package beside its peers.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all. One of {', '.join(cases)}")
    parser.add_argument("--rounds", type=int, help="how often each contender is measured (default: 5)")
    parser.add_argument("--quick", action="store_true", help="small inputs and one round, to see that all of it runs")
    parser.add_argument("--pictures", metavar="FOLDER", help="draw the README's pictures there, and do nothing else")
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - set(cases):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if arguments.pictures:
        from . import pictures  # which needs matplotlib

        pictures.draw(arguments.pictures, quick=arguments.quick)
        return
    print(machine())
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    chosen = [cases[name] for name in arguments.cases or cases]
    # With --quick nothing is timed. So two cases run at once, and the package need not start Ray for each of them.
    with ray_that_stays_up(arguments.quick) as ours, ThreadPoolExecutor(2 if arguments.quick else 1) as threads:

        def lines(case: Case) -> str:
            return "\n".join(table(case, measure(case, rounds, arguments.quick, ours)))

        for text in threads.map(lines, chosen):
            print(text, flush=True)


if __name__ == "__main__":
    main()
