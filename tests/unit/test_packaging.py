"""pip and conda users get the same packages, each pinned, and the tests ran on those."""

import sysconfig
import tomllib
from importlib.metadata import distributions, version

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import genlib
from genlib import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDED = sorted([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]])


def pins():
    """[(name, requirement)] of the lines of constraints.txt that hold on this machine."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").open())
    requirements = [Requirement(line) for line in lines if line]
    here = [r for r in requirements if not r.marker or r.marker.evaluate()]
    return [(canonicalize_name(r.name), r) for r in here]


def test_conda_users_get_the_packages_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    options = [line for line in pip if line.startswith("-")]
    assert options == ["-c constraints.txt", "-e ."]
    assert sorted(set(pip) - set(options)) == NEEDED


def test_every_pin_is_one_exact_version():
    for name, pin in pins():
        assert [s.operator for s in pin.specifier] == ["=="], name


@pytest.mark.parametrize("needed", map(Requirement, NEEDED), ids=NEEDED)
def test_a_needed_package_is_pinned_and_runs_here_at_its_pin(needed):
    (here,) = (pin for known, pin in pins() if known == needed.name)
    assert here.specifier.contains(version(needed.name))
    assert needed.specifier.contains(version(needed.name))


def test_two_workers_keep_a_module_of_tests_together(request):
    """Not a matter of course: see the note on pytest-xdist in pyproject.toml."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@unit/test_packaging")


def test_every_pinned_package_that_is_installed_has_its_pinned_version():
    here = distributions(path=[sysconfig.get_path("purelib")])  # and not what setuptools carries
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in here}
    for tool in ("pip", "setuptools"):  # these came with the environment, not with the course
        installed.pop(tool, None)
    wrong = [
        f"{pin}, installed: {installed[name]}"
        for name, pin in pins()
        if name in installed and not pin.specifier.contains(installed[name])
    ]
    assert not wrong


def test_the_package_and_pyproject_state_one_version():
    assert genlib.__version__ == PROJECT["version"]


def test_the_three_python_versions_that_make_accepts_are_those_of_pyproject():
    requires = Requirement(f"x{PROJECT['requires-python']}").specifier
    good = [minor for minor in range(8, 20) if requires.contains(f"3.{minor}.5")]
    assert good == [11, 12, 13]
    assert "(3, 11) <= v < (3, 14)" in (ROOT / "Makefile").read_text()
