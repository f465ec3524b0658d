# Settings, the runs to plan and the names of files, for the other files here.
import hashlib
import shlex
import shutil
from pathlib import Path

from corrloss.plan.batch_plan import BatchPlan
from corrloss.plan.fingerprints import update_fingerprints
from corrloss.analysis.ap import BACKENDS
from corrloss.plan.matrix import load_matrix
from corrloss.plan.schema import ExperimentError

SCALE = str(config.get("scale", "mini"))
DATA_ROOT = Path(config.get("data_root", "data"))
RESULTS = Path(config.get("results", "results"))
ROOT = Path(workflow.basedir)
# Which tool computes AP: both give the same figures, pycocotools is the reference and slow.
AP_TOOL = str(config.get("ap", "hotcoco"))
if AP_TOOL not in BACKENDS:
    raise WorkflowError(f"--config ap={AP_TOOL}: choose one of {', '.join(BACKENDS)}")

SPREAD_SETTINGS = ("processes", "images_per_process", "rescale_lr")

try:
    SPREAD = BatchPlan.of(
        {name: config[name] for name in SPREAD_SETTINGS if name in config}
    )
    MATRIX = load_matrix(ROOT, SCALE, DATA_ROOT, RESULTS, SPREAD)
except ExperimentError as error:
    raise WorkflowError(f"experiments/ cannot be run:\n{error}")

OUT = RESULTS / SCALE
RUN = f"{OUT}/runs/{{dataset}}/{{detector}}/{{variant}}/seed{{seed}}"
LOGGED = "{dataset}/{detector}/{variant}/seed{seed}"
# Arguments that commands over all runs of the scale share.
SETTINGS = shlex.join(
    [
        "--scale",
        SCALE,
        "--data-root",
        str(DATA_ROOT),
        "--results",
        str(RESULTS),
        "--root",
        str(ROOT),
    ]
)
# The same for commands that need the runs' resolved configs.
MATRIX_SETTINGS = f"{SETTINGS} --spread {shlex.quote(str(SPREAD))}"

MAIN_TABLES = [
    name for name, table in MATRIX.tables.items() if table.main and table.runs
]
ALL_TABLES = [
    name
    for name, table in MATRIX.tables.items()
    if table.runs and table.kind == "results"
]
# They need no finished run.
OVERHEAD_TABLES = [
    name
    for name, table in MATRIX.tables.items()
    if table.runs and table.kind == "overhead"
]
ANALYSIS_TABLES = [name for name in ALL_TABLES if name not in MAIN_TABLES]
# Detectors with and without masks, as patterns: they differ in the files that they leave.
WITH_MASKS, WITHOUT_MASKS = (
    "|".join(
        sorted(
            {
                p.run.detector
                for p in MATRIX.planned.values()
                if p.config["bench"]["masks"] == masks
            }
        )
    )
    or "-"
    for masks in (True, False)
)
MAX_THREADS = max(p.config["bench"]["threads"] for p in MATRIX.planned.values())
MADE = {name: data for name, data in MATRIX.datasets.items() if "make" in data}
CONVERTED = {name: data for name, data in MATRIX.datasets.items() if "convert" in data}
# Address of each file of published weights that a run of this scale starts from.
PRETRAINED = {
    name: url
    for p in MATRIX.planned.values()
    for name, url in p.config["bench"]["pretrained"].items()
}

for dataset_name, dataset_settings in MATRIX.datasets.items():
    update_fingerprints(
        dataset_settings, DATA_ROOT, OUT / "data", dataset_name, RESULTS / ".cache"
    )


def planned(wildcards):
    """The planned run that a job's wildcards stand for."""
    name = f"{wildcards.dataset}/{wildcards.detector}/{wildcards.variant}/seed{wildcards.seed}"
    if name not in MATRIX.planned:
        raise WorkflowError(f"no table at scale {SCALE} has a run {name}")
    return MATRIX.planned[name]


def run_hash(wildcards):
    """Hash of a run's resolved config: the run is stale when it changes, and only then."""
    return planned(wildcards).hash


def table_hash(wildcards):
    """Hash of what a table's file says: the table is stale when it changes."""
    return hashlib.sha256(repr(MATRIX.tables[wildcards.table]).encode()).hexdigest()[
        :12
    ]


def run_threads(wildcards):
    """CPU threads of a run, over all its processes."""
    bench = planned(wildcards).config["bench"]
    return bench["threads"] * bench["processes"]


def run_gpus(wildcards):
    """GPUs of a run."""
    return planned(wildcards).config["bench"]["gpus"]


