"""Reading YAML files strictly: duplicate keys, numbers that are not finite and too large files are errors."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from pathlib import Path

import yaml
from yaml.constructor import ConstructorError

from corrloss.plan.schema import ExperimentError, check, shortened

MAX_DEPTH = 50
MAX_NODES = 100_000  # with every alias counted as the nodes that it repeats


class StrictLoader(yaml.CSafeLoader):
    """PyYAML's safe loader, which accepts neither a duplicate key nor infinity and NaN."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping without duplicate keys."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # PyYAML refuses it and names the line
            if key in seen:
                raise ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        """A finite float."""
        value = self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise ConstructorError(None, None, f"expected a finite number, got {node.value}", node.start_mark)
        return value


class TextLoader(StrictLoader):
    """Reads every scalar as the text that is written: ``2024-05-01``, ``007`` and ``yes`` are text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 -- PyYAML's own name for how plain scalars get other types


StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_finite)


def names(folder: Path, suffix: str) -> list[str]:
    """Names, without suffix, of the files of one kind in a folder, sorted; hidden files are left out.

    Raises:
        ExperimentError: A name has other characters than letters, digits and underscores: rules, runs and
            folders are named by it.
    """
    found = sorted(path.stem for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    for name in found:
        if not re.fullmatch(r"\w+", name):
            path = folder / (name + suffix)
            raise ExperimentError(
                f"{path}: expected a name of letters, digits and underscores, got {name!r}; rename the file"
            )
    return found


def existing(folder: Path, name: str, suffix: str) -> Path:
    """The file of a name in a folder.

    Raises:
        ExperimentError: The file does not exist; the message lists the existing ones.
    """
    if name not in (known := names(folder, suffix)):
        raise ExperimentError(f"{folder / name}{suffix}: no such file; there are {', '.join(known)}")
    return folder / f"{name}{suffix}"


def load_yaml(path: Path, loader: type[StrictLoader] = StrictLoader) -> object:
    """Content of one YAML file.

    Raises:
        ExperimentError: It is missing or not YAML, has a duplicate key or a number that is not finite, or is
            nested too deeply or too large with its aliases replaced by what they repeat.
    """
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_too_large(text)
        return loader(text).get_single_data()
    except FileNotFoundError:
        raise ExperimentError(
            f"{path}: no such file; there are {', '.join(names(path.parent, '.yaml'))}"
        ) from None
    except (yaml.YAMLError, ValueError, OSError) as error:  # ValueError: an impossible date, for example
        raise ExperimentError(f"{path}: not readable as YAML: {error}") from error


def _refuse_too_large(text: str) -> None:
    """Bound the depth and the number of nodes before any is made: PyYAML's composer is recursive.

    Raises:
        ConstructorError: A bound is exceeded, or an alias is inside the node that it repeats.
    """
    sizes: dict[str, int] = {}  # number of nodes by anchor
    opened: list[tuple[str | None, int]] = []  # anchor of each collection, and the number of nodes before it
    nodes = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ConstructorError(
                    None, None, f"alias *{event.anchor} before the end of its anchor", event.start_mark
                )
            nodes += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            nodes += 1
        if isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            sizes[anchor] = nodes - before + 1
        if len(opened) > MAX_DEPTH or nodes > MAX_NODES:
            limit = f"expected at most {MAX_DEPTH} levels and {MAX_NODES} nodes, aliases included, got more"
            raise ConstructorError(None, None, limit, event.start_mark)


def read_yaml(path: Path, schema: dict) -> dict:
    """Read a YAML file and check it against a JSON schema.

    A file that ``extends`` another one beside it holds only the differences: mappings are merged, all else
    is replaced.

    Args:
        path: The file.
        schema: JSON schema (draft 2020-12).

    Returns:
        The file's content.

    Raises:
        ExperimentError: The file or one that it extends is missing or not YAML (see `load_yaml`), or
            it does not match the schema. All differences to the schema are listed.
    """
    content, bases = _load_extended(path, ())
    extends = f" (extends {', '.join(base.stem for base in bases)})" if bases else ""
    check(content, schema, f"{path}{extends}")
    return content


def _load_extended(path: Path, extending: tuple[Path, ...]) -> tuple[object, list[Path]]:
    """Content of a file merged over what it extends, and the files that it extends."""
    content = load_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content, []
    name = content.pop("extends")
    others = [other for other in names(path.parent, path.suffix) if other != path.stem]
    if name not in others:
        raise ExperimentError(
            f"{path}: at extends: expected one of {', '.join(others)}, got {shortened(name)}"
        )
    base = path.with_name(f"{name}{path.suffix}")
    if base in extending:
        circle = " -> ".join(file.stem for file in (*extending, path, base))
        raise ExperimentError(
            f"{path}: at extends: the files extend each other: {circle}; remove one `extends`"
        )
    under, bases = _load_extended(base, (*extending, path))
    if not isinstance(under, dict):
        raise ExperimentError(f"{path}: at extends: expected a mapping in {base}, got {shortened(under)}")
    return _merged(under, content), [base, *bases]


def _merged(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged
