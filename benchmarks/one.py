"""One contender of one case, in this process: ``python -m benchmarks.one CASE CONTENDER [--quick]``.

The workers of process pools import this module, too, and what they run is in `work`: only `main` needs the cases.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Measure, and print the value."""
    from .cases import CASES, RATES
    from .checkpoints import CHECKPOINTS
    from .failures import FAILURES
    from .harness import MEASURED
    from .latency import LATENCIES
    from .libraries import LIBRARIES
    from .scale import SCALES

    case, contender, *rest = sys.argv[1:]
    cases = CASES | LATENCIES | CHECKPOINTS | LIBRARIES | FAILURES | SCALES | RATES
    value = cases[case].contenders[contender]("--quick" in rest)
    print(MEASURED, value, flush=True)


if __name__ == "__main__":
    main()
