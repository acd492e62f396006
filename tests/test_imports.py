"""Imports go one way, nobody edits sys.path, and importing a module does no work."""
import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = {"recover", "relabel", "validate"}
OURS = {*STAGES, "models", "utils", "scripts", "benchmarks", "tests"}
# What the code of a folder may import of ours; what is not named here (scripts, tests) may import anything.
ALLOWED = {**{stage: {stage, "models", "utils"} for stage in STAGES}, "models": {"models", "utils"},
           "utils": {"utils"}}
FILES = sorted(path.relative_to(ROOT) for folder in OURS for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path):
    """(module, names) of every import in a file, in functions too."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.module, [alias.name for alias in node.names]


@pytest.mark.parametrize("path", [path for path in FILES if path.parts[0] in ALLOWED], ids=str)
def test_imports_go_one_way(path):
    used = {module.split(".")[0] for module, _ in imports(path)} & OURS
    assert used <= ALLOWED[path.parts[0]]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_star_imports_and_no_path_edits(path):
    assert all("*" not in names for _, names in imports(path))
    text = (ROOT / path).read_text(encoding="utf-8")
    touched = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)
               and node.attr == "path" and isinstance(node.value, ast.Name) and node.value.id == "sys"]
    assert not touched and ("sys", ["path"]) not in list(imports(path))


def test_importing_every_module_does_no_work(tmp_path):
    modules = [".".join(path.with_suffix("").parts).removesuffix(".__init__")
               for path in FILES if path.parts[0] in ALLOWED]
    assert {"utils.pieces", "utils.flags", "recover.data_synthesis", "recover.starts.real",
            "models.train_teachers"} <= set(modules)
    code = ("import random, sys, numpy, torch\n"
            "def state():\n"
            "    return [torch.get_rng_state().tolist(), random.getstate(), torch.get_num_threads(),\n"
            "            numpy.random.get_state()[1].tolist(), torch.cuda.is_initialized()]\n"
            f"before = state()\nfor name in {modules}:\n    __import__(name)\n"
            "assert before == state()\n")
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=settings, capture_output=True,
                          text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and not list(tmp_path.iterdir())
