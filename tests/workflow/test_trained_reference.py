"""One run of scale mini, trained here, against the committed reference results."""

from pathlib import Path

import pytest
from project import Project

from corrloss.plan.matrix import load_matrix
from corrloss.plan.settings import Settings
from corrloss.tables.comparison import IDENTICAL, WITHIN, compare
from corrloss.tables.records import read_finished, read_runs, runs_frame

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "mini" / "runs.csv"
VARIANTS = [{"coefficient": "none"}, {"coefficient": "concordance", "weight": 0.2}]
TABLE = {
    "title": "One run",
    "data": "coco",
    "metrics": ["AP"],
    "rows": [{"detector": "atss", "variants": VARIANTS}],
}
RUN = "mini_coco/atss/concordance_w0.2/seed0"


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.exists(), reason="no reference results in this copy")
def test_a_run_that_is_trained_here_is_that_of_the_reference(tmp_path):
    project = Project(tmp_path / "project", TABLE)
    done = project.snakemake(f"results/mini/runs/{RUN}/record.json", config=("scale=mini",))
    assert done.returncode == 0, done.stdout
    folders = [f"results={project.folder}/results", f"data_root={project.folder}/data"]
    settings = Settings.load(project.folder, ["scale=mini", *folders])
    runs = runs_frame(read_finished(load_matrix(settings), settings.results))
    (row,) = compare(runs, read_runs(REFERENCE)).to_dict("records")
    assert row["run"] == RUN and row["result"] in (IDENTICAL, WITHIN), row
