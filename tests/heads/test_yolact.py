from pathlib import Path

import mmdet.datasets.transforms  # noqa: F401 -- registers mmdet's transforms
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS, TRANSFORMS
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from slow_positives import FULL_METAS, Maps, anchor_positives, check, losses_by_feat, matched_by, random_maps
from tiny_detectors import OBJECTS, ROOT, dense_head

from corrloss.loss import REDUCTIONS, SCOPES
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run


def maps_of(head):
    return random_maps(head, third=head.num_protos, spread=1.0)


def slow_positives(head, maps):
    def assign(priors, _counts, objects):
        return head.assigner.assign(InstanceData(priors=priors), objects, None)

    return anchor_positives(head, maps, OBJECTS, matched_by(head, maps, OBJECTS, FULL_METAS, assign))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_positives_equal_a_slow_computation(scope, reduction):
    head = dense_head("yolact", scope=scope, reduction=reduction)
    maps = maps_of(head)
    check(head, maps, OBJECTS, FULL_METAS, slow_positives(head, maps))


def test_experiments_take_the_sum_of_the_losses_of_each_image_alone():
    head = dense_head("yolact")
    maps = maps_of(head)
    images = (*OBJECTS[:2], OBJECTS[0])
    together = losses_by_feat(head, maps, images, FULL_METAS)["loss_corr"]
    alone = []
    for image, objects in enumerate(images):
        of_image = Maps(*([level[image : image + 1] for level in levels] for levels in maps))
        alone.append(losses_by_feat(head, of_image, [objects], FULL_METAS[:1])["loss_corr"])
    assert all(loss > 0 for loss in alone)
    torch.testing.assert_close(together, sum(alone))


def test_scores_are_softmax_probabilities_with_a_background():
    assert not dense_head("yolact").use_sigmoid_cls
    assert dense_head("yolact").cls_out_channels == 5


# Augmentation at scale paper


def padding_after_normalisation(steps, preprocessor):
    """Normalised pixels of the padding that `steps` add around a grey image of 8 x 8 pixels."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        results = {"img": np.full((8, 8, 3), 200, dtype=np.uint8)}
        for step in steps:
            results = TRANSFORMS.build(step)(results)
        inputs = [torch.from_numpy(results["img"].copy()).permute(2, 0, 1)]
        normalised = MODELS.build(preprocessor)({"inputs": inputs})["inputs"][0]
    is_padding = (normalised - normalised[:, :1, :1]).abs().amax(0) < 1e-6
    assert is_padding.float().mean() > 0.9
    return normalised[:, is_padding]


def test_colours_are_distorted_before_expansion_so_that_padding_is_the_mean():
    run = Run("paper", "coco", "yolact", "none", 0.0, 0)
    config = resolve(Experiments(ROOT), run, Path("data"))
    pipeline = config["train_dataloader"]["dataset"]["pipeline"]
    steps = [step for step in pipeline if step["type"] in ("PhotoMetricDistortion", "Expand")]
    assert [step["type"] for step in steps] == ["PhotoMetricDistortion", "Expand"]
    distort, expand = steps[0], steps[1] | dict(prob=1.0, ratio_range=(4, 4))
    preprocessor = config["model"]["data_preprocessor"]
    assert padding_after_normalisation([distort, expand], preprocessor).eq(0).all()
    np.random.seed(0)
    mmdets = [padding_after_normalisation([expand, distort], preprocessor).abs().max() for _ in range(100)]
    assert max(mmdets) > 1
