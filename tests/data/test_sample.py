"""The sample of COCO: shares against counts in plain Python, the rule against exact fractions, the file."""

import hashlib
import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from synthetic_coco import make_dataset

from corrloss.coco import DataSetError, load_ground_truth
from corrloss.coco.check import check_coco
from corrloss.data.sample import check_sample, choose_images, read_objects, statistics, write_sample


def write(path, document):
    path.write_text(json.dumps(document))
    return path


def kind_of(annotation):
    if annotation["iscrowd"]:
        return "crowd"
    size = sum(annotation["area"] >= limit for limit in (1024, 9216))
    return annotation["category_id"], size


def kinds(document):
    """Number of objects of each class and size, of crowds, and of images without an annotation."""
    counts = Counter(map(kind_of, document["annotations"]))
    counts["nothing"] = len({i["id"] for i in document["images"]} - image_ids(document["annotations"]))
    return counts


def image_ids(annotations):
    return {annotation["image_id"] for annotation in annotations}


@pytest.fixture(scope="module")
def full():
    return make_dataset(3, images=1500, categories=12, objects=4.0)


@pytest.fixture
def source(tmp_path, full):
    return write(tmp_path / "full.json", full)


def sample_of(source, images=150, seed=0):
    output = source.with_name("sample.json")
    write_sample(source, output, images=images, seed=seed)
    return json.loads(output.read_text())


def test_each_class_and_size_has_its_share_of_the_objects(source, full):
    found, all_kinds = kinds(sample_of(source)), kinds(full)
    expected = {kind: count / 10 for kind, count in all_kinds.items()}
    assert max(abs(found[kind] - number) for kind, number in expected.items()) < 1.5
    objects = read_objects(source)
    random = objects.of(choose_images(objects, 150, 0, exchange=False))
    misfit = np.abs(random.counts - objects.counts / 10).max()
    assert misfit > 4  # as in a simple random sample


def test_most_of_the_sample_is_a_simple_random_one(source):
    objects = read_objects(source)
    sample, random = (choose_images(objects, 150, 0, exchange=flag) for flag in (True, False))
    assert sample.sum() == random.sum() == 150
    assert 0 < (sample & ~random).sum() <= 15
    hashed = sorted(objects.image_ids.tolist(), key=lambda i: hashlib.sha256(f"0 {i}".encode()).digest())
    assert set(objects.image_ids[random].tolist()) == set(hashed[:150])


def misfit(chosen, contents, totals):
    """The sum that exchanges reduce, as a fraction."""
    found = sum((contents[image] for image in chosen), Counter())
    share = Fraction(30, len(contents))
    return sum((found[kind] - share * total) ** 2 / total for kind, total in totals.items())


@pytest.mark.parametrize("seed", range(3))
def test_exchanges_are_those_of_the_rule_in_exact_fractions(tmp_path, seed):
    document = make_dataset(seed, images=120, categories=3, objects=2.0)
    contents = {image["id"]: Counter() for image in document["images"]}
    for annotation in document["annotations"]:
        contents[annotation["image_id"]][kind_of(annotation)] += 1
    for found in contents.values():
        if not found:
            found["nothing"] = 1
    totals = sum(contents.values(), Counter())
    order = sorted(contents, key=lambda i: hashlib.sha256(f"{seed} {i}".encode()).digest())
    chosen = set(order[:30])
    for _ in range(3):
        outside = [image for image in order if image not in chosen]
        added = min(outside, key=lambda image: misfit(chosen | {image}, contents, totals))
        inside = [image for image in order if image in chosen | {added}]
        removed = min(inside, key=lambda image: misfit((chosen | {added}) - {image}, contents, totals))
        chosen = (chosen | {added}) - {removed}
    objects = read_objects(write(tmp_path / "full.json", document))
    assert set(objects.image_ids[choose_images(objects, 30, seed)].tolist()) == chosen


def test_the_order_of_the_file_does_not_matter_and_the_seed_does(source, tmp_path, full):
    def ids(document, seed=0):
        objects = read_objects(write(tmp_path / "other.json", document))
        return set(objects.image_ids[choose_images(objects, 150, seed)].tolist())

    turned = full | {key: full[key][::-1] for key in ("images", "annotations")}
    assert ids(full) == ids(turned)
    assert len(ids(full) & ids(full, seed=1)) < 50


