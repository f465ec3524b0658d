"""Checking a file's content against a JSON schema, with errors that name the key and the valid values."""

from __future__ import annotations

from pathlib import Path

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from corrloss.errors import CorrLossError

SHOWN = 60  # characters of a wrong value that a message repeats
KINDS = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}


class ExperimentError(CorrLossError):
    """A file of ``experiments/`` or a setting is wrong; the message names file and key."""


def check(
    content: object, schema: dict, where: str | Path, error: type[CorrLossError] = ExperimentError
) -> None:
    """Check the content of a file against a JSON schema.

    Args:
        content: The content; tuples count as lists.
        schema: JSON schema (draft 2020-12).
        where: The file, for the message.
        error: What to raise.

    Raises:
        CorrLossError: Of the type `error`: lists all differences, each with its key and the valid values.
    """
    found = sorted(_Validator(schema).iter_errors(content), key=lambda e: list(map(str, e.path)))
    if found:
        raise error("\n".join(f"{where}: {_describe(difference)}" for difference in found))


def shortened(value: object) -> str:
    """A value as a message repeats it."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _describe(difference: ValidationError) -> str:
    path = difference.path
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    return f"at {place}: {_message(difference)}" if place else _message(difference)


def _message(difference: ValidationError) -> str:
    schema, expected, value = difference.schema, difference.validator_value, difference.instance
    match difference.validator:
        case "additionalProperties":
            valid = sorted(schema.get("properties", {}))
            unknown = [key for key in value if key not in valid]
            return f"unknown key {', '.join(map(shortened, unknown))}; valid keys: {', '.join(valid)}"
        case "required":
            missing = next(key for key in expected if repr(key) in difference.message)
            meaning = schema.get("properties", {}).get(missing, {}).get("description")
            return f"{missing!r} is missing" + (f": {meaning}" if meaning else "")
        case "anyOf":  # used for "at least one of these keys"
            return f"expected one of the keys {', '.join(key for one in expected for key in one['required'])}"
        case "enum":
            return f"expected one of {', '.join(map(str, expected))}, got {shortened(value)}"
        case "type":
            kinds = [expected] if isinstance(expected, str) else expected
            return f"expected {' or '.join(KINDS[kind] for kind in kinds)}, got {shortened(value)}"
        case "pattern":
            return f"expected {schema['description']}, got {shortened(value)}"
        case None:  # the schema of this key is `false`
            return "not allowed together with the other keys there; remove it"
        case _:
            return difference.message


def _properties(validator: Draft202012Validator, properties: dict, instance: object, _: dict):
    """``properties`` as in the draft, but the path of a key whose schema is ``false`` ends in the key."""
    for key in properties.keys() & (instance if isinstance(instance, dict) else {}):
        for difference in validator.descend(instance[key], properties[key], path=key, schema_path=key):
            if properties[key] is False:
                difference.path.appendleft(key)
            yield difference


# A config file is Python: what YAML writes as a list may be a tuple there.
_Validator = extend(
    Draft202012Validator,
    {"properties": _properties},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "array", lambda _, value: isinstance(value, list | tuple)
    ),
)
