"""From a run to the one mmdet config that it trains and predicts with, and the digest of that config."""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from pathlib import Path

from mmengine.config import Config, ConfigDict

from corrloss.plan.batch_plan import RECIPE, BatchPlan
from corrloss.plan.code import code_of
from corrloss.plan.config_nodes import nodes
from corrloss.plan.detectors import load_settings, read_settings
from corrloss.plan.experiments import Experiments
from corrloss.plan.model_zoo import PublishedModel, model_of
from corrloss.plan.pretrained import FOLDER, starting_weights, use_local_weights
from corrloss.plan.runs import LOSS_OPTIONS, PUBLISHED, Run
from corrloss.plan.schema import ExperimentError, check

# What of an mmdet config decides a run. The rest (visualisers, log intervals, test-time augmentation …)
# is left out, so that it cannot make a finished run stale.
DECISIVE = (
    "default_scope",
    "model",
    "train_dataloader",
    "test_dataloader",
    "train_cfg",
    "optim_wrapper",
    "param_scheduler",
)
# Keys that mmdet does not have; a scale, or a detector's section for it, may set them like mmdet's.
OWN_KEYS = ("channels_last", "epochs")
# What only a training needs.
OF_TRAINING = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
# Numbers of epochs in a scheduler that counts epochs.
EPOCHS = {"begin", "end", "milestones", "step_size", "T_max"}
# Hooks of mmdet's configs whose work a hook of every training does: `corrloss.engine.hooks.DivergenceHook`.
REPLACED_HOOKS = {"CheckInvalidLossHook"}
LOADERS = {"train_dataloader": "train", "test_dataloader": "test"}
# Paths, worker counts and logs: different on every machine, the same result.
LOCAL = {"data_root", "num_workers", "persistent_workers", "backend_args", "pretrained", "tensorboard"}


def resolve(
    experiments: Experiments, run: Run, data_root: Path, cache: Path | None = None, spread: BatchPlan = RECIPE
) -> dict:
    """Build the config of one run.

    The detector's file comes first, then the data set, the scale, the detector's own sections for that
    scale and for the data set, and last the loss.

    Args:
        experiments: Where the files are.
        run: What to resolve.
        data_root: Folder that holds the data sets.
        cache: Folder for loaded config files, see `corrloss.plan.detectors.load_settings`.
        spread: How the batch is spread over processes.

    Returns:
        A plain dict: mmdet's config keys, and ``bench`` with what mmdet does not know (processes,
        threads, GPUs, whether there are masks, the run's name, a digest of the code of its heads and losses).

    Raises:
        ExperimentError: A file is missing or broken, or the spread does not fit; the message names it.
    """
    if run.coefficient == PUBLISHED:
        return _published(experiments, run, data_root, cache, on_cpu=spread.on_cpu)
    config = copy.deepcopy(_without_loss(experiments, run.scale, run.dataset, run.detector, data_root, cache))
    correlation = read_settings(experiments, "detector", run.detector, cache)["correlation"]
    _halve_batch(config, run)
    _lengthen(config, run)
    spread.over(experiments.read("scale", run.scale).get("spread", {})).apply(config, run.name)
    if dict(run.options).get("processes") == "all" and "accumulate" in config["bench"]:
        raise ExperimentError(
            f"{run.name}: `processes: all` computes the coefficient over the images of all processes, which "
            "accumulate divides into steps; set images_per_process=auto without accumulate: one process with "
            "all images computes the same"
        )
    _set_loss(config, run, correlation, experiments.folder / "detectors" / f"{run.detector}.py")
    _set_onset(config, run)
    config["randomness"] = {"seed": run.seed}
    config["bench"]["code"] = code_of(config["model"])
    config["bench"]["run"] = run.name
    return config


