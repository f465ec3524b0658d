"""What no module of the package does: run what it reads."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "corrloss"
MODULES = sorted(PACKAGE.rglob("*.py"))
# What must be said, and how, wherever the function on the left is called.
DEMANDED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
}
FORBIDDEN = {"eval", "exec", "compile", "os.system", "os.popen", "pd.read_pickle", "joblib.load"}
FORBIDDEN_MODULES = {"pickle", "dill", "joblib", "shelve", "marshal"}


def calls(path):
    """All calls of a module: name as it is written, and the node."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def keywords(node):
    return {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_is_read_is_run(path):
    for name, node in calls(path):
        where = f"{path}:{node.lineno}: {name}"
        assert name not in FORBIDDEN, where
        if name in DEMANDED:
            word, value = DEMANDED[name]
            assert keywords(node).get(word) is value, f"{where} without {word}={value}"
        if name.endswith(".extractall") or name.endswith("ZipFile.extract"):
            pytest.fail(f"{where}: archives are unpacked by corrloss.data.download.unpack")
        if name.startswith("subprocess."):
            assert not keywords(node).get("shell"), f"{where}: no shell"
        if name == "yaml.load":
            pytest.fail(f"{where}: YAML is read by corrloss.plan.yaml_files.load_yaml")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_reads_pickles(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & FORBIDDEN_MODULES, f"{path}:{node.lineno}"


def test_loaders_of_yaml_make_no_objects():
    import yaml

    from corrloss.plan.yaml_files import StrictLoader

    assert issubclass(StrictLoader, yaml.constructor.SafeConstructor)
    with pytest.raises(yaml.YAMLError, match="could not determine a constructor"):
        yaml.load("!!python/object/apply:os.system ['touch pwned']", StrictLoader)
