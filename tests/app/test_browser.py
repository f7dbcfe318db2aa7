import json
import re
import unicodedata

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.alert import Alert
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.app.browser import (
    CONTRASTS,
    ELEMENTS,
    REJECTED_WORD,
    SLOW_WORD,
    WORDS,
    Page,
    WordTagger,
    chromium,
    running_service,
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A folder in place of a model's. It is hashed but not loaded, as the tests pass a tagger."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def word_tagger():
    return WordTagger()


@pytest.fixture(scope="module")
def url(model_folder, word_tagger):
    with running_service(model_folder, word_tagger, max_text=1000, max_body=2048) as address:
        yield address


@pytest.fixture(scope="module")
def korean_chromium(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium"), "ko") as driver:
        yield driver


@pytest.fixture
def page(korean_chromium, url):
    page = Page(korean_chromium, url)
    yield page
    assert page.browser_errors() == []


def test_entities_are_marked_with_type_and_score(page):
    text = "홍길동은 서울에서\n\n  3명을 두 시간 만났다."
    assert page.find_entities(text) == [("홍길동", "PS"), ("서울", "LC"), ("3명", "QT"), ("두 시간", "TI")]
    assert page.marked_text() == text
    assert page.element("summary").text == "개체명 4개를 찾았습니다."
    tags = [tag.text for tag in page.driver.find_elements(By.CSS_SELECTOR, "#marked .tag")]
    # With the margin m, the score is e^m / (e^m + 12).
    assert tags == ["PS 0.93", "LC 1.00", "QT 0.63", "TI 1.00"]
    assert "\n\n" in page.element("marked").text
    assert page.find_entities("아무도 없다.") == []
    assert page.element("summary").text == "개체명을 찾지 못했습니다."


def test_the_filter_hides_entities_with_lower_scores(page):
    page.find_entities("홍길동은 서울에서 3명을 만났다.")
    page.element("minimum").send_keys(*[Keys.ARROW_RIGHT] * 14)
    assert page.marks() == [("홍길동", "PS"), ("서울", "LC")]
    assert page.marked_text() == "홍길동은 서울에서 3명을 만났다."
    assert page.element("summary").text == "개체명 3개 중 점수가 0.70 이상인 2개를 표시합니다."
    assert [entity["word"] for entity in json.loads(page.element("json").get_property("textContent"))["result"]] == [
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
def test_markup_in_the_text_is_shown_as_text(page, text):
    assert page.find_entities(text) == [(word, WORDS[word][0]) for word in WORDS_IN.findall(text)]
    assert page.marked_text() == text
    assert set(page.driver.execute_script(ELEMENTS)) == {"mark", "span"}
    # WebDriver raises an error here if a script has opened a dialog.
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
def test_marks_are_on_the_right_characters(page, text, marks):
    assert page.find_entities(text) == marks
    assert page.marked_text() == text


def test_examples_rotate_and_do_not_overwrite_the_visitor_s_text(page):
    examples = []
    for _ in range(3):
        page.element("example").click()
        page.wait(
            lambda: (
                page.element("result").is_displayed()
                and page.marked_text() == page.element("text").get_property("value")
            )
        )
        examples.append(page.marked_text())
    assert len(set(examples)) == 3
    page.type("내가 쓴 글")
    page.element("example").click()
    Alert(page.driver).dismiss()
    assert page.element("text").get_property("value") == "내가 쓴 글"
    page.element("example").click()
    Alert(page.driver).accept()
    assert page.element("text").get_property("value") == examples[0]


def test_the_copied_json_has_the_entities_that_are_shown(page):
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"origin": page.url.rstrip("/"), "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    text = '👍 "서울"\n3명'
    page.find_entities(text)
    page.element("minimum").send_keys(*[Keys.ARROW_RIGHT] * 14)
    page.element("copy").click()
    page.wait(lambda: page.element("copied").text == "복사했습니다.")
    answer = json.loads(page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])"))
    (entity,) = answer.pop("result")
    assert answer == {"input": text}
    assert (entity["word"], entity["entity_group"], entity["start"], entity["end"]) == ("서울", "LC", 4, 6)


def test_without_a_clipboard_the_json_is_selected(page):
    page.find_entities("서울")
    page.driver.execute_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.element("copy").click()
    page.wait(lambda: page.element("copied").text.startswith("브라우저에서 클립보드에 복사할 수 없습니다."))
    selected = page.driver.execute_script("return getSelection().toString()")
    assert json.loads(selected)["result"][0]["word"] == "서울"


def test_errors_are_explained(page):
    assert page.submit_invalid(" \n") == "텍스트를 입력하세요."
    assert page.submit_invalid(REJECTED_WORD) == "지금은 요청을 처리할 수 없습니다. 1초 후 다시 시도하세요."
    message, detail = page.submit_invalid("a" * 1001).split("\n")
    assert message == "이 텍스트는 처리할 수 없습니다."
    assert "1000 code points" in detail
    message, detail = page.submit_invalid("가" * 1000).split("\n")
    assert message == "텍스트가 너무 깁니다. 줄이거나 나누어 보내세요."
    assert "2048 bytes" in detail
    assert page.driver.find_element(By.CSS_SELECTOR, "#error .detail").get_attribute("lang") == "en"
    page.find_entities("서울")
    assert page.element("error").text == ""


def test_an_unreachable_service_is_reported(korean_chromium, model_folder, word_tagger):
    with running_service(model_folder, word_tagger) as address:
        page = Page(korean_chromium, address)
    assert page.submit_invalid("서울") == "서비스에 연결할 수 없습니다. 네트워크를 확인한 후 다시 시도하세요."


def test_a_late_response_is_ignored(page, word_tagger):
    word_tagger.gate.clear()
    page.submit(f"{SLOW_WORD} 서울")
    page.wait(lambda: page.element("summary").text == "분석 중…")
    page.find_entities("3명")
    word_tagger.gate.set()
    # The late response arrives within this time.
    page.driver.execute_async_script("setTimeout(arguments[0], 300)")
    assert page.marks() == [("3명", "QT")]
    assert page.element("error").text == ""


def test_the_page_asks_for_a_required_token_and_does_not_store_it(korean_chromium, model_folder, word_tagger):
    with running_service(model_folder, word_tagger, tokens=("secret",)) as address:
        page = Page(korean_chromium, address)
        assert not page.element("token").is_displayed()
        assert page.submit_invalid("서울").startswith("이 서비스를 사용하려면 액세스 토큰이 필요합니다.")
        assert page.driver.switch_to.active_element == page.element("token")
        for wrong in ("wrong", "비밀"):
            page.element("token").clear()
            page.element("token").send_keys(wrong, Keys.ENTER)
            page.wait(lambda: page.element("error").text.startswith("액세스 토큰이 올바르지 않습니다."))
        page.element("token").clear()
        page.element("token").send_keys("secret", Keys.ENTER)
        page.wait(lambda: page.element("result").is_displayed())
        assert page.marks() == [("서울", "LC")]
        storage = page.driver.execute_script("return [document.cookie, localStorage.length, sessionStorage.length]")
        assert storage == ["", 0, 0]
        page.driver.refresh()
        assert page.element("token").get_property("value") == ""


def test_the_page_works_with_the_keyboard_alone(page):
    def press(*keys):
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused():
        element = page.driver.switch_to.active_element
        # The focus must be visible.
        assert page.driver.execute_script("return getComputedStyle(arguments[0]).outlineStyle", element) == "solid"
        return element

    press(Keys.TAB)
    assert focused().text == "English"
    press(Keys.TAB)
    assert focused() == page.element("text")
    press("홍길동과 서울")
    ActionChains(page.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    page.wait(lambda: page.element("result").is_displayed())
    assert page.marked_text() == "홍길동과 서울"
    assert focused() == page.element("text")
    stops = []
    for _ in range(5):
        press(Keys.TAB)
        stops.append(focused())
    assert [stop.get_attribute("id") for stop in stops[1:4]] == ["example", "minimum", "copy"]
    assert (stops[0].get_attribute("class"), stops[4].tag_name) == ("primary", "summary")
    press(Keys.ENTER, Keys.TAB)
    assert focused() == page.element("json")
    ActionChains(page.driver).key_down(Keys.SHIFT).send_keys(Keys.TAB * 3).key_up(Keys.SHIFT).perform()
    assert focused() == page.element("minimum")
    press(Keys.ARROW_RIGHT * 19)
    assert page.marks() == [("서울", "LC")]


def test_an_english_browser_gets_the_english_page(tmp_path, url):
    with chromium(tmp_path, "en") as driver:
        page = Page(driver, url)
        assert page.driver.find_element(By.TAG_NAME, "h1").text == "Korean named-entity recognition"
        page.find_entities("홍길동은 서울에서")
        assert page.element("summary").text == "Entities found: 2."
        mark = driver.find_element(By.CSS_SELECTOR, "#marked mark")
        assert mark.get_attribute("title") == "person 0.93"
        message = "The service cannot process requests at the moment. Try again in 1 s."
        assert page.submit_invalid(REJECTED_WORD) == message
        driver.find_element(By.LINK_TEXT, "한국어").click()
        assert driver.find_element(By.TAG_NAME, "h1").text == "한국어 개체명 인식"
        assert page.browser_errors() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_the_page_fits_the_screen_and_has_enough_contrast(page, width, scheme):
    emulate = page.driver.execute_cdp_cmd
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    emulate("Emulation.setDeviceMetricsOverride", screen)
    emulate("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        page.find_entities("홍길동 서울 3명 두 시간 각 " + "가나다라" * 40 + " " + "https://example.org/" * 10)
        page.element("details").click()
        # Check these elements, which are hidden otherwise, too.
        page.driver.execute_script("document.getElementById('access').hidden = false")
        page.driver.execute_script("document.getElementById('error').textContent = 'x'")
        assert page.driver.execute_script("return document.documentElement.scrollWidth") <= width
        dark = page.driver.execute_script("return getComputedStyle(document.body).color.match(/\\d+/)[0] > 128")
        assert dark == (scheme == "dark")
        # Level AA of the Web Content Accessibility Guidelines.
        contrasts = page.driver.execute_script(CONTRASTS)
        assert len(contrasts) > 30
        assert [(text, contrast) for text, contrast in contrasts if contrast < 4.5] == []
    finally:
        emulate("Emulation.clearDeviceMetricsOverride", {})
        emulate("Emulation.setEmulatedMedia", {"features": []})
