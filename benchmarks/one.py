"""One contender of one case, in this process: ``python -m benchmarks.one CASE CONTENDER [--quick]``."""

from __future__ import annotations

import sys

from .cases import CASES, RATES
from .checkpoints import CHECKPOINTS
from .failures import FAILURES
from .harness import MEASURED
from .latency import LATENCIES
from .libraries import LIBRARIES
from .scale import SCALES


def main() -> None:
    """Measure, and print the value."""
    case, contender, *rest = sys.argv[1:]
    cases = CASES | LATENCIES | CHECKPOINTS | LIBRARIES | FAILURES | SCALES | RATES
    value = cases[case].contenders[contender]("--quick" in rest)
    print(MEASURED, value, flush=True)


if __name__ == "__main__":
    main()
