# Settings, the runs to plan, and what the other files here look up.
import os
import shlex
import shutil
from pathlib import Path

from snakemake.cli import get_argument_parser

from corrloss.analysis.gain_parts import PARTS
from corrloss.errors import CorrLossError
from corrloss.plan import data_files
from corrloss.plan.identity import (
    generator_identity,
    read_identity,
    report_identity,
    sample_identity,
)
from corrloss.plan.matrix import load_matrix
from corrloss.plan.experiments import Experiments
from corrloss.plan.settings import SettingsError, Settings
from corrloss.run import RunFolder

# Relative, as all paths here: a checkout that is moved has nothing to be done again.
ROOT = Path(os.path.relpath(workflow.basedir))


# Snakemake tells a Snakefile the targets only after it was read: its own command line is read again.
TARGETS = get_argument_parser().parse_known_args()[0].targets or []


def settings_arguments():
    """Settings of the command line: `--config`, and `scale=NAME` where a target is named as a scale.

    Jobs that it starts on other machines get the scale by `--config`.
    """
    given = list(workflow.config_settings.config_args or ())
    scales = {f"scale={name}" for name in Experiments(ROOT).scales if name in TARGETS}
    if scales:
        chosen = scales | {pair for pair in given if pair.startswith("scale=")}
        if len(chosen) > 1:
            raise SettingsError(
                f"expected one scale, got {', '.join(sorted(chosen))}: a target that is named as a scale picks it"
            )
        workflow.config_settings.config_args = [*given, *(scales - set(given))]
    return workflow.config_settings.config_args or ()


try:
    # Not by Snakemake's `configfile`: it does not bound what it reads, and it loses the text of each setting, which
    # counts where a folder's name looks like a number.
    settings = Settings.load(
        ROOT,
        settings_arguments(),
        workflow.config_settings.configfiles,
    )
    MATRIX = load_matrix(settings)
    ROWS = MATRIX.rows(TARGETS)
except (CorrLossError, OSError) as error:
    raise WorkflowError(str(error))

OUT = settings.out
ARGUMENTS = shlex.join(settings.arguments())
DATA_ROOT = settings.data_root
PAPER = ROOT / "experiments/reference/paper.csv"
SECONDS = ROOT / "experiments/reference/seconds.csv"
LOGGED = "{dataset}/{detector}/{variant}/seed{seed}"
# A run's files by name. Of masks only the reports know: not every detector has them.
RUN = RunFolder(OUT / "runs" / LOGGED)
REHEARSAL = RunFolder(OUT / "rehearsal" / LOGGED)
TEST_DEV_ZIP = RUN.test_dev / "detections_test-dev2017_corrloss_results.zip"

# `logged FILE COMMAND`: stderr goes to the file; if the command fails, its error is shown, or else the last line.
shell.prefix(
    "set -euo pipefail; logged() {{ "
    '"${{@:2}}" 2> "$1" || {{ cause=$(sed -n "\\|^error: |,\\$p" "$1" | tail -n 30); '
    'echo "${{cause:-$(tail -n 1 "$1")}}" >&2; echo "the whole log: $1" >&2; exit 1; }}; }}; '
)

for lack in MATRIX.missing(
    DATA_ROOT,
    has_gpus=bool(shutil.which("nvidia-smi")),
    tables=MATRIX.requested_tables(TARGETS, OUT),
):
    logger.warning(f"missing here: {lack}")


wildcard_constraints:
    dataset=r"\w+",
    detector=r"\w+",
    variant=r"[\w.-]+",
    seed=r"\d+",
    table=r"\w+",


def command_settings(wildcards, output):
    """Settings for a command, as its arguments.

    Snakemake does not compare a param that depends on the output with that of an earlier call: a folder that was
    moved does not cause a job to run again.
    """
    return ARGUMENTS


def inputs(report, identity, *files):
    """Input function of a job: files, or functions that list them.

    A job is run again if the identity in the report that it wrote is not the planned one; times of files do not
    matter. So all inputs are `ancient`, and a job whose report is out of date is put among those that
    `--forcerun` names. Its inputs are not `ancient`: Snakemake forces no job below an `ancient` input that is to
    be made again.

    Args:
        report: File with the identity, as a pattern; it is an output of the job.
        identity: Function of the wildcards that returns the planned identity, or whether the report is right.
        files: Patterns of files, or functions of the wildcards that return paths.
    """

    def job_inputs(wildcards):
        path = Path(str(report).format(**wildcards))
        paths = []
        for file in files:
            paths += (
                file(wildcards) if callable(file) else [str(file).format(**wildcards)]
            )
        if identity(wildcards) in (True, read_identity(path)):
            return [ancient(path) for path in paths]
        if path.exists():
            workflow.dag.forcefiles.add(str(path))
        return paths

    return job_inputs


