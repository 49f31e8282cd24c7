"""``python -m thread_chunks``: Ray that stays up between programs, and what is in checkpoint files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from ._commands import export, shells, standing, status, words
from ._version import __version__
from .errors import CheckpointRefused, UnpicklingFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "up":
            return standing.up(options.shell)
        if options.command == "down":
            return standing.down(options.shell)
        if options.command == "export":
            export.export(options.path, options.target)
            return 0
        if not options.paths:
            return standing.status(as_json=options.json)
        with suppress(KeyboardInterrupt):
            return status.show(options.paths, watch=options.watch, as_json=options.json)
    except (CheckpointRefused, UnpicklingFailed, OSError, ValueError) as error:
        print(words.printable(str(error)), file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m thread_chunks", description=__doc__)
    parser.add_argument("--version", action="version", version=f"thread_chunks {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("up", 'start Ray on this machine, or find it, and print what a shell needs: eval "$(... up)"'),
        ("down", "end the Ray that `up` started, and all that belongs to it"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--shell", choices=shells.SHELLS, default=shells.guess(), help="default: by $SHELL")
    look = commands.add_parser(
        "status", help="how far a run is that has a checkpoint; without a file: whether a standing Ray is up"
    )
    look.add_argument("paths", nargs="*", metavar="path", help="a checkpoint file; a run may be writing to it")
    look.add_argument("--watch", action="store_true", help="look again and again, until Ctrl-C")
    look.add_argument("--json", action="store_true", help="print one JSON object for each look")
    table = commands.add_parser(
        "export", help="write the finished calls of a checkpoint to a .csv, .json or .parquet file"
    )
    table.add_argument(
        "path", help="the checkpoint file; its values are unpickled, so it must be of a source you trust"
    )
    table.add_argument("target", help="the file to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
