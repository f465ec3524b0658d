"""Data sets by their file in experiments/datasets: made, converted, checked, and copied badly."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from corrloss.cli import app
from corrloss.coco import DataSetError
from corrloss.coco.published import COCO_CATEGORIES
from corrloss.data import dataset as module
from corrloss.data.cityscapes import convert_cityscapes
from corrloss.data.dataset import check_dataset, fetch_sample, make_dataset
from corrloss.plan.detectors import load_settings

ROOT = Path(__file__).parents[2]
DATASETS = ROOT / "experiments" / "datasets"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """smoke_coco and smoke_cityscapes, made and converted as the rules do it."""
    root = tmp_path_factory.mktemp("data")
    for name in ("smoke_coco", "smoke_cityscapes"):
        data = load_settings(DATASETS / f"{name}.py")
        make_dataset(root / data["folder"], data["make"])
        for part, split in data.get("convert", {}).items():
            convert_cityscapes(
                root / data["folder"], split, root / data["folder"] / data[part]["ann_file"], workers=1
            )
    return root


@pytest.fixture
def root(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "data"))


@pytest.fixture(params=["smoke_coco", "smoke_cityscapes"])
def data(request):
    return load_settings(DATASETS / f"{request.param}.py")


def check(root, data, **changes):
    return check_dataset(root / data["folder"], {**data, **changes})


def test_embedded_data_sets_are_in_order(root, data):
    report = check(root, data)
    assert {part: report[part]["counts"]["images"] for part in report} == {
        "train": data["make"]["train_images"],
        "test": data["make"]["val_images"],
    }


def test_making_a_set_again_keeps_its_annotations(root, data):
    annotations = root / data["folder"] / data["train"]["ann_file"]
    before = annotations.read_bytes()
    make_dataset(root / data["folder"], data["make"])
    assert annotations.read_bytes() == before


def test_a_set_of_another_seed_takes_converted_annotations_with_it(root):
    data = load_settings(DATASETS / "smoke_cityscapes.py")
    make_dataset(root / data["folder"], {**data["make"], "seed": 1})
    assert not (root / data["folder"] / data["train"]["ann_file"]).exists()


def test_a_part_that_a_set_has_not_is_not_looked_for(root, data):
    without = {key: value for key, value in data.items() if key != "train"}
    assert list(check(root, without)) == ["test"]


def test_a_half_copied_set_is_refused_with_the_images_that_are_missing(root, data):
    images = sorted((root / data["folder"] / data["train"]["img"]).rglob("*.png"))
    for image in images[len(images) // 2 :]:
        image.unlink()
    with pytest.raises(DataSetError, match=rf"image_missing \({len(images) - len(images) // 2}\)") as caught:
        check(root, data, check_images="sample")
    assert images[-1].name in str(caught.value) or "more" in str(caught.value)


def test_an_image_cut_short_is_refused(root, data):
    image = sorted((root / data["folder"] / data["test"]["img"]).rglob("*.png"))[0]
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DataSetError, match=rf"image_unreadable[\s\S]*{image.name}"):
        check(root, data)


def test_nothing_there_is_refused_with_both_annotation_files(tmp_path, data):
    with pytest.raises(DataSetError) as caught:
        check(tmp_path, data)
    for part in ("train", "test"):
        assert str(tmp_path / data["folder"] / data[part]["ann_file"]) in str(caught.value)


@pytest.mark.parametrize(
    ("published", "name", "said"),
    [
        ("coco", "smoke_coco", ["24 images", "118,287", "images"]),
        ("cityscapes", "smoke_cityscapes", ["16 images", "2,975"]),
    ],
)
def test_annotations_of_another_year_or_a_part_of_them_are_refused(root, published, name, said):
    settings = load_settings(DATASETS / f"{published}.py")
    data = load_settings(DATASETS / f"{name}.py")
    expected = {part: {**data[part], "expected": settings[part]["expected"]} for part in ("train", "test")}
    with pytest.raises(DataSetError, match=r"ERROR count") as caught:
        check(root, {**data, **expected})
    assert [part for part in said if part not in str(caught.value)] == []


def test_training_and_test_annotations_that_were_swapped_are_refused(root, data):
    folder = root / data["folder"]
    train, test = (folder / data[part]["ann_file"] for part in ("train", "test"))
    (folder / "aside").write_bytes(train.read_bytes())
    train.write_bytes(test.read_bytes())
    test.write_bytes((folder / "aside").read_bytes())
    with pytest.raises(DataSetError, match=r"image_missing|image_size"):
        check(root, data)


def test_test_dev_is_a_list_of_images_without_annotations(root):
    data = load_settings(DATASETS / "coco_test_dev.py")
    assert "train" not in data and data["test"]["expected"] == "coco_2017_test_dev"
    folder = root / data["folder"]
    (folder / "annotations").mkdir(parents=True)
    smoke = json.loads((root / "smoke_coco" / "annotations" / "instances_val.json").read_text())
    (folder / data["test"]["ann_file"]).write_text(json.dumps({**smoke, "annotations": []}))
    with pytest.raises(DataSetError, match="count") as caught:  # not the published list
        check(root, data)
    assert "no_annotations" not in str(caught.value)


TABLE = """\
title: One detector
data: coco
metrics: [AP]
rows:
  - {detector: %s, variants: [{coefficient: none}]}
