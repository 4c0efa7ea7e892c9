"""`lightcnn.NAME` gives every public name, and only those."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import lightcnn
from lightcnn import _HOME, _MODULES

NOT_FOR_USERS = {"backends", "cli", "files", "progress"}


def test_all_lists_what_can_be_resolved():
    assert set(lightcnn.__all__) == {*_HOME, "__version__"}
    assert len(set(lightcnn.__all__)) == len(lightcnn.__all__)


@pytest.mark.parametrize("name", sorted(_HOME))
def test_a_name_is_the_one_of_its_module(name):
    home = import_module(f"lightcnn.{_HOME[name]}")
    assert getattr(lightcnn, name) is getattr(home, name)
    assert name in home.__all__


@pytest.mark.parametrize("name", sorted(_MODULES))
def test_a_module_resolves(name):
    assert getattr(lightcnn, name) is import_module(f"lightcnn.{name}")


def test_every_module_is_public_or_left_out_on_purpose():
    package = Path(lightcnn.__file__).parent
    found = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert found - {"__init__", "__main__"} == _MODULES | NOT_FOR_USERS


def test_dir_lists_them():
    assert {*lightcnn.__all__, *_MODULES} == set(dir(lightcnn))
    assert dir(lightcnn) == sorted(dir(lightcnn))


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(lightcnn.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {alias.name: node.module.removeprefix("lightcnn.") for node in guarded.body for alias in node.names}
    assert seen == _HOME


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        lightcnn.trian  # noqa: B018
