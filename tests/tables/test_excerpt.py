"""The README's table is that of the committed reference results."""

from pathlib import Path

import pytest

from corrloss.plan.experiments import Experiments
from corrloss.tables.excerpt import END, START, excerpt, with_excerpt

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference" / "mini"


def test_a_table_between_the_marks_is_replaced():
    assert with_excerpt(f"a\n{START}\nold\n{END}\nb", "new") == f"a\n{START}\nnew\n{END}\nb"


@pytest.mark.skipif(not REFERENCE.exists(), reason="no reference results in this copy")
def test_the_readme_shows_the_reference():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_excerpt(readme, excerpt(Experiments(ROOT), REFERENCE)) == readme  # `make readme`
