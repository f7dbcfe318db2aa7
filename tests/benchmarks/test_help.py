import importlib
import sys

import pytest

# Modules that benchmarks share, without a command line of their own.
SHARED = {
    "alternative_runtimes",
    "audit_orders",
    "damage",
    "expert_service",
    "experts",
    "load",
    "metering",
    "openvino_runtime",
    "processes",
    "random_model",
    "reporting",
    "sentences",
    "usual_service",
}


def module_names(root):
    return {path.stem for path in (root / "benchmarks").glob("*.py")}


def test_shared_modules_can_be_imported():
    for name in sorted(SHARED):
        importlib.import_module(f"benchmarks.{name}")


def test_every_benchmark_prints_its_help(root, monkeypatch, capsys):
    scripts = sorted(module_names(root) - SHARED)
    assert len(scripts) == 20
    for name in scripts:
        module = importlib.import_module(f"benchmarks.{name}")
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as exit_info:
            module.main()
        output = capsys.readouterr().out
        assert exit_info.value.code == 0
        assert output.lower().startswith("usage: ")
        assert f"python -m benchmarks.{name}" in output


def test_benchmarks_pass_parameters_that_exist():
    from benchmarks import levers, stages
    from koner.params import Params

    assert {*levers.PLAIN, *stages._SMALL} <= set(Params.model_fields)
