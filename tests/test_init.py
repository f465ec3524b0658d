import subprocess
import sys
from itertools import permutations

import pytest

import corrloss

# Each order starts from a package that nothing was imported from yet; torch stays loaded.
ORDERS = """
import sys
from importlib import import_module
for order in {orders!r}:
    for name in [name for name in sys.modules if name.split(".")[0] == "corrloss"]:
        del sys.modules[name]
    for name in order:
        import_module(name)
    import corrloss
    from corrloss import soft_rank
    import corrloss.ranks
    for name in corrloss.__all__:
        value = getattr(corrloss, name)
        assert not isinstance(value, type(sys)), (name, order)
    assert corrloss.soft_rank is soft_rank is corrloss.ranks.soft_rank, order
    assert type(soft_rank).__name__ == "function", order
"""


def test_exported_names_are_no_modules_in_any_import_order():
    """A module named like an exported function would take its place once it is imported."""
    homes = ["corrloss", "corrloss.ranks", "corrloss.coefficients", "corrloss.loss"]
    orders = [order for length in range(1, len(homes) + 1) for order in permutations(homes, length)]
    subprocess.run([sys.executable, "-c", ORDERS.format(orders=orders)], check=True)


def test_importing_the_package_loads_no_torch():
    code = "import sys, corrloss; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_name_is_named():
    with pytest.raises(AttributeError, match="no attribute 'kendall'"):
        _ = corrloss.kendall
