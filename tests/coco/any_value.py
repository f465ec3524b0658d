"""Small data sets, and values that are nearly right, which a reader must accept or refuse."""

from hypothesis import strategies as st

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
# Values that are nearly right are what a reader trips over.
NUMBERS = st.sampled_from([0, 1, 2, -1, 0.5, 1e9, 2**63, float("nan"), float("inf"), True, None, "1"])
VALUE = ANY | NUMBERS | st.lists(NUMBERS, min_size=4, max_size=4)
KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "width", "height", "file_name", "name")


def small_dataset():
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in (1, 2)],
        "categories": [{"id": 1, "name": "circle"}, {"id": 3, "name": "star"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 3, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 0}
            for i in (1, 2)
        ],
    }
