import hotcoco
import numpy as np
import pytest
from any_value import KEYS, VALUE, small_dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_coco import make_dataset, write

from corrloss.coco import DataSetError, load_ground_truth
from corrloss.coco.check import check_coco


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda d: d.pop("categories"), "no list 'categories'"),
        (
            lambda d: d["annotations"][2].pop("area"),
            r"annotations\[2\] .*expected 'area', .*missing",
        ),
        (lambda d: d["annotations"][2].update(id=d["annotations"][1]["id"]), "found this id twice"),
        (lambda d: d["annotations"][2].update(image_id=10**7), "'image_id' 10000000 is not in images"),
        (
            lambda d: d["annotations"][2].update(category_id=10**7),
            "10000000 is not in categories",
        ),
        (lambda d: d["annotations"][2].update(bbox=[0, 0, -1, 1]), "width and height not negative, found"),
        (lambda d: d["annotations"][2].update(area=float("nan")), "area"),
        (
            lambda d: d["annotations"][2].update(category_id=True),
            r"annotations\[2\] .*'category_id'.*found True",
        ),
        (lambda d: d["annotations"][2].update(bbox=[0, 0, True, 1]), r"annotations\[2\] .*'bbox' to be"),
        (lambda d: d["images"][2].update(file_name="../../etc/passwd"), r"images\[2\] .*points out of"),
    ],
)
def test_a_broken_annotation_file_is_named(tmp_path, break_it, message):
    dataset = make_dataset(0, images=6)
    break_it(dataset)
    with pytest.raises(DataSetError, match=message) as error:
        load_ground_truth(write(tmp_path / "annotations.json", dataset))
    assert "annotations.json" in str(error.value)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(["images", "categories", "annotations"]), st.sampled_from(KEYS), VALUE)
def test_any_value_in_annotations_is_read_or_refused(tmp_path_factory, section, key, value):
    """And what the check of a data set lets pass can be evaluated."""
    dataset = small_dataset()
    dataset[section][1][key] = value
    path = write(tmp_path_factory.getbasetemp() / "annotations.json", dataset)
    in_order = check_coco(path.parent, path.name, "none", images="none").ok
    try:
        truth = load_ground_truth(path)
    except DataSetError as error:
        assert str(path) in str(error) and not in_order
    else:
        assert len(truth) == 2 and np.isfinite(truth.bbox).all()
        hotcoco.COCO(truth.document())
