"""The layout of the package: which room imports from which, how long modules are, what the guide must name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import thread_chunks

ROOT = Path(thread_chunks.__file__).parent

# A room imports from those below it, and from itself. A module that is named here is a room of its own.
ROOMS = [
    "__main__",
    "_commands",
    "",  # the top level: what users import
    "_series",
    "_ray",
    "_dispatch",
    "_actor",
    "_checkpoints",
    "_wire",
    "_calls",
    "progress",
    "config",
    "report",
    "_pictures",
    "errors",
    "_system",
]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
THIRD_PARTY = {"ray": "_ray", "cloudpickle": "_wire", "tqdm": "progress", "joblib": "_checkpoints"}
WITH_JOBLIB = ("_joblib", "joblib_backend")  # whose business it is
UNSTABLE = ("ray.autoscaler", "ray.dag", "ray.experimental", "ray.util.client")
LONGEST = 300  # lines without docstrings, comments and blanks: one sitting


def room(module):
    """Return the room of a module: its folder, or itself."""
    first, _, rest = module.partition(".")
    return first if rest or first in ROOMS else ""


def imports(name):
    """Yield (module of the package, None) or (None, dotted names) for each import, in functions and for types too."""
    package = name.split(".")[:-1]
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield None, alias.name.split(".")
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
            if ".".join(base) in MODULES:
                yield ".".join(base), None
            else:
                for alias in node.names:
                    yield ".".join([*base, alias.name]), None
        elif isinstance(node, ast.ImportFrom):
            yield None, [*node.module.split("."), *(alias.name for alias in node.names)]


INSIDE = {name: {found for found, _ in imports(name) if found is not None and found != "__init__"} for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_from_rooms_below_it(name):
    order = ROOMS.index(room(name))
    for found in INSIDE[name]:
        assert found in MODULES, f"{name} imports {found}, which is no module"
        assert ROOMS.index(room(found)) >= order, f"{name} imports {found}, which is in a room above it"


def test_there_is_no_circle_of_imports():
    left = {name: set(found) for name, found in INSIDE.items()}
    while leaves := {name for name, found in left.items() if not found}:
        left = {name: found - leaves for name, found in left.items() if name not in leaves}
    assert left == {}, "these import each other, or from those that do"


@pytest.mark.parametrize("name", MODULES)
def test_other_packages_are_imported_in_one_room_and_by_public_names(name):
    for _, names in imports(name):
        if names is not None:
            is_its_business = names[0] == "joblib" and name in WITH_JOBLIB
            assert is_its_business or room(name) == THIRD_PARTY.get(names[0], room(name)), f"{name} imports {names[0]}"
            private = [part for part in names if part.startswith("_") and part != "__future__"]
            assert private == [], f"{name} reaches into {names[0]}"


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"_ray.unstable"}))
def test_what_may_change_in_ray_is_imported_in_one_module(name):
    dotted = {".".join(names) for _, names in imports(name) if names is not None}
    assert not [name for name in dotted if name.startswith(UNSTABLE)]


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_short(name):
    tree = ast.parse(MODULES[name].read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    assert len(ast.unparse(tree).splitlines()) <= LONGEST


@pytest.mark.parametrize("name", thread_chunks.__all__)
def test_public_names_are_documented(name):
    pages = [page.read_text() for page in (ROOT.parent / "docs").glob("*.md")]
    assert any(f"`{name}" in page for page in pages)
    assert getattr(thread_chunks, name).__doc__ or name == "RemoteLabelledActor"  # Ray's form of a class has none
