"""Digest of the code of this package that a run depends on; comments and docstrings do not change it.

Files are parsed, not imported, because planning must be quick and importing the heads takes seconds.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from corrloss.plan.config_nodes import nodes

PACKAGE = Path(__file__).parents[1]
#: Modules with classes that `type` in a config may name.
HOMES = ("loss.py", "heads/*.py", "ranking/*.py")


def code_of(model: object) -> str:
    """Digest of the code behind the heads and losses that a model's config names.

    It covers the modules that define them and what these import of this package. A run without the loss
    therefore does not depend on the loss.

    Args:
        model: The ``model`` of a config: dicts and lists, classes by their names under ``type``.

    Returns:
        Twelve hexadecimal digits; empty where the model uses no code of this package.
    """
    homes = _homes()
    names = [node.get("type") for node in nodes(model)]
    modules = tuple(sorted({homes[name] for name in names if isinstance(name, str) and name in homes}))
    return digest_of(modules) if modules else ""


@functools.cache
def digest_of(modules: tuple[Path, ...]) -> str:
    """Digest of modules and all that they import of this package, without comments and docstrings."""
    reached: set[Path] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += _imported(module)
    digest = hashlib.sha256()
    for module in sorted(reached):
        digest.update(f"{module.relative_to(PACKAGE)}\0{_meaning(module)}\0".encode())
    return digest.hexdigest()[:12]


@functools.cache
def _homes() -> dict[str, Path]:
    """Module of each class of this package that a config may name."""
    files = sorted(path for home in HOMES for path in PACKAGE.glob(home))
    return {
        node.name: path for path in files for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)
    }


@functools.cache
def _imported(module: Path) -> tuple[Path, ...]:
    """Modules of this package that a module imports at run time, also through a package's ``__init__``."""
    names = []
    for node in _without_type_checking(_tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            imported = {alias.name for alias in node.names}
            names += [node.module, *(f"{node.module}.{name}" for name in imported)]
            names += _homes_of(node.module, imported)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    files = (PACKAGE.parent / f"{name.replace('.', '/')}.py" for name in names)
    return tuple(file for file in files if file.is_relative_to(PACKAGE) and file.is_file())


def _homes_of(package: str, names: set[str]) -> list[str]:
    """Modules from which the ``__init__`` of a package imports some names; none where it is no package."""
    init = PACKAGE.parent / package.replace(".", "/") / "__init__.py"
    nodes = _tree(init).body if init.is_relative_to(PACKAGE) and init.is_file() else []
    imports = (node for node in nodes if isinstance(node, ast.ImportFrom) and node.module)
    return [node.module for node in imports if names & {alias.name for alias in node.names}]


def _without_type_checking(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            yield from _without_type_checking(node)


@functools.cache
def _meaning(module: Path) -> str:
    """A module's syntax tree as text, without docstrings; changes the tree that `_tree` keeps."""
    tree = _tree(module)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return _dump(tree)


def _dump(tree: ast.AST) -> str:
    """A tree as Python 3.11 writes it, so that results stay current under another version of Python."""
    text = ast.dump(tree, show_empty=True) if sys.version_info >= (3, 13) else ast.dump(tree)
    return text.replace(", type_params=[]", "")  # of functions and classes, since Python 3.12


@functools.cache
def _tree(module: Path) -> ast.Module:
    _remove_older_bytecode(module)
    return ast.parse(module.read_text(encoding="utf-8"), str(module))


def _remove_older_bytecode(module: Path) -> None:
    """Remove what Python compiled before the last change of a module.

    Python compares size and seconds of the modification alone. It would run the old code of a file that was
    edited within one second, or replaced with its times, while the digest is of the new code.
    """
    compiled = Path(importlib.util.cache_from_source(module))
    with contextlib.suppress(OSError):  # none, or an installation that cannot be written, and so not edited
        if compiled.stat().st_mtime_ns <= module.stat().st_ctime_ns:
            compiled.unlink()
