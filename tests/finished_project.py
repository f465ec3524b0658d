"""A small project with finished runs: real images and real metrics of made-up detections."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from corrloss.analysis.record import make_record
from corrloss.analysis.stored_run import load_run
from corrloss.data.mini_coco import make_mini_coco
from corrloss.files import atomic_write
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import load_matrix
from corrloss.plan.runs import Run
from corrloss.plan.settings import Settings
from corrloss.plan.table_files import load_table
from corrloss.report.results import load_data_set, load_runs, load_tables
from corrloss.tables.build import build_table
from corrloss.tables.records import read_record, runs_frame
from corrloss.tables.reference import load_reference

ROOT = Path(__file__).parents[1]
HOSTILE = '</script><script>alert(1)</script><img src="http://example.org/x.png" onerror=alert(2)>'
BOTH = [{"coefficient": "none"}, {"coefficient": "spearman", "weight": 0.1}]
MORE = [{"coefficient": "spearman", "weight": 0.2}, {"coefficient": "concordance", "weight": 0.2}]
TABLES = {
    "weight": {"title": f"Weights {HOSTILE}", "rows": [{"detector": "retinanet", "variants": BOTH + MORE}]},
    "pair": {"title": "Pairs", "rows": [{"detector": "sparse_rcnn", "variants": BOTH}]},
}


@dataclass(frozen=True)
class Project:
    """Where it is, and what the report reads of it."""

    root: Path

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def folder(self) -> Path:
        return self.results / "mini"

    def tables(self):
        return load_tables(Experiments(self.root), "mini", self.folder / "tables")

    def runs(self):
        return load_runs(self.folder / "runs.csv", self.results)

    def data(self):
        test = {"ann_file": "annotations/instances_val.json", "img": "val/"}
        return {"mini_coco": load_data_set(self.root / "data", {"folder": "mini_coco", "test": test})}


def make_project(root: Path) -> Project:
    """Six finished runs of two detectors, two tables, names that try to break out of the page."""
    ignored = shutil.ignore_patterns("tables", "*.pyc", "__pycache__")
    shutil.copytree(ROOT / "experiments", root / "experiments", ignore=ignored)
    shutil.copytree(ROOT / "config", root / "config")
    shutil.copytree(ROOT / "workflows" / "schemas", root / "workflows" / "schemas")
    (root / "experiments" / "tables").mkdir()
    for name, table in TABLES.items():
        content = {"data": "coco", "metrics": ["AP", "AP50"], **table}
        (root / "experiments" / "tables" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    make_mini_coco(root / "data" / "mini_coco", train_images=1, val_images=8)
    project = Project(root)
    plans = [load_table(Experiments(root), name, "mini") for name in TABLES]
    matrix = load_matrix(Settings.load(root, [f"data_root={root / 'data'}", f"results={root / 'results'}"]))
    finished = [
        (run, _finish(project, run, matrix.run(run.name).identity, seed))
        for plan in plans
        for seed, run in enumerate(plan.runs)
    ]
    runs = runs_frame(finished)
    _write(project.folder / "runs.csv", runs)
    reference = load_reference(Experiments(ROOT))
    for plan in plans:
        frame = build_table(plan, runs, reference)
        frame["ci_low"], frame["ci_high"] = frame["delta_AP"] - 1.5, frame["delta_AP"] + 2.5
        frame["paper_source"] = HOSTILE
        _write(project.folder / "tables" / f"{plan.name}.csv", frame)
    return project


def _write(path: Path, frame) -> None:
    with atomic_write(path) as temporary:
        frame.to_csv(temporary, index=False, float_format="%.6g")


def _finish(project: Project, run: Run, identity: dict, seed: int) -> dict:
    folder = run.folder(project.results)
    folder.path.mkdir(parents=True)
    annotations = project.root / "data/mini_coco/annotations/instances_val.json"
    objects = [a for a in json.loads(annotations.read_text())["annotations"] if not a["iscrowd"]]
    rng = np.random.default_rng(seed)
    scores, ious = rng.random((2, len(objects)))
    entries = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": (np.array(a["bbox"]) * [1, 1, *rng.uniform(0.6, 1, 2)]).round(2).tolist(),
            "score": round(float(score), 4),
        }
        for a, score in zip(objects, scores, strict=True)
    ]
    for path in (folder.detections(), folder.bound("best"), folder.bound("worst")):
        path.write_text(json.dumps(entries))
    np.savez(
        folder.positives,
        **{key: np.array([a[key] for a in objects]) for key in ("image_id", "category_id")},
        annotation_id=np.array([a["id"] for a in objects]),
        score=scores.astype(np.float32),
        iou=(0.3 + 0.7 * ious).astype(np.float32),
        min_iou=0.3,
    )
    environment = {"machine": HOSTILE}
    terms = {"loss": 2.0, "loss_cls": 1.5, HOSTILE: 0.5}
    curve = [{"iteration": 10 * i, **{name: value / i for name, value in terms.items()}} for i in range(1, 6)]
    training = {
        "train_seconds": 9.0,
        "iterations": 50,
        "resumes": 0,
        "peak_memory_mb": 1,
        "curve": curve,
    }
    training |= {"identity": identity["training"], "environment": environment}
    folder.write_training(training)
    prediction = {"identity": identity["prediction"], "predict_seconds": 1.0, "peak_memory_mb": 1}
    folder.write_prediction({**prediction, "environment": environment})
    record = make_record(run.name, identity["evaluation"], folder, load_run(folder, annotations))
    folder.write_record(record)
    return read_record(folder.record, run)
