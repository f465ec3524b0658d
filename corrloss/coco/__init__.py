"""COCO annotations and detections: the schema, reading, the check of a data set, masks and submission.

Imports numpy, msgspec and the COCO tools; never torch or mmdet.
"""

from corrloss.coco.annotations import GroundTruth, load_ground_truth, positions
from corrloss.coco.detections import Detections, load_detections
from corrloss.coco.entries import IOU_TYPES, DataSetError, DetectionsError, IouType

__all__ = [
    "IOU_TYPES",
    "DataSetError",
    "Detections",
    "DetectionsError",
    "GroundTruth",
    "IouType",
    "load_detections",
    "load_ground_truth",
    "positions",
]
