"""How scale `mini` got its recipe: candidates train baselines of the main tables, without the loss.

The rule was fixed before any run. All candidates have the same numbers of epochs, so the same time. Each
trains three baselines of different kinds; the two with the highest mean AP train all baselines; of these two,
the one with the higher mean AP over all baselines is the recipe. Runs with Correlation Loss take no part, so
the rule cannot favour it. The 28 trainings take about an hour on 2 cores with other work.

    python benchmarks/mini_recipe.py [FOLDER]    # FOLDER keeps the runs; a second call resumes
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
MAIN_TABLES = ("nms_based", "nms_free", "instance_segmentation")
FIRST_ROUND = ["retinanet", "atss", "sparse_rcnn"]
# Name: learning rate of AdamW, largest gradient norm, betas.
CANDIDATES = {
    "lr 1e-3, clip 10": (1e-3, 10.0, (0.9, 0.999)),
    "lr 2e-3, clip 1": (2e-3, 1.0, (0.9, 0.999)),
    "lr 3e-3, clip 1": (3e-3, 1.0, (0.9, 0.999)),
    "lr 5e-3, clip 1": (5e-3, 1.0, (0.9, 0.999)),
    "lr 3e-3, clip 1, beta2 0.99": (3e-3, 1.0, (0.9, 0.99)),
    "lr 3e-3, clip 0.1": (3e-3, 0.1, (0.9, 0.999)),
}


def baselines() -> list[str]:
    """Detectors of the main tables."""
    tables = (yaml.safe_load((ROOT / f"experiments/tables/{name}.yaml").read_text()) for name in MAIN_TABLES)
    return list(dict.fromkeys(row["detector"] for table in tables for row in table["rows"]))


def scale_of(candidate: str) -> str:
    """Name of a candidate's scale."""
    return f"candidate{list(CANDIDATES).index(candidate)}"


def write_scale(project: Path, candidate: str) -> None:
    """Add a scale that is mini with another optimiser."""
    rate, clip, betas = CANDIDATES[candidate]
    optimiser = {"type": "AdamW", "lr": rate, "betas": list(betas), "weight_decay": 1e-4, "fused": True}
    wrapper = {"optimizer": optimiser, "clip_grad": {"max_norm": clip, "norm_type": 2}}
    content = {"extends": "mini", "after": {"optim_wrapper": wrapper}}
    (project / "experiments/scales" / f"{scale_of(candidate)}.yaml").write_text(yaml.safe_dump(content))


def train(project: Path, candidate: str, detectors: list[str]) -> dict[str, float]:
    """Baseline AP of detectors trained with a candidate, in points."""
    scale = scale_of(candidate)
    records = {name: f"results/{scale}/runs/mini_coco/{name}/none/seed0/record.json" for name in detectors}
    command = ["snakemake", "--config", f"scale={scale}", "--", *records.values()]
    environment = os.environ | {"PYTHONPATH": str(project.resolve()), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=project, env=environment, check=True)
    return {name: json.loads((project / path).read_text())["metrics"]["AP"] for name, path in records.items()}


def compare(project: Path, candidates: list[str], detectors: list[str]) -> pd.DataFrame:
    """AP of candidates (rows) by detector, with their mean, best first; printed."""
    table = pd.DataFrame({name: train(project, name, detectors) for name in candidates}).T
    table.insert(0, "mean", table.mean(axis=1))
    table = table.sort_values("mean", ascending=False)
    print(table.round(1).to_string(), flush=True)
    return table


def main() -> None:
    """Train, and print the tables of both rounds."""
    project = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="mini_recipe-"))
    for name in ("config", "corrloss", "experiments", "profiles", "workflows"):
        shutil.copytree(ROOT / name, project / name, dirs_exist_ok=True)
    for name in ("Snakefile", "environment.yml", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    for candidate in CANDIDATES:
        write_scale(project, candidate)
    first = compare(project, list(CANDIDATES), FIRST_ROUND)
    compare(project, list(first.index[:2]), baselines())


if __name__ == "__main__":
    main()
