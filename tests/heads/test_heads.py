"""What all heads promise: mmdet's training at weight 0, where gradients go, batches with few objects."""

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from tiny_detectors import (
    DETECTORS,
    OBJECTS,
    WITHOUT_BRANCH,
    batch,
    build,
    correlation_losses,
    flat,
    heads_with_loss,
    losses_of,
    model_config,
    own_config,
    resolved,
    watched,
)

import corrloss.heads

AUXILIARY = ("atss_centerness", "loss_centerness", "loss_iou[")
FAMILIES = {
    "atss_no_aux": "atss",
    "qfl_atss": "atss",
    "rs_atss": "atss",
    "paa_no_aux": "paa",
    "qfl_paa": "paa",
    "rs_paa": "paa",
    "ap_loss_retinanet": "retinanet",
    "alrp_retinanet": "retinanet",
}
CLASSIFIERS = {
    "retinanet": ("retina_cls", "cls_convs"),
    "foveabox": ("conv_cls", "cls_convs"),
    "atss": ("atss_cls", "cls_convs"),
    "paa": ("atss_cls", "cls_convs"),
    "sparse_rcnn": ("fc_cls", "cls_fcs"),
    "yolact": ("conv_cls",),
    "gfl": ("gfl_cls", "cls_convs"),
    "vfnet": ("vfnet_cls", "cls_convs"),
    "detr": ("fc_cls",),
    "deformable_detr": ("cls_branches",),
    "faster_rcnn": ("fc_cls",),
    "cascade_rcnn": ("fc_cls",),
    "fcos": ("conv_cls", "cls_convs"),
    "tood": ("tood_cls", "cls_prob_module"),
}
REGRESSORS = {
    "retinanet": ("retina_reg", "reg_convs"),
    "foveabox": ("conv_reg", "reg_convs"),
    "atss": ("atss_reg", "reg_convs", "scales"),
    "paa": ("atss_reg", "reg_convs", "scales"),
    "sparse_rcnn": ("fc_reg", "reg_fcs"),
    "yolact": ("conv_reg",),
    "gfl": ("gfl_reg", "reg_convs", "scales"),
    # VFNet's classifier looks at the initial box; mmdet lets its gradient through to that, but not to this.
    "vfnet": ("vfnet_reg_refine", "scales_refine"),
    "detr": ("fc_reg", "reg_ffn"),
    "deformable_detr": ("reg_branches",),
    "faster_rcnn": ("fc_reg",),
    "cascade_rcnn": ("fc_reg",),
    "fcos": ("conv_reg", "reg_convs", "scales"),
    "tood": ("tood_reg", "reg_offset_module"),
}
# An object that the detector's assigner gives to one prediction alone.
LONELY = {
    "retinanet": (0, 8.3, 12.7, 38.3, 22.7),
    "foveabox": (0, 16, 16, 24, 24),
    "atss": (0, 3.3, 17.2, 11.3, 25.2),
    "paa": OBJECTS[2][0],
    "sparse_rcnn": OBJECTS[2][0],
    "yolact": (0, 4, 16, 12, 24),
    "gfl": (0, 3.3, 17.2, 11.3, 25.2),
    "vfnet": (0, 3.3, 17.2, 11.3, 25.2),
    "detr": OBJECTS[2][0],
    "deformable_detr": OBJECTS[2][0],
    "faster_rcnn": (0, 50, 50, 53, 53),  # no proposal overlaps it but itself
    "cascade_rcnn": (0, 50, 50, 53, 53),
    "fcos": (0, 16, 16, 24, 24),
    "tood": (0, 3.3, 17.2, 11.3, 25.2),
}


def family(detector):
    """The detector of mmdet whose branches and assigner it has."""
    return FAMILIES.get(detector, detector)


def test_heads_and_loss_are_registered():
    for name in (*corrloss.heads.__all__, "CorrelationLoss"):
        assert MODELS.get(name) is getattr(corrloss.heads, name)


# Weight 0


@pytest.fixture(scope="module", params=DETECTORS)
def detector_and_own(request):
    """A detector's name, and the training of mmdet's own."""
    return request.param, training(request.param, own_config(request.param))


def training(detector, config, weights=None):
    """The training of one model, piece by piece, by the names of losses and parameters.

    Losses and gradients of the first batch, then the weights before and after three steps.
    """
    model = build(config)
    if weights is not None:
        model.load_state_dict(weights, strict=False)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    losses = losses_of(model)
    model.parse_losses(losses)[0].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    optimiser = build_optim_wrapper(model, resolved(detector).optim_wrapper)
    for _ in range(3):
        model.train_step(batch(), optimiser)
    return {"start": start, "losses": flat(losses), "gradients": gradients, "end": model.state_dict()}


