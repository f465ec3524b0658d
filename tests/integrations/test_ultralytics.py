"""YOLO detectors with random weights: the task-aligned assigner's positives, and a training of two epochs."""

import csv
import math

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("ultralytics")
import cloudpickle
from checks import (
    Recorder,
    assert_ddp_averages,
    assert_same_positives,
    assert_same_weights,
    trained,
    with_gradient,
)
from ultralytics import RTDETR, YOLO
from ultralytics.cfg import get_cfg
from ultralytics.utils.loss import v8DetectionLoss
from ultralytics.utils.metrics import bbox_iou

from corrloss.integrations.host import IntegrationError
from corrloss.integrations.ultralytics import AddLoss, add_loss, with_correlation_loss

SIZE, CLASSES = 64, 4
every_model = pytest.mark.parametrize("name", ["yolov8n", "yolov10n", "yolo11n", "yolo26n"])
CORNERS = torch.tensor([[[2.0, 4, 40, 44], [30, 20, 62, 60]], [[10, 10, 54, 58], [0, 0, 24, 30]]])


def build(name="yolov8n", **settings):
    """The network and criterion that a training has."""
    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml").model.train()
    model.args = get_cfg()
    if settings:
        add_loss(model, settings)
    return model


def batch(rank=0):
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(rank))
    corners = CORNERS.reshape(-1, 4) / SIZE
    boxes = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
    return {"img": images, "batch_idx": torch.tensor([0.0, 0, 1, 1]), "bboxes": boxes,
            "cls": torch.tensor([[rank], [3.0], [2], [3]])}  # fmt: skip


def total(model, rank=0):
    return model(batch(rank))[0].sum()


def branches(model):
    criterion = model.criterion
    return [criterion.one2many, criterion.one2one] if hasattr(criterion, "one2many") else [criterion]


def slow_positives(predictions, strides, reg_max=16):
    """Feng et al. 2021 one point at a time: the 10 best by score^0.5 CIoU^6 of the points inside each box."""
    for image in range(2):
        rows, column = [], 0
        for feature, stride in zip(predictions["feats"], strides, strict=True):
            for y in range(feature.shape[2]):
                for x in range(feature.shape[3]):
                    bins = predictions["boxes"][image, :, column].double().reshape(4, reg_max).softmax(1)
                    left, top, right, low = (bins @ torch.arange(reg_max).double()).tolist()
                    point = (x + 0.5, y + 0.5)
                    box = [point[0] - left, point[1] - top, point[0] + right, point[1] + low]
                    scores = predictions["scores"][image, :, column].double().sigmoid().tolist()
                    rows.append(([side * stride for side in point], [side * stride for side in box], scores))
                    column += 1
        labels = batch()["cls"].long().flatten().tolist()[2 * image : 2 * image + 2]
        chosen = {}
        for label, true in zip(labels, CORNERS[image].double(), strict=True):
            candidates = []
            for index, ((x, y), box, scores) in enumerate(rows):
                if true[0] < x < true[2] and true[1] < y < true[3]:
                    ciou = (
                        bbox_iou(true[None], torch.tensor([box]), xywh=False, CIoU=True).clamp(min=0).item()
                    )
                    candidates.append((scores[label] ** 0.5 * ciou**6, ciou, index))
            for metric, ciou, index in sorted(candidates, reverse=True)[:10]:
                if metric > 0:
                    chosen.setdefault(index, []).append((ciou, label, true))
        for index, options in chosen.items():
            _, label, true = max(options, key=lambda option: option[0])
            box, scores = rows[index][1:]
            yield scores[label], bbox_iou(true[None], torch.tensor([box]), xywh=False).item()


@pytest.mark.parametrize("name", ["yolov8n", "yolo11n"])
def test_positives_are_those_of_a_slow_computation(name):
    model = build(name, coefficient="pearson", weight=1.0)
    (criterion,) = branches(model)
    found = Recorder(criterion.loss_corr)
    predictions = model(batch()["img"])
    model.loss(batch(), predictions)
    expected = list(
        slow_positives({key: _detached(value) for key, value in predictions.items()}, model.stride.tolist())
    )
    assert_same_positives(found.calls[0], expected)


def _detached(value):
    return [part.detach() for part in value] if isinstance(value, list) else value.detach()


@every_model
def test_the_loss_is_the_last_item_and_scaled_as_the_others(name):
    model, plain = build(name, weight=1.0), build(name)
    losses, items = model(batch())
    expected, names = plain(batch())
    assert list(items) == [*names, "corr_loss"] and 0 < items["corr_loss"] < 2
    torch.testing.assert_close(losses[:-1], expected)
    if len(branches(model)) == 1:
        torch.testing.assert_close(losses[-1].detach(), 2 * items["corr_loss"])  # times the batch size


