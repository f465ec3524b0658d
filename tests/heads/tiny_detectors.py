"""Detectors of scale mini, mmdet's own beside them, and batches of made-up images for both."""

import copy
import functools
from contextlib import contextmanager
from pathlib import Path

import mmdet.models  # noqa: F401 -- registers mmdet's own detectors
import numpy as np
import own_heads  # noqa: F401 -- registers the detectors that mmdet does not have
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run

torch.set_num_threads(1)  # these models are too small for a second thread to be anything but slower

SIZE = 128
ROOT = Path(__file__).parents[2]
OWN_HEADS = {
    "retinanet": "RetinaHead",
    "foveabox": "FoveaHead",
    "atss": "ATSSHead",
    "atss_no_aux": "ATSSHead",
    "paa": "PAAHead",
    "paa_no_aux": "PAAHead",
    "sparse_rcnn": "DIIHead",
    "yolact": "YOLACTHead",
    "gfl": "GFLHead",
    "ap_loss_retinanet": "OwnAPLossRetinaHead",
    "alrp_retinanet": "OwnALRPRetinaHead",
    "qfl_atss": "OwnQFLATSSHead",
    "qfl_paa": "OwnQFLPAAHead",
    "rs_atss": "OwnRankSortATSSHead",
    "rs_paa": "OwnRankSortPAAHead",
    "vfnet": "VFNetHead",
    "detr": "DETRHead",
    "deformable_detr": "DeformableDETRHead",
    "faster_rcnn": "Shared2FCBBoxHead",
    "cascade_rcnn": "Shared2FCBBoxHead",
    "fcos": "FCOSHead",
    "tood": "TOODHead",
}
WITHOUT_BRANCH = ("atss_no_aux", "paa_no_aux", "qfl_atss", "qfl_paa", "rs_atss", "rs_paa")
DETECTORS = list(OWN_HEADS)
# Of each image its objects: class, x1, y1, x2, y2. Some overlap; the last image has one object, cut off.
OBJECTS = (
    ((0, 10, 12, 44, 50), (1, 30, 33, 92, 86), (2, 70, 80, 85, 94)),
    ((3, 5, 60, 61, 99), (0, 50.5, 8.2, 77.1, 30.9)),
    ((1, 88.3, 20, 128, 128),),
)


@functools.cache
def resolved(detector, coefficient="none", weight=0.0, **options):
    """The run's config as the suite makes it; callers must not change it."""
    run = Run("mini", "mini_coco", detector, coefficient, weight, 0, tuple(sorted(options.items())))
    return Config(resolve(Experiments(ROOT), run, Path("data")))


def model_config(detector, coefficient="none", weight=0.0, **options):
    return copy.deepcopy(resolved(detector, coefficient, weight, **options).model)


def own_config(detector):
    """The same detector with mmdet's own head, without its auxiliary loss where the adapter has none."""
    config = model_config(detector)
    for head in head_configs(config):
        head.type = OWN_HEADS[detector]
        if detector in WITHOUT_BRANCH:
            head.loss_centerness.loss_weight = 0.0
    return config


def head_configs(config):
    head = config.roi_head.bbox_head if "roi_head" in config else config.bbox_head
    return head if isinstance(head, list) else [head]


def build(config):
    """A model of `config` with the weights of seed 0."""
    MMLogger.get_current_instance().setLevel("WARNING")  # else a line for each initialised tensor
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
        model.init_weights()
    return model


def dense_head(detector, changes=None, coefficient="pearson", weight=0.3, **options):
    """The head alone of a one-stage detector, ready to train; `changes` are made to its config."""
    config = model_config(detector, coefficient, weight, **options)
    config.bbox_head.update(train_cfg=config.get("train_cfg"), test_cfg=config.get("test_cfg"))
    config.bbox_head.update(changes or {})
    with DefaultScope.overwrite_default_scope("mmdet"):
        return MODELS.build(config.bbox_head)


def heads_with_loss(model):
    """The heads of a detector that take the loss: one, or one a stage."""
    heads = model.roi_head.bbox_head if hasattr(model, "roi_head") else model.bbox_head
    return list(heads) if isinstance(heads, torch.nn.ModuleList) else [heads]


def ground_truth(objects):
    """mmdet's ground truth of one image; an object's mask is its box."""
    boxes = torch.tensor([box for _, *box in objects], dtype=torch.float32).reshape(-1, 4)
    masks = np.zeros((len(objects), SIZE, SIZE), dtype=np.uint8)
    for mask, box in zip(masks, boxes.round().long().tolist(), strict=True):
        mask[box[1] : box[3], box[0] : box[2]] = 1
    labels = torch.tensor([label for label, *_ in objects], dtype=torch.long)
    return InstanceData(bboxes=boxes, labels=labels, masks=BitmapMasks(masks, SIZE, SIZE))


def batch(images=OBJECTS):
    """A batch as a data loader gives it: noise for pixels, and the objects of each image."""
    MessageHub.get_current_instance().update_info("epoch", 0)  # for TOOD; a training leaves another hub
    generator = torch.Generator().manual_seed(7)
    shape = dict(img_shape=(SIZE, SIZE), ori_shape=(SIZE, SIZE), scale_factor=(1.0, 1.0))
    samples = [
        DetDataSample(gt_instances=ground_truth(objects), metainfo=dict(img_id=index, **shape))
        for index, objects in enumerate(images)
    ]
    inputs = torch.randint(0, 256, (len(images), 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    return {"inputs": list(inputs), "data_samples": samples}


def losses_of(model, images=OBJECTS):
    return model(**model.data_preprocessor(batch(images), training=True), mode="loss")


def flat(losses):
    """Losses by name, a list's entries each under a name of its own."""
    named = {}
    for name, value in losses.items():
        values = value if isinstance(value, list | tuple) else [value]
        named |= {f"{name}[{index}]": entry for index, entry in enumerate(values)}
    return named


def correlation_losses(losses):
    return [value for name, value in losses.items() if name.endswith("loss_corr")]


def hooks(head):
    """The forward hooks of a head and of its parts."""
    return [hook for module in head.modules() for hook in module._forward_hooks.values()]


@contextmanager
def watched(loss_corr):
    """Record the arguments of each call of a CorrelationLoss."""
    calls = []

    def record(_module, args, kwargs):
        calls.append({"scores": args[0], "ious": args[1], **kwargs})

    handle = loss_corr.register_forward_pre_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()
