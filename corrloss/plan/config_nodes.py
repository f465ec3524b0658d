"""Walking through a config."""

from __future__ import annotations

from collections.abc import Iterator


def nodes(config: object) -> Iterator[dict]:
    """Every dict of a config of dicts, lists and tuples, outer ones first.

    Examples:
        >>> list(nodes([{"a": ({"b": 1},)}]))
        [{'a': ({'b': 1},)}, {'b': 1}]
    """
    if isinstance(config, dict):
        yield config
    values = config.values() if isinstance(config, dict) else config
    if isinstance(config, dict | list | tuple):
        for value in values:
            yield from nodes(value)
