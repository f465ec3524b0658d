# Settings, the runs to plan, and what the other files here look up.
import os
import shlex
import shutil
from pathlib import Path

from snakemake.cli import get_argument_parser

from corrloss.analysis.gain_parts import PARTS
from corrloss.errors import CorrLossError
from corrloss.plan import data_files, identity
from corrloss.plan.experiments import Experiments
from corrloss.plan.matrix import load_matrix
from corrloss.plan.settings import Settings, with_scale_of
from corrloss.plan.workflow import Plan
from corrloss.run import RunFolder

# Relative, as all paths here: a checkout that is moved has nothing to be done again.
ROOT = Path(os.path.relpath(workflow.basedir))
# Snakemake tells a Snakefile the targets only after it was read: its own command line is read again.
TARGETS = tuple(get_argument_parser().parse_known_args()[0].targets or ())

try:
    # `snakemake small` sets the scale. Its jobs on other machines get the scale by `--config`.
    workflow.config_settings.config_args = with_scale_of(
        TARGETS, workflow.config_settings.config_args, Experiments(ROOT).scales
    )
    # Not by Snakemake's `configfile`: it does not bound what it reads, and it loses the text of each setting, which
    # counts where a folder's name looks like a number.
    settings = Settings.load(
        ROOT,
        workflow.config_settings.config_args,
        workflow.config_settings.configfiles,
    )
    MATRIX = load_matrix(settings)
    PLAN = Plan(settings, MATRIX, TARGETS)
    MISSING = list(PLAN.missing(has_gpus=bool(shutil.which("nvidia-smi"))))
except (CorrLossError, OSError) as error:
    raise WorkflowError(str(error))

OUT = settings.out
DATA_ROOT = settings.data_root
ARGUMENTS = shlex.join(settings.arguments())
LOGGED = "{dataset}/{detector}/{variant}/seed{seed}"
# A run's files by name. Of masks only the reports know: not every detector has them.
RUN = RunFolder(OUT / "runs" / LOGGED)
REHEARSAL = RunFolder(OUT / "rehearsal" / LOGGED)
TEST_DEV_ZIP = "detections_test-dev2017_corrloss_results.zip"

# Snakemake formats the prefix: braces in a folder's name are doubled.
LOGGED_SH = (
    shlex.quote(f"{ROOT}/workflows/logged.sh").replace("{", "{{").replace("}", "}}")
)
shell.prefix(f"set -euo pipefail; source {LOGGED_SH}; ")

for lack in MISSING:
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


def inputs(report, planned_identity, *files):
    """Input function of a job: files, or functions that list them.

    A job is run again if the identity in the report that it wrote is not the planned one; times of files do not
    matter. So all inputs are `ancient`, and a job whose report is out of date is put among those that
    `--forcerun` names. Its inputs are not `ancient`: Snakemake forces no job below an `ancient` input that is to
    be made again.

    Args:
        report: File with the identity, as a pattern; it is an output of the job.
        planned_identity: Function of the wildcards that returns it, or whether the report is right.
        files: Patterns of files, or functions of the wildcards that return paths.
    """

    def job_inputs(wildcards):
        path = Path(str(report).format(**wildcards))
        paths = []
        for file in files:
            paths += (
                map(str, file(wildcards))
                if callable(file)
                else [str(file).format(**wildcards)]
            )
        if planned_identity(wildcards) in (True, identity.read_identity(path)):
            return [ancient(path) for path in paths]
        if path.exists():
            workflow.dag.forcefiles.add(str(path))
        return paths

    return job_inputs


def run_name(wildcards):
    """Name of the run of a job, by its wildcards."""
    return LOGGED.format(**wildcards)


def planned(wildcards):
    """The run of a job: its resolved config, its identities, and what it needs."""
    return MATRIX.run(run_name(wildcards))


def refuse_without_gpus():
    """Refuse trainings for GPUs on a machine that has none, where jobs run on this machine."""
    from corrloss.tables.cost import load_seconds, without_gpus

    if shutil.which("nvidia-smi") or not workflow.local_exec:
        return
    trainings = (job for job in workflow.dag.needrun_jobs() if job.rule.name == "train")
    names = [run_name(job.wildcards) for job in trainings]
    seconds = load_seconds(settings.experiments.seconds)
    if reason := without_gpus(MATRIX, names, seconds):
        raise WorkflowError(reason)
