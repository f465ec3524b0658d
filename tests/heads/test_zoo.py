"""Every family of mmdet's configs with Correlation Loss: it works, or it is refused by name.

``pytest -m sweep -s tests/heads/test_zoo.py`` prints the outcome of each.
"""

import pytest
from mmengine.logging import MessageHub
from zoo import FAMILIES, REFUSED, UNTESTED, WORKS, one_step, smallest_config


@pytest.mark.slow
@pytest.mark.sweep
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_works_or_is_refused_by_name(family):
    MessageHub.get_current_instance().update_info("epoch", 0)  # where TOOD looks it up
    path = smallest_config(family)
    if path is None:
        pytest.skip("no config with a box head")
    verdict, reason = one_step(path)
    print(f"{family:20} {path.stem:60} {verdict:9} {reason}")
    assert verdict in (WORKS, REFUSED, UNTESTED), reason
    if verdict == REFUSED:
        assert "docs/any_detector.md" in reason