def planned_identity(stage):
    """Function of a job's wildcards that returns the identity of a stage of its run."""
    return lambda wildcards: planned(wildcards).identity[stage]


def run_name(wildcards):
    """Name of the run of a job, by its wildcards."""
    return LOGGED.format(**wildcards)


def planned(wildcards):
    """The run of a job, by its wildcards."""
    return MATRIX.run(run_name(wildcards))


def run_threads(wildcards):
    """CPU threads of a run, over all its processes."""
    bench = planned(wildcards).config["bench"]
    return bench["threads"] * bench["processes"]


def longest_first(wildcards):
    """Priority of a training, by the seconds of its detector in the reference results."""
    reference = ROOT / "results/reference" / settings.scale / "runs.csv"
    return MATRIX.seconds(planned(wildcards).run, reference)


def run_gpus(wildcards):
    """GPUs of a run."""
    return planned(wildcards).config["bench"]["gpus"]


def refuse_without_gpus():
    """Refuse trainings for GPUs on a machine that has none, where jobs run on this machine."""
    from corrloss.tables.cost import load_seconds, without_gpus

    if shutil.which("nvidia-smi") or not workflow.local_exec:
        return
    names = [
        run_name(job.wildcards)
        for job in workflow.dag.needrun_jobs()
        if job.rule.name == "train"
    ]
    reason = without_gpus(MATRIX, names, load_seconds(SECONDS))
    if reason:
        raise WorkflowError(reason)


def run_weights(wildcards):
    """Local files of the published weights that a run starts from."""
    names = planned(wildcards).config["bench"]["pretrained"]
    return [f"{DATA_ROOT}/weights/{name}" for name in names]


def test_dev_data(wildcards):
    """The data set that is used as COCO test-dev at this scale."""
    return MATRIX.test_dev_data(planned(wildcards).run)


def run_files(tables, pattern):
    """One file of every run of some tables."""
    return files_of(MATRIX.runs_of(tables), pattern)


def files_of(runs, pattern):
    """One file of each of some runs."""
    return [str(pattern).format(**run_wildcards(run)) for run in runs]


def rehearsals_of(tables):
    """Reports of the rehearsals of some tables' runs."""
    runs = dict.fromkeys(run.rehearsed for run in MATRIX.runs_of(tables))
    return [
        str(REHEARSAL.rehearsal).format(**run_wildcards(run))
        for run in runs
        if run.name in MATRIX.planned
    ]


def run_wildcards(run):
    """Values of the wildcards of a run's jobs."""
    return {
        key: getattr(run, key) for key in ("dataset", "detector", "variant", "seed")
    }


def requested_tables():
    """Tables whose runs the targets of this call need in runs.csv."""
    return MATRIX.requested_tables(workflow.dag_settings.targets, OUT)


def generator_of(name):
    """Function that returns the identity of what makes a data set."""
    return lambda wildcards: generator_identity(MATRIX.datasets[name])


def sample_of(name):
    """Function that returns the identity of what chooses the sample of a data set, if its images are there."""
    data = MATRIX.datasets[name]
    folder = data_files.image_folder(data, "train", DATA_ROOT)
    return lambda wildcards: sample_identity(data) if folder.is_dir() else ""


def made_annotations(wildcards):
    """Annotation files of a data set that rules make."""
    data = MATRIX.datasets.get(wildcards.dataset, {})
    return data_files.annotations_by_rules(data, DATA_ROOT)


def checked_data(wildcards):
    """Report of the check of a run's data set."""
    return [settings.checked(wildcards.dataset)]


def overhead_data(wildcards):
    """Reports of the checks of the data sets that a table of overhead trains on."""
    names = {run.dataset for run in MATRIX.tables[wildcards.table].runs}
    return [settings.checked(name) for name in sorted(names)]


def stored_for_table(wildcards):
    """What a table reads of its runs besides runs.csv: replicates, and for parts of gains the detections."""
    parts = set(PARTS) & set(MATRIX.tables[wildcards.table].metrics)
    read = [RUN.replicates(), *([RUN.prediction, RUN.detections()] if parts else [])]
    return [path for file in read for path in run_files([wildcards.table], file)]


def table_identity(wildcards):
    """Planned identity of a table."""
    return MATRIX.table_identity(wildcards.table, PAPER)
