"""Detectors of transformers with random weights: one loss a decoder layer, in the total."""

import copy
import math
import pickle

import pytest
import torch

pytest.importorskip("transformers")
from checks import (
    Recorder,
    assert_ddp_averages,
    assert_same_positives,
    assert_same_weights,
    trained,
    with_gradient,
)
from scipy.optimize import linear_sum_assignment
from tiny_detrs import CLASSES, LAYERS, MODELS, QUERIES, tiny
from transformers import Trainer, TrainingArguments

from corrloss.integrations.host import IntegrationError
from corrloss.integrations.transformers import with_correlation_loss

every_model = pytest.mark.parametrize("name", MODELS)
CORNERS = torch.tensor(
    [[[0.1, 0.1, 0.5, 0.5], [0.5, 0.4, 0.9, 0.8]], [[0.2, 0.2, 0.8, 0.9], [0.6, 0.1, 0.9, 0.4]]]
)


def build(name, **settings):
    changes = settings.pop("changes", {})
    model = tiny(name, **changes)
    return with_correlation_loss(model, **settings) if settings else model


def batch(rank=0):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(rank))
    centers = torch.cat(
        [(CORNERS[..., :2] + CORNERS[..., 2:]) / 2, CORNERS[..., 2:] - CORNERS[..., :2]], dim=-1
    )
    labels = [{"class_labels": torch.tensor([rank, 3]), "boxes": boxes} for boxes in centers]
    return dict(pixel_values=images, labels=labels)


def total(model, rank=0):
    return model(**batch(rank)).loss


def corner_form(box):
    x, y, width, height = box
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def overlap(box, other):
    """IoU and generalised IoU of two boxes in corner form, by their definitions."""
    sides = [max(0, min(box[2 + k], other[2 + k]) - max(box[k], other[k])) for k in (0, 1)]
    hull = [max(box[2 + k], other[2 + k]) - min(box[k], other[k]) for k in (0, 1)]
    shared = sides[0] * sides[1]
    union = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)) - shared
    return shared / union, shared / union - (hull[0] * hull[1] - union) / (hull[0] * hull[1])


def class_cost(name, probability):
    if name == "detr":
        return -probability
    positive = -0.25 * (1 - probability) ** 2 * math.log(probability + 1e-8)
    return positive + 0.75 * probability**2 * math.log(1 - probability + 1e-8)


def slow_positives(name, config, logits, boxes, labels):
    """Score and IoU of the queries matched to boxes, with SciPy's assignment of costs computed one by one."""
    weights = [getattr(config, f"{prefix}{key}_cost", None) for key in ("class", "bbox", "giou")
               for prefix in ("matcher_", "") if hasattr(config, f"{prefix}{key}_cost")]  # fmt: skip
    for image, target in enumerate(labels):
        values = logits[image].double()
        scores = (values.softmax(-1) if name == "detr" else values.sigmoid()).tolist()
        truth = list(zip(target["class_labels"].tolist(), target["boxes"].double().tolist(), strict=True))
        predicted = boxes[image].double().tolist()
        cost = [
            [
                weights[0] * class_cost(name, scores[query][label])
                + weights[1] * sum(abs(a - b) for a, b in zip(predicted[query], true, strict=True))
                - weights[2] * overlap(corner_form(predicted[query]), corner_form(true))[1]
                for label, true in truth
            ]
            for query in range(QUERIES)
        ]
        for query, match in zip(*linear_sum_assignment(cost), strict=True):
            label, true = truth[match]
            yield scores[query][label], overlap(corner_form(predicted[query]), corner_form(true))[0]


@every_model
def test_positives_of_every_layer_are_those_of_a_slow_computation(name):
    model = build(name, coefficient="pearson", weight=0.5)
    found = Recorder(model.loss_function.loss)
    output = model(**batch())
    assert len(found.calls) == LAYERS  # neither denoising queries nor encoder proposals
    labels = batch()["labels"]
    layers = [(output.logits[:, -QUERIES:], output.pred_boxes[:, -QUERIES:])]  # denoising queries come first
    layers += [(layer["logits"], layer["pred_boxes"]) for layer in output.auxiliary_outputs[: LAYERS - 1]]
    for call, (logits, boxes) in zip(found.calls, layers, strict=True):
        expected = slow_positives(name, model.config, logits.detach(), boxes.detach().clamp(0, 1), labels)
        assert_same_positives(call, list(expected))


@every_model
def test_the_losses_reach_the_total(name):
    plain_model, model = build(name), build(name, weight=0.7)
    torch.manual_seed(0)
    plain = plain_model(**batch())
    torch.manual_seed(0)
    output = model(**batch())
    added = {key: value for key, value in output.loss_dict.items() if key.startswith("loss_corr")}
    assert set(added) == {"loss_corr", "loss_corr_0"} and all(value > 0 for value in added.values())
    torch.testing.assert_close(output.loss, plain.loss + sum(added.values()))


