import json
import re
import unicodedata

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.alert import Alert
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import BUSY, CONTRASTS, ELEMENTS, SLOW, WORDS, Page, WordTagger, chromium, served


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder to stand for the model's, which no one reads: the tagger is given."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def tagger():
    return WordTagger()


@pytest.fixture(scope="module")
def url(model, tagger):
    with served(model, tagger, max_text=1000, max_body=2048) as address:
        yield address


@pytest.fixture(scope="module")
def korean_chromium(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium"), "ko") as driver:
        yield driver


@pytest.fixture
def page(korean_chromium, url):
    page = Page(korean_chromium, url)
    yield page
    assert page.complaints() == []


def test_entities_are_marked_with_type_and_score(page):
    text = "홍길동은 서울에서\n\n  3명을 두 시간 만났다."
    assert page.find(text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT"), ("두 시간", "TI")]
    assert page.marked_text() == text
    assert page.at("summary").text == "개체명 4개를 찾았습니다."
    tags = [tag.text for tag in page.driver.find_elements(By.CSS_SELECTOR, "#marked .tag")]
    # e^lead of e^lead + 12.
    assert tags == ["PS 0.93", "LC 1.00", "QT 0.63", "TI 1.00"]
    assert "\n\n" in page.at("marked").text
    assert page.find("아무도 없다.") == []
    assert page.at("summary").text == "찾은 개체명이 없습니다."


def test_the_filter_hides_what_is_less_sure(page):
    page.find("홍길동은 서울에서 3명을 만났다.")
    page.at("minimum").send_keys(*[Keys.ARROW_RIGHT] * 14)
    assert page.marks() == [("홍길동", "PS"), ("서울", "LC")]
    assert page.marked_text() == "홍길동은 서울에서 3명을 만났다."
    assert page.at("summary").text == "개체명 3개 가운데 점수가 0.70 이상인 2개를 표시합니다."
    assert [found["word"] for found in json.loads(page.at("json").get_property("textContent"))["result"]] == [
        "홍길동",
        "서울",
    ]


WORDS_IN = re.compile("|".join(map(re.escape, WORDS)))


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>서울",
        "<img src=x onerror=alert(1)>서울</p><b>3명</b>",
        "&lt;서울&amp;</textarea><svg onload=alert(1)>",
        "{{ 7*7 }}서울${alert(1)}<a href=javascript:alert(1)>서울</a>",
        "<i>갑</i> 서울",
    ],
)
def test_markup_in_the_text_stays_text(page, text):
    assert page.find(text) == [(word, WORDS[word][0]) for word in WORDS_IN.findall(text)]
    assert page.marked_text() == text
    assert set(page.driver.execute_script(ELEMENTS)) == {"mark", "span"}
    # Answered by an error where a dialog is open.
    assert page.driver.title.startswith("한국어")


DECOMPOSED = {word: unicodedata.normalize("NFD", word) for word in WORDS}


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("👍🏽서울👨‍👩‍👧‍👦 홍길동𠮷3명", [("서울", "LC"), ("홍길동", "PS"), ("3명", "QT")]),
        (
            f"👍{DECOMPOSED['서울']}의 {DECOMPOSED['각']}, 𠮷{DECOMPOSED['홍길동']}",
            [(DECOMPOSED["서울"], "LC"), (DECOMPOSED["각"], "OG"), (DECOMPOSED["홍길동"], "PS")],
        ),
    ],
)
def test_marks_fall_on_the_right_characters(page, text, marks):
    assert page.find(text) == marks
    assert page.marked_text() == text


def test_examples_come_one_after_the_other_but_not_over_ones_own_text(page):
    seen = []
    for _ in range(3):
        page.at("example").click()
        page.wait(
            lambda: page.at("result").is_displayed() and page.marked_text() == page.at("text").get_property("value")
        )
        seen.append(page.marked_text())
    assert len(set(seen)) == 3
    page.type("내가 쓴 글")
    page.at("example").click()
    Alert(page.driver).dismiss()
    assert page.at("text").get_property("value") == "내가 쓴 글"
    page.at("example").click()
    Alert(page.driver).accept()
    assert page.at("text").get_property("value") == seen[0]


def test_the_copied_json_is_the_answer_with_what_is_shown(page):
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"origin": page.url.rstrip("/"), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    text = '👍 "서울"\n3명'
    page.find(text)
    page.at("minimum").send_keys(*[Keys.ARROW_RIGHT] * 14)
    page.at("copy").click()
    page.wait(lambda: page.at("copied").text == "복사했습니다.")
    copied = json.loads(page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])"))
    (found,) = copied.pop("result")
    assert copied == {"input": text}
    assert (found["word"], found["entity_group"], found["start"], found["end"]) == ("서울", "LC", 4, 6)


def test_json_is_laid_out_for_copying_where_there_is_no_clipboard(page):
    page.find("서울")
    page.driver.execute_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.at("copy").click()
    page.wait(lambda: page.at("copied").text.startswith("브라우저가 복사를 막았습니다."))
    selected = page.driver.execute_script("return getSelection().toString()")
    assert json.loads(selected)["result"][0]["word"] == "서울"


