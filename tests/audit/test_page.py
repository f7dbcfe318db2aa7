import json
import re

from koner.audit.candidates import Candidate
from koner.audit.fingerprints import fingerprint
from koner.audit.page import write_page
from koner.audit.tasks import write_tasks
from koner.labels.bio import Entity
from koner.labels.klue import KLUE
from koner.labels.styles import read_styles

TEXT = "홍길동은 <서울>에 갔다."
PS, LC, OG, DT = Entity(0, 3, "PS"), Entity(6, 8, "LC"), Entity(6, 8, "OG"), Entity(11, 13, "DT")
CANDIDATES = [
    Candidate("1", TEXT, "model", LC, OG, 0.9, "OG in 3 of 4 places"),
    Candidate("2", "정부는 말했다.", "unmarked", None, Entity(0, 2, "OG"), 0.8),
    Candidate("1", TEXT, "model", PS, None, 0.7),
    Candidate("3", "부산도 좋다.", "white space", None, None, 1.0, "LC '부산 '"),
]
ANNOTATION = {"1": (PS, LC, DT), "2": (), "3": (Entity(0, 2, "LC"),)}


def cards(tmp_path, shown):
    write_page(tmp_path / "page.html", CANDIDATES, ANNOTATION, read_styles(None, KLUE), shown)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    return page, page.split('<li class="card">')[1:]


def test_the_annotation_is_above_the_suggestion(tmp_path):
    _, (first, second, third) = cards(tmp_path, 3)
    gold, suggested = (
        re.search(f'<p lang="ko" class="{side}">(.*?)</p>', first, re.S)[1] for side in ("gold", "predicted")
    )
    assert "× LC" in gold
    assert "× PS" in gold
    assert "× OG 0.90" in suggested
    assert "홍길동은 &lt;" in suggested
    assert "OG in 3 of 4 places" in first
    # What is not in doubt has no score.
    assert re.findall(r"<span class=\"tag\">(.*?)</span>", suggested) == ["× OG 0.90", "DT"]
    assert "× OG 0.80" in second
    assert "LC &#39;부산 &#39;" in third


def test_cards_are_filtered_by_kind_check_and_type(tmp_path):
    page, (first, second, third) = cards(tmp_path, 3)
    assert re.findall('data-kind="(.*?)" data-types="(.*?)"', first) == [("type", "LC OG"), ("spurious", "PS")]
    assert re.findall('data-kind="(.*?)" data-types="(.*?)"', second) == [("unmarked", "OG")]
    assert 'data-kind="white space"' in third
    values = re.findall('name="kind" value="(.*?)"', page)
    assert values == ["spurious", "type", "unmarked", "white space"]


def test_only_the_first_sentences_are_shown(tmp_path):
    page, shown = cards(tmp_path, 1)
    assert len(shown) == 1
    assert "4 candidates in 3 sentences; the first 1 sentences are below" in page


def test_a_page_without_candidates_says_so(tmp_path):
    write_page(tmp_path / "page.html", [], {}, read_styles(None, KLUE), 5)
    assert "<p>None.</p>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_tasks_have_the_suggestion_and_the_annotation_as_predictions(tmp_path):
    write_tasks(tmp_path / "tasks.json", CANDIDATES, ANNOTATION, 2)
    first, second = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert first["data"] == {
        "id": "1",
        "text": TEXT,
        "doubts": "type: 서울 LC → 서울 OG (OG in 3 of 4 places); spurious: 홍길동 PS → none",
        "audited": fingerprint(TEXT, (PS, LC, DT)),
    }
    regions = [
        [(r["value"]["start"], r["value"]["end"], *r["value"]["labels"]) for r in p["result"]]
        for p in first["predictions"]
    ]
    assert regions == [[(6, 8, "OG"), (11, 13, "DT")], [(0, 3, "PS"), (6, 8, "LC"), (11, 13, "DT")]]
    assert [p["model_version"] for p in first["predictions"]] == ["suggestion", "annotation"]
    assert first["predictions"][0]["score"] == 0.9
    assert second["data"]["id"] == "2"