@every_model
def test_without_auxiliary_losses_there_is_one(name):
    output = build(name, changes=dict(auxiliary_loss=False), weight=1.0)(**batch())
    assert [key for key in output.loss_dict if key.startswith("loss_corr")] == ["loss_corr"]


@every_model
def test_weight_zero_trains_bit_for_bit_as_without(name):
    assert_same_weights(trained(build(name), total), trained(build(name, weight=0), total))


@every_model
def test_the_gradient_goes_where_that_of_the_classification_loss_goes(name):
    """In D-FINE the score depends on the predicted distribution of the box, in its own loss too."""
    reached = {}
    for kind in ("corr", "host"):
        model = build(name, coefficient="pearson", weight=1.0)
        torch.manual_seed(0)
        losses = model(**batch()).loss_dict
        own = [key for key in losses if key.startswith(("loss_ce", "loss_vfl")) and "dn" not in key]
        names = own if kind == "host" else [key for key in losses if key.startswith("loss_corr")]
        sum(losses[key] for key in names).backward()
        reached[kind] = with_gradient(model)
    assert any("class" in parameter for parameter in reached["corr"])
    assert reached["corr"] <= reached["host"]
    if name in ("detr", "conditional_detr", "deformable_detr"):
        assert not any("bbox" in parameter for parameter in reached["corr"])


@every_model
def test_training_under_bfloat16_autocast(name):
    model = build(name, weight=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**batch())
    assert output.loss_dict["loss_corr"].dtype == torch.float32 and 0 < output.loss_dict["loss_corr"] < 2
    output.loss.backward()


@every_model
def test_scope_image(name):
    model = build(name, coefficient="concordance", scope="image", weight=1.0)
    assert 0 < model(**batch()).loss_dict["loss_corr"] < 2


@every_model
def test_images_without_boxes_give_a_zero_loss(name):
    empty = {"class_labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    output = build(name, weight=1.0)(pixel_values=batch()["pixel_values"], labels=[empty, empty])
    assert output.loss_dict["loss_corr"] == 0
    output.loss.backward()


def test_scores_that_are_not_finite_are_an_error_that_says_what_to_do():
    model = build("detr", weight=1.0)
    model.class_labels_classifier.bias.data.fill_(math.inf)
    with pytest.raises(
        IntegrationError, match=r"NaN or infinity in 4 of 4 positives.*lower the learning rate"
    ):
        model(**batch())


@every_model
def test_copies_and_pickles_keep_the_loss_and_weights_keep_their_names(name):
    model = build(name, weight=1.0)
    assert model.state_dict().keys() == build(name).state_dict().keys()
    results = []
    for each in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.manual_seed(0)
        results.append(each(**batch()).loss_dict["loss_corr"].item())
    assert results[0] == results[1] == results[2] > 0


@pytest.mark.parametrize("name", ["detr", "rt_detr"])
def test_torch_compile_gives_the_same_losses(name):
    model = build(name, weight=1.0, changes={} if name == "detr" else dict(num_denoising=0))
    expected = model(**batch()).loss_dict
    found = torch.compile(model, backend="eager")(**batch()).loss_dict
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_trainer_works_unchanged(tmp_path):
    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            example = batch(index % 2)
            return {"pixel_values": example["pixel_values"][0], "labels": example["labels"][0]}

    def collate(examples):
        return {
            "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
            "labels": [example["labels"] for example in examples],
        }

    weights = []
    for settings in ({}, {"weight": 0}, {"weight": 1.0}):
        model = build("conditional_detr", **settings)
        arguments = TrainingArguments(
            str(tmp_path), max_steps=2, per_device_train_batch_size=2, report_to=[], use_cpu=True,
            save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
        )  # fmt: skip
        Trainer(model, arguments, data_collator=collate, train_dataset=Images()).train()
        weights.append(model.state_dict())
    assert_same_weights(weights[0], weights[1])
    assert any(not torch.equal(weights[0][key], weights[2][key]) for key in weights[0])


def test_settings_can_be_replaced():
    model = with_correlation_loss(build("detr", weight=1.0), weight=0.5)
    assert model.loss_function.loss.weight == 0.5
    assert len([key for key in model(**batch()).loss_dict if key.startswith("loss_corr")]) == LAYERS


def test_a_matching_that_does_not_take_place_is_an_error():
    model = build("detr", weight=1.0)
    model.config.decoder_layers = LAYERS + 1
    with pytest.raises(IntegrationError, match="a matching for each of 3 decoder layers, found 2"):
        model(**batch())


def test_a_model_of_an_unknown_class_is_an_error():
    with pytest.raises(IntegrationError, match=r"expected one of DetrForObjectDetection, .*, found Linear"):
        with_correlation_loss(torch.nn.Linear(1, CLASSES))


def ddp_model():
    return build("conditional_detr", coefficient="concordance", weight=1.0)


@pytest.mark.slow
def test_ddp_of_two_processes(tmp_path):
    assert_ddp_averages(ddp_model, total, tmp_path)
