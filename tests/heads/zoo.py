"""One training step with Correlation Loss of a detector of each family of mmdet's configs."""

import copy
import re
from pathlib import Path
from typing import NamedTuple

import mmdet
import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import PixelData
from tiny_detectors import OBJECTS, SIZE, batch, build, correlation_losses, head_configs

from corrloss.heads.head_positives import PositivesError

CONFIGS = Path(mmdet.__file__).parent / ".mim" / "configs"
LOSS = dict(type="CorrelationLoss", coefficient="pearson", weight=0.3)
WORKS, REFUSED, UNTESTED = "works", "refused", "untested"


class Outcome(NamedTuple):
    """What one step gave: `WORKS`, `REFUSED`, `UNTESTED`, or a fault; and why."""

    verdict: str
    reason: str = ""


FAMILIES = sorted(path.name for path in CONFIGS.iterdir() if path.is_dir() and path.name != "_base_")


def smallest_config(family):
    """The config of a folder with the smallest detector that has a box head; None where none has one."""
    for path in sorted((CONFIGS / family).glob("*.py"), key=_size):
        model = _model(path)
        if "bbox_head" in (model.get("roi_head") or model):
            return path
    return None


def _model(path):
    """The detector of a config, also within a tracker or another model; empty if mmdet cannot load it."""
    try:
        config = Config.fromfile(path, import_custom_modules=False)
    except FileNotFoundError:  # `sort` has configs over one that mmdet does not have
        return {}
    model = config.get("model", {})
    return model.get("detector", model)


def _size(path):
    """Sort key; configs whose operators have no CPU version, or that need stored proposals, come last."""
    name = path.stem
    unusable = "pool_" in name or "_fast-rcnn" in name
    return unusable, "r50" not in name, bool(re.search("x101|r101|large|-l_|_l_", name)), len(name), name


def one_step(path):
    """Train one step of the config with the loss, on larger images where mmdet itself needs them."""
    for size in (SIZE, 2 * SIZE, 4 * SIZE):
        outcome = _attempt(path, size)
        if outcome.verdict != UNTESTED:
            break
    return outcome


def _attempt(path, size):
    """One step; where it fails, a step without the loss decides whose fault that is."""
    model = _model(path)
    model.setdefault("data_preprocessor", dict(type="DetDataPreprocessor"))
    without = shrink(copy.deepcopy(model))
    with_loss = shrink(copy.deepcopy(model))
    for head in head_configs(with_loss):
        head.update(type="WithCorrelationLoss", head=head.type, loss_corr=copy.deepcopy(LOSS))
    try:
        return _step(with_loss, size)
    except PositivesError as refusal:
        return Outcome(REFUSED, str(refusal))
    except Exception as error:
        try:
            _step(without, size)
        except Exception as own:
            return Outcome(UNTESTED, f"mmdet alone: {type(own).__name__}: {own}".splitlines()[0])
        return Outcome("traceback", f"{type(error).__name__}: {error}")


def shrink(config):
    """Remove what needs a download or large batches: pretrained weights, batch augmentation."""
    if isinstance(config, ConfigDict):
        for key in ("init_cfg", "pretrained", "batch_augments"):
            if key in config:
                config[key] = None
        for value in config.values():
            shrink(value)
    elif isinstance(config, list | tuple):
        for value in config:
            shrink(value)
    return config


def _step(config, size):
    num_classes = head_configs(config)[0].get("num_classes", 80)
    model = build(config).train()
    data = images(size, num_classes)
    losses = model(**model.data_preprocessor(data, training=True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    if not correlation_losses(losses):
        return Outcome("silent", "no loss_corr among " + ", ".join(losses))
    return Outcome(WORKS)


def images(size, num_classes):
    """Two images of noise whose objects have masks, classes of the detector, and a semantic map."""
    data = batch(OBJECTS[:2])
    for sample in data["data_samples"]:
        truth, scale = sample.gt_instances, size / SIZE
        truth.bboxes, truth.labels = truth.bboxes * scale, truth.labels % num_classes
        truth.masks = truth.masks.resize((size, size))
        sample.gt_sem_seg = PixelData(sem_seg=torch.zeros(1, size, size, dtype=torch.long))
        sample.set_metainfo(dict(img_shape=(size, size), ori_shape=(size, size)))
    data["inputs"] = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in data["inputs"]]
    return data
