"""What a change makes Snakemake do again, and how long that takes.

Trains RetinaNet with the loss and without, at scale mini in a temporary folder. Then it makes each change in
a copy of the finished project, calls Snakemake, and prints a row of a table.
"""

import collections
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = """title: A pair
data: coco
metrics: [AP, AP50]
rows:
  - detector: retinanet
    variants: [{coefficient: none}, {coefficient: concordance, weight: 0.2}]
"""
#: Name, file, a text in it and its replacement.
CHANGES = (
    ("nothing", "experiments/tables/pair.yaml", "title", "title"),
    ("a docstring of the loss", "corrloss/loss.py", '"""', '"""Edited. '),
    ("title of the table", "experiments/tables/pair.yaml", "A pair", "A pair of runs"),
    ("a published figure", "experiments/reference/paper.csv", "39.8", "39.9"),
    ("code of the report", "corrloss/report/page.py", "def render(", "EDITED = 1\n\n\ndef render("),
    (
        "code of the analysis",
        "corrloss/analysis/record.py",
        "def make_record(",
        "EDITED = 1\n\n\ndef make_record(",
    ),
    ("code of the prediction", "corrloss/engine/predict.py", "\ndef ", "\nEDITED = 1\n\n\ndef "),
    ("λ of the run with the loss", "experiments/tables/pair.yaml", "0.2", "0.25"),
)


def snakemake(project: Path, *targets: str) -> str:
    """Call Snakemake in a project; return its jobs, wall seconds and CPU seconds as cells of a table."""
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PYTHONPATH": str(project),
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    started, used = time.perf_counter(), cpu_seconds()
    done = subprocess.run(
        ["snakemake", "main", *targets], cwd=project, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    rules = re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", done.stdout + done.stderr)
    jobs = collections.Counter(rule for rule in rules if rule != "main")
    text = ", ".join(f"{count} {rule}" for rule, count in jobs.items())
    wall, cpu = time.perf_counter() - started, cpu_seconds() - used
    return f"{text or 'nothing'} | {wall:.0f} | {cpu:.0f}"


def cpu_seconds() -> float:
    """CPU seconds of all child processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        finished = Path(folder) / "finished"
        finished.mkdir()
        for name in ("Snakefile", "environment.yml"):
            shutil.copy(ROOT / name, finished)
        for name in ("config", "corrloss", "experiments", "workflows"):
            shutil.copytree(ROOT / name, finished / name)
        (finished / "profiles").symlink_to("workflows/profiles")
        for path in (finished / "experiments/tables").glob("*.yaml"):
            path.unlink()
        (finished / "experiments/tables/pair.yaml").write_text(TABLE)
        print("| change | jobs | wall seconds | CPU seconds |\n| --- | --- | --- | --- |", flush=True)
        print(f"| all, the first time | {snakemake(finished, 'report')} |", flush=True)
        for name, file, old, new in CHANGES:
            project = Path(shutil.copytree(finished, Path(folder) / "changed", symlinks=True))
            text = (project / file).read_text()
            if old not in text:
                sys.exit(f"{file}: expected {old!r}, found none; correct CHANGES in {__file__}")
            (project / file).write_text(text.replace(old, new, 1))
            print(f"| {name} | {snakemake(project, 'report')} |", flush=True)
            shutil.rmtree(project)


if __name__ == "__main__":
    main()
