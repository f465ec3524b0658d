"""Published weights: a local file takes the place of each; a run depends on the weights, not their place."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from corrloss.data.download import checksum_of
from corrloss.plan.configs import config_hash
from corrloss.plan.matrix import load_matrix
from corrloss.plan.pretrained import address_of, use_local_weights
from corrloss.plan.schema import ExperimentError
from corrloss.stack import version_of


def config_with(checkpoint, kind="Pretrained"):
    return {"backbone": {"depth": 50, "init_cfg": {"type": kind, "checkpoint": checkpoint}}}


@pytest.mark.parametrize(
    ("checkpoint", "address"),
    [
        ("torchvision://resnet101", "https://download.pytorch.org/models/resnet101-63fe2227.pth"),
        (
            "open-mmlab://resnext101_64x4d",
            "https://download.openmmlab.com/pretrain/third_party/resnext101_64x4d-ee2c6f71.pth",
        ),
        ("https://example.org/a/b-01234567.pth", "https://example.org/a/b-01234567.pth"),
    ],
)
def test_a_local_file_takes_the_place_of_published_weights(checkpoint, address):
    config = config_with(checkpoint)
    name = address.rpartition("/")[2]
    ((found, source),) = use_local_weights(config, Path("/data")).items()
    if checkpoint.startswith("open-mmlab://") and "onedl" in version_of("mmengine"):  # names another host
        source, address = (urlsplit(text).path for text in (source, address))
    assert (found, source) == (name, address)
    assert config["backbone"]["init_cfg"]["checkpoint"] == f"/data/weights/{name}"


@pytest.mark.parametrize("config", [config_with("mine.pth"), config_with("torchvision://a", "Xavier"), {}])
def test_what_is_no_published_weights_is_left_alone(config):
    before = repr(config)
    assert use_local_weights(config, Path("/data")) == {}
    assert repr(config) == before


def test_a_list_of_initialisations_is_searched():
    config = {
        "init_cfg": [{"type": "Xavier"}, {"type": "Pretrained", "checkpoint": "torchvision://resnet50"}]
    }
    assert list(use_local_weights(config, Path("data"))) == ["resnet50-0676ba61.pth"]


def test_unknown_weights_are_refused_with_the_choices():
    with pytest.raises(ExperimentError, match=r"resnet51.*unknown weights; expected one of .*resnet50"):
        address_of("torchvision://resnet51")


def test_the_hash_sees_which_weights_but_not_where_they_lie():
    hashes = [
        config_hash({"init_cfg": {"checkpoint": f"{folder}/weights/{name}.pth"}})
        for folder, name in (("data", "a-01"), ("/mnt/elsewhere", "a-01"), ("data", "a-02"))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_no_run_of_any_scale_is_left_with_weights_from_the_network(real_settings):
    for scale in ("mini", "paper"):
        for planned in load_matrix(real_settings(f"scale={scale}")).planned.values():
            text = repr(planned.config["model"])
            assert "://" not in text, planned.run.name
            assert (scale == "mini") <= (planned.config["bench"]["pretrained"] == {})
    names = load_matrix(real_settings("scale=paper")).weights
    assert [name for name in names if checksum_of(name) is None] == []
