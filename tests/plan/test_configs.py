"""From a run to its config: what is set where, what the hash guards, and that a dump reads back the same."""

import ast
import copy
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from toy_project import ROOT, write_project

from corrloss.plan.config_files import dump, load
from corrloss.plan.configs import LOCAL, config_hash, resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.plan.schema import ExperimentError
from corrloss.plan.table_files import make_run

REAL = Experiments(ROOT)
DETECTORS = ("retinanet", "foveabox", "atss", "atss_no_aux", "paa", "paa_no_aux", "sparse_rcnn", "yolact")
CASES = list(itertools.product(DETECTORS, ("mini", "smoke", "paper")))


@pytest.fixture
def resolved(configs_cache):
    def resolve_one(detector, scale, coefficient="none", seed=0, **options):
        dataset = REAL.read("scale", scale)["datasets"]["coco"]
        variant = {"coefficient": coefficient, **options}
        run = make_run(scale, dataset, detector, variant, seed)
        return resolve(REAL, run, Path("data"), configs_cache / ".cache")

    return resolve_one


def walk(node, path=()):
    """Every (path, value) below a config."""
    yield path, node
    items = (
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list | tuple) else ()
    )
    for key, value in items:
        yield from walk(value, (*path, key))


def heads_of(config):
    """The heads that classify, found by their classes rather than by `correlation.at`."""
    return [
        node
        for path, node in walk(config["model"])
        if isinstance(node, dict)
        and "num_classes" in node
        and "mask" not in str(path[-1:])
        and "type" in node
    ]


@pytest.mark.parametrize(("detector", "scale"), CASES)
def test_a_detector_resolves_with_its_data_and_classes(detector, scale, resolved):
    config = resolved(detector, scale, seed=5)
    data = "coco" if scale == "paper" else f"{scale}_coco"
    classes = 80 if scale == "paper" else 4
    found = {value for path, value in walk(config["model"]) if path[-1:] == ("num_classes",)}
    assert found == {classes}
    for loader in ("train_dataloader", "test_dataloader"):
        dataset = config[loader]["dataset"]
        assert dataset["data_root"] == f"data/{data}/"
        assert dataset["ann_file"] and dataset["data_prefix"]["img"]
        assert ("metainfo" in dataset) == (scale != "paper")
    assert (
        config["train_dataloader"]["dataset"]["ann_file"] != config["test_dataloader"]["dataset"]["ann_file"]
    )
    assert config["randomness"] == {"seed": 5}
    assert config["bench"]["run"] == f"{data}/{detector}/none/seed5"
    assert config["bench"]["masks"] == (detector == "yolact")
    annotations = [
        s for s in config["train_dataloader"]["dataset"]["pipeline"] if s["type"] == "LoadAnnotations"
    ]
    assert [step.get("with_mask", False) for step in annotations] == [detector == "yolact"]


@pytest.mark.parametrize(("detector", "scale"), CASES)
def test_the_loss_is_in_the_classifying_heads_and_nowhere_else(detector, scale, resolved):
    config = resolved(detector, scale, "concordance", weight=0.25, gradient_to="both")
    heads = heads_of(config)
    assert len(heads) == (1 if detector != "sparse_rcnn" else config["model"]["roi_head"]["num_stages"])
    scope = {"retinanet": "level", "yolact": "image"}.get(detector, "batch")
    for head in heads:
        assert head["type"].startswith("Correlation")
        assert head["loss_corr"] == {
            "type": "CorrelationLoss",
            "coefficient": "concordance",
            "weight": 0.25,
            "scope": scope,
            "reduction": "sum" if detector == "yolact" else "mean",
            "gradient_to": "both",
        }
    assert len([path for path, _ in walk(config) if path[-1:] == ("loss_corr",)]) == len(heads)


