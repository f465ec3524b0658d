import pytest
from mmengine.structures import InstanceData
from slow_positives import METAS, anchor_positives, check, matched_by, random_maps
from tiny_detectors import OBJECTS, dense_head

from corrloss.loss import SCOPES


def slow_positives(head, maps):
    def assign(priors, counts, objects):
        return head.assigner.assign(InstanceData(priors=priors), counts, objects, None)

    return anchor_positives(head, maps, OBJECTS, matched_by(head, maps, OBJECTS, METAS, assign))


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("detector", ["atss", "atss_no_aux", "qfl_atss", "rs_atss"])
def test_positives_equal_a_slow_computation(detector, scope):
    head = dense_head(detector, scope=scope)
    maps = random_maps(head, third=1)
    check(head, maps, OBJECTS, METAS, slow_positives(head, maps))
