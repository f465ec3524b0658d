# Settings, the runs to plan, and what the other files here look up.
import hashlib
import os
import shlex
import shutil
from pathlib import Path

from corrloss.errors import CorrLossError
from corrloss.plan import data_files
from corrloss.plan.fingerprints import update_fingerprints
from corrloss.plan.matrix import load_matrix
from corrloss.plan.settings import FILE, Settings

# Relative, as all paths here: a checkout that is moved has nothing to be done again.
ROOT = Path(os.path.relpath(workflow.basedir))


configfile: str(ROOT / FILE)


try:
    # The text of each setting: Snakemake's `config` has lost it where a folder's name looks like a number.
    settings = Settings.load(
        ROOT,
        workflow.config_settings.config_args or (),
        workflow.config_settings.configfiles,
    )
    MATRIX = load_matrix(settings)
except CorrLossError as error:
    raise WorkflowError(str(error))

OUT = settings.out
ARGUMENTS = shlex.join(settings.arguments())
DATA_ROOT = settings.data_root
RUN = f"{OUT}/runs/{{dataset}}/{{detector}}/{{variant}}/seed{{seed}}"
# Files that a training leaves in it.
TRAINED = [
    f"{RUN}/config.py",
    f"{RUN}/weights.pth",
    f"{RUN}/training.json",
    f"{RUN}/prediction.json",
    f"{RUN}/detections.bbox.json",
    f"{RUN}/detections_best.bbox.json",
    f"{RUN}/detections_worst.bbox.json",
    f"{RUN}/positives.npz",
]
TEST_DEV_ZIP = "test_dev/detections_test-dev2017_corrloss_results.zip"
LOGGED = "{dataset}/{detector}/{variant}/seed{seed}"
# Detectors with and without masks, as patterns: they differ in the files of their runs.
WITH_MASKS, WITHOUT_MASKS = (
    "|".join(MATRIX.detectors(masks=masks)) or "-" for masks in (True, False)
)

# `logged FILE COMMAND`: stderr goes to the file, whose end is shown if the command fails.
shell.prefix(
    "set -euo pipefail; logged() {{ "
    '"${{@:2}}" 2> "$1" || {{ tail -n 30 "$1" >&2; exit 1; }}; }}; '
)

for name, data in MATRIX.datasets.items():
    update_fingerprints(data, DATA_ROOT, OUT / "data", name, settings.cache)

for lack in MATRIX.missing(DATA_ROOT, has_gpus=bool(shutil.which("nvidia-smi"))):
    logger.warning(f"missing here: {lack}")


wildcard_constraints:
    dataset=r"\w+",
    detector=r"\w+",
    variant=r"[\w.-]+",
    seed=r"\d+",
    table=r"\w+",


def command_settings(wildcards, output):
    """Settings for a command, as its arguments; in `params` of every rule.

    Snakemake does not compare a param that depends on the output with that of an earlier call: a folder that was
    moved is no reason to run a job again.
    """
    return ARGUMENTS


def run_name(wildcards):
    """Name of the run that a job's wildcards stand for."""
    return LOGGED.format(**wildcards)


def planned(wildcards):
    """The run that a job's wildcards stand for."""
    return MATRIX.run(run_name(wildcards))


def run_hash(wildcards):
    """Hash of a run's resolved config: the run is out of date when it changes, and only then."""
    return planned(wildcards).hash


def run_threads(wildcards):
    """CPU threads of a run, over all its processes."""
    bench = planned(wildcards).config["bench"]
    return bench["threads"] * bench["processes"]


def run_gpus(wildcards):
    """GPUs of a run."""
    return planned(wildcards).config["bench"]["gpus"]


def run_weights(wildcards):
    """Local files of the published weights that a run starts from."""
    names = planned(wildcards).config["bench"]["pretrained"]
    return [f"{DATA_ROOT}/weights/{name}" for name in names]


def test_dev_data(wildcards):
    """The data set that stands for COCO test-dev at this scale."""
    return MATRIX.test_dev_data(planned(wildcards).run)


def run_files(tables, name):
    """One file of every run of some tables."""
    return [
        f"{run.folder(settings.results).path}/{name}" for run in MATRIX.runs_of(tables)
    ]


def requested_tables():
    """Tables whose runs the targets of this call need in runs.csv."""
    return MATRIX.requested_tables(workflow.dag_settings.targets, OUT)


def fingerprints(wildcards):
    """Fingerprints of a data set that runs are trained on; their time is that of its last change."""
    parts = data_files.PARTS if wildcards.dataset in MATRIX.datasets else ()
    return [f"{OUT}/data/{wildcards.dataset}.{part}.identity" for part in parts]


def made_annotations(wildcards):
    """Annotation files of a data set that rules make."""
    data = MATRIX.datasets.get(wildcards.dataset, {})
    return data_files.annotations_by_rules(data, DATA_ROOT)


def checked_data(wildcards):
    """Report of the check of a run's data set.

    Of data that is not made here it is `ancient`: another check is no reason to train again, the fingerprints
    of the data show whether it changed. Of made data it is not: Snakemake ignores the fingerprints of a job
    below an `ancient` input that is to be made again.
    """
    checked = str(settings.checked(wildcards.dataset))
    made = data_files.is_made(MATRIX.datasets[wildcards.dataset])
    return checked if made else ancient(checked)


def digest(value):
    """Short digest of a value, for `params`: a job is out of date when it changes."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def overhead_data(wildcards):
    """Reports of the checks of the data sets that a table of overhead trains on."""
    names = {run.dataset for run in MATRIX.tables[wildcards.table].runs}
    return [ancient(settings.checked(name)) for name in sorted(names)]
