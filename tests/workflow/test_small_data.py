"""Scale small from the plan to a table, on made images in COCO's layout: sample, images one by one, runs."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from coco_layout import made_coco
from project import Project
from typer.testing import CliRunner

from corrloss.cli import app

pytestmark = pytest.mark.slow

SCALE = "extends: smoke\ndatasets: {coco: coco_small}\n"
# The real file with a sample of 12 images, of a set that is not the published one.
DATASET = """\
_base_ = "./published.py"
full = dict(_delete_=True, ann_file="annotations/instances_train2017.json", img="train2017/")
sample = dict(images=12, of=full)
test = dict(_delete_=True, ann_file="annotations/instances_val2017.json", img="val2017/", pipeline={pipeline})
"""
TABLE = {
    "title": "One detector",
    "data": "coco",
    "metrics": ["AP", "AP50"],
    "rows": [
        {
            "detector": "retinanet",
            "variants": [{"coefficient": "none"}, {"coefficient": "spearman", "weight": 0.1}],
        }
    ],
}


class Host(ThreadingHTTPServer):
    """A folder, of which every tenth request fails."""

    daemon_threads, request_queue_size = True, 128

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.paths = []


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        if len(self.server.paths) % 10 == 3:
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A server that has train2017."""
    folder = tmp_path_factory.mktemp("host")
    made_coco(folder)
    server = Host(folder)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server, folder
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def project(tmp_path_factory, host):
    """A project whose scale `tiny` is that of the tests on the data set of scale small, without train2017."""
    _, folder = host
    made = Project(tmp_path_factory.mktemp("project"), TABLE)
    experiments = made.folder / "experiments"
    (experiments / "scales" / "tiny.yaml").write_text(SCALE)
    published = experiments / "datasets" / "coco_small.py"
    published.rename(published.with_name("published.py"))
    settings = {}
    exec(published.with_name("published.py").read_text(), settings)
    published.write_text(DATASET.format(pipeline=settings["test"]["pipeline"]))
    coco = made.folder / "data" / "coco"
    coco.mkdir(parents=True)
    for name in ("annotations", "val2017"):
        (folder / name).rename(coco / name)
    return made


@pytest.fixture
def call(project, host, monkeypatch):
    """Call Snakemake at scale `tiny`."""
    monkeypatch.setenv("CORRLOSS_COCO_HOST", f"http://127.0.0.1:{host[0].server_address[1]}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return partial(project.snakemake, config=("scale=tiny",))


@pytest.fixture(scope="module")
def finished():
    """Whether the first test, which makes the tables, has passed: the others look at what it left."""
    return {}


def test_from_the_plan_to_a_table(project, host, call, finished):
    plan = call("pair", "-n")
    assert plan.returncode == 0 and "fetch_coco_small" in plan.stdout, plan.stdout
    assert host[0].paths == []
    done = call("pair")
    assert done.returncode == 0, done.stdout
    coco = project.folder / "data" / "coco"
    sample = json.loads((coco / "annotations" / "instances_small2017.json").read_text())
    names = {image["file_name"] for image in sample["images"]}
    assert len(names) == 12
    assert {path.name for path in (coco / "small2017").iterdir()} == names
    assert {path.rpartition("/")[2] for path in host[0].paths} == names  # and no other image was fetched
    checked = json.loads((project.folder / "results/tiny/data/coco_small.json").read_text())
    assert [checked[part]["counts"]["images"] for part in ("train", "test")] == [12, 8]
    table = pd.read_csv(project.folder / "results/tiny/tables/pair.csv")
    assert list(table["coefficient"]) == ["none", "spearman"] and table["AP"].notna().all()
    assert "Nothing to be done" in call("pair").stdout
    finished["tables"] = True


def test_the_statistics_of_the_sample_are_printed(project, finished):
    if not finished:
        pytest.skip("the sample was not made")
    said = CliRunner().invoke(
        app,
        [
            "sample-statistics",
            "coco_small",
            "scale=tiny",
            f"--root={project.folder}",
            f"data_root={project.folder / 'data'}",
        ],
    )
    assert said.exit_code == 0, said.output
    assert "| images | 60 | 12 | 12 |" in said.output and "| person |" in said.output


def test_a_sample_that_was_edited_by_hand_stops_everything(project, call, finished):
    if not finished:
        pytest.skip("the sample was not made")
    path = project.folder / "data/coco/annotations/instances_small2017.json"
    whole = path.read_text()
    document = json.loads(whole)
    document["annotations"] = document["annotations"][:-1]
    path.write_text(json.dumps(document))
    done = call("pair")
    assert done.returncode != 0 and "the file was edited. Delete the file" in done.stdout, done.stdout
    path.unlink()
    again = call("results/tiny/data/coco_small.json")
    assert again.returncode == 0, again.stdout
    assert json.loads(path.read_text()) == json.loads(whole)


def test_half_of_val2017_stops_everything(project, call, finished):
    if not finished:
        pytest.skip("the sample was not made")
    images = sorted((project.folder / "data/coco/val2017").iterdir())[:4]
    for image in images:
        image.rename(project.folder / image.name)
    report = "results/tiny/data/coco_small.json"
    (project.folder / report).unlink()
    done = call(report)
    assert done.returncode != 0 and "image_missing (4)" in done.stdout, done.stdout
    for image in images:
        (project.folder / image.name).rename(image)
    assert call(report).returncode == 0


def test_nothing_is_fetched_where_train2017_is_on_disk(project, host, call, finished):
    if not finished:
        pytest.skip("the sample was not made")
    coco = project.folder / "data" / "coco"
    (host[1] / "train2017").rename(coco / "train2017")
    shutil.rmtree(coco / "small2017")
    before = len(host[0].paths)
    done = call("pair")
    assert done.returncode == 0 and "fetch_coco_small" in done.stdout, done.stdout
    assert len(host[0].paths) == before
    assert all(path.is_symlink() for path in (coco / "small2017").iterdir())
