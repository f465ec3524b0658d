"""Published weights from the plan to a table: made weights from a local server, made images like COCO's."""

import json
import shutil
import threading
from functools import partial

import pandas as pd
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from project import Project
from test_small_data import Host, made_coco

from corrloss.files import sha256
from corrloss.plan.model_zoo import published_model

pytestmark = pytest.mark.slow

CONFIG = """\
_base_ = "{zoo}"
model = dict(
    backbone=dict(depth=18, base_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1),
)
test_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(128, 128), keep_ratio=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ]
    )
)
"""
SCALE = """\
extends: zoo
threads: 1
overrides: {{test_dataloader: {{num_workers: 0, persistent_workers: false}}}}
published:
  retinanet: {{config: own.py, weights: "http://127.0.0.1:{port}/{name}", ap: {{AP: 55.5}}}}
"""
DATASET = """\
folder = "coco"
num_classes = 80
test = dict(ann_file="annotations/instances_val2017.json", img="val2017/")
"""
TABLE = {
    "title": "One detector",
    "data": "coco",
    "metrics": ["AP50", "AP"],
    "rows": [{"detector": "retinanet", "variants": [{"coefficient": "none"}, {"coefficient": "published"}]}],
}
RUN = "results/tiny/runs/coco_val/retinanet/published/seed0"


def save_weights(folder, config):
    """A checkpoint as mmdet publishes them, of a model with random weights; its name has the checksum."""
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS

    model = Config.fromfile(str(config), lazy_import=False).model
    model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"):
        made = MODELS.build(model)
    made.init_weights()
    torch.nn.init.constant_(made.bbox_head.retina_cls.bias, -2)  # scores that post-processing keeps
    path = folder / "made.pth"
    torch.save(
        {"meta": {"mmdet_version": "2.0.0", "CLASSES": ("a", "b")}, "state_dict": made.state_dict()}, path
    )
    return path.rename(folder / f"retinanet_made_20200130-{sha256(path)[:8]}.pth")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with scale `tiny`, which fetches weights from a local server; and the weights there."""
    host = tmp_path_factory.mktemp("host")
    made_coco(host)
    server = Host(host)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    project = Project(tmp_path_factory.mktemp("project"), TABLE)
    zoo = published_model("retinanet/retinanet_r50_fpn_1x_coco").config
    (project.folder / "own.py").write_text(CONFIG.replace("{zoo}", str(zoo)))
    weights = save_weights(host, project.folder / "own.py")
    port, experiments = server.server_address[1], project.folder / "experiments"
    (experiments / "scales" / "tiny.yaml").write_text(SCALE.format(port=port, name=weights.name))
    (experiments / "datasets" / "coco_val.py").write_text(DATASET)
    coco = project.folder / "data" / "coco"
    (coco / "annotations").mkdir(parents=True)
    (host / "val2017").rename(coco / "val2017")
    (host / "annotations" / "instances_val2017.json").rename(coco / "annotations" / "instances_val2017.json")
    yield project, weights
    server.shutdown()
    server.server_close()


@pytest.fixture
def call(made, monkeypatch):
    """Call Snakemake at scale `tiny`, which is planned for a GPU."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return partial(made[0].snakemake, config=("scale=tiny", "on_cpu=true"))


def state_of(path):
    return torch.load(path, weights_only=True)


def test_from_published_weights_to_a_table(made, call):
    project, weights = made
    done = call("pair")
    assert done.returncode == 0, done.stdout
    fetched = project.folder / "data" / "weights" / weights.name
    assert sha256(fetched) == sha256(weights)
    run, published = state_of(project.folder / RUN / "weights.pth"), state_of(weights)["state_dict"]
    assert run.keys() == published.keys() and all(torch.equal(run[key], published[key]) for key in run)
    record = json.loads((project.folder / RUN / "record.json").read_text())
    assert (record["iterations"], record["train_seconds"]) == (0, 0)
    assert json.loads((project.folder / RUN / "detections.bbox.json").read_text())
    table = pd.read_csv(project.folder / "results/tiny/tables/pair.csv")
    assert list(table["coefficient"]) == ["published"]
    assert list(table["zoo_AP"]) == [55.5] and list(table["zoo_agrees"]) == ["no"]
    assert not (project.folder / "data" / "coco" / "train2017").exists()
    assert "Nothing to be done" in call("pair").stdout
    report = call("report")
    assert report.returncode == 0, report.stdout


def test_weights_with_another_checksum_and_weights_of_another_model_are_refused(made, call):
    project, weights = made
    fetched, kept = project.folder / "data" / "weights" / weights.name, weights.with_suffix(".kept")
    shutil.copy(weights, kept)
    shutil.rmtree(project.folder / RUN)
    fetched.unlink()
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = call(f"{RUN}/record.json")
    assert done.returncode != 0 and "is damaged, or not the published file" in done.stdout, done.stdout
    kept.rename(weights)
    other = state_of(weights)["state_dict"]
    other["more"] = other.pop("bbox_head.retina_cls.weight")
    mine = project.folder / "mine.pth"
    torch.save(other, mine)
    scale = project.folder / "experiments" / "scales" / "tiny.yaml"
    text = scale.read_text()
    address = text[text.index('"http') : text.index(", ap")]
    scale.write_text(text.replace(address, "mine.pth"))
    done = call(f"{RUN}/record.json")
    assert done.returncode != 0, done.stdout
    said = "mine.pth: expected the weights of own.py, found others: "
    assert f"{said}missing bbox_head.retina_cls.weight; unexpected more;" in done.stdout, done.stdout
    other["bbox_head.retina_cls.weight"] = other.pop("more")
    torch.save(other, mine)
    assert call(f"{RUN}/record.json").returncode == 0