@functools.cache
def _without_loss(
    experiments: Experiments, scale: str, dataset: str, detector: str, data_root: Path, cache: Path | None
) -> dict:
    sizes = experiments.read("scale", scale)
    settings = read_settings(experiments, "detector", detector, cache)
    data = read_settings(experiments, "dataset", dataset, cache)

    _refuse_hooks(settings, experiments.folder / "detectors" / f"{detector}.py")
    config = Config(copy.deepcopy({key: settings[key] for key in DECISIVE if key in settings}))
    masks = bool(settings.get("masks", False))
    data_file = experiments.folder / "datasets" / f"{dataset}.py"
    detector_file = experiments.folder / "detectors" / f"{detector}.py"
    _set_dataset(config, data, data_root, masks, data_file, detector_file)
    for place, changes in [
        (f"{data_file}: at overrides", data.get("overrides", {})),
        *_changes(experiments.folder, scale, sizes, detector, settings, dataset),
    ]:
        _merge(config, changes, place)
        _set_epochs(config, config._cfg_dict.pop("epochs", None))  # at once: later changes win
    plain = config.to_dict()
    whole = {**plain, "correlation": settings["correlation"]}
    check(whole, experiments.schema("detector"), f"{detector_file}, with what scale {scale} changes")
    heads = _heads_at(plain, settings["correlation"]["at"], detector_file)
    _set_num_classes(plain["model"], heads, data.get("num_classes") or len(data["classes"]))
    bench = {"masks": masks, "channels_last": plain.pop("channels_last", False)}
    bench["pretrained"] = use_local_weights(plain["model"], data_root)
    bench["starting_weights"] = starting_weights(plain["model"], bench["pretrained"])
    return {**plain, "bench": bench | {key: sizes[key] for key in ("processes", "threads", "gpus")}}


def _refuse_hooks(settings: dict, path: Path) -> None:
    """Raise ExperimentError for hooks that the recipe has and no training here would run."""
    names = [hook["type"] for hook in settings.get("custom_hooks") or ()]
    if unknown := [name for name in names if name not in REPLACED_HOOKS]:
        raise ExperimentError(
            f"{path}: at custom_hooks: expected none, found {', '.join(unknown)}: hooks of a recipe are not "
            "run here; write `custom_hooks = []` to train without them"
        )


def _published(
    experiments: Experiments, run: Run, data_root: Path, cache: Path | None, *, on_cpu: bool
) -> dict:
    """The config of a published detector: mmdet's own, on the test images of the run's data set."""
    sizes, model = experiments.read("scale", run.scale), _published_model(experiments, run)
    settings = load_settings(model.config, cache)
    config = Config(copy.deepcopy({key: settings[key] for key in DECISIVE if key in settings}))
    dataset = _inner_dataset(config.test_dataloader.dataset, False, f"{model.config}: at test_dataloader")
    data = read_settings(experiments, "dataset", run.dataset, cache)
    dataset.update(_place_of_images(data, "test", data_root))
    config.test_dataloader.dataset = dataset
    _merge(config, sizes["overrides"], f"{experiments.folder}/scales/{run.scale}.yaml: at overrides")
    plain = {key: value for key, value in config.to_dict().items() if key not in OF_TRAINING}
    for node in nodes(plain["model"]):
        if (node.get("init_cfg") or {}) and "Pretrained" in str(node["init_cfg"]):
            node["init_cfg"] = None  # the published weights replace them
    masks = bool(read_settings(experiments, "detector", run.detector, cache).get("masks", False))
    bench = {
        "masks": masks,
        "channels_last": False,
        "pretrained": {model.file: model.url} if model.url else {},
        "starting_weights": {},
        "published": {
            "type": "Pretrained",
            "checkpoint": f"{data_root / FOLDER / model.file}" if model.url else model.weights,
            "model": model.name,
            "ap": model.ap,
        },
        "processes": 1,
        "threads": sizes["threads"],
        "gpus": 0 if on_cpu else sizes["gpus"],
        "code": code_of(plain["model"]),
        "run": run.name,
    }
    bench["starting_weights"] = starting_weights(bench["published"], bench["pretrained"])
    return {**plain, "randomness": {"seed": run.seed}, "bench": bench}


def _published_model(experiments: Experiments, run: Run) -> PublishedModel:
    """The published model of a run, which the scale's file names.

    Raises:
        ExperimentError: The file names none for the run's detector.
    """
    known = experiments.read("scale", run.scale).get("published", {})
    if run.detector not in known:
        raise ExperimentError(
            f"{run.name}: {experiments.folder}/scales/{run.scale}.yaml: at published: expected a model for "
            f"detector {run.detector}, found those of {', '.join(known) or 'none'}"
        )
    return model_of(known[run.detector], experiments.root)