def annotation_file(dataset, part):
    """Where the annotations of a data set's training or test images are."""
    data = MATRIX.datasets[dataset]
    return f"{DATA_ROOT}/{data['folder']}/{data[part]['ann_file']}"


def made_files(dataset):
    """What the generator of a data set leaves: annotations, or Cityscapes' raw layout; none of real data."""
    if dataset not in MADE:
        return []
    if dataset in CONVERTED:
        return [f"{DATA_ROOT}/{MADE[dataset]['folder']}/mini_cityscapes.json"]
    return [annotation_file(dataset, part) for part in ("train", "test")]


def made_annotations(wildcards):
    """Annotation files that a rule makes; those of other data are looked for by the check itself."""
    made = wildcards.dataset in MADE or wildcards.dataset in CONVERTED
    parts = ("train", "test") if made else ()
    return [annotation_file(wildcards.dataset, part) for part in parts]


def run_pretrained(wildcards):
    """Local files of the published weights that a run starts from."""
    names = planned(wildcards).config["bench"]["pretrained"]
    return [f"{DATA_ROOT}/weights/{name}" for name in names]


def test_dev_data(wildcards):
    """The data set that stands for COCO test-dev at this scale."""
    (dataset,) = {
        table.test_dev
        for table in MATRIX.tables.values()
        if table.test_dev and planned(wildcards).run in table.runs
    }
    return dataset


def test_dev_files(table):
    """Zip files for the evaluation server that a table's target leaves beside the table."""
    name = "test_dev/detections_test-dev2017_corrloss_results.zip"
    return run_files([table], name) if MATRIX.tables[table].test_dev else []


def requested_tables():
    """Tables that the command line asks for; all of them for targets that are not tables."""
    targets = set(workflow.dag_settings.targets) or {"main"}
    targets -= set(OVERHEAD_TABLES)
    of_main = targets & {"main", "report", f"{OUT}/report.html"}
    of_analysis = targets & {"analysis"}
    named = [
        name
        for name in ALL_TABLES
        if name in targets or f"{OUT}/tables/{name}.csv" in targets
    ]
    if len(named) + len(of_main) + len(of_analysis) < len(targets):
        return ALL_TABLES
    groups = [MAIN_TABLES if of_main else [], ANALYSIS_TABLES if of_analysis else []]
    return list(dict.fromkeys(sum(groups, named)))


def checked_data(wildcards):
    """The report of the check that a data set's runs wait for.

    Of data that is not made here it is `ancient`: to check it once more is no reason to train again, its
    identity files say whether it changed. Of made data it is not: Snakemake does not look at the identity
    files of a job below an `ancient` input that is to be made again.
    """
    checked = f"{OUT}/data/{wildcards.dataset}.json"
    return checked if wildcards.dataset in MADE else ancient(checked)


def run_files(tables, name):
    """One file of every run of some tables, each once."""
    runs = {run.name: run for table in tables for run in MATRIX.tables[table].runs}
    return [f"{run.folder(RESULTS).path}/{name}" for run in runs.values()]


def overhead_runs(wildcards):
    """The variants whose training steps a table times."""
    return MATRIX.tables[wildcards.table].runs


def overhead_data(wildcards):
    """Reports of the checks of their data sets."""
    names = sorted({run.dataset for run in overhead_runs(wildcards)})
    return [ancient(f"{OUT}/data/{name}.json") for name in names]


def overhead_hashes(wildcards):
    """The table is stale when one of these changes."""
    return [MATRIX.planned[run.name].hash for run in overhead_runs(wildcards)]


def overhead_gpus(wildcards):
    """One, at a scale whose runs use any."""
    runs = overhead_runs(wildcards)
    return min(1, *(MATRIX.planned[run.name].config["bench"]["gpus"] for run in runs))


wildcard_constraints:
    dataset=r"\w+",
    detector=r"\w+",
    variant=r"[\w.-]+",
    seed=r"\d+",
    table=r"\w+",


def missing():
    """What this machine lacks for the scale: data sets that nothing here can make, GPUs."""
    for dataset, data in MATRIX.datasets.items():
        for part in ("train", "test"):
            path = annotation_file(dataset, part)
            if "make" in data or Path(path).exists():
                continue
            if dataset in CONVERTED:  # made from the raw layout, if that is there
                path = f"{DATA_ROOT}/{data['folder']}/gtFine/{data['convert'][part]}"
            if not Path(path).exists():
                yield f"{path} (set where data lies with --config data_root=...)"
    gpus = max(p.config["bench"]["gpus"] for p in MATRIX.planned.values())
    if gpus and not shutil.which("nvidia-smi"):
        yield f"GPUs: each run of this scale takes {gpus}, this machine shows none"


for lack in missing():
    logger.warning(f"missing here: {lack}")