@pytest.mark.parametrize(("coefficient", "weight"), [("none", 0.0), ("spearman", 0.0)])
def test_training_at_weight_0_or_without_the_loss_is_mmdets_to_the_bit(detector_and_own, coefficient, weight):
    detector, own = detector_and_own
    without_auxiliary = detector in WITHOUT_BRANCH
    # Where the branch is missing the seed draws other weights for what is initialised after it.
    weights = own["start"] if without_auxiliary else None
    ours = training(detector, model_config(detector, coefficient, weight), weights)
    added = {name for name in ours["losses"] if "loss_corr" in name}
    assert bool(added) == (coefficient != "none")
    assert all(ours["losses"].pop(name).item() == 0 for name in added)
    for part, expected in own.items():
        if without_auxiliary:
            expected = {name: value for name, value in expected.items() if not is_auxiliary(name)}
        assert ours[part].keys() == expected.keys()
        different = [name for name, value in expected.items() if not same(ours[part][name], value)]
        assert different == [], part
    moved = [not torch.equal(own["start"][name], value) for name, value in own["end"].items()]
    assert sum(moved) > len(moved) / 2


def same(one, other):
    """Whether two tensors are equal to the bit, or both missing: DETR has weights without a gradient."""
    return one is other if one is None or other is None else torch.equal(one, other)


def is_auxiliary(name):
    return any(part in name for part in AUXILIARY)


# Gradients


@pytest.mark.parametrize("gradient_to", ["classifier", "regressor", "both"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_gradient_reaches_what_it_is_sent_to_and_nothing_else(detector, gradient_to):
    model = build(model_config(detector, "pearson", 0.2, gradient_to=gradient_to))
    sum(correlation_losses(losses_of(model))).backward()
    for branch, names in (("classifier", CLASSIFIERS), ("regressor", REGRESSORS)):
        for name in names[family(detector)]:
            assert has_gradient(model, name) == (gradient_to in (branch, "both")), name
    assert not has_gradient(model, "atss_centerness")
    if (detector, gradient_to) != ("deformable_detr", "regressor"):  # the last layer of that starts at zero
        assert has_gradient(model, "backbone")


def has_gradient(model, part):
    """Whether any parameter whose name holds `part` has a gradient that is not exactly zero."""
    found = [parameter.grad for name, parameter in model.named_parameters() if part in name]
    return any(gradient is not None and gradient.any() for gradient in found)


# Batches with few objects or none


@pytest.fixture(scope="module", params=DETECTORS)
def detector_and_model(request):
    return request.param, build(model_config(request.param, "pearson", 0.2))


def test_images_without_an_object_among_others(detector_and_model):
    _, model = detector_and_model
    losses, gradients = trained(model, ((), OBJECTS[0], ()))
    assert any(loss > 0 for loss in correlation_losses(losses))
    assert any(gradient.any() for gradient in gradients)


def test_a_batch_without_any_object_adds_nothing(detector_and_model):
    _, model = detector_and_model
    check_adds_nothing(model, ((), ()), positives=0)


def test_one_positive_alone_adds_nothing(detector_and_model, monkeypatch):
    detector, model = detector_and_model
    if family(detector) == "paa":  # mmdet's place for other ways to part positives: keep the best
        monkeypatch.setattr(model.bbox_head, "gmm_separation_scheme", keep_the_best)
    if detector == "rs_atss":  # its anchors stand three in a place: leave the assigner one of each level
        monkeypatch.setattr(model.bbox_head.assigner, "topk", 1)
    check_adds_nothing(model, ((), (LONELY[family(detector)],)), positives=1)


def keep_the_best(_assignment, _likelihoods, index):
    return index[:1], index[:0]


def check_adds_nothing(model, images, positives):
    with watched(heads_with_loss(model)[0].loss_corr) as calls:
        losses, gradients = trained(model, images)
    layers = 3 if "detr" in type(model).__name__.lower() else 1
    assert [len(call["scores"]) for call in calls] == [positives] * layers
    assert len(correlation_losses(losses)) == len(heads_with_loss(model)) * layers
    assert all(loss.item() == 0 for loss in correlation_losses(losses))
    assert not any(gradient.any() for gradient in gradients)


def trained(model, images):
    """All losses of a batch, seen to be finite, and the gradients of the correlation losses alone."""
    losses = losses_of(model, images)
    assert all(loss.isfinite().all() for loss in flat(losses).values())
    added = correlation_losses(losses)
    assert added and all(loss.requires_grad for loss in added)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(sum(added), parameters, retain_graph=True, allow_unused=True)
    total = torch.autograd.grad(model.parse_losses(losses)[0], parameters, allow_unused=True)
    assert all(gradient.isfinite().all() for gradient in total if gradient is not None)
    return losses, [gradient for gradient in gradients if gradient is not None]
