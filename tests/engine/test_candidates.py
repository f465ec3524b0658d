import json
from pathlib import Path

import mmdet.datasets
import mmdet.models
import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from pycocotools.mask import iou as coco_iou

import corrloss.heads  # noqa: F401 -- registers the heads with the loss
from corrloss.analysis import metrics
from corrloss.analysis.ap import average_precision
from corrloss.analysis.bounds import ORDERS
from corrloss.analysis.correlation import load_positives
from corrloss.analysis.stored_run import load_run
from corrloss.coco import load_detections, load_ground_truth
from corrloss.data.mini_coco import make_mini_coco
from corrloss.engine.candidates import MIN_IOU, CandidateRecorder, CandidatesUnavailable
from corrloss.engine.postprocessing import ScoredBoxes, watched_post_processing
from corrloss.engine.predict import build_test_runner, predict
from corrloss.plan.config_files import dump, load
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.run import TRAINING_KEYS, RunFolder

ROOT = Path(__file__).parents[2]
RANKING = ["ap_loss_retinanet", "alrp_retinanet", "qfl_atss", "rs_atss", "gfl"]
DENSE = ["retinanet", "foveabox", "atss", "atss_no_aux", *RANKING]
PAA = ["paa", "paa_no_aux", "qfl_paa", "rs_paa"]
OURS = [*DENSE, *PAA, "yolact", "sparse_rcnn"]
# Of kinds that no experiment uses yet: mmdet's config, and what makes the detector small.
RESNET = dict(depth=18, base_channels=16, init_cfg=None)
TWO_STAGES = dict(
    backbone=RESNET,
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=32)),
    test_cfg=dict(rpn=dict(nms_pre=50, max_per_img=50)),
)
OTHERS = {
    "faster_rcnn": ("_base_/models/faster-rcnn_r50_fpn.py", TWO_STAGES),
    "cascade_rcnn": ("_base_/models/cascade-rcnn_r50_fpn.py", TWO_STAGES),
    "detr": (
        "detr/detr_r50_8xb2-150e_coco.py",
        dict(
            backbone=RESNET,
            neck=dict(in_channels=[128]),
            # mmcv keeps a dropout as the default of every attention that is built later, in other tests, too.
            encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=dict(dropout=0.0))),
            decoder=dict(
                num_layers=1,
                layer_cfg=dict(self_attn_cfg=dict(dropout=0.0), cross_attn_cfg=dict(dropout=0.0)),
            ),
            bbox_head=dict(num_classes=4),
        ),
    ),
}
ALL = [*OURS, *OTHERS]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    make_mini_coco(root / "smoke_coco", train_images=1, val_images=4, seed=1)
    return root


@pytest.fixture(scope="module")
def ground_truth(data_root):
    return load_ground_truth(data_root / "smoke_coco/annotations/instances_val.json")


@pytest.fixture(scope="module")
def config_of(data_root):
    def config_of(detector):
        run = Run("smoke", "smoke_coco", "atss" if detector in OTHERS else detector, "none", 0.0, 0)
        config = Config(resolve(Experiments(ROOT), run, data_root))
        if detector in OTHERS:
            config.model = _other_model(*OTHERS[detector])
        if "roi_head" in config.model:
            for head in _listed(config.model.roi_head.bbox_head):
                head.num_classes = 4
        if "nms_pre" in config.model.test_cfg:
            config.model.test_cfg.nms_pre = 50  # of each level: enough, and quick
        return config

    return config_of


def _other_model(path, changes):
    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / path)
    config.merge_from_dict({"model": changes})
    for head in _listed(config.model.get("roi_head", {}).get("bbox_head", [])):
        head.update(in_channels=32, fc_out_channels=32)
    return config.model


def _listed(heads):
    return heads if isinstance(heads, list) else [heads]


@pytest.fixture(scope="module")
def dataset(config_of):
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build(config_of("atss").test_dataloader.dataset)


@pytest.fixture(scope="module")
def batch(dataset):
    return pseudo_collate([dataset[index] for index in range(len(dataset))])


