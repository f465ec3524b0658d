"""What scale paper needs of data, for real at scale smoke: Cityscapes' raw layout, weights, test-dev."""

import hashlib
import io
import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
import torch
import yaml
from mmdet.models.backbones import ResNet
from project import Project

TABLES = {
    "scenes": {
        "title": "Scenes",
        "data": "cityscapes",
        "metrics": ["AP", "AP50"],
        "rows": [{"detector": "retinanet", "variants": [{"coefficient": "none"}]}],
    },
    "submitted": {
        "title": "To be submitted",
        "data": "coco",
        "test_dev": True,
        "metrics": ["AP", "AP50"],
        "rows": [{"detector": "pretrained", "variants": [{"coefficient": "none"}]}],
    },
}
# Stage 1 is frozen, so what was loaded into it is what is left in it.
DETECTOR = """\
_base_ = "./sparse_rcnn.py"

weights = dict(_delete_=True, type="Pretrained", checkpoint="{url}")
mini = dict(model=dict(backbone=dict(frozen_stages=1, init_cfg=weights)))
"""
ZIP = "test_dev/detections_test-dev2017_corrloss_results.zip"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Weights of a tiny backbone on a server of our own: address, and state dict."""
    torch.manual_seed(3)
    weights = ResNet(depth=18, base_channels=16).state_dict()
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    folder = tmp_path_factory.mktemp("host")
    name = f"toynet18-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    (folder / name).write_bytes(buffer.getvalue())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/{name}", weights
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, published):
    project = Project(tmp_path_factory.mktemp("project"))
    experiments = project.folder / "experiments"
    (experiments / "tables" / "pair.yaml").unlink()
    for name, table in TABLES.items():
        (experiments / "tables" / f"{name}.yaml").write_text(yaml.safe_dump(table))
    (experiments / "detectors" / "pretrained.py").write_text(DETECTOR.format(url=published[0]))
    done = project.snakemake("scenes", "submitted")
    assert done.returncode == 0, done.stdout
    return project


def test_a_detector_is_trained_on_scenes_converted_from_the_raw_layout(finished):
    annotations = finished.folder / "data/smoke_cityscapes/annotations"
    assert all(
        (annotations / f"instancesonly_filtered_gtFine_{part}.json").is_file() for part in ("train", "val")
    )
    checked = json.loads((finished.folder / "results/smoke/data/smoke_cityscapes.json").read_text())
    assert [checked[part]["counts"]["images"] for part in ("train", "test")] == [16, 8]
    table = pd.read_csv(finished.folder / "results/smoke/tables/scenes.csv")
    assert list(table["detector"]) == ["retinanet"] and table["AP"].notna().all()


def test_a_backbone_starts_from_weights_that_were_fetched_beforehand(finished, published):
    url, weights = published
    name = url.rpartition("/")[2]
    assert (finished.folder / "data/weights" / name).is_file()
    run = finished.folder / "results/smoke/runs/smoke_coco/pretrained/none/seed0"
    trained = torch.load(run / "weights.pth", weights_only=True)
    frozen = [key for key in weights if key.startswith(("conv1.", "layer1.")) and "weight" in key]
    assert frozen and all(torch.equal(trained[f"backbone.{key}"], weights[key]) for key in frozen)
    assert not torch.equal(trained["backbone.layer4.0.conv1.weight"], weights["layer4.0.conv1.weight"])


def test_detections_are_packed_for_the_server(finished):
    run = finished.folder / "results/smoke/runs/smoke_coco/pretrained/none/seed0"
    with zipfile.ZipFile(run / ZIP) as archive:
        (name,) = archive.namelist()
        packed = json.loads(archive.read(name))
    assert name == "detections_test-dev2017_corrloss_results.json"
    # smoke's stand-in for test-dev is its own test images
    found = json.loads((run / "detections.bbox.json").read_text())
    keys = ("image_id", "category_id", "bbox", "score")
    assert packed == [{key: detection[key] for key in keys} for detection in found]
    assert [path.name for path in (run / "test_dev").iterdir()] == [(run / ZIP).name]


def test_a_second_call_has_nothing_to_do(finished):
    again = finished.snakemake("scenes", "submitted")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout, again.stdout


def test_finished_runs_say_what_runs_cost(finished):
    said = finished.snakemake("cost")
    assert said.returncode == 0, said.stdout
    rows = [[cell.strip() for cell in line.split("|")] for line in said.stdout.splitlines()]
    (names,) = (row for row in rows if row[1:2] == ["table"])
    (cells,) = (row for row in rows if row[1:2] == ["all, each run once"])
    row = dict(zip(names, cells, strict=True))
    assert (row["runs"], row["finished"]) == ("2", "2")
    assert "2 are" in said.stdout


def test_a_damaged_file_of_weights_stops_before_anything_is_trained(finished, published):
    """As half a file that was copied there by hand: refused by its checksum, removed, fetched again."""
    from corrloss.data.download import DownloadError, fetch_weights

    path = finished.folder / "elsewhere" / published[0].rpartition("/")[2]
    path.parent.mkdir()
    path.write_bytes(b"half")
    with pytest.raises(DownloadError, match="SHA256"):
        fetch_weights(published[0], path, progress=False)
    assert fetch_weights(published[0], path, progress=False)
