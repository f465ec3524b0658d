"""Real tables with made-up figures."""

from pathlib import Path

from corrloss.plan.experiments import Experiments
from corrloss.plan.table_files import load_table
from corrloss.tables.build import build_table, columns
from corrloss.tables.records import runs_frame
from corrloss.tables.reference import load_reference

REAL = Experiments(Path(__file__).parents[2])
REFERENCE = load_reference(REAL)
MAIN = ("instance_segmentation", "nms_based", "nms_free")


def figures(run, metrics):
    """Two-digit figures, each different."""
    return {name: 20 + 3 * position + run.weight for position, name in enumerate(metrics)}


def recorded(plan):
    """A table's runs with records; the loss raises every metric."""
    figures_of = ((run, figures(run, columns(plan))) for run in plan.runs)
    return [
        (run, {"metrics": known, "train_seconds": 1.0, "identity": "0" * 12}) for run, known in figures_of
    ]


def finished(name, scale="mini", but=()):
    """A table as the bench makes it, with all runs finished but some."""
    plan = load_table(REAL, name, scale)
    records = [(run, record) for run, record in recorded(plan) if run.name not in but]
    return build_table(plan, runs_frame(records), REFERENCE)