def config_hash(config: dict) -> str:
    """Twelve hexadecimal digits that change with whatever in the config decides the run's result.

    They do not depend on the folder of the data, nor on the number of loading workers.

    Examples:
        >>> config_hash({"model": {"depth": 18}, "data_root": "a"})
        'aa054aeaa394'
        >>> config_hash({"data_root": "b", "model": {"depth": 18}})
        'aa054aeaa394'
    """
    plain = json.loads(json.dumps(config))
    for node in nodes(plain):
        for key in LOCAL & node.keys():
            del node[key]
        if isinstance(node.get("checkpoint"), str):
            node["checkpoint"] = Path(node["checkpoint"]).name  # of published weights: it has their checksum
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def _changes(
    folder: Path, scale: str, sizes: dict, detector: str, settings: dict, dataset: str
) -> list[tuple[str, dict]]:
    """What a scale changes of a detector's config, in order, each with its place for messages."""
    scale_file, path = folder / "scales" / f"{scale}.yaml", folder / "detectors" / f"{detector}.py"
    section = sizes["section"]
    if section is not None and not isinstance(settings.get(section), dict):
        raise ExperimentError(
            f"{path}: has no dict `{section}`, the section that {scale_file} applies; "
            f"write `{section} = dict()` if nothing is to change"
        )
    return [
        (f"{scale_file}: at overrides", sizes["overrides"]),
        (f"{path}: at {section}", settings[section] if section else {}),
        (f"{path}: at {dataset}", settings.get(dataset, {})),
        (f"{scale_file}: at after", sizes.get("after", {})),
    ]


def _merge(config: Config, changes: dict, place: str) -> None:
    valid = (*DECISIVE, *OWN_KEYS)
    unknown = [key for key in changes if key not in valid]
    if unknown:
        raise ExperimentError(f"{place}: unknown key {unknown[0]!r}; valid keys: {', '.join(valid)}")
    try:
        config.merge_from_dict(_past_wrappers(config, copy.deepcopy(changes)))
    except (TypeError, KeyError, AttributeError) as error:  # a mapping over what is none, and the like
        raise ExperimentError(f"{place}: does not fit the detector's config: {error}") from error


def _past_wrappers(config: Config, changes: dict) -> dict:
    """Changes of a data set, moved into the data set that a wrapper such as RepeatDataset holds.

    A key that the wrapper itself has, such as ``times``, stays a change of the wrapper.
    """
    for loader in LOADERS:
        wrapper, level = config.get(loader, {}).get("dataset", {}), changes.get(loader, {}).get("dataset")
        while (
            isinstance(level, dict) and isinstance(wrapper.get("dataset"), dict) and "_delete_" not in level
        ):
            inner = {key: level.pop(key) for key in list(level) if key not in wrapper}
            level["dataset"] = {**level.get("dataset", {}), **inner}
            wrapper, level = wrapper["dataset"], level["dataset"]
    return changes


def _inner_dataset(dataset: dict, has_pipeline: bool, place: str) -> dict:
    """The data set that is read, inside wrappers such as RepeatDataset.

    Raises:
        ExperimentError: There are several, or a wrapper mixes images that their own pipeline has packed.
    """
    while "dataset" in dataset or "datasets" in dataset:
        kind = dataset.get("type")
        if "datasets" in dataset or (has_pipeline and kind == "MultiImageMixDataset"):
            raise ExperimentError(
                f"{place}: expected one data set whose images are loaded as its own file says, got {kind}; "
                f"write `{place.rpartition('at ')[2]}` without it in the detector's file"
            )
        dataset = dataset["dataset"]
    return dataset


def _set_dataset(
    config: Config, data: dict, data_root: Path, masks: bool, data_file: Path, detector_file: Path
) -> None:
    if "train" not in data:
        raise ExperimentError(f"{data_file}: has no `train`: no run can be trained on it")
    for loader, part in LOADERS.items():
        place = f"{detector_file}: at {loader}.dataset"
        settings = _inner_dataset(config[loader].dataset, "pipeline" in data[part], place)
        if part == "test":
            config[loader].dataset = settings  # each test image is predicted once
        settings.update(_place_of_images(data, part, data_root))
        if data.get("classes"):
            settings.metainfo = ConfigDict(classes=data["classes"])
        if "pipeline" in data[part]:  # else the detector's own
            settings.pipeline = [_with_masks(step, masks) for step in data[part]["pipeline"]]


def _place_of_images(data: dict, part: str, data_root: Path) -> ConfigDict:
    return ConfigDict(
        data_root=f"{data_root / data['folder']}/",
        ann_file=data[part]["ann_file"],
        data_prefix=dict(img=data[part]["img"]),
    )