@pytest.mark.parametrize(("detector", "scale"), CASES)
def test_the_baseline_differs_by_the_loss_alone(detector, scale, resolved):
    baseline, other = resolved(detector, scale), resolved(detector, scale, "pearson", weight=1)
    assert not [path for path, _ in walk(baseline) if path[-1:] == ("loss_corr",)]
    for head in heads_of(other):
        head.pop("loss_corr")
    for name in ("run", "code"):  # the code of the loss counts for the one alone
        other["bench"][name] = baseline["bench"][name]
    assert other == baseline


def test_options_of_a_run_override_those_of_the_detector(resolved):
    options = {"scope": "batch", "reduction": "mean", "strength": 0.01}
    (head,) = heads_of(resolved("yolact", "paper", "spearman", weight=0.2, **options))
    assert {key: head["loss_corr"][key] for key in options} == options


@pytest.mark.parametrize(("detector", "scale", "images"), [("retinanet", "paper", 2), ("atss", "mini", 4)])
def test_half_the_batch_changes_nothing_else(detector, scale, images, resolved):
    full, half = resolved(detector, scale), resolved(detector, scale, batch="half")
    assert half["train_dataloader"]["batch_size"] == images == full["train_dataloader"]["batch_size"] / 2
    half["train_dataloader"]["batch_size"] *= 2
    half["bench"]["run"] = full["bench"]["run"]
    assert half == full


@pytest.mark.parametrize(("detector", "scale"), [("retinanet", "mini"), ("retinanet", "paper")])
def test_a_length_stretches_what_counts_epochs_alone(detector, scale, resolved):
    recipe, twice = resolved(detector, scale), resolved(detector, scale, length=2)
    assert twice["train_cfg"]["max_epochs"] == 2 * recipe["train_cfg"]["max_epochs"]
    for one, two in zip(recipe["param_scheduler"], twice["param_scheduler"], strict=True):
        if one.get("by_epoch", True):
            assert two["end"] == 2 * one["end"] and two["begin"] == 2 * one["begin"]
            assert two.get("milestones", []) == [2 * epoch for epoch in one.get("milestones", [])]
        else:
            assert two == one
    unchanged = recipe.keys() - {"train_cfg", "param_scheduler", "bench"}
    assert all(twice[key] == recipe[key] for key in unchanged)


@pytest.mark.parametrize(("scale", "updates"), [("mini", 50), ("paper", 500)])
def test_the_onset_is_at_the_end_of_the_warm_up(scale, updates, resolved):
    plain = resolved("retinanet", scale, "spearman", weight=0.1)
    late = resolved("retinanet", scale, "spearman", weight=0.1, onset="after_warm_up")
    assert late["bench"].pop("onset") == {"kind": "after_warm_up", "updates": updates}
    late["bench"]["run"] = plain["bench"]["run"]
    assert late == plain


def test_hooks_of_a_recipe_that_no_training_runs_are_refused(project, forget, tmp_path):
    path = project / "experiments" / "detectors" / "toy.py"
    run, text = Run("mini", "shapes", "toy", "none", 0.0, 0), path.read_text()
    path.write_text(text + 'custom_hooks = [dict(type="CheckInvalidLossHook"), dict(type="EMAHook")]\n')
    forget()
    with pytest.raises(
        ExperimentError, match=r"toy\.py: at custom_hooks: .* found EMAHook: .* `custom_hooks = "
    ):
        resolve(Experiments(project), run, tmp_path)
    path.write_text(text + 'custom_hooks = [dict(type="CheckInvalidLossHook")]\n')
    forget()
    resolve(Experiments(project), run, tmp_path)


def test_without_a_warm_up_there_is_no_onset(project, forget, tmp_path):
    run = Run("mini", "shapes", "toy", "pearson", 0.2, 0, (("onset", "ramp"),))
    with pytest.raises(ExperimentError, match=r"`onset` needs a learning rate with a warm-up, .* remove"):
        resolve(Experiments(project), run, tmp_path)


