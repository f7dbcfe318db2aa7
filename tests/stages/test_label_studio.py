"""The loop with the real Label Studio: predictions of the service, corrections, an export, a new model in service."""

import json
import re
import shutil

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from koner.annotation.label_studio import name_version, write_label_config
from koner.corpus.inline import parse_inline
from koner.corpus.sources import read_checked, read_source
from koner.labels.klue import KLUE
from koner.labels.styles import read_styles
from koner.release.hashing import folder_hash
from tests.annotation.label_studio_server import PASSWORD, USER, LabelStudio, NotInstalledError
from tests.app.browser import chromium
from tests.app.gunicorn_service import Service, free_port, write_lock
from tests.inference.table_model import write_model
from tests.stages.typed_commands import SMALL, commit, run, set_params

# The model of the service knows these characters, and the last text says "서울" wrongly to be a person.
MARKED = "😀 <홍길동:PS>은 &lt;b&gt;&amp;amp; <서울:PS>&lt;/b&gt;에 갔다."
TEXT, _ = parse_inline(MARKED)
CORRECT = [("PS", "홍길동"), ("LC", "서울")]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    checkout = tmp_path_factory.mktemp("service")
    (checkout / "models/ner").mkdir(parents=True)
    write_model(checkout / "models/ner", [MARKED])
    write_lock(checkout, folder_hash(checkout / "models/ner"))
    with Service(checkout, KONER_TOKENS="a-token") as service:
        yield service


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory):
    try:
        server = LabelStudio(tmp_path_factory.mktemp("label-studio"), free_port())
    except NotInstalledError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="module")
def project(label_studio):
    """A project with the labelling config of KLUE-NER's labels."""
    return create_project(label_studio, "koner")


def create_project(label_studio, title):
    """Create a project with the labelling config of KLUE-NER's labels, and return its id."""
    config = write_label_config(read_styles(None, KLUE))
    return label_studio.post("projects", {"title": title, "label_config": config})["id"]


def connect(label_studio, project, service, **more):
    backend = {"project": project, "url": f"http://127.0.0.1:{service.port}", "title": "koner", **more}
    return label_studio.post("ml", backend)


@pytest.fixture(scope="module")
def backend(label_studio, project, service):
    """The service, connected to the project."""
    secret = {"auth_method": "BASIC_AUTH", "basic_auth_user": "label-studio", "basic_auth_pass": "a-token"}
    return connect(label_studio, project, service, **secret)


@pytest.fixture(scope="module")
def task(label_studio, project, backend):
    """A task with the predictions of the service."""
    label_studio.post(f"projects/{project}/import?return_task_ids=true", [{"text": TEXT}])
    (task,) = label_studio.get(f"tasks?project={project}")["tasks"]
    query = f"id=retrieve_tasks_predictions&project={project}"
    label_studio.post(f"dm/actions?{query}", {"selectedItems": {"all": True, "excluded": []}})
    return label_studio.get(f"tasks/{task['id']}?project={project}")


def entities(result):
    return [(*region["value"]["labels"], region["value"]["text"]) for region in result]


def test_the_service_is_connected(backend, service):
    version = name_version(folder_hash(service.checkout / "models/ner"))
    assert (backend["state"], backend["error_message"], backend["model_version"]) == ("CO", None, version)


def import_tasks(label_studio, path):
    """Import a file into a new project, and return the project's id and its tasks with their predictions."""
    project = create_project(label_studio, path.stem)
    label_studio.post(f"projects/{project}/import", json.loads(path.read_text(encoding="utf-8")))
    tasks = label_studio.get(f"tasks?project={project}")["tasks"]
    return project, [label_studio.get(f"tasks/{task['id']}?project={project}") for task in tasks]


