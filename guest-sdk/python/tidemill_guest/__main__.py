"""`python -m tidemill_guest build OPERATOR.py -o PLUGIN.wasm`: makes the component, with `componentize-py`."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .component import operators_in

_PACKAGE = Path(__file__).resolve().parent
_WIT = _PACKAGE / "wit" / "v0.1"

# What `componentize-py` is given: the operator's module, and the classes that it exports for it.
_APP = """\
import {module} as _operator
import wit_world
import wit_world.imports.arrow, wit_world.imports.types, wit_world.imports.diagnostics
from tidemill_guest import component as _component

globals().update(_component.exports(_operator, wit_world))
"""


def _load(path: Path) -> object:
    """Imports the operator's module, from its own folder as the plugin will."""
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"error: {path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _build(path: Path, output: Path, more: list[str]) -> None:
    if not path.is_file():
        raise SystemExit(f"error: {path} is not there")
    if not path.stem.isidentifier():
        raise SystemExit(f"error: `{path.name}` cannot be imported: name it as a Python module, as in `operator.py`")
    try:
        found = operators_in(_load(path))
    except TypeError as error:
        raise SystemExit(f"error: {error}") from error
    if not found:
        raise SystemExit(
            f"error: {path.name} has no operator: put `@operator`, `@reducer`, `@aggregator`, `@grouper` or `@updater` on one"
        )
    if shutil.which("componentize-py") is None and not (Path(sys.executable).parent / "componentize-py").exists():
        raise SystemExit(f"error: `componentize-py` is missing: install it with `{sys.executable} -m pip install componentize-py`")
    beside = Path(sys.executable).parent / "componentize-py"
    program = str(beside) if beside.exists() else "componentize-py"
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "tidemill_component.py"
        app.write_text(_APP.format(module=path.stem))
        wit = Path(folder) / "wit"
        shutil.copytree(_WIT, wit)
        exported = " ".join(f"export {role};" for role in found)
        with (wit / "worlds.wit").open("a") as worlds:
            worlds.write(f"\nworld plugin {{ import diagnostics; {exported} }}\n")
        command = [program, "-q", "-d", str(wit), "-w", "plugin", "componentize", app.stem, "-o", str(output.resolve()), *more]
        for place in (folder, path.resolve().parent, _PACKAGE.parent):
            command += ["-p", str(place)]
        environment = dict(os.environ)
        if sys.prefix != sys.base_prefix:
            # What is installed beside `componentize-py` can be imported, when it is Python alone.
            environment["VIRTUAL_ENV"] = sys.prefix
        ended = subprocess.run(command, cwd=folder, env=environment)
    if ended.returncode != 0:
        raise SystemExit(ended.returncode)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tidemill_guest", description="Builds plugins of Tidemill.")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make a plugin of the operators of a module")
    build.add_argument("module", type=Path, help="the Python file with the operators")
    build.add_argument("-o", "--output", type=Path, required=True, help="the plugin, a .wasm file")
    roles = commands.add_parser("roles", help="print the roles of the operators of a module, one a line")
    roles.add_argument("module", type=Path, help="the Python file with the operators")
    arguments, more = parser.parse_known_args()
    if arguments.command == "build":
        _build(arguments.module, arguments.output, more)
    else:
        print("\n".join(operators_in(_load(arguments.module))))


if __name__ == "__main__":
    main()