def test_the_released_normaliser_is_an_argument_of_atss(resolved):
    options = dict(coefficient="concordance", weight=0.2)
    plain, released = (
        resolved("atss", "mini", **options),
        resolved("atss", "mini", normaliser="released", **options),
    )
    assert released["model"]["bbox_head"].pop("normaliser") == "released"
    assert released["model"] == plain["model"]
    with pytest.raises(ExperimentError, match="`normaliser` is an option of ATSS's heads"):
        resolved("retinanet", "mini", normaliser="released", **options)


def test_heads_are_classes_of_the_library():
    defined = {
        node.name
        for path in (ROOT / "corrloss" / "heads").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }
    for path in (ROOT / "experiments" / "detectors").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "head":
                assert node.value.value in defined, path


@pytest.mark.parametrize(("detector", "scale"), [case for case in CASES if case[1] != "paper"])
def test_small_scales_are_small_and_fetch_nothing(detector, scale, resolved):
    config = resolved(detector, scale)
    assert config["model"]["backbone"]["depth"] == 18
    assert not [value for path, value in walk(config) if path[-1:] == ("checkpoint",)]
    assert config["bench"]["gpus"] == 0
    epochs = config["train_cfg"]["max_epochs"]
    assert epochs == 1 if scale == "smoke" else 1 < epochs <= 20


def test_a_caller_may_change_what_it_got(resolved):
    first = resolved("atss", "mini")
    whole = copy.deepcopy(first)
    first["model"].clear()
    assert resolved("atss", "mini") == whole


# What the hash guards.


@pytest.fixture
def hash_of(tmp_path, forget):
    """Hash of the toy's run after some text of some file was replaced; each time in a project of its own."""
    counter = itertools.count()

    def hash_after(*changes, data_root=tmp_path / "data", **of_run):
        root = write_project(tmp_path / f"project{next(counter)}")
        for file, old, new in changes:
            path = root / "experiments" / file
            assert old in path.read_text()
            path.write_text(path.read_text().replace(old, new, 1))
        forget()
        fields = {"coefficient": "spearman", "weight": 0.2, "seed": 0, **of_run}
        run = Run("mini", "shapes", "toy", **fields)
        return config_hash(resolve(Experiments(root), run, data_root))

    return hash_after


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("detectors/toy.py", "model = dict(", "# a comment\nmodel = dict("),
        ("detectors/toy.py", "model = dict(", "unused = 1\nmodel = dict("),
        ("detectors/toy.py", 'model = dict(type="Toy", ', 'model = dict(  type = "Toy",\n'),
        ("detectors/toy.py", 'visualizer = dict(type="DetLocalVisualizer")', "visualizer = None"),
        ("detectors/toy.py", "num_workers=2", "num_workers=8, persistent_workers=True"),
        ("detectors/toy.py", 'data_root="?"', 'data_root="elsewhere", backend_args=dict(backend="petrel")'),
        ("detectors/toy.py", '"batch")', '"batch", reduction="mean")'),
        ("scales/mini.yaml", "gpus: 0", "gpus: 0  # a comment"),
        ("scales/mini.yaml", "model:", "train_dataloader: {num_workers: 3}\n  model:"),
        ("datasets/shapes.py", "classes", 'make = dict(type="mini_coco", train_images=9)\nclasses'),
    ],
)
def test_what_does_not_decide_leaves_the_hash(hash_of, file, old, new):
    assert hash_of((file, old, new)) == hash_of()


