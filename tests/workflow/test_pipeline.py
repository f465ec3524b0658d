"""The pipeline end to end at scale smoke: real trainings of a few iterations, through Snakemake."""

import json
import re

import pandas as pd
import pytest
import yaml
from project import TABLE, Project


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    project.output = done.stdout
    return project


def test_every_run_leaves_what_it_must(finished):
    folders = sorted((finished.folder / "results/smoke/runs").glob("*/*/*/seed0"))
    assert [str(path.relative_to(path.parents[2])) for path in folders] == [
        "retinanet/none/seed0",
        "retinanet/spearman_w0.1/seed0",
        "yolact/none/seed0",
    ]
    for folder in folders:
        record = json.loads((folder / "record.json").read_text())
        assert record["run"] == "/".join(folder.parts[-4:])
        assert record["iterations"] > 0 and record["train_seconds"] > 0
        assert len(json.loads((folder / "training.json").read_text())["curve"]) > 0
        detections = json.loads((folder / "detections.bbox.json").read_text())
        known = json.loads((finished.folder / "results/smoke/data/smoke_coco.json").read_text())
        assert len({d["image_id"] for d in detections}) <= known["test"]["counts"]["images"]
        assert (folder / "detections.segm.json").exists() == (folder.parts[-3] == "yolact")


def test_the_loss_changes_the_weights(finished):
    import torch

    base, with_loss = (
        torch.load(
            finished.folder / f"results/smoke/runs/smoke_coco/retinanet/{variant}/seed0/weights.pth",
            weights_only=True,
        )
        for variant in ("none", "spearman_w0.1")
    )
    assert base.keys() == with_loss.keys()
    assert any(not torch.equal(base[key], with_loss[key]) for key in base)


def test_runs_csv_and_table_hold_the_records(finished):
    runs = pd.read_csv(finished.folder / "results/smoke/runs.csv").set_index("run")
    table = pd.read_csv(finished.folder / "results/smoke/tables/pair.csv")
    assert len(runs) == 3
    for name, row in runs.iterrows():
        record = json.loads((finished.folder / "results/smoke/runs" / name / "record.json").read_text())
        assert row["AP"] == pytest.approx(record["metrics"]["AP"], rel=1e-5)
    base, loss, yolact = (row for _, row in table.iterrows())
    assert loss["delta_AP"] == pytest.approx(loss["AP"] - base["AP"], abs=1e-4)
    assert pd.isna(base["delta_AP"]) or base["delta_AP"] == 0
    assert pd.isna(loss["mask_AP"]) and not pd.isna(yolact["mask_AP"])
    assert "mean nothing" in (finished.folder / "results/smoke/tables/pair.md").read_text()


def test_the_rows_of_one_detector_are_printed(finished):
    done = finished.snakemake("pair/retinanet")
    assert done.returncode == 0, done.stdout
    table = pd.read_csv(finished.folder / "results/smoke/tables/pair.csv")
    for _, row in table[table["detector"] == "retinanet"].iterrows():
        assert re.search(rf"{row['coefficient']}.* {row['AP']:.1f} +{row['AP50']:.1f}", done.stdout)
    assert "yolact" not in done.stdout and "mean nothing" in done.stdout


def test_progress_is_visible(finished):
    assert "retinanet/none/seed0  iteration" in finished.output and "to go" in finished.output


def test_analysis_is_what_a_plain_call_leaves_out(finished):
    extra = finished.folder / "experiments/tables/extra.yaml"
    extra.write_text(yaml.safe_dump({**TABLE, "main": False}))
    try:
        assert "Nothing to be done" in finished.snakemake("-n").stdout
        planned = finished.snakemake("analysis", "-n", "--quiet", "progress").stdout
        assert "tables/extra.csv" in planned and "output: results/smoke/tables/pair.csv" not in planned
        assert "rule train" not in planned and "rule evaluate" not in planned
    finally:
        extra.unlink()


def test_another_tool_for_ap_evaluates_again_and_trains_nothing(finished):
    planned = finished.snakemake("-n", "--quiet", "progress", config=("ap=pycocotools",)).stdout
    assert planned.count("rule evaluate:") == 3 and "rule train" not in planned
    assert (
        "expected one of hotcoco, pycocotools, got 'fast'"
        in finished.snakemake("-n", config=("ap=fast",)).stdout
    )


