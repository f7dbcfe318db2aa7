import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine makes tests slow, which is not an error.
settings.register_profile("koner", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("koner")

# Set before torch is imported, for the programs that tests start, too. The models of the tests are so small that
# threads wait for each other longer than they compute: training them takes a third of the CPU time with one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The tests that start DVC, services, browsers, Ray or several processes, or train for long: `make test-fast` leaves
# them out. They are the first that `make test` starts, so that none of them runs alone at the end.
SLOW = (
    "stages/test_pipeline.py",
    # It does not need the clone that the other process makes meanwhile for the file before it.
    "training/test_distributed.py",
    "stages/test_experiments.py",
    "stages/test_label_studio.py",
    "stages/test_processes.py",
    "stages/test_pretrain.py",
    "stages/test_audit.py",
    "stages/test_label_sets.py",
    "stages/test_own_corpus.py",
    "corpus/formats/test_round_trips.py",
    "sweep/test_study.py",
    "app/test_gunicorn.py",
    "bulk/test_engines.py",
    "release/test_travel.py",
    "app/test_balancer.py",
    "test_extras.py",
    "test_quickstart.py",
    "evaluation/test_comparison.py",
    "release/test_revisions.py",
    "app/test_openapi.py",
    "app/test_fair_shares.py",
    "app/test_browser.py",
    "app/test_full_disk.py",
    "app/test_feedback.py",
    "app/test_invalid_http.py",
    "app/test_worker.py",
    "app/test_deploy.py",
    "app/test_clients.py",
    "encoder/test_base_model.py",
    "training/test_fit.py",
    "export/test_onnx.py",
    "release/test_locking.py",
    "bulk/test_doors.py",
    "pretraining/test_train.py",
    "tokens/test_alignment.py",
    "evaluation/test_klue.py",
    "benchmarks/test_selection.py",
    "cli/test_select.py",
    "cli/test_drift.py",
    "training/test_dataset.py",
    "report/test_html.py",
    "pretraining/test_models.py",
    "pretraining/test_prepare.py",
    "tokens/test_text_tokenizer.py",
    "inference/test_queueing.py",
    "cli/test_tag.py",
    "test_validation.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, and start them first."""
    folder = Path(__file__).parent
    ranks = {folder / name: rank for rank, name in enumerate(SLOW)}
    for item in items:
        if item.path in ranks:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_if_present(root: Path) -> Path | None:
    """The folder of real KLUE sentences, or None if it does not exist."""
    folder = Path(os.environ.get("KONER_SHARED", root.parent / "shared"))
    return folder if (folder / "klue-ner").is_dir() else None


@pytest.fixture(scope="session")
def shared(shared_if_present: Path | None) -> Path:
    """The folder of real KLUE sentences; tests that need it are skipped if it does not exist."""
    if shared_if_present is None:
        pytest.skip("needs the real KLUE sentences (set KONER_SHARED to the folder that has them)")
    return shared_if_present