def test_where_the_data_lies_leaves_the_hash(hash_of, tmp_path):
    assert hash_of(data_root=tmp_path / "elsewhere") == hash_of()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("detectors/toy.py", "batch_size=4", "batch_size=2"),
        ("detectors/toy.py", "lr=0.01", "lr=0.02"),
        ("detectors/toy.py", "max_epochs=12", "max_epochs=13"),
        ("detectors/toy.py", "[8, 11]", "[8, 10]"),
        ("detectors/toy.py", "(1333, 800)", "(1333, 801)"),
        ("detectors/toy.py", 'type="Toy"', 'type="Other"'),
        ("detectors/toy.py", "width=32", "width=16"),
        ("detectors/toy.py", "CorrelationToyHead", "CorrelationOtherHead"),
        ("detectors/toy.py", 'scope="batch"', 'scope="image"'),
        ("detectors/toy.py", '"batch")', '"batch", reduction="sum")'),
        ("detectors/toy.py", "small =", "masks = True\nsmall ="),
        ("scales/mini.yaml", "depth: 18", "depth: 34"),
        ("scales/mini.yaml", "processes: 1", "processes: 2"),
        ("scales/mini.yaml", "section: small", "section: null"),
        ("datasets/shapes.py", '"square"', '"square", "star"'),
        ("datasets/shapes.py", "train.json", "train2.json"),
        ("datasets/shapes.py", "test.json", "test2.json"),
        ("datasets/shapes.py", 'img="train/"', 'img="other/"'),
    ],
)
def test_what_decides_changes_the_hash(hash_of, file, old, new):
    assert hash_of((file, old, new)) != hash_of()


@pytest.mark.parametrize(
    "change",
    [{"weight": 0.3}, {"coefficient": "pearson"}, {"seed": 1}, {"options": (("strength", 0.1),)}],
)
def test_what_the_run_is_changes_the_hash(hash_of, change):
    assert hash_of(**change) != hash_of()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), inner, max_size=3)
    ),
    max_leaves=12,
)
CONFIGS = st.dictionaries(st.from_regex(r"[a-z]{3,6}_x", fullmatch=True), PLAIN, max_size=4)


@given(CONFIGS, PLAIN, st.sampled_from(sorted(LOCAL)))
def test_the_hash_does_not_see_where_things_are(config, value, key):
    assert config_hash({**config, key: value, "deep": [{key: value}]}) == config_hash(
        {**config, "deep": [{}]}
    )


@given(CONFIGS, st.randoms(use_true_random=False))
def test_the_hash_does_not_see_the_order_of_keys(config, random):
    keys = list(config)
    random.shuffle(keys)
    assert config_hash({key: config[key] for key in keys}) == config_hash(config)


@given(CONFIGS, PLAIN, PLAIN)
def test_the_hash_sees_every_other_value(config, one, other):
    def as_lists(node):
        if isinstance(node, dict):
            return {key: as_lists(value) for key, value in node.items()}
        return [as_lists(value) for value in node] if isinstance(node, list | tuple) else node

    same = repr(as_lists(one)) == repr(as_lists(other))
    if same or as_lists(one) != as_lists(other):  # not 1 and 1.0 and True, equal in Python
        assert (config_hash({**config, "it": one}) == config_hash({**config, "it": other})) == same


# A dump reads back the same.


def kinds(config):
    return {path: type(value) for path, value in walk(config)}


@pytest.mark.parametrize(("detector", "scale"), CASES)
def test_mmengine_reads_a_dump_back_unchanged(detector, scale, resolved, tmp_path):
    config = resolved(detector, scale, "spearman", weight=0.2, strength=0.001)
    path = tmp_path / "config.py"
    path.write_text(dump(config), encoding="utf-8")
    again = Config.fromfile(str(path)).to_dict()
    assert again == config and kinds(again) == kinds(config)
    assert load(path).to_dict() == again
    assert tuple in kinds(config).values()
    assert config_hash(again) == config_hash(config)


@settings(max_examples=40)
@given(CONFIGS)
def test_mmengine_reads_any_plain_config_back(tmp_path_factory, config):
    path = tmp_path_factory.mktemp("dump") / "config.py"
    path.write_text(dump(config), encoding="utf-8")
    again = Config.fromfile(str(path), lazy_import=False).to_dict()
    assert again == config and kinds(again) == kinds(config)
    if {"model", "bench", "randomness"} <= config.keys():
        assert load(path).to_dict() == again


