"""The identity of a result: a digest of everything that decides it, written into the result itself.

The workflow compares the identity in a file with the planned one, the commands compare it before they read
the files of an earlier stage. Times and paths of files play no part.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from corrloss.files import sha256, write_json
from corrloss.plan.code import PACKAGE, digest_of
from corrloss.plan.configs import config_hash
from corrloss.plan.data_files import PARTS, annotation_file, image_folder, is_made, is_sample, sampled_part

UNKNOWN = "not there yet"
#: Modules that decide what a stage leaves, with all that they import of this package.
CODE = {
    "prediction": ("engine/predict.py",),
    "evaluation": ("analysis/record.py",),
    "check": ("coco/check.py",),
    "submission": ("engine/evaluation_server.py", "coco/submission.py"),
    "table": ("tables/build.py", "tables/intervals.py", "tables/pairs.py", "tables/render.py"),
    "report": ("report/page.py",),
    "overhead": ("engine/step_timing.py", "tables/overhead.py"),
}


def digest(*parts: object) -> str:
    """Twelve hexadecimal digits of values that JSON can hold.

    >>> digest("a", {"b": 1}), digest("a", {"b": 2})
    ('8b5348e0de4f', 'c91ce4e78272')
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def code_of_stage(stage: str) -> str:
    """Digest of the code of a stage; ``stage`` is a key of `CODE`."""
    return digest_of(tuple(PACKAGE / name for name in CODE[stage]))


def write_identity(path: Path, identity: str, made: Iterable[Path] = ()) -> None:
    """Write a report with an identity, and the SHA-256 of the files beside it that were made under it."""
    write_json(path, {"identity": identity, "made": {file.name: sha256(file) for file in made}})


def read_identity(path: Path) -> str | None:
    """The identity in a report; None if the report is missing, damaged, or has none.

    None, too, if a file of `write_identity` is missing or has another content: it was edited or exchanged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        made = content.get("made", {})
        if any(sha256(path.with_name(name)) != known for name, known in made.items()):
            return None
        return content.get("identity")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return None


def generator_identity(data: dict) -> str:
    """Digest of what makes or converts a data set: its arguments and its code; empty for other data."""
    names = [data["make"]["type"]] if is_made(data) else []
    names += ["cityscapes"] if "convert" in data else []
    code = digest_of(tuple(PACKAGE / "data" / f"{name}.py" for name in names)) if names else ""
    return digest(data.get("make"), data.get("convert"), code) if names else ""


def sample_identity(data: dict) -> str:
    """Digest of what chooses and fetches a sample: its arguments and its code; empty for other data.

    It is not part of a run's identity, as that of a generator is: what was chosen is in the annotation file.
    """
    return digest(data["sample"], digest_of((PACKAGE / "data" / "sample.py",))) if is_sample(data) else ""


def fetched_sample(data: dict, data_root: Path) -> str:
    """`sample_identity`; empty, which no mark has, where the folder of the sample's images is missing."""
    return sample_identity(data) if image_folder(data, sampled_part(data), data_root).is_dir() else ""


def data_identities(data: dict, data_root: Path, checked: Path) -> dict[str, str]:
    """Identity of the training and of the test images: their generator, and their annotation file's SHA-256.

    Args:
        data: The data set's file in ``experiments/datasets``.
        data_root: Folder that holds the data sets.
        checked: Report of the check of the data set; it has the SHA-256 of annotations that are missing now.
    """
    try:
        known = json.loads(checked.read_text(encoding="utf-8"))["annotations"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = {}
    files = {part: annotation_file(data, part, data_root) for part in PARTS if part in data}
    sums = {
        part: sha256(path) if path.is_file() else known.get(part, UNKNOWN) for part, path in files.items()
    }
    generator = generator_identity(data)
    return {part: digest(generator, value) for part, value in sums.items()}


def run_identity(config: dict, data: Mapping[str, str], ap: str) -> dict[str, str]:
    """Identity of each stage of a run; each covers that of the stage before.

    Args:
        config: Resolved config of the run.
        data: Of the run's data set, from `data_identities`.
        ap: Tool that computes AP.

    Returns:
        ``training``: of the config without the test data, the code of heads and loss (a part of the config),
        starting weights, and any training images. ``prediction``: of the test data and the code of the
        prediction. ``evaluation``: of the code of the analysis, and the tool.
    """
    recipe = {key: value for key, value in config.items() if key != "test_dataloader"}
    training = digest(config_hash(recipe), data.get("train"))
    test = config_hash({"test_dataloader": config["test_dataloader"]})
    prediction = digest(training, test, data["test"], code_of_stage("prediction"))
    evaluation = evaluation_identity(prediction, ap)
    return {"training": training, "prediction": prediction, "evaluation": evaluation}


def evaluation_identity(prediction: str, ap: str) -> str:
    """Identity of an evaluation, by that of the prediction and the tool that computes AP."""
    return digest(prediction, code_of_stage("evaluation"), ap)


def table_identity(plan: object, runs: Iterable[str | None], reference: Path, stage: str = "table") -> str:
    """Identity of a table.

    Args:
        plan: Content of the table's file; a dataclass.
        runs: Identity of each run of the table, in order; None where a run is missing.
        reference: File of published figures.
        stage: A key of `CODE`.
    """
    return digest(repr(plan), list(runs), sha256(reference), code_of_stage(stage))


def report_identity(tables: Iterable[str | None]) -> str:
    """Identity of the report, by those of the main tables."""
    return digest(list(tables), code_of_stage("report"))