@pytest.fixture(scope="module")
def model_of(config_of):
    models = {}

    def model_of(detector):
        if detector not in models:
            models[detector] = _untrained(config_of(detector).model)
        return models[detector]

    return model_of


def _untrained(config):
    """A detector of random weights, without the bias that keeps all its scores near 0.01."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config).eval()
        model.init_weights()
    for name, parameter in model.named_parameters():
        if name.endswith(("cls.weight", "fc_cls.weight")):
            torch.nn.init.normal_(parameter, std=0.1)
        if name.endswith("cls.bias"):
            torch.nn.init.zeros_(parameter)
    return model


@torch.no_grad()
def detect(model, batch):
    return model.test_step(batch)


def seen_of(model, batch):
    """What is seen of each image: meta data, candidates, outcome, again; and the final detections."""
    seen = []
    with watched_post_processing(model, lambda *image: seen.append(image)):
        final = detect(model, batch)
    return seen, final


def parts_of(sample):
    found = sample.pred_instances
    return ScoredBoxes(found.bboxes, found.labels, found.scores)


def assert_equal(parts, others):
    """To the bit. PAA votes NaN for a box without area, which random weights do make."""
    for name, part in vars(parts).items():
        torch.testing.assert_close(part, getattr(others, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("detector", ALL)
def test_detections_are_bit_identical_while_watched_and_after(detector, model_of, batch):
    model = model_of(detector)
    plain = detect(model, batch)
    seen, watched = seen_of(model, batch)
    assert len(seen) == len(watched) == 4
    assert sum(len(sample.pred_instances) for sample in plain) > 20
    for before, during, after in zip(plain, watched, detect(model, batch), strict=True):
        assert_equal(parts_of(before), parts_of(during))
        assert_equal(parts_of(before), parts_of(after))


@pytest.mark.parametrize("detector", ALL)
def test_outcome_is_what_the_detector_finally_detects(detector, model_of, batch):
    seen, final = seen_of(model_of(detector), batch)
    for (meta, _, outcome, _), sample in zip(seen, final, strict=True):
        assert meta["img_id"] == sample.img_id
        assert_equal(outcome, parts_of(sample))


@pytest.mark.parametrize("detector", ALL)
def test_the_same_scores_again_give_the_same_detections_to_the_bit(detector, model_of, batch):
    def visit(_meta, candidates, outcome, again):
        for _ in range(2):  # a first time must not change what the second works on
            assert_equal(again(candidates.scores.clone()), outcome)

    with watched_post_processing(model_of(detector), visit):
        detect(model_of(detector), batch)


@pytest.mark.parametrize("detector", ALL)
def test_other_scores_decide_what_is_detected(detector, model_of, batch):
    for _, candidates, outcome, again in seen_of(model_of(detector), batch)[0]:
        last = int(candidates.scores.argmin())
        scores = candidates.scores.clone()
        scores[last] = 1.0
        changed = again(scores)
        best = int(changed.scores.argmax())
        assert changed.scores[best] == 1 > outcome.scores.max()
        assert changed.labels[best] == candidates.labels[last]
        assert iou_of(changed.boxes[best], candidates.boxes[last]) > 0.4  # PAA votes on the box


@pytest.mark.parametrize("detector", DENSE)
def test_candidates_are_those_of_mmdet_without_nms(detector, model_of, batch):
    model = model_of(detector)
    seen, _ = seen_of(model, batch)
    data = model.data_preprocessor(batch, False)
    metas = [sample.metainfo for sample in data["data_samples"]]
    with torch.no_grad():
        maps = model.bbox_head(model.extract_feat(data["inputs"]))
        expected = model.bbox_head.predict_by_feat(*maps, batch_img_metas=metas, rescale=True, with_nms=False)
    for (_, candidates, _, _), instances in zip(seen, expected, strict=True):
        size = candidates.boxes[:, 2:] - candidates.boxes[:, :2]
        kept = (size > model.test_cfg.get("min_bbox_size", -1)).all(
            dim=1
        )  # mmdet drops the others before NMS
        assert torch.equal(candidates.scores[kept], instances.scores)
        assert torch.equal(candidates.labels[kept], instances.labels)
        torch.testing.assert_close(candidates.boxes[kept], instances.bboxes)


@pytest.mark.parametrize("detector", [*PAA, "yolact"])
def test_candidates_of_all_classes_are_the_probabilities_above_the_threshold(detector, model_of, batch):
    model = model_of(detector)
    seen, _ = seen_of(model, batch)
    with torch.no_grad():
        maps = model.bbox_head(model.extract_feat(model.data_preprocessor(batch, False)["inputs"]))
    for image, (_, candidates, _, _) in enumerate(seen):
        expected = torch.cat([_scores(detector, *level, image) for level in zip(*maps, strict=True)])
        expected = expected[expected > model.bbox_head.test_cfg.score_thr]
        top = expected.sort(descending=True).values[:20]  # nms_pre cuts the rest
        torch.testing.assert_close(candidates.scores.sort(descending=True).values[:20], top)
        assert candidates.scores.min() > model.bbox_head.test_cfg.score_thr


def _scores(detector, logits, _offsets, third, image):
    if detector == "yolact":
        return logits[image].unflatten(0, (-1, 5)).softmax(dim=1)[:, :4].flatten()
    probabilities = logits[image].sigmoid()
    return ((probabilities * third[image].sigmoid()).sqrt() if detector == "paa" else probabilities).flatten()


@pytest.mark.parametrize("detector", ["atss", "paa", "yolact", "faster_rcnn"])
def test_positives_equal_a_slow_computation(detector, model_of, batch, dataset, ground_truth, tmp_path):
    model = model_of(detector)
    check_positives(model, lambda: detect(model, batch), dataset.cat_ids, ground_truth, tmp_path)


def test_positives_without_nms_equal_a_slow_computation(model_of, dataset, ground_truth, tmp_path):
    model = Jittered(model_of("atss").bbox_head, ground_truth, dataset.cat_ids)
    model.roi_head = model_of("sparse_rcnn").roi_head
    check_positives(model, lambda: model(ground_truth.image_ids), dataset.cat_ids, ground_truth, tmp_path)


def check_positives(model, detect, category_ids, ground_truth, folder):
    keeper, seen = CandidateRecorder(ground_truth, category_ids), []
    with keeper.recording(model):
        detect()
    with watched_post_processing(model, lambda *image: seen.append(image)):
        detect()
    keeper.write(folder)
    found = load_positives(RunFolder(folder).positives, ground_truth)
    document = json.loads(ground_truth.path.read_text())
    expected = [
        positive
        for meta, candidates, _, _ in seen
        for positive in slow_positives(meta["img_id"], candidates, category_ids, document)
    ]
    assert len(expected) > 3
    assert found.min_iou == MIN_IOU
    names = ("image_id", "category_id", "annotation_id", "score", "iou")
    for name, column in zip(names, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(getattr(found, name), column, rtol=1e-5, err_msg=name)
    assert [getattr(found, name).dtype for name in names] == [np.int64] * 3 + [np.float32] * 2


def slow_positives(image_id, candidates, category_ids, document):
    for box, label, score in zip(candidates.boxes, candidates.labels, candidates.scores, strict=True):
        best = (MIN_IOU, None)
        for annotation in document["annotations"]:
            if annotation["image_id"] != image_id or annotation["category_id"] != category_ids[label]:
                continue
            x, y, width, height = annotation["bbox"]
            iou = iou_of(box, torch.tensor([x, y, x + width, y + height]))
            if not annotation["iscrowd"] and (iou > best[0] or (iou == best[0] and best[1] is None)):
                best = (iou, annotation["id"])
        if best[1] is not None:
            yield image_id, category_ids[label], best[1], float(score), best[0]


def iou_of(box, other):
    first, second = ([float(x), float(y), float(u - x), float(v - y)] for x, y, u, v in (box, other))
    return coco_iou([first], [second], [0])[0, 0]


class Jittered(torch.nn.Module):
    """A detector whose candidates lie around the annotations, scored by their IoU and much noise.

    Its post-processing is that of a real head of mmdet.
    """

    def __init__(self, head, ground_truth, category_ids, after=lambda instances: instances):
        super().__init__()
        self.bbox_head, self.truth, self.after = head, ground_truth, after
        self.categories = np.asarray(category_ids)

    def forward(self, image_ids):
        return [self._detect(image_id) for image_id in image_ids]

    def _detect(self, image_id):
        rng = np.random.default_rng(image_id)
        rows = np.repeat(np.flatnonzero((self.truth.image_id == image_id) & ~self.truth.is_crowd), 12)
        size = np.tile(self.truth.bbox[rows, 2:], 2)
        box = self.truth.bbox[rows]
        box = np.c_[box[:, :2], box[:, :2] + box[:, 2:]]
        jitter = rng.normal(0, 0.12, (len(rows), 4))
        score = np.clip(0.7 - np.abs(jitter).sum(axis=1) + rng.normal(0, 0.2, len(rows)), 0.06, 0.99)
        label = np.searchsorted(self.categories, self.truth.category_id[rows])
        meta = dict(img_id=int(image_id), scale_factor=(0.8, 0.8), ori_shape=(160, 160))
        results = self._results((box + jitter * size) * 0.8, score, label)
        instances = self.bbox_head._bbox_post_process(
            results, self.bbox_head.test_cfg, rescale=True, img_meta=meta
        )
        return DetDataSample(pred_instances=self.after(instances), metainfo=meta)

    def _results(self, box, score, label):
        score = torch.tensor(score, dtype=torch.float32)
        results = InstanceData(bboxes=torch.tensor(box, dtype=torch.float32))
        if hasattr(self.bbox_head, "with_score_voting"):  # PAA: a row of scores a box
            results.scores = torch.zeros(len(score), 4)
            results.scores[torch.arange(len(score)), torch.tensor(label)] = score**2
            results.score_factors = torch.ones(len(score))
        else:
            results.scores, results.labels = score, torch.tensor(label)
        return results


@pytest.mark.parametrize("detector", ["atss", "retinanet", "paa"])
def test_best_order_raises_ap_and_worst_lowers_it(detector, model_of, dataset, ground_truth, tmp_path):
    model = Jittered(model_of(detector).bbox_head, ground_truth, dataset.cat_ids)
    keeper = CandidateRecorder(ground_truth, dataset.cat_ids)
    with keeper.recording(model):
        samples = model(ground_truth.image_ids)
    keeper.write(tmp_path)
    points = {order: ap_of(RunFolder(tmp_path).bound(order), ground_truth) for order in ORDERS}
    actual = ap_of(write_samples(samples, dataset.cat_ids, tmp_path / "actual.json"), ground_truth)
    assert points["best"] > actual + 5
    assert points["worst"] < actual - 5


def test_bounds_of_a_detector_without_nms_have_its_boxes_and_scores(
    model_of, dataset, ground_truth, tmp_path
):
    model = Jittered(model_of("atss").bbox_head, ground_truth, dataset.cat_ids)
    model.roi_head = model_of("sparse_rcnn").roi_head
    keeper = CandidateRecorder(ground_truth, dataset.cat_ids)
    with keeper.recording(model):
        samples = model(ground_truth.image_ids)
    keeper.write(tmp_path)
    actual = json.loads(write_samples(samples, dataset.cat_ids, tmp_path / "actual.json").read_text())
    columns = {}
    for order in ORDERS:
        bound = json.loads(RunFolder(tmp_path).bound(order).read_text())
        for key in ("image_id", "category_id", "bbox"):
            assert [entry[key] for entry in bound] == [entry[key] for entry in actual]
        assert sorted(entry["score"] for entry in bound) == sorted(entry["score"] for entry in actual)
        columns[order] = np.array([entry["score"] for entry in bound])
    assert (columns["best"] != columns["worst"]).any()
    best, worst = (ap_of(RunFolder(tmp_path).bound(order), ground_truth) for order in ("best", "worst"))
    assert best > worst


def write_samples(samples, category_ids, path):
    entries = []
    for sample in samples:
        found = sample.pred_instances
        for box, score, label in zip(found.bboxes.tolist(), found.scores, found.labels, strict=True):
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            category = int(category_ids[label])
            entries.append(
                {"image_id": sample.img_id, "category_id": category, "bbox": box, "score": float(score)}
            )
    path.write_text(json.dumps(entries))
    return path


def ap_of(path, ground_truth):
    return average_precision(ground_truth, load_detections(path, ground_truth))["AP"]


def test_a_detector_without_any_candidate(model_of, batch, dataset, ground_truth, tmp_path):
    for detector in ("atss", "paa", "yolact", "faster_rcnn"):
        model, keeper = model_of(detector), CandidateRecorder(ground_truth, dataset.cat_ids)
        settings = model.roi_head.test_cfg if detector == "faster_rcnn" else model.bbox_head.test_cfg
        before, settings.score_thr = settings.score_thr, 1.0
        with keeper.recording(model):
            samples = detect(model, batch)
        settings.score_thr = before
        assert all(len(sample.pred_instances) == 0 for sample in samples)
        keeper.write(tmp_path)
        assert len(load_positives(RunFolder(tmp_path).positives, ground_truth).score) == 0
        assert json.loads(RunFolder(tmp_path).bound("best").read_text()) == []


def test_a_kind_that_is_not_known_writes_nothing(dataset, ground_truth, tmp_path):
    head = torch.nn.Identity()
    head.test_cfg = None
    head._bbox_post_process = lambda results, *args, **kwargs: results
    keeper = CandidateRecorder(ground_truth, dataset.cat_ids)
    with keeper.recording(model := Jittered(head, ground_truth, dataset.cat_ids)):
        model(ground_truth.image_ids)
    with pytest.raises(CandidatesUnavailable, match="not the output of the known post-processing"):
        keeper.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_detections_that_change_afterwards_write_nothing(model_of, dataset, ground_truth, tmp_path):
    def halve(instances):
        instances.scores = instances.scores / 2
        return instances

    keeper = CandidateRecorder(ground_truth, dataset.cat_ids)
    model = Jittered(model_of("atss").bbox_head, ground_truth, dataset.cat_ids, after=halve)
    with keeper.recording(model):
        model(ground_truth.image_ids)
    with pytest.raises(CandidatesUnavailable, match="image 2"):
        keeper.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_watched_after_an_error(model_of, batch):
    model = model_of("atss")
    before = type(model.bbox_head)._bbox_post_process

    def fail(*_image):
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"), watched_post_processing(model, fail):
        detect(model, batch)
    assert type(model.bbox_head)._bbox_post_process is before


def test_predict_keeps_what_the_analysis_reads(config_of, model_of, ground_truth, tmp_path):
    run = RunFolder(tmp_path)
    config = config_of("atss").to_dict()
    config["bench"]["identity"] = dict.fromkeys(("training", "prediction"), "0" * 12)
    run.config.write_text(dump(config))
    torch.save(model_of("atss").state_dict(), run.weights)
    run.write_training(dict.fromkeys(TRAINING_KEYS, "0" * 12))
    unwatched = RunFolder(tmp_path / "unwatched")
    unwatched.path.mkdir()
    build_test_runner(load(run.config), run.weights, unwatched.path, print).test()
    lines = []
    predict(run, lines.append)
    assert run.detections().read_bytes() == unwatched.detections().read_bytes()
    assert not any("not available" in line for line in lines)
    measured = metrics.run_metrics(load_run(run, ground_truth.path))
    assert {"rho_img", "bound_img_best_AP", "bound_img_worst_AP"} <= measured.keys()
    assert [path.name for path in tmp_path.glob(".*")] == [".lock"]