"""


@pytest.fixture
def check_data(root, tmp_path):
    """`corrloss check-data` on smoke_coco in a project with one detector."""

    def run(detector, min_size=0):
        project = tmp_path / "project"
        for name in ("experiments", "config", "workflows/schemas"):
            shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("tables", "*.pyc"))
        (project / "experiments" / "tables").mkdir()
        (project / "experiments" / "tables" / "one.yaml").write_text(TABLE % detector)
        scale = project / "experiments" / "scales" / "mini.yaml"  # which smoke extends
        assert "min_size: 0" in scale.read_text()
        scale.write_text(scale.read_text().replace("min_size: 0", f"min_size: {min_size}"))
        settings = ["scale=smoke", f"data_root={root}", f"results={tmp_path / 'results'}"]
        return CliRunner().invoke(app, ["check-data", "smoke_coco", *settings, "--root", str(project)])

    return run


def change(root, key, **values):
    for path in (root / "smoke_coco" / "annotations").glob("*.json"):
        document = json.loads(path.read_text())
        for entry in document[key]:
            entry.update(values)
        path.write_text(json.dumps(document))


def test_the_command_knows_that_a_detector_needs_masks(root, check_data):
    change(root, "annotations", segmentation=[])
    done = check_data("yolact")
    assert done.exit_code == 1 and "mask_missing" in done.stderr and "instances_train.json" in done.stderr


def test_the_command_accepts_boxes_for_a_detector_of_boxes_and_prints_its_warnings(
    root, check_data, tmp_path
):
    change(root, "annotations", segmentation=[])
    (root / "smoke_coco" / "val" / "notes.txt").touch()
    done = check_data("retinanet")
    assert done.exit_code == 0, done.output
    assert "warning image_unlisted (1)" in done.stderr and "notes.txt" in done.stderr
    checked = json.loads((tmp_path / "results" / "smoke" / "data" / "smoke_coco.json").read_text())
    assert checked["test"]["warnings"] == {"image_unlisted": 1}


def test_the_command_knows_the_minimum_size_of_an_image(check_data):
    done = check_data("retinanet", min_size=999)
    assert done.exit_code == 1
    assert "nothing_to_train" in done.stderr and "a side below 999 pixels" in done.stderr


# A sample -----------------------------------------------------------------------------------------


@pytest.fixture
def full(tmp_path):
    """A folder in COCO's layout, 20 training images with an object each; coco_small's file for it."""
    data = load_settings(DATASETS / "coco_small.py")
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "train2017").mkdir()
    images, annotations = [], []
    for number in range(1, 21):
        name = f"{number:012d}.jpg"
        Image.new("RGB", (40, 40)).save(folder / "train2017" / name)
        address = f"http://images.cocodataset.org/train2017/{name}"
        images.append({"id": number, "file_name": name, "width": 40, "height": 40, "coco_url": address})
        box = {"bbox": [1, 1, 20, 20], "area": 400, "iscrowd": 0, "category_id": 1 + number % 2}
        annotations.append({"id": number, "image_id": number} | box)
    categories = [{"id": key, "name": name} for key, name in COCO_CATEGORIES.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / data["sample"]["of"]["ann_file"]).write_text(json.dumps(document))
    of = {key: data["sample"]["of"][key] for key in ("ann_file", "img")}
    return folder, {"train": data["train"], "num_classes": 80, "sample": {"images": 6, "seed": 0, "of": of}}


def test_a_sample_is_made_linked_and_in_order(full):
    folder, data = full
    assert fetch_sample(folder, data, progress=False) == {"present": 0, "linked": 6, "downloaded": 0}
    assert fetch_sample(folder, data, progress=False) == {"present": 6, "linked": 0, "downloaded": 0}
    report = check_dataset(folder, data)
    assert report["train"]["counts"] | {"images": 6, "annotations": 6} == report["train"]["counts"]
    assert report["train"]["warnings"] == {}


def test_test_images_may_be_a_sample(full):
    folder, data = full
    data["sample"]["part"], data["test"] = "test", data.pop("train")
    assert fetch_sample(folder, data, progress=False) == {"present": 0, "linked": 6, "downloaded": 0}
    report = check_dataset(folder, data)
    assert list(report) == ["test"] and report["test"]["counts"]["images"] == 6


def test_an_edited_sample_is_refused_by_the_check(full):
    folder, data = full
    fetch_sample(folder, data, progress=False)
    path = folder / data["train"]["ann_file"]
    path.write_text(path.read_text().replace('"area": 400', '"area": 399', 1))
    with pytest.raises(DataSetError, match=r"instances_small2017\.json: expected the entries .* was edited"):
        check_dataset(folder, data)


def test_of_published_coco_only_what_is_missing_is_downloaded_and_another_year_is_refused(full, monkeypatch):
    folder, data = full
    asked = []
    monkeypatch.setattr(module, "download_coco", lambda folder, parts, **options: asked.append(list(parts)))
    data["sample"]["of"]["expected"] = "coco_2017_train"
    with pytest.raises(
        DataSetError, match=r"expected 118,287 images, .* found 20, 20 and 80: the file is of an"
    ):
        fetch_sample(folder, data, progress=False)
    assert asked == [["val2017", "annotations"]]  # instances_val2017.json is not there
    data["sample"]["of"]["expected"] = "coco_2017_val"
    with pytest.raises(DataSetError, match=r"expected 5,000 images, .* found 20"):
        fetch_sample(folder, data, progress=False)
    assert asked[1:] == [["annotations"]]
    assert not (folder / data["train"]["ann_file"]).exists()