def test_doubtful_tasks_are_corrected_and_the_corpus_with_them(label_studio, tmp_path):
    lines = ["<서울:LC>에 갔다.", "<서울:LC>은 크다.", "나는 <서울:LC>이 좋다.", "😀 서울에서 왔다."]
    (tmp_path / "corpus.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    run(tmp_path, "git", "init", "--quiet")
    run(tmp_path, "koner", "audit", "check", "corpus.txt", "doubts")
    project, (task,) = import_tasks(label_studio, tmp_path / "doubts/tasks.json")
    predictions = {prediction["model_version"]: prediction["result"] for prediction in task["predictions"]}
    assert {name: entities(result) for name, result in predictions.items()} == {
        "suggestion": [("LC", "서울")],
        "annotation": [],
    }
    label_studio.post(f"tasks/{task['id']}/annotations", {"result": predictions["suggestion"]})
    exported = label_studio.get(f"projects/{project}/export?exportType=JSON")
    (tmp_path / "export.json").write_text(json.dumps(exported), encoding="utf-8")
    run(tmp_path, "koner", "audit", "apply", "export.json", "--source", "corpus.txt")
    run(tmp_path, "git", "apply", "corrections.patch")
    corrected = (tmp_path / "corpus.txt").read_text(encoding="utf-8").splitlines()
    assert corrected == [*lines[:3], "😀 <서울:LC>에서 왔다."]


def test_the_disagreements_of_two_people_are_imported(label_studio, tmp_path):
    (tmp_path / "a.txt").write_text("😀 <홍길동:PS>은 <서울:LC>에 갔다.\n<정부:OG>는 왔다.\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("😀 <홍길동:PS>은 <서울:OG>에 갔다.\n<정부:OG>는 왔다.\n", encoding="utf-8")
    run(tmp_path, "koner", "agree", "a.txt", "b.txt", "--output", "disagreements.json")
    _, (task,) = import_tasks(label_studio, tmp_path / "disagreements.json")
    assert [entities(prediction["result"]) for prediction in task["predictions"]] == [
        [("PS", "홍길동"), ("LC", "서울")],
        [("PS", "홍길동"), ("OG", "서울")],
    ]


def test_chosen_texts_are_imported_with_their_predictions(label_studio, service, tmp_path):
    (tmp_path / "pool.txt").write_text(f"{TEXT}\n아무도 없다.\n", encoding="utf-8")
    model = str(service.checkout / "models/ner")
    run(tmp_path, "koner", "select", "pool.txt", "--budget", "2", "--model", model, "-o", "chosen.json")
    _, tasks = import_tasks(label_studio, tmp_path / "chosen.json")
    found = {task["data"]["text"]: [entities(p["result"]) for p in task["predictions"]] for task in tasks}
    assert found == {TEXT: [[("PS", "홍길동"), ("PS", "서울")]], "아무도 없다.": [[]]}


def test_a_wrong_password_is_told_to_the_user(label_studio, project, service, backend):
    secret = {"auth_method": "BASIC_AUTH", "basic_auth_user": "label-studio", "basic_auth_pass": "wrong"}
    with pytest.raises(AssertionError, match="authentication parameters were either not provided or are incorrect"):
        connect(label_studio, project, service, **secret)


def test_the_predictions_of_the_service_are_in_the_task(task, backend):
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == backend["model_version"]
    assert entities(prediction["result"]) == [("PS", "홍길동"), ("PS", "서울")]
    assert prediction["score"] == min(region["score"] for region in prediction["result"])


# Scripts, because the page may replace an element at any time: the words that it marks, and the regions as it stores
# them of the annotation that is open, which begins as a copy of the prediction.
MARKED_WORDS = "return [...document.querySelectorAll('.htx-highlight')].map((mark) => mark.textContent)"
STORED = """
const opened = window.Htx?.annotationStore?.selected;
return opened ? opened.serializeAnnotation().map((region) => region.value) : [];
"""
# The middle of a word in the text to annotate; the list of tasks beside it has the text, too.
MIDDLE = """
const text = document.querySelector('.htx-highlight').parentElement;
const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
let node;
while ((node = walker.nextNode())) {
  const start = node.data.indexOf(arguments[0]);
  if (start < 0) continue;
  const range = document.createRange();
  range.setStart(node, start);
  range.setEnd(node, start + arguments[0].length);
  const box = range.getBoundingClientRect();
  return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
}
"""


@pytest.fixture
def page(task, project, label_studio, tmp_path):
    """A browser with the page of the task, which shows the prediction."""
    with chromium(tmp_path, "en") as driver:
        driver.set_page_load_timeout(120)
        driver.get(f"{label_studio.url}/user/login/")
        driver.find_element(By.NAME, "email").send_keys(USER)
        driver.find_element(By.NAME, "password").send_keys(PASSWORD)
        driver.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        wait = WebDriverWait(driver, 120)
        wait.until(lambda _: "/user/login" not in driver.current_url)
        driver.get(f"{label_studio.url}/projects/{project}/data?task={task['id']}")
        yield driver


def wait_for_regions(page, count):
    """Wait until an annotation with a number of regions is open and marked, and return the regions."""

    def regions(_):
        stored = page.execute_script(STORED)
        return stored if len(stored) == len(page.execute_script(MARKED_WORDS)) == count else None

    return WebDriverWait(page, 120).until(regions)


def test_the_page_shows_and_stores_offsets_in_code_points(page):
    """The text has an emoji, and characters that HTML escapes, before its entities."""
    wait_for_regions(page, 2)
    assert page.execute_script(MARKED_WORDS) == ["홍길동", "서울"]
    assert TEXT in page.execute_script("return document.body.innerText")
    # The key of the second label, and a selection.
    ActionChains(page).send_keys("2").perform()
    ActionChains(page).move_by_offset(*page.execute_script(MIDDLE, "갔다")).double_click().perform()
    stored = wait_for_regions(page, 3)
    (new,) = [region for region in stored if region["text"] not in ("홍길동", "서울")]
    assert TEXT[new["start"] : new["end"]] == new["text"] == "갔다"


def test_corrections_come_back_and_are_served(
    label_studio, project, task, service, backend, root, clone_without_outputs, tmp_path
):
    result = task["predictions"][0]["result"]
    result[1]["value"]["labels"] = ["LC"]
    label_studio.post(f"tasks/{task['id']}/annotations", {"result": result, "lead_time": 3.5})
    # Label Studio has told the service about the annotation, without a token.
    assert re.search(r'"path": "/webhook", "status": 200', service.stdout.read_text(encoding="utf-8"))
    folder = tmp_path / "koner"
    # Other tests share the clone, in which no stage may have run.
    shutil.copytree(clone_without_outputs, folder, symlinks=True)
    # Annotated sentences enough to train on, as `koner convert` writes them for Label Studio.
    lines = (root / "koner/resources/sample/train.news.txt").read_text(encoding="utf-8").splitlines()[:100]
    (folder / "lines.txt").write_text("\n".join(lines), encoding="utf-8")
    run(folder, "koner", "convert", "lines.txt", "tasks.json", "--to", "label-studio")
    label_studio.post(f"projects/{project}/import", json.loads((folder / "tasks.json").read_text(encoding="utf-8")))
    exported = label_studio.get(f"projects/{project}/export?exportType=JSON")
    (folder / "export.json").write_text(json.dumps(exported), encoding="utf-8")

    sentences = read_checked(read_source(str(folder / "export.json"), "ner", None))["train"]
    (corrected,) = [s for s in sentences if s.text == TEXT]
    assert [(e.label, TEXT[e.start : e.end]) for e in corrected.entities] == CORRECT
    assert sorted(s.text for s in sentences if s is not corrected) == sorted(parse_inline(line)[0] for line in lines)

    set_params(folder, source="export.json", watch="export.json", test_share=0.2, **SMALL)
    commit(folder, "the export of Label Studio")
    run(folder, "dvc", "repro")
    with Service(folder) as retrained:
        url = f"http://127.0.0.1:{retrained.port}"
        label_studio.patch(f"ml/{backend['id']}", {"project": project, "url": url, "auth_method": "NONE"})
        query = f"id=retrieve_tasks_predictions&project={project}"
        label_studio.post(f"dm/actions?{query}", {"selectedItems": {"all": False, "included": [task["id"]]}})
        predictions = label_studio.get(f"tasks/{task['id']}?project={project}")["predictions"]
    versions = {prediction["model_version"] for prediction in predictions}
    assert versions == {backend["model_version"], name_version(folder_hash(folder / "models/ner"))}
