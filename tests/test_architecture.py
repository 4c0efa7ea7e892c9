"""The house plan holds: imports only go left, names are public on purpose, and nothing heavy loads early."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lightcnn

SOURCE = Path(lightcnn.__file__).parent
ORDER = (
    ("errors",),
    ("files", "backends", "progress"),
    (
        "layers",
        "losses",
        "optimizers",
        "schedules",
        "frontends",
        "metrics",
        "calibration",
        "decoding",
        "alignment",
        "detection",
        "augmentation",
        "datasets",
    ),
    ("models", "importing", "scoring"),
    ("runs",),
    ("runtimes",),
    ("exporting",),
    ("inference",),
    ("reporting",),
    ("verification",),
    ("evaluation",),
    ("training",),
    ("bootstrapping",),
    ("recipes", "article"),
    ("cli",),
    ("__main__",),
)
PLACE = {room: place for place, group in enumerate(ORDER) for room in group}
ALLOWED_INSIDE_A_GROUP = {
    ("datasets", "decoding"),
    ("calibration", "metrics"),
    ("detection", "alignment"),
    ("losses", "layers"),
    ("importing", "models"),
}
KERAS = {"keras", "tensorflow", "jax", "torch"}
NEVER_KERAS = {
    "metrics",
    "calibration",
    "scoring",
    "decoding",
    "alignment",
    "detection",
    "augmentation",
    "datasets",
    "runs",
    "files",
    "errors",
    "progress",
}
KERAS_ONLY_IN_FUNCTIONS = {"backends", "runtimes", "inference", "verification", "cli"}
MEANINGLESS = {"utils", "util", "common", "core", "base", "helpers", "misc"}

FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def module_name(path):
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module):
    return module.split(".")[1]


def imported(node, module, is_package):
    """Names every module that an import statement can load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    package = module.split(".") if is_package else module.split(".")[:-1]
    start = package[: len(package) - node.level + 1] if node.level else []
    origin = ".".join([*start, *(node.module.split(".") if node.module else [])])
    if origin == "lightcnn":
        return [f"lightcnn.{alias.name}" for alias in node.names]
    return [origin]


def imports_of(path, tree=None):
    nodes = ast.walk(tree or ast.parse(path.read_text(encoding="utf-8")))
    statements = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return [name for node in statements for name in imported(node, module_name(path), path.name == "__init__.py")]


def without_functions(tree):
    """Returns what runs when the module is imported: everything but the bodies of functions."""

    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    return tree


def back_edges(path):
    own = room_of(module_name(path))
    edges = []
    for name in imports_of(path):
        if not name.startswith("lightcnn."):
            continue
        other = room_of(name)
        if other == own or other not in PLACE:  # the same room, or a name of the package itself
            continue
        if PLACE[other] > PLACE[own] or (PLACE[other] == PLACE[own] and (own, other) not in ALLOWED_INSIDE_A_GROUP):
            edges.append(f"{own} imports {name}")
    return edges


def test_every_module_has_a_place_in_the_order():
    unplaced = sorted({room_of(module_name(path)) for path in FILES} - set(PLACE))
    assert not unplaced, f"place {', '.join(unplaced)} in ORDER of {__file__} (and in docs/design.md)"
    gone = sorted(set(PLACE) - {room_of(module_name(path)) for path in FILES})
    assert not gone, f"{', '.join(gone)} in ORDER of {__file__} does not exist"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_only_go_left(path):
    if room_of(module_name(path)) not in PLACE:
        pytest.fail(f"place {room_of(module_name(path))} in ORDER of {__file__}")
    assert back_edges(path) == []


@pytest.mark.parametrize(
    "text",
    [
        "from lightcnn.training import train",
        "from lightcnn import training",
        "import lightcnn.training",
        "from .training import train",
        "def f():\n    from lightcnn import cli",
        "from lightcnn.decoding import decode_picture",
    ],
)
def test_a_back_edge_is_found(text, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SOURCE", tmp_path / "lightcnn")
    path = tmp_path / "lightcnn" / "metrics.py"
    path.parent.mkdir()
    path.write_text(text)
    assert len(back_edges(path)) == 1


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room_of(module_name(path)) in NEVER_KERAS | KERAS_ONLY_IN_FUNCTIONS],
    ids=module_name,
)
def test_keras_is_imported_only_where_it_belongs(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if room_of(module_name(path)) in KERAS_ONLY_IN_FUNCTIONS:
        tree = without_functions(tree)
    assert [name for name in imports_of(path, tree) if name.split(".")[0] in KERAS] == []


def loaded_by(code, *names):
    script = f"{code}\nimport sys\nprint('LOADED', *(name for name in {names!r} if name in sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return result.stdout.splitlines()[-1].split()[1:]


def test_rooms_without_keras_load_none_through_others():
    rooms = sorted(NEVER_KERAS | KERAS_ONLY_IN_FUNCTIONS)
    assert loaded_by(f"import {', '.join('lightcnn.' + room for room in rooms)}", *sorted(KERAS)) == []


def test_the_check_for_loaded_modules_finds_one():
    assert loaded_by("import lightcnn.metrics", "numpy", "keras") == ["numpy"]


def test_importing_the_package_does_no_work():
    assert loaded_by("import lightcnn", "numpy", "PIL", "rich", "click", "matplotlib", *sorted(KERAS)) == []


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"], ["--version"]])
def test_help_imports_neither_keras_nor_numpy(arguments):
    code = (
        f"import sys; sys.argv = ['lightcnn', *{arguments!r}]\nfrom lightcnn.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert loaded_by(code, "numpy", "matplotlib", "PIL", *sorted(KERAS)) == []


def is_command(node):
    """Tells whether a function is a command of `lightcnn`, which is called through `main` only."""
    return any(ast.unparse(decorator) == "main.command()" for decorator in node.decorator_list)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_public_names_are_listed_and_exist(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not any(isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for node in tree.body):
        assert room_of(module_name(path)) in ("recipes", "__main__"), "a module says what is public: __all__"
        return
    module = import_module(module_name(path))
    listed = module.__all__
    assert len(set(listed)) == len(listed)
    assert [name for name in listed if not hasattr(module, name)] == []
    assert [name for name in listed if name.startswith("_")] == []
    definitions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    defined = {node.name for node in definitions if not is_command(node)}
    assert {name for name in defined if not name.startswith("_")} - set(listed) == set()


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_every_public_thing_says_what_it_is_for(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    definitions = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    assert [node.name for node in definitions if not ast.get_docstring(node)] == []


def test_names_say_what_a_room_is_for():
    parts = {part for path in SOURCE.rglob("*.py") for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert parts & MEANINGLESS == set()