@every_model
def test_weight_zero_trains_bit_for_bit_as_without(name):
    assert_same_weights(trained(build(name), total), trained(build(name, weight=0), total))


@every_model
def test_the_gradient_reaches_the_classifier_alone(name):
    model = build(name, coefficient="pearson", weight=1.0)
    model(batch())[0][-1].backward()
    last = f"model.{len(model.model) - 1}."
    reached = {key for key in with_gradient(model) if key.startswith(last)}
    assert any("cv3" in key for key in reached) and not any("cv2" in key for key in reached)


@every_model
def test_training_under_bfloat16_autocast(name):
    model = build(name, weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, items = model(batch())
    assert losses.dtype == torch.float32 and 0 < items["corr_loss"] < 2
    losses.sum().backward()


@every_model
def test_images_without_boxes_give_a_zero_loss(name):
    nothing = {
        "img": batch()["img"],
        "batch_idx": torch.zeros(0),
        "cls": torch.zeros(0, 1),
        "bboxes": torch.zeros(0, 4),
    }
    losses, items = build(name, weight=1.0)(nothing)
    assert items["corr_loss"] == 0
    losses.sum().backward()


def test_scope_image():
    model = build(coefficient="concordance", scope="image", weight=1.0)
    assert 0 < model(batch())[1]["corr_loss"] < 2


def test_a_loss_that_is_nan_is_left_to_the_recovery_of_ultralytics():
    model = build(weight=1.0)
    for layer in model.model[-1].cv3:
        layer[-1].bias.data.fill_(math.nan)
    assert total(model).isnan()


def test_torch_compile_gives_the_same_losses():
    model = build(weight=1.0)
    expected = total(model)
    compiled = torch.compile(model, backend="eager")
    found = model.loss(batch(), compiled(batch()["img"]))[0].sum()  # as Ultralytics does with compile=True
    torch.testing.assert_close(found, expected)


@pytest.mark.slow
def test_ddp_of_two_processes(tmp_path):
    assert_ddp_averages(ddp_model, total, tmp_path)


def ddp_model():
    return build("yolov8n", coefficient="concordance", weight=1.0)


def test_the_callback_reaches_the_processes_that_ultralytics_starts():
    model = with_correlation_loss(YOLO("yolov8n.yaml"), weight=0.5)
    (callback,) = cloudpickle.loads(cloudpickle.dumps(model.callbacks))["on_train_start"][-1:]
    assert isinstance(callback, AddLoss) and callback.settings == {"weight": 0.5}


def test_settings_can_be_replaced():
    model = with_correlation_loss(with_correlation_loss(YOLO("yolov8n.yaml"), weight=0.5), weight=0.1)
    callbacks = [each for each in model.callbacks["on_train_start"] if isinstance(each, AddLoss)]
    assert [each.settings for each in callbacks] == [{"weight": 0.1}]


@pytest.mark.parametrize(
    ("kind", "name"), [(YOLO, "yolov8n-seg"), (YOLO, "yolov8n-cls"), (RTDETR, "rtdetr-l")]
)
def test_a_model_of_an_unknown_class_is_an_error(kind, name):
    with pytest.raises(IntegrationError, match="expected a YOLO detector"):
        with_correlation_loss(kind(f"{name}.yaml"))


def test_a_criterion_of_an_unknown_class_is_an_error():
    class OwnLoss(v8DetectionLoss):
        pass

    model = build()
    model.criterion = OwnLoss(model)
    with pytest.raises(IntegrationError, match="v8DetectionLoss, found DetectionModel with OwnLoss"):
        add_loss(model, {})


@pytest.fixture
def data(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for folder in ("images", "labels"):
            (tmp_path / folder / split).mkdir(parents=True)
        for index in range(4):
            pixels = generator.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / split / f"{index}.png")
            (tmp_path / "labels" / split / f"{index}.txt").write_text(
                "0 0.4 0.4 0.5 0.5\n3 0.7 0.7 0.4 0.4\n"
            )
    path = tmp_path / "data.yaml"
    path.write_text(f"path: {tmp_path}\ntrain: images/train\nval: images/val\nnames: [a, b, c, d]\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov8n", "yolo26n"])
def test_a_training_shows_the_loss_and_saves_models_without_it(name, data):
    model = with_correlation_loss(YOLO(f"{name}.yaml"), weight=0.5)
    model.train(data=str(data), epochs=2, imgsz=SIZE, batch=4, device="cpu", amp=False, plots=False,
                project=str(data.parent / "runs"), verbose=False)  # fmt: skip
    folder = data.parent / "runs" / "train"
    with (folder / "results.csv").open() as file:
        rows = [{key.strip(): float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert len(rows) == 2
    assert all(row["train/corr_loss"] > 0 for row in rows)
    assert all(row["val/corr_loss"] >= 0 for row in rows)
    assert b"corrloss.integrations" not in (folder / "weights" / "best.pt").read_bytes()