def test_errors_are_told_in_words(page):
    assert page.fail(" \n") == "먼저 글을 입력하세요."
    assert page.fail(BUSY) == "서비스가 지금 요청을 받을 수 없습니다. 1초 뒤에 다시 시도하세요."
    told, detail = page.fail("a" * 1001).split("\n")
    assert told == "서비스가 이 글을 받아들이지 않았습니다."
    assert "1000 code points" in detail
    told, detail = page.fail("가" * 1000).split("\n")
    assert told == "글이 너무 깁니다. 줄이거나 나누어 보내세요."
    assert "2048 bytes" in detail
    assert page.driver.find_element(By.CSS_SELECTOR, "#error .detail").get_attribute("lang") == "en"
    page.find("서울")
    assert page.at("error").text == ""


def test_a_service_that_is_gone_is_told_in_words(korean_chromium, model, tagger):
    with served(model, tagger) as address:
        page = Page(korean_chromium, address)
    assert page.fail("서울") == "서비스에 연결할 수 없습니다. 네트워크를 확인하고 다시 시도하세요."


def test_an_answer_that_comes_too_late_is_dropped(page, tagger):
    tagger.gate.clear()
    page.submit(f"{SLOW} 서울")
    page.wait(lambda: page.at("summary").text == "찾는 중…")
    page.find("3명")
    tagger.gate.set()
    # Longer than the late answer takes.
    page.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.marks() == [("3명", "QT")]
    assert page.at("error").text == ""


def test_a_token_is_asked_for_where_one_is_needed_and_not_kept(korean_chromium, model, tagger):
    with served(model, tagger, tokens=("secret",)) as address:
        page = Page(korean_chromium, address)
        assert not page.at("token").is_displayed()
        assert page.fail("서울").startswith("이 서비스를 쓰려면 접근 토큰이 필요합니다.")
        assert page.driver.switch_to.active_element == page.at("token")
        for wrong in ("wrong", "비밀"):
            page.at("token").clear()
            page.at("token").send_keys(wrong, Keys.ENTER)
            page.wait(lambda: page.at("error").text.startswith("접근 토큰이 올바르지 않습니다."))
        page.at("token").clear()
        page.at("token").send_keys("secret", Keys.ENTER)
        page.wait(lambda: page.at("result").is_displayed())
        assert page.marks() == [("서울", "LC")]
        kept = page.driver.execute_script("return [document.cookie, localStorage.length, sessionStorage.length]")
        assert kept == ["", 0, 0]
        page.driver.refresh()
        assert page.at("token").get_property("value") == ""


def test_the_keyboard_alone_is_enough(page):
    def press(*keys):
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused():
        element = page.driver.switch_to.active_element
        # What a visitor sees of it.
        assert page.driver.execute_script("return getComputedStyle(arguments[0]).outlineStyle", element) == "solid"
        return element

    press(Keys.TAB)
    assert focused().text == "English"
    press(Keys.TAB)
    assert focused() == page.at("text")
    press("홍길동과 서울")
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.wait(lambda: page.at("result").is_displayed())
    assert page.marked_text() == "홍길동과 서울"
    assert focused() == page.at("text")
    stops = []
    for _ in range(5):
        press(Keys.TAB)
        stops.append(focused())
    assert [stop.get_attribute("id") for stop in stops[1:4]] == ["example", "minimum", "copy"]
    assert (stops[0].get_attribute("class"), stops[4].tag_name) == ("primary", "summary")
    press(Keys.ENTER, Keys.TAB)
    assert focused() == page.at("json")
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB * 3).key_up(Keys.SHIFT).perform()
    assert focused() == page.at("minimum")
    press(Keys.ARROW_RIGHT * 19)
    assert page.marks() == [("서울", "LC")]


def test_an_english_browser_gets_english(tmp_path, url):
    with chromium(tmp_path, "en") as driver:
        page = Page(driver, url)
        assert page.driver.find_element(By.TAG_NAME, "h1").text == "Korean named-entity recognition"
        page.find("홍길동은 서울에서")
        assert page.at("summary").text == "Entities found: 2."
        mark = driver.find_element(By.CSS_SELECTOR, "#marked mark")
        assert mark.get_attribute("title") == "person 0.93"
        assert page.fail(BUSY) == "The service can't take requests at the moment. Try again in 1 s."
        driver.find_element(By.LINK_TEXT, "한국어").click()
        assert driver.find_element(By.TAG_NAME, "h1").text == "한국어 개체명 인식"
        assert page.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_fits_and_can_be_read(page, width, scheme):
    emulate = page.driver.execute_cdp_cmd
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    emulate("Emulation.setDeviceMetricsOverride", screen)
    emulate("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        page.find("홍길동 서울 3명 두 시간 각 " + "가나다라" * 40 + " " + "https://example.org/" * 10)
        page.at("details").click()
        # Hidden else, and as much to be read.
        page.driver.execute_script("document.getElementById('access').hidden = false")
        page.driver.execute_script("document.getElementById('error').textContent = 'x'")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
        dark = page.driver.execute_script("return getComputedStyle(document.body).color.match(/\\d+/)[0] > 128")
        assert dark == (scheme == "dark")
        # AA of the Web Content Accessibility Guidelines.
        contrasts = page.driver.execute_script(CONTRASTS)
        assert len(contrasts) > 30
        assert [(text, contrast) for text, contrast in contrasts if contrast < 4.5] == []
    finally:
        emulate("Emulation.clearDeviceMetricsOverride", {})
        emulate("Emulation.setEmulatedMedia", {"features": []})
