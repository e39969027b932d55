"""The public names of kdlib: they are there, load when they are first used, and stay what they are."""

import subprocess
import sys

import pytest

import kdlib


@pytest.mark.parametrize("name", kdlib.__all__)
def test_each_name_is_the_same_thing_twice(name):
    first = getattr(kdlib, name)
    assert first is getattr(kdlib, name) and name in dir(kdlib)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="audits"):
        _ = kdlib.audits


def test_importing_kdlib_loads_nothing_heavy():
    code = "import sys, kdlib; kdlib.load_profile; sys.exit(bool({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_names_are_not_lost_to_modules_that_are_loaded_later():
    """Importing kdlib.x sets the attribute x of the package: no module may have a public function's name."""
    code = (
        "import importlib, kdlib, pkgutil\n"
        "before = {name: getattr(kdlib, name) for name in kdlib.__all__}\n"
        "for found in pkgutil.walk_packages(kdlib.__path__, 'kdlib.'):\n"
        "    if not found.name.endswith('__main__'):\n"
        "        importlib.import_module(found.name)\n"
        "assert all(getattr(kdlib, name) is value for name, value in before.items())\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
