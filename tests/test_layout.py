"""The layout of the package: who imports whom, how long modules are, what the README must name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import thread_chunks

ROOT = Path(thread_chunks.__file__).parent
LEVELS = [
    {"errors", "config", "progress", "report", "_mailbox", "_sizing", "_memory", "_exceptions", "_main_functions"}
    | {"_terminal", "_identity"},
    {"_calls", "_alarms"},
    {"_supply"},
    {"_blocks"},
    {"_wire", "_messages", "_queue", "_arguments", "_connecting"},
    {"_running", "_crew", "_recovery", "_mapping", "_rows", "_inspection", "_session", "_nodes"},
    {"_endings", "_starts", "actor", "_store"},
    {"_assignment"},
    {"_lookout", "_recorder", "checkpoint", "_workers"},
    {"_dispatcher"},
    {"_threads", "_resuming", "_cluster"},
    {"_running_calls", "_options"},
    {"executor"},
    {"chunker"},
    {"__init__"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES = sorted(ROOT.glob("*.py"))
THIRD_PARTY = {
    "ray": {"_cluster", "_connecting", "_nodes", "_session", "_workers"},
    "cloudpickle": {"_wire"},
    "tqdm": {"progress"},
    "joblib": {"_identity"},
}
LONGEST = 300  # lines without docstrings, comments and blanks: one sitting


def imports(tree):
    """Yield (package, module, names, whether for type checkers only) of each import."""
    for_types = {
        id(node)
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and getattr(guard.test, "id", None) == "TYPE_CHECKING"
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")[0], alias.name, []
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            if node.level:
                for module in [node.module] if node.module else names:
                    yield "", module, names
            else:
                yield node.module.split(".")[0], node.module, names


def test_every_module_has_its_level():
    assert set(LEVEL) == {path.stem for path in MODULES}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports(path):
    for package, module, names in imports(ast.parse(path.read_text())):
        if package == "":
            assert LEVEL[module] < LEVEL[path.stem], f"{path.stem} imports {module}, which is not below it"
        else:
            assert path.stem in THIRD_PARTY.get(package, {path.stem}), f"{path.stem} imports {package}"
            private = [name for name in [*module.split("."), *names] if name.startswith("_") and name != "__future__"]
            assert private == [], f"{path.stem} reaches into {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_are_short(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    assert len(ast.unparse(tree).splitlines()) <= LONGEST


@pytest.mark.parametrize("name", thread_chunks.__all__)
def test_public_names_are_documented(name):
    assert f"`{name}" in (ROOT.parent / "README.md").read_text()
    assert getattr(thread_chunks, name).__doc__ or name == "RemoteLabelledActor"  # Ray's form of a class has none
