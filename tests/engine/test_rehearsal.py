"""A few updates of a run, a resume, and one image; and runs that cannot be trained."""

import json
from pathlib import Path

import pytest
from coco_layout import made_coco

from corrloss.engine.rehearsal import CAUSE, rehearse, shortened
from corrloss.plan.batch_plan import BatchPlan
from corrloss.plan.config_files import load
from corrloss.plan.config_nodes import nodes
from corrloss.plan.configs import resolve
from corrloss.plan.experiments import Experiments
from corrloss.plan.runs import Run
from corrloss.run import RunFolder

ROOT = Path(__file__).parents[2]

NUMBERS = ("seconds_per_update", "loading_share", "peak_memory_mb", "predict_seconds")


def planned(run):
    """The config of a run as a plain dict, as the plan has it."""
    return load(run.config).to_dict()


def test_as_many_images_as_updates_take(smoke_run, tmp_path):
    config = planned(smoke_run(tmp_path))
    config["bench"]["accumulate"] = 2
    changed = shortened(config, updates=3, epochs=1)
    assert changed["train_dataloader"]["dataset"]["indices"] == 2 * 4 * 2  # 2 updates of 2 steps of 4 images
    assert changed["test_dataloader"]["dataset"]["indices"] == 1
    assert changed["param_scheduler"] == config["param_scheduler"]
    assert "indices" not in config["train_dataloader"]["dataset"]


@pytest.mark.slow
def test_a_run_is_measured_and_resumed(smoke_run, tmp_path):
    run = smoke_run(tmp_path)
    rehearse(run, planned(run), updates=4, log=lambda line: None)
    report = json.loads(run.rehearsal.read_text())
    assert "failed" not in report, report
    assert report["identity"] == load(run.config).bench.identity.training
    assert all(report[name] > 0 for name in NUMBERS) and report["loading_share"] < 1
    assert any("loss_corr" in name for name in report["losses"])
    assert {path.name for path in run.path.iterdir()} <= {"rehearsal.json", "rehearsal.log", "config.py"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda s: s["train_dataloader"]["dataset"].update(ann_file="missing.json"), "missing.json"),
        (lambda s: s["bench"].update(processes=2, gpus=2), "expected 2 GPUs"),
        (lambda s: s["optim_wrapper"]["optimizer"].update(lr=1e20), "at iteration"),
    ],
    ids=["no annotations", "no GPUs", "diverges"],
)
def test_a_run_that_fails_has_its_cause(smoke_run, tmp_path, change, cause):
    run = smoke_run(tmp_path, change)
    rehearse(run, planned(run), updates=12, log=lambda line: None)
    assert cause in json.loads(run.rehearsal.read_text())["failed"]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_of_scale_paper_at_full_width_on_the_processor(tmp_path, precision):
    (tmp_path / "coco").mkdir()
    made_coco(tmp_path / "coco", train_images=12)
    plan = BatchPlan(1, 1, rescale_lr=True, on_cpu=True, accumulate=2, precision=precision)
    config = resolve(
        Experiments(ROOT), Run("paper", "coco", "atss", "concordance", 0.2, 0), tmp_path, spread=plan
    )
    config["model"]["backbone"]["init_cfg"] = None  # without published weights
    # Small images: a processor without instructions for bfloat16 takes most of an hour for large ones.
    for node in nodes(config):
        if node.get("type") == "Resize":
            node["scale"] = (333, 200)
    config["bench"] |= {"pretrained": {}, "starting_weights": {}}
    config["bench"]["identity"] = dict.fromkeys(("training", "prediction", "evaluation"), "0" * 12)
    run = RunFolder(tmp_path / "rehearsal")
    rehearse(run, config, updates=2, log=lambda line: None)
    report = json.loads(run.rehearsal.read_text())
    assert "failed" not in report, report
    assert report["seconds_per_update"] > 0 and "loss_corr" in report["losses"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("warning\nTraceback\nerror: x: expected 2 GPUs\n", "error: x: expected 2 GPUs"),
        (
            "  raise\ntorch.OutOfMemoryError: CUDA out of memory.\n",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        ("[rank1]: ValueError: bad\n", "[rank1]: ValueError: bad"),
        ("torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n", None),
    ],
)
def test_the_cause_in_a_log(text, cause):
    assert (CAUSE.findall(text) or [None])[-1] == cause