def test_a_dump_is_read_by_people(resolved):
    text = dump(resolved("retinanet", "paper", "spearman", weight=0.1))
    assert max(map(len, text.splitlines())) <= 130
    assert text.startswith("default_scope = 'mmdet'\nmodel = {'type': 'RetinaNet',")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no model, bench, randomness"),
        ("model = {}\nbench = {}\n", "no randomness"),
        ("model = {'type': 'To", "unterminated string"),
        ("model = {'type': 'Toy'\n", "was never closed"),
        ("model = dict(type='Toy')\nbench = {}\nrandomness = {}\n", "malformed node"),
        ("import os\nmodel = {}\n", "line 1 is no setting"),
        ("model = {}\nopen('pwned', 'w')\n", "line 2 is no setting"),
        ("model = open('pwned', 'w')\n", "malformed node"),
        ("model = " + "[" * 500, "too many nested"),
    ],
)
def test_a_config_that_is_not_whole_or_more_than_values_is_refused_and_not_run(
    tmp_path, monkeypatch, text, said
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(ExperimentError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not readable as a run's config (") and said in message
    assert not (tmp_path / "pwned").exists()


# A data set inside a wrapper.

WRAPPED = "train_dataloader = dict(batch_size=4, num_workers=2, dataset={})"


@pytest.fixture
def resolved_with(project, tmp_path, forget):
    """The toy's config where its training images are in a wrapper."""

    def resolve_one(wrapper):
        path = project / "experiments" / "detectors" / "toy.py"
        text = path.read_text()
        assert WRAPPED.format("images") in text
        path.write_text(text.replace(WRAPPED.format("images"), WRAPPED.format(wrapper)))
        scale = project / "experiments" / "scales" / "mini.yaml"
        overrides = "overrides:\n  train_dataloader: {dataset: {filter_cfg: {min_size: 7}}}\n"
        scale.write_text(scale.read_text().replace("overrides:\n", overrides))
        forget()
        return resolve(Experiments(project), Run("mini", "shapes", "toy", "none", 0.0, 0), tmp_path)

    return resolve_one


@pytest.mark.parametrize(
    ("wrapper", "own"),
    [
        ('dict(type="RepeatDataset", times=4, dataset=images)', {"times": 4}),
        ('dict(type="ClassBalancedDataset", oversample_thr=0.1, dataset=images)', {"oversample_thr": 0.1}),
        ('dict(type="MultiImageMixDataset", pipeline=[resize], dataset=images)', {"pipeline"}),
        (
            'dict(type="RepeatDataset", times=2, dataset=dict(type="Repeat", times=3, dataset=images))',
            {"times": 2},
        ),
    ],
)
def test_settings_reach_the_data_set_in_a_wrapper(resolved_with, tmp_path, wrapper, own):
    outer = resolved_with(wrapper)["train_dataloader"]["dataset"]
    assert outer.keys() == {"type", "dataset", *own}
    inner = outer["dataset"].get("dataset", outer["dataset"])
    assert inner["type"] == "CocoDataset" and inner["filter_cfg"] == {"min_size": 7}
    assert (inner["data_root"], inner["ann_file"]) == (f"{tmp_path}/shapes/", "train.json")
    assert inner["metainfo"] == {"classes": ("circle", "square")}


def test_several_data_sets_in_a_wrapper_are_refused(resolved_with):
    wrapper = 'dict(type="ConcatDataset", datasets=[images, images])'
    with pytest.raises(ExperimentError, match=r"toy\.py: at train_dataloader\.dataset: .* got ConcatDataset"):
        resolved_with(wrapper)


def test_images_are_not_mixed_after_they_are_packed(project, resolved_with):
    data = project / "experiments" / "datasets" / "shapes.py"
    pipeline = 'img="train/", pipeline=[dict(type="LoadImageFromFile")]'
    data.write_text(data.read_text().replace('img="train/"', pipeline))
    with pytest.raises(ExperimentError, match=r"toy\.py: at train_dataloader\.dataset: .* got Multi"):
        resolved_with('dict(type="MultiImageMixDataset", pipeline=[resize], dataset=images)')
