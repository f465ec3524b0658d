"""YAML without two of its traps: of a key that stands twice the last one wins, and ``.nan`` is a number."""

from __future__ import annotations

import math
from collections.abc import Hashable

import yaml
from yaml.constructor import ConstructorError


class StrictLoader(yaml.CSafeLoader):
    """PyYAML's safe loader, but a key that stands twice and a number that is not finite are errors."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """A mapping whose keys differ from each other."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                break  # PyYAML refuses it and says where
            if key in seen:
                raise ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        """A float, but neither infinity nor NaN."""
        value = self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise ConstructorError(None, None, f"{node.value} is not a finite number", node.start_mark)
        return value


StrictLoader.add_constructor("tag:yaml.org,2002:float", StrictLoader.construct_finite)
