"""The tables of a checkpoint file. `store` says what they hold."""

from __future__ import annotations

SCHEMA = """
CREATE TABLE functions (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, code TEXT NOT NULL, bound TEXT NOT NULL, UNIQUE (name, code, bound));
CREATE TABLE runs (id INTEGER PRIMARY KEY, function INTEGER NOT NULL, started REAL NOT NULL, total INTEGER);
CREATE TABLE calls (
    run INTEGER NOT NULL, position INTEGER NOT NULL, key BLOB NOT NULL, pickle BLOB,
    PRIMARY KEY (run, position)) WITHOUT ROWID;
CREATE TABLE outcomes (
    id INTEGER PRIMARY KEY, function INTEGER NOT NULL, key BLOB NOT NULL, run INTEGER NOT NULL, finished REAL NOT NULL,
    crc INTEGER, pickle BLOB, UNIQUE (function, key));
CREATE TABLE pieces (
    id INTEGER PRIMARY KEY, outcome INTEGER NOT NULL, buffer INTEGER NOT NULL, crc INTEGER NOT NULL,
    data BLOB NOT NULL);
CREATE INDEX pieces_of_outcomes ON pieces (outcome);
"""

# What functions are called for people, where that is not their name: those that a lambda is around. Made where it is
# needed; versions without it read the other tables.
TITLES = "CREATE TABLE IF NOT EXISTS titles (function INTEGER PRIMARY KEY, title TEXT NOT NULL)"

# Likewise.
BEGUN = "CREATE TABLE IF NOT EXISTS begun (run INTEGER PRIMARY KEY, calls INTEGER NOT NULL)"

# Likewise.
FAILURES = """
CREATE TABLE IF NOT EXISTS failures (
    function INTEGER NOT NULL, key BLOB NOT NULL, run INTEGER NOT NULL, call TEXT NOT NULL, error TEXT NOT NULL,
    failed REAL NOT NULL, times INTEGER NOT NULL, PRIMARY KEY (function, key)) WITHOUT ROWID"""

# Likewise.
SLOWEST = """
CREATE TABLE IF NOT EXISTS slowest (
    function INTEGER NOT NULL, key BLOB NOT NULL, call TEXT NOT NULL, seconds REAL NOT NULL,
    PRIMARY KEY (function, key)) WITHOUT ROWID"""


# Not in the schema: a file of an older version has none. Each run adds the table if it is missing. An older version
# does not look at it. It finds none of the functions that use anything by name, and so takes no value for another one.
PARTS = """
CREATE TABLE IF NOT EXISTS parts (
    function INTEGER NOT NULL, what TEXT NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (function, what)) WITHOUT ROWID"""
