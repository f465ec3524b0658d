import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle

from corrloss.coco.masks import mask_to_polygons, mask_to_rle, rle_lengths


@settings(max_examples=150, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_polygons_cover_any_mask_exactly(mask):
    """Also with holes, holes in holes, and parts that touch at a corner."""
    polygons = mask_to_polygons(mask)
    drawn = np.zeros(mask.shape, int)
    for polygon in polygons:
        drawn += rle.decode(rle.frPyObjects([polygon], *mask.shape))[:, :, 0]
    assert (drawn == mask).all()


def test_a_ring_is_cut_in_two():
    ring = np.ones((5, 5), bool)
    ring[1:4, 1:4] = False
    assert len(mask_to_polygons(ring)) == 2


def test_lengths_of_compressed_runs_are_those_of_the_reference_encoder():
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (7, 5), (64, 48), (300, 200)]
    masks = [rng.random(shape) < p for shape in shapes for p in (0.0, 0.01, 0.5, 1.0)]
    counts = [rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode() for mask in masks]
    assert rle_lengths(counts).tolist() == [mask.size for mask in masks]


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))))
def test_runs_are_read_by_pycocotools_as_the_same_mask(mask):
    runs = mask_to_rle(mask)
    assert (rle.decode(rle.frPyObjects(runs, *runs["size"])) == mask).all()


@pytest.mark.parametrize("packed", ["", "P", "5R", "Ünfug", "5 2", "52\x00", "o" * 30])
def test_malformed_strings_have_no_length(packed):
    assert rle_lengths(["52", packed, "7"]).tolist() == [7, -1, 7]