def with_test_images(config: dict, data: dict, data_root: Path) -> dict:
    """The config of a run that predicts the test images of another data set, of the same classes.

    Args:
        config: A resolved config.
        data: File of the other data set in ``experiments/datasets``.
        data_root: Folder that holds the data sets.
    """
    changed = copy.deepcopy(config)
    dataset = _inner_dataset(changed["test_dataloader"]["dataset"], False, "test_dataloader.dataset")
    dataset.update(_place_of_images(data, "test", data_root).to_dict())
    return changed


def _with_masks(step: dict, masks: bool) -> dict:
    return {**step, "with_mask": masks} if step["type"] == "LoadAnnotations" else dict(step)


def _set_epochs(config: Config, epochs: int | None) -> None:
    """Stretch a section's schedule: its length, and the end of the schedulers that count epochs."""
    if epochs is not None:
        config.train_cfg.max_epochs = epochs
        for scheduler in config.get("param_scheduler", ()):
            if scheduler.get("by_epoch", True):
                scheduler["end"] = epochs


def _set_num_classes(model: dict, heads: list[dict], num_classes: int) -> None:
    for head in heads:
        head["num_classes"] = num_classes  # also where the file leaves it to the class: its default is COCO's
    for node in nodes(model):
        if "num_classes" in node:
            node["num_classes"] = num_classes


def _halve_batch(config: dict, run: Run) -> None:
    """Apply ``batch: half``: half the images per process, the learning rate unchanged."""
    if ("batch", "half") in run.options:
        loader = config["train_dataloader"]
        if loader["batch_size"] % 2:
            raise ExperimentError(
                f"{run.name}: `batch: half` needs an even number of images per process, got "
                f"{loader['batch_size']}; change train_dataloader.batch_size or remove the option"
            )
        loader["batch_size"] //= 2


def _lengthen(config: dict, run: Run) -> None:
    """Apply ``length``: multiply the epochs, and with them the schedulers that count epochs."""
    factor = dict(run.options).get("length", 1)
    config["train_cfg"]["max_epochs"] *= factor
    for scheduler in config["param_scheduler"]:
        if scheduler.get("by_epoch", True):
            for key in EPOCHS & scheduler.keys():
                value = scheduler[key]
                scheduler[key] = [factor * each for each in value] if key == "milestones" else factor * value


def _set_onset(config: dict, run: Run) -> None:
    """Apply ``onset``: the updates of the learning rate's warm-up, for `corrloss.engine.hooks.OnsetHook`."""
    if onset := dict(run.options).get("onset"):
        warm_ups = [each["end"] for each in config["param_scheduler"] if not each.get("by_epoch", True)]
        if not warm_ups:
            raise ExperimentError(
                f"{run.name}: `onset` needs a learning rate with a warm-up, expected a param_scheduler with "
                "by_epoch=False, found none; remove the option"
            )
        config["bench"]["onset"] = {"kind": onset, "updates": max(warm_ups)}


def _set_loss(config: dict, run: Run, correlation: dict, path: Path) -> None:
    for head in _heads_at(config, correlation["at"], path):
        if "head" in correlation:
            head["type"] = correlation["head"]
        elif run.has_loss:  # no adapter: mmdet's own head, watched
            head["type"], head["head"] = "WithCorrelationLoss", head["type"]
        if "normaliser" in dict(run.options):
            if "ATSSHead" not in head["type"]:
                raise ExperimentError(
                    f"{run.name}: `normaliser` is an option of ATSS's heads, {path} has {head['type']}; "
                    "remove the option"
                )
            head["normaliser"] = dict(run.options)["normaliser"]
        if run.has_loss:
            head["loss_corr"] = {
                "type": "CorrelationLoss",
                "coefficient": run.coefficient,
                "weight": run.weight,
                "scope": correlation["scope"],
                "reduction": correlation.get("reduction", "mean"),
                **{name: value for name, value in run.options if name in LOSS_OPTIONS},
            }


def _heads_at(config: dict, place: str, path: Path) -> list[dict]:
    node = config
    for key in place.split("."):
        if not isinstance(node, dict) or key not in node:
            there = ", ".join(map(str, node)) if isinstance(node, dict) else "no keys"
            raise ExperimentError(
                f"{path}: at correlation.at: {place!r}, but the config has no {key!r} there; it has {there}"
            )
        node = node[key]
    heads = list(node) if isinstance(node, list | tuple) else [node]
    if not heads or not all(isinstance(head, dict) for head in heads):
        raise ExperimentError(f"{path}: at correlation.at: {place!r} is not a head or a list of heads")
    return heads
