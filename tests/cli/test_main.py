import os
import subprocess
import sys

from click.testing import CliRunner

from koner.cli.main import main
from koner.params import RECIPES


def test_the_command_starts_without_slow_imports():
    slow = {"app", "numpy", "onnxruntime", "pyarrow", "pydantic", "torch", "transformers"}
    code = f"import sys, koner.cli.main; print(*{slow} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout == "\n"


def test_the_help_names_every_recipe():
    assert f"[{'|'.join(RECIPES)}]" in CliRunner().invoke(main, ["recipe", "--help"]).output


def test_serve_replaces_its_process_by_the_service_with_the_options_as_variables(monkeypatch):
    calls = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setenv("WORKERS", "3")
    monkeypatch.delenv("HOST", raising=False)
    assert CliRunner().invoke(main, ["serve", "--port", "0", "--workers", "2"]).exit_code == 0
    [(program, command, environment)] = calls
    assert (program, command) == (sys.executable, [sys.executable, "-m", "app"])
    assert environment == os.environ | {"PORT": "0", "WORKERS": "2"}
