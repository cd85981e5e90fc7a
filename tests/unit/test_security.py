"""What comes from outside (files, parameters, archives) is data: it is never executed."""

import ast

import pytest

from genlib import ROOT

SOURCES = sorted((ROOT / "genlib").rglob("*.py"))
EXECUTES = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen"),
    *("yaml.load", "yaml.unsafe_load", "marshal.loads", "shelve.open", "joblib.load"),
}
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


def calls(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def keyword(call, name):
    """The value of a call's keyword as source, or None."""
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_unpickles_or_executes_what_it_is_given(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names}
            names |= {(getattr(node, "module", None) or "").split(".")[0]}
            assert not names & MODULES, f"line {node.lineno}"
    for call in calls(tree):
        name, where = ast.unparse(call.func), f"line {call.lineno}"
        assert name not in EXECUTES, where
        assert keyword(call, "shell") in (None, "False"), where
        assert keyword(call, "safe_mode") in (None, "True"), where
        if name in ("np.load", "numpy.load"):
            assert keyword(call, "allow_pickle") == "False", where


def test_the_rules_catch_what_they_forbid():
    """The test above must be able to fail."""
    for line in ("eval(x)", "import pickle", "np.load(f)", "run(x, shell=True)"):
        with pytest.raises(AssertionError):
            test_no_module_unpickles_or_executes_what_it_is_given(Text(line))


class Text:
    """A source that is no file."""

    def __init__(self, source):
        self.source = source

    def read_text(self, encoding):
        return self.source
