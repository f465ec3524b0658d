"""How scale `mini` got its recipe: each candidate trains every baseline of the main tables, without the loss.

The rule was fixed before any run: of recipes with the same numbers of epochs, the one with the highest mean
baseline AP over the detectors. Runs with Correlation Loss take no part, so the recipe cannot favour it.
About 10 minutes of one core per candidate.

    python benchmarks/mini_recipe.py [FOLDER]    # FOLDER keeps the runs; a second call resumes
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
MAIN_TABLES = ("nms_based", "nms_free", "instance_segmentation")
# Name: learning rate of AdamW, largest gradient norm, betas.
CANDIDATES = {
    "lr 1e-3, clip 10": (1e-3, 10.0, (0.9, 0.999)),
    "lr 2e-3, clip 1": (2e-3, 1.0, (0.9, 0.999)),
    "lr 3e-3, clip 1": (3e-3, 1.0, (0.9, 0.999)),
    "lr 5e-3, clip 1": (5e-3, 1.0, (0.9, 0.999)),
    "lr 3e-3, clip 10": (3e-3, 10.0, (0.9, 0.999)),
    "lr 3e-3, clip 1, beta2 0.99": (3e-3, 1.0, (0.9, 0.99)),
    "lr 3e-3, clip 0.1": (3e-3, 0.1, (0.9, 0.999)),
}


def detectors() -> list[str]:
    """Detectors of the main tables."""
    tables = (yaml.safe_load((ROOT / f"experiments/tables/{name}.yaml").read_text()) for name in MAIN_TABLES)
    return list(dict.fromkeys(row["detector"] for table in tables for row in table["rows"]))


def write_scale(project: Path, scale: str, rate: float, clip: float, betas: tuple[float, float]) -> None:
    """Add a scale that is mini with another optimiser."""
    optimiser = {"type": "AdamW", "lr": rate, "betas": list(betas), "weight_decay": 1e-4, "fused": True}
    wrapper = {"optimizer": optimiser, "clip_grad": {"max_norm": clip, "norm_type": 2}}
    content = {"extends": "mini", "after": {"optim_wrapper": wrapper}}
    (project / "experiments/scales" / f"{scale}.yaml").write_text(yaml.safe_dump(content))


def train(project: Path, scale: str) -> dict[str, float]:
    """Baseline AP of each detector at a scale, in points."""
    records = {name: f"results/{scale}/runs/mini_coco/{name}/none/seed0/record.json" for name in detectors()}
    command = ["snakemake", "--config", f"scale={scale}", "--", *records.values()]
    subprocess.run(command, cwd=project, check=True)
    return {name: json.loads((project / path).read_text())["metrics"]["AP"] for name, path in records.items()}


def main() -> None:
    """Train all candidates and print their baselines, best mean first."""
    project = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="mini_recipe-"))
    ignore = shutil.ignore_patterns("results", "data", ".*", "tests", "docs")
    shutil.copytree(ROOT, project, ignore=ignore, dirs_exist_ok=True)
    rows = {}
    for number, (name, settings) in enumerate(CANDIDATES.items()):
        write_scale(project, f"candidate{number}", *settings)
        rows[name] = train(project, f"candidate{number}")
    table = pd.DataFrame(rows).T
    table.insert(0, "mean", table.mean(axis=1))
    print(table.sort_values("mean", ascending=False).round(1).to_string())


if __name__ == "__main__":
    main()