def test_entries_are_those_of_the_source_word_for_word(source, full):
    full_text = source.read_text().replace(" ", "")
    document = sample_of(source)
    chosen = {image["id"] for image in document["images"]}
    assert document["images"] == [image for image in full["images"] if image["id"] in chosen]
    assert document["annotations"] == [a for a in full["annotations"] if a["image_id"] in chosen]
    assert document["categories"] == full["categories"]
    text = source.with_name("sample.json").read_text().replace(" ", "")
    assert all(json.dumps(a).replace(" ", "") in text for a in document["annotations"])
    assert document["info"]["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.dumps(document["images"][0]).replace(" ", "") in full_text


def test_the_file_is_one_that_everything_else_accepts(source):
    sample_of(source)
    path = source.with_name("sample.json")
    assert len(load_ground_truth(path).image_ids) == 150
    assert check_coco(path.parent, path.name, "", images="none").ok
    check_sample(path, images=150, seed=0)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_an_edited_sample_is_refused(source, key):
    document = sample_of(source)
    path = source.with_name("sample.json")
    del document[key][-1]
    path.write_text(json.dumps(document, separators=(",", ":")))
    with pytest.raises(DataSetError, match=r"sample\.json: expected the entries .* was edited\. Delete"):
        check_sample(path, images=150, seed=0)


def test_a_sample_of_other_arguments_or_another_file_is_refused(source):
    sample_of(source)
    with pytest.raises(DataSetError, match="expected a sample of 100 images with seed 1, found one of 150"):
        check_sample(source.with_name("sample.json"), images=100, seed=1)
    with pytest.raises(DataSetError, match="found one of 0 images with seed -1"):
        check_sample(write(source, {"images": [], "annotations": [], "categories": [], "info": {}}), images=9)
    with pytest.raises(DataSetError, match=r"missing\.json: cannot read"):
        check_sample(source.with_name("missing.json"), images=9)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"images": 1500}, "expected more images than the sample of 1,500 has, found 1,500"),
        ({}, {"expected": "coco_2017_train"}, "expected 118,287 images, .* another year or split"),
        ({"images": 3}, {}, "another file or a truncated one"),
        ({"images": []}, {}, r"annotations\[0\]: 'image_id' \d+ is not in the file; [\d,]+ annotations"),
        ({"categories": []}, {}, r"annotations\[0\]: 'category_id'"),
        ({"annotations": [{"id": 1}]}, {}, "an entry is not valid"),
    ],
)
def test_a_source_that_does_not_fit_is_refused_and_nothing_is_written(
    tmp_path, full, change, options, message
):
    source = write(tmp_path / "full.json", full | change)
    with pytest.raises(DataSetError, match=message):
        write_sample(source, tmp_path / "sample.json", **({"images": 150} | options))
    assert [path.name for path in tmp_path.iterdir()] == ["full.json"]


def test_the_statistics_are_those_of_a_count_in_plain_python(source, full):
    document = sample_of(source)
    sample = read_objects(source.with_name("sample.json"))
    summary, classes = statistics(read_objects(source), {"sample": sample}).split("\n\n")
    rows = dict(line.strip("| ").split(" | ", 1) for line in summary.splitlines())
    objects = [[a for a in d["annotations"] if not a["iscrowd"]] for d in (full, document)]
    assert rows["objects"] == " | ".join(f"{len(one):,}" for one in objects)
    small = [100 * sum(a["area"] < 1024 for a in one) / len(one) for one in objects]
    assert rows["small objects, %"] == f"{small[0]:.2f} | {small[1]:.2f}"
    shares = [Counter(a["category_id"] for a in one) for one in objects]
    distance = 50 * sum(
        abs(shares[0][c["id"]] / len(objects[0]) - shares[1][c["id"]] / len(objects[1]))
        for c in full["categories"]
    )
    assert rows["classes: total variation distance, %"] == f"0.000 | {distance:.3f}"
    first = full["categories"][0]
    numbers = [share[first["id"]] for share in shares]
    assert classes.splitlines()[2].startswith(
        f"| {first['name']} | {numbers[0]:,} | {numbers[1]:,} | {numbers[0] / 10:,.1f} |"
    )
