"""The main job: read, tokenise and parse every file of the running Python's standard library.

::

    python -m benchmarks.stdlib_sweep --with executor --chunk-size 2

Each file is one call. Prints the ten heaviest files, the totals, and the seconds it took. A file
that does not parse (the standard library has some, on purpose) is reported and not fatal.
"""

from __future__ import annotations

import argparse
import ast
import io
import sysconfig
import time
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thread_chunks import ChunkExecutor, chunk, config


@dataclass(frozen=True)
class Measures:
    """What one file holds; `problem` says why it could not be parsed."""

    path: str
    tokens: int = 0
    nodes: int = 0
    depth: int = 0
    problem: str = ""


def measure(path: str) -> Measures:
    """Tokenise and parse a file, and count."""
    try:
        source = Path(path).read_bytes()
        tokens = sum(1 for _ in tokenize.tokenize(io.BytesIO(source).readline))
        tree = ast.parse(source, path)
    except (SyntaxError, tokenize.TokenError, ValueError) as error:
        return Measures(path, problem=f"{type(error).__name__}: {error}")
    nodes = depth = 0
    level: list[ast.AST] = [tree]
    while level:
        nodes += len(level)
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return Measures(path, tokens, nodes, depth)


def stdlib_files() -> list[str]:
    """Return the paths of all Python files of the standard library, site-packages left out."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(str(path) for path in root.rglob("*.py") if "site-packages" not in path.parts)


def sweep(paths: Sequence[str], how: str, chunk_size: int | None = None) -> list[Measures]:
    """Measure all files, in order: by "executor", by "chunk", or by a plain loop ("serial")."""
    if how == "executor":
        with ChunkExecutor(chunk_size=chunk_size) as executor:
            return list(executor.map(measure, paths))
    if how == "chunk":
        return chunk(measure, [[path] for path in paths], chunk_size=chunk_size)
    return [measure(path) for path in paths]


def totals(measures: Sequence[Measures]) -> str:
    """Say in a line what all files hold."""
    return (
        f"{len(measures)} files, {sum(m.tokens for m in measures)} tokens, {sum(m.nodes for m in measures)} nodes, "
        f"deepest nesting {max(m.depth for m in measures)}, {sum(bool(m.problem) for m in measures)} not parsed"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sweep as the command line says."""
    parser = argparse.ArgumentParser(prog="benchmarks.stdlib_sweep", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--with", dest="how", choices=["executor", "chunk", "serial"], default="executor")
    parser.add_argument("--chunk-size", type=int, default=None, help="calls at once (default: the CPUs)")
    parser.add_argument("--files", type=int, default=None, help="only so many files")
    options = parser.parse_args(arguments)

    paths = stdlib_files()[: options.files]
    started = time.perf_counter()
    measures = sweep(paths, options.how, options.chunk_size)
    seconds = time.perf_counter() - started

    for each in measures:
        if each.problem:
            print(f"not parsed: {each.path}: {each.problem}")
    print(f"{'tokens':>9} {'nodes':>9} {'depth':>6}  file")
    for each in sorted(measures, key=lambda m: m.tokens, reverse=True)[:10]:
        print(f"{each.tokens:9} {each.nodes:9} {each.depth:6}  {each.path}")
    print(f"total: {totals(measures)}")
    workers = 1 if options.how == "serial" else options.chunk_size or config.default_chunk_size
    print(f"{seconds:.1f} s with {options.how}, {workers} at once")


if __name__ == "__main__":
    main()
