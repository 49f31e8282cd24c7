"""Write the values of a checkpoint file as a table that other programs read."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ..checkpoint import Checkpoint
from .words import printable

_PLAIN = (bool, int, float, str)


def export(path: str, target: str) -> None:
    """Write the finished calls of the last run to a CSV, JSON or Parquet file, a row for each.

    Arguments have columns by their names or places. The value is the column `output`. A mapping, a list or a tuple has
    a column for each item. Other objects are left out.

    Raises
    ------
    ValueError
        If the name of the target has another ending.
    CheckpointRefused, OSError
        If a file cannot be read or written.
    """
    ending = os.path.splitext(target)[1].lower()
    if ending not in (".csv", ".json", ".parquet"):
        raise ValueError(f"the name must end in .csv, .json or .parquet: {target!r}")
    left_out = 0
    records: list[dict[str, Any]] = []
    for arguments, value in Checkpoint.load(path):
        record: dict[str, Any] = {}
        items = arguments.items() if isinstance(arguments, dict) else enumerate(arguments or ())
        for name, item in (*items, ("output", value)):
            for column, cell in _cells(str(name), item):
                if cell is not None and not isinstance(cell, _PLAIN):
                    left_out += 1
                    cell = None
                record[column] = cell
        records.append(record)
    columns = list(dict.fromkeys(column for record in records for column in record))
    _WRITERS[ending](target, columns, records)
    lost = f", without {left_out} cells that are not plain" if left_out else ""
    print(f"{len(records)} calls written to {printable(target)}{lost}", file=sys.stderr)


def _cells(name: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, Mapping):
        for key, inner in item.items():
            yield f"{name}.{key}", _as_plain(inner)
    elif isinstance(item, (list, tuple)):
        for place, inner in enumerate(item):
            yield f"{name}.{place}", _as_plain(inner)
    else:
        yield name, _as_plain(item)


def _as_plain(item: Any) -> Any:
    """Convert a number of NumPy to one of Python, and return anything else as it is."""
    if getattr(item, "shape", None) == () and hasattr(item, "item"):
        item = item.item()
    return item


def _write_csv(target: str, columns: list[str], records: list[dict[str, Any]]) -> None:
    with open(target, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(records)


def _write_json(target: str, columns: list[str], records: list[dict[str, Any]]) -> None:
    # JSON has no infinities.
    rows = [{name: _finite(cell) for name, cell in record.items()} for record in records]
    with open(target, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1, allow_nan=False)


def _finite(cell: Any) -> Any:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _write_parquet(target: str, columns: list[str], records: list[dict[str, Any]]) -> None:
    try:
        from pyarrow import ArrowException, Table, parquet
    except ImportError as error:
        raise OSError("a .parquet file needs pyarrow: pip install pyarrow") from error
    try:
        table = Table.from_pydict({column: [record.get(column) for record in records] for column in columns})
    except ArrowException as error:  # a column of numbers and text
        raise OSError(f"a column of a Parquet file has one type, and these values have several: {error}") from error
    parquet.write_table(table, target)


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}
