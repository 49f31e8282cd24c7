"""`Checkpoint`: what is in a checkpoint file."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ._calls.calls import Arguments, extended
from ._checkpoints.identity import Identity
from ._checkpoints.opening import open_store, read_store
from ._checkpoints.rows import Rows, from_row, make_key, to_bytes, to_row
from ._checkpoints.store import Run
from ._wire.pickling import Packed
from .errors import UnpicklingFailed

if TYPE_CHECKING:
    import pandas

__all__ = ["Checkpoint"]


class Checkpoint:
    """The last run that used a checkpoint file: its calls, and their values as far as there are any.

    Values and arguments are pickles, which can run any code when they are read: use only files that you trust.

    Parameters
    ----------
    func_name : str
        The function's name.
    parameters : list of lists or mappings
        An argument list for each call, or a mapping of arguments by keyword; None where they were too large to be
        kept.
    output : list
        The values; None where there is no value.
    completed : list of bool
        Where there is a value.
    index : int, optional
        The position up to which calls were begun. Default: the one behind the last call with a value.
    done : int, optional
        The number of calls that have a value. Default: found in `completed`.
    path : path-like, optional
        Where to save it, so that it can be loaded again. Runs take no values from a file that was made so. Default: do
        not save.

    Attributes
    ----------
    finished : bool
        Whether all calls have a value.

    Raises
    ------
    ValueError
        If the lists are of different lengths.
    CheckpointRefused
        If the file at `path` is not a checkpoint.

    Examples
    --------
    >>> from thread_chunks import Checkpoint
    >>> checkpoint = Checkpoint("power", [[2, 5], [3, 2]], [32, None], [True, False])
    >>> checkpoint.done, checkpoint.index, checkpoint.finished, list(checkpoint)
    (1, 1, False, [([2, 5], 32)])
    """

    def __init__(
        self,
        func_name: str,
        parameters: Sequence[Sequence[Any] | Mapping[Any, Any] | None],
        output: Sequence[Any],
        completed: Sequence[bool],
        index: int | None = None,
        done: int | None = None,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        if not len(parameters) == len(output) == len(completed):
            raise ValueError(
                f"parameters ({len(parameters)}), output ({len(output)}) and completed ({len(completed)}) "
                "are of different lengths"
            )
        self.func_name = func_name
        self.parameters = list(map(_row, parameters))
        self.output = list(output)
        self.completed = list(completed)
        self.index = _behind_last(self.completed) if index is None else operator.index(index)
        self.done = sum(self.completed) if done is None else operator.index(done)
        self.finished = all(self.completed)
        self.path = None if path is None else os.path.abspath(os.fsdecode(path))
        self._calls: list[tuple[bytes | None, int | None]] | None = None
        if self.path is not None:
            self._save(self.path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Load the calls of the last run that used a file, with the values that are finished by now.

        Parameters
        ----------
        path : path-like
            The file. A run may be writing to it.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        CheckpointRefused
            If it is not a checkpoint, or is damaged.

        Notes
        -----
        The file stays as it is. `parameters`, `output` and iterating raise `UnpicklingFailed` for objects of a class
        that only the script which made them defines.
        """
        with closing(read_store(path)) as store:
            runs = store.last_runs()
            run = runs[-1] if runs else None
            calls = [] if run is None else list(store.calls(run))
            begun = None if run is None else store.begun(run)
        checkpoint = cls.__new__(cls)
        checkpoint._look_at(run, calls, begun, store.path, os.path.abspath(os.fsdecode(path)))  # noqa: SLF001 (its own)
        return checkpoint

    def _look_at(
        self, run: Run | None, calls: list[tuple[bytes | None, int | None]], begun: int | None, file: str, path: str
    ) -> None:
        self.func_name = "" if run is None else run.name.rpartition(".")[2]
        self.completed = [outcome is not None for _, outcome in calls]
        self.done = sum(self.completed)
        self.index = max(begun or 0, _behind_last(self.completed))
        self.finished = run is not None and self.done == run.total
        self.path = path
        self._file = file  # which stays, wherever a link at `path` leads later
        self._calls = calls

    @cached_property
    def parameters(self) -> list[list[Any] | dict[Any, Any] | None]:
        """An argument list for each call; None where they were too large to be kept.

        A dict if there are arguments by keyword; those before them have their places, from 0 on, as keys.
        """
        assert self._calls is not None
        return [self._arguments(data) for data, _ in self._calls]

    @cached_property
    def output(self) -> list[Any]:
        """The values; None where there is no value."""
        assert self._calls is not None
        return list(self._values(outcome for _, outcome in self._calls))

    def __len__(self) -> int:
        return sum(self.completed)

    def __iter__(self) -> Iterator[tuple[list[Any] | dict[Any, Any] | None, Any]]:
        """Yield arguments and value of each finished call, reading one at a time."""
        if self._calls is None:
            yield from compress(zip(self.parameters, self.output, strict=True), self.completed)
        else:
            finished = list(compress(self._calls, self.completed))
            values = self._values(outcome for _, outcome in finished)
            for data, _ in finished:
                yield self._arguments(data), next(values)

    def __repr__(self) -> str:
        return f"<Checkpoint of {self.func_name}: {len(self)} of {len(self.completed)} calls finished>"

    def to_dict(self) -> dict[str, list[Any]]:
        """Return columns, as for a data frame: ``parameters``, ``output``, ``completed``."""
        return {"parameters": self.parameters, "output": self.output, "completed": self.completed}

    def to_records(self) -> list[dict[Any, Any]]:
        """Return a dict for each finished call: its arguments by their names, and its value as ``output``.

        Arguments without a name have their place as a key, from 0 on. Those that were too large to be kept are missing.

        Returns
        -------
        list of dict

        Raises
        ------
        ValueError
            If an argument is called ``output``.

        Examples
        --------
        >>> from thread_chunks import Checkpoint
        >>> Checkpoint("energy", [{"T": 1.0, "L": 16}], [0.5], [True]).to_records()
        [{'T': 1.0, 'L': 16, 'output': 0.5}]
        """
        records = []
        for args, value in self:
            record: dict[Any, Any] = dict(args if isinstance(args, dict) else enumerate(args or ()))
            if "output" in record:
                raise ValueError("an argument is called 'output', as the value is: iterate over the checkpoint instead")
            records.append({**record, "output": value})
        return records

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the finished calls as a data frame, with the columns of `to_records`.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        ValueError
            As `to_records`.

        Examples
        --------
        >>> from thread_chunks import Checkpoint
        >>> checkpoint = Checkpoint("energy", [{"T": 1.0}, {"T": 2.0}], [0.5, 0.7], [True, True])
        >>> checkpoint.to_dataframe()  # doctest: +SKIP
             T  output
        0  1.0     0.5
        1  2.0     0.7
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            if error.name != "pandas":  # but something that it needs
                raise
            raise ModuleNotFoundError("to_dataframe needs pandas: pip install pandas", name="pandas") from error
        return pandas.DataFrame(self.to_records())

    def _values(self, outcomes: Iterable[int | None]) -> Iterator[Any]:
        with closing(read_store(self._file)) as store:
            for outcome in outcomes:
                yield None if outcome is None else self._made_again("a value", store.load(outcome))

    def _made_again(self, what: str, packed: Packed) -> Any:
        try:
            return from_row(packed)
        except UnpicklingFailed as error:
            raise UnpicklingFailed(f"{what} of {self.func_name} in {self.path}: {error}") from error.__cause__

    def _arguments(self, data: bytes | None) -> list[Any] | dict[Any, Any] | None:
        return None if data is None else _row(self._made_again("arguments", Packed(data)))

    def _save(self, path: str) -> None:
        rows = Rows()
        for position, args in enumerate(self.parameters):
            key = make_key(bytes(16), position)
            rows.calls.append((position, key, None if args is None else to_bytes(_call(args))))
            if self.completed[position]:
                rows.values.append((key, to_row(self.output[position])))
        with closing(open_store(path)) as store:
            # Of an identity of its own: what is saved again replaces nothing.
            store.add_finished(Identity(self.func_name, "", uuid4().hex), rows, self.index)


def _behind_last(completed: list[bool]) -> int:
    """Return the position behind the last call with a value: up to there, calls were begun for certain."""
    return max((position for position, has_value in enumerate(completed, 1) if has_value), default=0)


def _row(args: Sequence[Any] | Mapping[Any, Any] | None) -> list[Any] | dict[Any, Any] | None:
    return None if args is None else dict(args) if isinstance(args, Mapping) else list(args)


def _call(row: list[Any] | dict[Any, Any]) -> Arguments:
    """Return the arguments of a call, of which `to_bytes` makes that row."""
    if not isinstance(row, dict):
        return tuple(row)
    return extended((), row)
