"""A pipeline that is killed again and again ends in what one ends in that nobody touched."""

import os
import random
import signal
import time

import pandas as pd
import pytest
from project import Project

PAIR = {
    "title": "A pair",
    "data": "coco",
    "metrics": ["AP", "AP50"],
    "rows": [
        {
            "detector": "retinanet",
            "variants": [{"coefficient": "none"}, {"coefficient": "concordance", "weight": 0.2}],
        }
    ],
}
KILLS = 10


def results(project):
    """What a pipeline ends in, without its times."""
    runs = pd.read_csv(project.folder / "results/smoke/runs.csv", dtype=str)
    table = (project.folder / "results/smoke/tables/pair.csv").read_text()
    return runs.drop(columns="train_seconds").to_csv(), table


def kill_after(project, seconds, with_children):
    """Start Snakemake; some seconds after its first job started kill it, alone or with its children.

    Returns whether it was still running.
    """
    process = project.start("--nolock")
    for line in process.stdout:
        if line.startswith("Execute "):  # the profile prints no rules
            break
    time.sleep(seconds)
    alive = process.poll() is None
    if alive and with_children:
        os.killpg(process.pid, signal.SIGKILL)
    elif alive:
        process.kill()
    process.wait()
    process.stdout.close()
    return alive


@pytest.mark.slow
def test_ten_kills_change_no_figure(tmp_path):
    whole, killed = (Project(tmp_path / name, PAIR) for name in ("whole", "killed"))
    started = time.monotonic()
    done = whole.snakemake()
    assert done.returncode == 0, done.stdout
    length = time.monotonic() - started
    generator = random.Random(0)
    hits = 0
    for kill in range(KILLS):
        # Early enough to hit something ten times, also if other programs slowed the first pipeline down.
        hits += kill_after(killed, generator.uniform(0, 0.08) * length, with_children=kill % 2 == 0)
    assert hits >= KILLS / 2  # else this tested little
    done = killed.snakemake("--nolock")
    assert done.returncode == 0, done.stdout
    assert results(killed) == results(whole)
    left = [path.name for path in (killed.folder / "results").rglob("*.part")]
    assert left == [], "halves of files are left behind"
    assert "Nothing to be done" in killed.snakemake("--nolock").stdout
