"""Reading the YAML files of ``experiments/`` with errors that name file, place and valid choices."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from corrloss.errors import CorrLossError
from corrloss.plan.strict_yaml import StrictLoader

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
    """A file of ``experiments/`` does not say what it must; the message names file and place."""


def read_yaml(path: Path, schema: dict) -> dict:
    """Read a YAML file and hold it against a JSON schema.

    A file that ``extends`` another one beside it says only what differs: mappings are merged, all else
    is replaced.

    Args:
        path: The file.
        schema: JSON schema (draft 2020-12).

    Returns:
        The file's content.

    Raises:
        ExperimentError: The file or one that it extends is missing or no YAML (a key that stands twice
            counts as such, and so does a number that is not finite), or it breaks the schema. All breaches
            of the schema are listed.
    """
    content, bases = _load_extended(path, ())
    extends = f" (extends {', '.join(base.stem for base in bases)})" if bases else ""
    check(content, schema, f"{path}{extends}")
    return content


def check(content: object, schema: dict, where: str | Path) -> None:
    """Hold what a file says against a JSON schema.

    Args:
        content: What the file says; tuples pass for lists.
        schema: JSON schema (draft 2020-12).
        where: The file, for the message.

    Raises:
        ExperimentError: Lists all breaches, each with its place and the valid choices.
    """
    breaches = sorted(_Validator(schema).iter_errors(content), key=lambda e: list(map(str, e.path)))
    if breaches:
        raise ExperimentError("\n".join(f"{where}: {_describe(breach)}" for breach in breaches))


def names(folder: Path, suffix: str) -> list[str]:
    """Names, without suffix, of the files of one kind in a folder, sorted; hidden ones are an editor's.

    Raises:
        ExperimentError: A name is more than letters, digits and underscores: rules, runs and folders are
            named by it.
    """
    found = sorted(path.stem for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    for name in found:
        if not re.fullmatch(r"\w+", name):
            path = folder / (name + suffix)
            raise ExperimentError(f"{path}: a name of letters, digits and underscores is needed; rename it")
    return found


def load_yaml(path: Path) -> object:
    """Content of one YAML file.

    Raises:
        ExperimentError: It is missing or no YAML, says a key twice, or a number is not finite.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), StrictLoader)
    except FileNotFoundError:
        raise ExperimentError(
            f"{path}: no such file; there are {', '.join(names(path.parent, '.yaml'))}"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ExperimentError(f"{path}: not readable as YAML: {error}") from error


def _load_extended(path: Path, extending: tuple[Path, ...]) -> tuple[object, list[Path]]:
    """Content of a file merged over what it extends, and the files that it extends."""
    content = load_yaml(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content, []
    name = content.pop("extends")
    others = [other for other in names(path.parent, path.suffix) if other != path.stem]
    if name not in others:
        raise ExperimentError(f"{path}: at extends: {_short(name)} is not one of {', '.join(others)}")
    base = path.with_name(f"{name}{path.suffix}")
    if base in extending:
        circle = " -> ".join(file.stem for file in (*extending, path, base))
        raise ExperimentError(f"{path}: at extends: the files extend each other: {circle}")
    under, bases = _load_extended(base, (*extending, path))
    if not isinstance(under, dict):
        raise ExperimentError(f"{path}: at extends: {base} holds no mapping")
    return _merged(under, content), [base, *bases]


def _merged(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if nested else value
    return merged


def _describe(breach: ValidationError) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in breach.path).lstrip(".")
    return f"at {place or 'the top'}: {_message(breach)}"


def _message(breach: ValidationError) -> str:
    schema, value = breach.schema, breach.instance
    match breach.validator:
        case "additionalProperties":
            return f"{breach.message}; valid keys: {', '.join(sorted(schema.get('properties', {})))}"
        case "required":
            missing = next(key for key in breach.validator_value if repr(key) in breach.message)
            meaning = schema.get("properties", {}).get(missing, {}).get("description")
            return f"{missing!r} is missing" + (f": {meaning}" if meaning else "")
        case "anyOf":  # used for "at least one of these keys"
            return (
                f"needs one of {', '.join(key for one in breach.validator_value for key in one['required'])}"
            )
        case "enum":
            return f"{_short(value)} is not one of {', '.join(map(str, breach.validator_value))}"
        case "type":
            kinds = (
                [breach.validator_value]
                if isinstance(breach.validator_value, str)
                else breach.validator_value
            )
            found = "nothing" if value is None else _short(value)
            return f"{found} stands where {' or '.join(KINDS[kind] for kind in kinds)} is needed"
        case None:  # the schema of this key is `false`
            return "has no meaning together with what else stands there; leave it out"
        case _:
            return breach.message


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _properties(validator: Draft202012Validator, properties: dict, instance: object, _: dict):
    """``properties`` as in the draft, but the place of a key whose schema is ``false`` holds the key."""
    for key in properties.keys() & (instance if isinstance(instance, dict) else {}):
        for breach in validator.descend(instance[key], properties[key], path=key, schema_path=key):
            if properties[key] is False:
                breach.path.appendleft(key)
            yield breach


# A config file is Python: what YAML writes as a list may be a tuple there.
_Validator = extend(
    Draft202012Validator,
    {"properties": _properties},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "array", lambda _, value: isinstance(value, list | tuple)
    ),
)