def test_snakemakes_own_report_has_the_tables_by_category_and_label(finished):
    done = finished.snakemake("--report", "own.html")
    assert done.returncode == 0, done.stdout
    page = (finished.folder / "own.html").read_text()
    for part in ("Tables", "Runs", "pair", "one row a variant"):
        assert part in page


def test_a_second_call_has_nothing_to_do(finished):
    again = finished.snakemake()
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout


@pytest.mark.parametrize(("key", "folder"), [("data_root", "data"), ("results", "results")])
def test_a_moved_folder_makes_nothing_stale(finished, key, folder):
    moved = (finished.folder / folder).rename(finished.folder / "moved here")
    try:
        said = finished.snakemake("-n", config=(f"{key}=moved here",)).stdout
        assert "Nothing to be done" in said, said
    finally:
        moved.rename(finished.folder / folder)


def test_a_moved_checkout_makes_nothing_stale(finished):
    before = finished.folder
    finished.folder = before.rename(before.with_name("moved"))
    try:
        assert "Nothing to be done" in finished.snakemake("-n").stdout
    finally:
        finished.folder = finished.folder.rename(before)


def test_a_comment_makes_nothing_stale_and_a_setting_what_depends_on_it(finished):
    detector = finished.folder / "experiments/detectors/yolact.py"
    before = detector.read_text()
    try:
        detector.write_text(before + "\n# a remark\n")
        assert "Nothing to be done" in finished.snakemake("-n").stdout
        detector.write_text(before.replace("num_protos=16", "num_protos=8").replace("64, 16)", "64, 8)"))
        planned = finished.snakemake("-n", "--quiet", "progress").stdout
        assert planned.count("rule train:") == planned.count("rule evaluate:") == 1
        assert "output: results/smoke/runs/smoke_coco/yolact/none/seed0/weights.pth" in planned
    finally:
        detector.write_text(before)


def test_other_data_make_stale_what_was_made_of_them(finished):
    data = finished.folder / "experiments/datasets/smoke_coco.py"
    before = data.read_text()
    try:
        data.write_text(before.replace("val_images=12", "val_images=13"))
        planned = finished.snakemake("-n", "--quiet", "progress").stdout
        for rule in ("make_smoke_coco", "check_data", "train", "evaluate", "table"):
            assert f"rule {rule}:" in planned
        data.write_text(before + "\n# a remark\n")
        assert "Nothing to be done" in finished.snakemake("-n").stdout
    finally:
        data.write_text(before)


def test_a_comment_in_a_table_makes_nothing_stale(finished):
    table = finished.folder / "experiments/tables/pair.yaml"
    before = table.read_text()
    try:
        table.write_text(before + "\n# a remark\n")
        assert "Nothing to be done" in finished.snakemake("-n").stdout
        table.write_text(before.replace("Two detectors", "Two of them"))
        planned = finished.snakemake("-n", "--quiet", "progress").stdout
        assert "rule table:" in planned and "rule evaluate:" not in planned
    finally:
        table.write_text(before)


def test_lost_detections_are_predicted_again_without_training(finished):
    run = "results/smoke/runs/smoke_coco/retinanet/none/seed0"
    folder = finished.folder / run
    before = {name: (folder / name).read_bytes() for name in ("weights.pth", "detections.bbox.json")}
    (folder / "detections.bbox.json").unlink()
    (folder / "record.json").unlink()
    done = finished.snakemake(f"{run}/record.json")
    assert done.returncode == 0, done.stdout
    assert "iteration" not in done.stdout
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert json.loads((folder / "record.json").read_text())["resumes"] == 1


def test_a_broken_table_stops_everything_with_its_place(finished):
    broken = {**TABLE, "rows": [{"detector": "retinanett", "variants": [{"coefficient": "none"}]}]}
    try:
        finished.write_table(broken)
        done = finished.snakemake("-n")
    finally:
        finished.write_table(TABLE)
    assert done.returncode != 0
    for part in ("pair.yaml", "rows[0].detector", "retinanett", "yolact"):
        assert part in done.stdout
