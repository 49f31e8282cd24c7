"""`python -m thread_chunks status` of a malicious file."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import pytest
from checkpointed import change

from thread_chunks import Checkpoint, CheckpointRefused
from thread_chunks.__main__ import main

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"

STRANGE = {
    "a text for a total": "UPDATE runs SET total = 'many'",
    "a blob for a total": "UPDATE runs SET total = x'1b5b'",
    "a negative total": "UPDATE runs SET total = -1",
    "half a call": "UPDATE runs SET total = 1.5",
    "a text for a time": "UPDATE runs SET started = 'yesterday'",
    "an infinite time": "UPDATE runs SET started = 9e999",
    "a blob for a time of an outcome": "UPDATE outcomes SET finished = x'00'",
    "a blob for a name": "UPDATE functions SET name = x'41'",
    "a name that is no text": "UPDATE functions SET name = CAST(x'fffe' AS TEXT)",
    "a function of a run that is a text": "PRAGMA ignore_check_constraints = 1; UPDATE runs SET function = 'f'; "
    "PRAGMA writable_schema = 1; UPDATE functions SET name = 'f'; DELETE FROM functions WHERE 0; DROP TABLE calls",
    "an endless view for a table": f"DROP TABLE functions; CREATE VIEW functions (id) AS {ENDLESS}",
    "an endless view for the calls": f"DROP TABLE calls; CREATE VIEW calls (run, position, key) AS "
    f"SELECT i, i, i FROM ({ENDLESS})",
    "an endless view beside the tables": f"CREATE VIEW other (id) AS {ENDLESS}",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON runs BEGIN DELETE FROM outcomes; END",
    "a virtual table": "CREATE VIRTUAL TABLE other USING fts5(x)",
    "a column that is computed": "DROP TABLE calls; CREATE TABLE calls (run, position, key, pickle AS (zeroblob(1e9)))",
    "a condition that takes long": "DROP TABLE calls; CREATE TABLE calls (run, position, key, pickle, "
    "CHECK (run LIKE '%a%a%a%a%a%a%b'))",
    "an index that is computed": "CREATE INDEX i ON runs (abs(total))",
    "an index of a part": "CREATE INDEX i ON runs (total) WHERE total > 1",
    "a table that is missing": "DROP TABLE calls",
    "a column that is missing": "ALTER TABLE calls DROP COLUMN pickle; ALTER TABLE runs DROP COLUMN total",
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    Checkpoint("f", [[1], [2]], [1, None], [True, False], path=path)
    return path


@pytest.mark.parametrize("what", STRANGE)
def test_what_no_checkpoint_has_is_refused(path, capsys, what):
    change(path, STRANGE[what])
    assert main(["status", str(path)]) == 1
    assert main(["status", "--json", str(path)]) == 1
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize("what", [what for what in STRANGE if what != "a blob for a time of an outcome"])
def test_it_is_not_loaded_either(path, what):
    change(path, STRANGE[what])
    with pytest.raises(CheckpointRefused):
        Checkpoint.load(path)


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07\x1b[2J", "a\rb", "a\nb", "\u202eevil", "\x9b31m", "ok\x00no"])
@pytest.mark.parametrize("how", ["name", "schema"])
def test_escape_sequences_are_shown_and_not_sent(path, capsys, name, how):
    if how == "name":
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE functions SET name = ?", (name,))
        assert main(["status", str(path)]) == 0
    else:
        quoted = name.replace("\x00", "").replace('"', "")
        change(path, f'CREATE VIEW "{quoted}" AS SELECT 1')
        assert main(["status", str(path)]) == 1
    said = "".join(capsys.readouterr())
    assert all(line.isprintable() for line in said.splitlines())
    assert len(said.splitlines()) == (2 if how == "name" else 1)


def test_a_name_without_end_is_cut_off(path, capsys):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE functions SET name = ?", ("f" * 10**6,))
    assert main(["status", str(path)]) == 0
    assert len(capsys.readouterr().out) < 20_000


def test_a_tree_of_pages_that_never_ends_is_refused(path, capsys):
    # An inner page whose children are all itself, in a file that is too large to be checked as a whole.
    with closing(sqlite3.connect(path)) as connection, connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
    cells = 2000
    page = bytearray(size)
    page[0] = 5  # the inner page of a table
    page[3:5] = cells.to_bytes(2, "big")
    page[5:7] = (size - 8).to_bytes(2, "big")
    page[8:12] = root.to_bytes(4, "big")
    for cell in range(cells):
        page[12 + 2 * cell : 14 + 2 * cell] = (size - 8).to_bytes(2, "big")
    page[size - 8 : size - 4] = root.to_bytes(4, "big")
    page[size - 4] = 1
    with open(path, "r+b") as file:
        file.seek((root - 1) * size)
        file.write(page)
        file.truncate(65 * 2**20 // size * size)
        file.seek(28)
        file.write((65 * 2**20 // size).to_bytes(4, "big"))
    assert main(["status", str(path)]) == 1
    assert str(path) in capsys.readouterr().err


def test_a_sound_file_is_shown(path, capsys):
    assert main(["status", str(path)]) == 0
    assert "f: 1 of 2" in capsys.readouterr().out
    assert os.listdir(path.parent) == ["file"]
