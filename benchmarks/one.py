"""One contender of one case, in this process: ``python -m benchmarks.one CASE CONTENDER [--quick]``."""

from __future__ import annotations

import json
import sys

from .cases import CASES, RATES
from .checkpoints import CHECKPOINTS
from .failures import FAILURES
from .scale import SCALES


def main() -> None:
    """Measure, and print the value as JSON."""
    case, contender, *rest = sys.argv[1:]
    print(json.dumps((CASES | CHECKPOINTS | FAILURES | SCALES | RATES)[case].contenders[contender]("--quick" in rest)))


if __name__ == "__main__":
    main()
