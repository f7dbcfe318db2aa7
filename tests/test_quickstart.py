"""The example notebook, run from its first cell to its last."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.inference.trained_model import LINES, write_trained_model

NOTEBOOK = "examples/quickstart.ipynb"


@pytest.fixture(scope="module")
def notebook(root, tmp_path_factory):
    """The notebook, executed with a small model that predicts the entities of some lines, and those of its own text."""
    folder = tmp_path_factory.mktemp("quickstart")
    write_trained_model(root, folder, ["<홍길동:PS>은 <지난해:DT> <서울:LC>에서 <부산:LC>으로 이사했다.", *LINES])
    notebook = nbformat.read(root / NOTEBOOK, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KONER_MODEL", str(folder / "trained"))
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(root / "examples")}}).execute()
    return notebook


def printed(notebook, start):
    """Return what the only code cell that begins with `start` printed."""
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith(start)]
    return "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")


def test_the_notebook_is_committed_without_outputs(root):
    cells = [cell for cell in nbformat.read(root / NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_the_entities_are_printed(notebook):
    assert [line.split()[:2] for line in printed(notebook, "text = ").splitlines()] == [
        ["홍길동", "PS"],
        ["지난해", "DT"],
        ["서울", "LC"],
        ["부산", "LC"],
    ]


def test_the_entities_are_highlighted(notebook):
    (cell,) = [cell for cell in notebook.cells if cell.source.startswith("from html")]
    (output,) = cell.outputs
    assert "홍길동 <small>PS</small></mark>은 " in output["data"]["text/html"]


def test_the_evaluation_is_printed(notebook):
    assert printed(notebook, "from koner.corpus").startswith("span F1 0.")
