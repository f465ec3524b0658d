"""What the makers of COCO and Cityscapes say is in them."""

from dataclasses import dataclass

_COCO_NAMES = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,,backpack,umbrella,,,"
    "handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,"
    "surfboard,tennis racket,bottle,,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,"
    "broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,,dining table,,,toilet,,tv,"
    "laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,,book,clock,vase,"
    "scissors,teddy bear,hair drier,toothbrush"
)
COCO_CATEGORIES = {number: name for number, name in enumerate(_COCO_NAMES.split(","), 1) if name}
"""The 80 published categories of COCO 2017, id -> name; ids run from 1 to 90 with ten gaps."""

CITYSCAPES_CATEGORIES = dict(
    zip(
        (24, 25, 26, 27, 28, 31, 32, 33),
        ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
        strict=True,
    )
)
"""The eight classes of Cityscapes that are evaluated by instance, id -> name, in mmdet's order."""


@dataclass(frozen=True)
class Published:
    """What the makers of a data set say is in one split of it.

    Attributes:
        images: number of images.
        annotations: number of annotations, crowds included; None where it depends on a conversion.
        categories: id -> name.
    """

    images: int
    annotations: int | None
    categories: dict[int, str]


PUBLISHED = {
    "coco_2017_train": Published(118_287, 860_001, COCO_CATEGORIES),
    "coco_2017_val": Published(5_000, 36_781, COCO_CATEGORIES),
    "coco_2017_test_dev": Published(20_288, 0, COCO_CATEGORIES),
    "cityscapes_train": Published(2_975, None, CITYSCAPES_CATEGORIES),
    "cityscapes_val": Published(500, None, CITYSCAPES_CATEGORIES),
    "cityscapes_test": Published(1_525, 0, CITYSCAPES_CATEGORIES),
}
"""Published figures by the name that `check_coco(expected=...)` takes.

Sources: cocodataset.org and the files themselves; Cordts et al., The Cityscapes Dataset, CVPR 2016.
"""
