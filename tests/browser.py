"""The page in a browser: the service over a tagger that finds given words, and real Chromium before it."""

import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from werkzeug.serving import WSGIRequestHandler, make_server

from app import create_app
from app.settings import Settings
from koner.batching import QueueFull
from koner.labels import OUTSIDE, TAGS, Entity, tags_of
from koner.tagger import Tagger

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --window-size=1280,900"
)
# With the lead that the tag's logit has over the others: how sure of itself the model is.
WORDS = {
    "서울": ("LC", 8),
    "홍길동": ("PS", 5),
    "3명": ("QT", 3),
    "두 시간": ("TI", 8),
    "각": ("OG", 8),
    "<i>갑</i>": ("OG", 8),
}
CHARACTERS = ["\0", *sorted(set("".join(WORDS)))]
BUSY, SLOW = "바쁨", "느림"


class WordRuntime:
    """Finds `WORDS` among tokens that are one character each, the ids of `CHARACTERS`."""

    description = "words"

    def __call__(self, input_ids, attention_mask):
        logits = np.zeros((*input_ids.shape, len(TAGS)), np.float32)
        for row, ids in zip(logits, input_ids, strict=True):
            text = "".join(CHARACTERS[i] for i in ids)
            row[:, TAGS.index(OUTSIDE)] = 8
            for word, (label, lead) in WORDS.items():
                start = text.find(word)
                while start >= 0:
                    for i, tag in enumerate(tags_of([Entity(0, len(word), label)], len(word)), start):
                        row[i] = 0
                        row[i, TAGS.index(tag)] = lead
                    start = text.find(word, start + len(word))
        return logits


class WordTagger(Tagger):
    """A real tagger but for its model; busy where the text holds `BUSY`, and where `SLOW`, waiting for `gate`."""

    def __init__(self):
        model = WordLevel({character: i for i, character in enumerate(CHARACTERS)}, unk_token=CHARACTERS[0])
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
        super().__init__(WordRuntime(), tokenizer, TAGS, max_length=512)
        self.gate = threading.Event()

    def encode(self, texts):
        if BUSY in texts[0]:
            raise QueueFull
        if SLOW in texts[0]:
            self.gate.wait(10)
        return super().encode(texts)


class Quiet(WSGIRequestHandler):
    def log(self, *args):
        pass


@contextmanager
def served(model, tagger, **settings):
    """Serves the application on a free port of the loopback; gives its address."""
    app = create_app(Settings(model=model, allow_unlocked=True, **settings), tagger)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium(folder, language):
    """Starts Chromium with a profile of its own and a language to ask pages for; gives its driver."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--lang={language}", f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(20)
    driver.set_script_timeout(20)
    try:
        yield driver
    finally:
        driver.quit()


class Page:
    """The page in a browser, as a visitor handles it."""

    def __init__(self, driver, url):
        self.driver = driver
        self.url = url
        driver.get(url)

    def at(self, id_):
        return self.driver.find_element(By.ID, id_)

    def type(self, text):
        self.at("text").clear()
        self.at("text").click()
        # As an input method does; WebDriver's own keys know no emoji.
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})

    def submit(self, text):
        self.type(text)
        self.driver.find_element(By.CSS_SELECTOR, "button.primary").click()

    def find(self, text):
        """Submits a text, and gives the marks of its entities when they are there."""
        self.submit(text)
        self.wait(lambda: self.at("result").is_displayed())
        return self.marks()

    def fail(self, text):
        """Submits a text, and gives the error when it is there."""
        self.submit(text)
        self.wait(lambda: self.at("error").text)
        assert not self.at("result").is_displayed()
        return self.at("error").text

    def wait(self, condition):
        return WebDriverWait(self.driver, 10, poll_frequency=0.05).until(lambda _: condition())

    def marks(self):
        """The marks as (text, type), in order."""
        return [tuple(mark) for mark in self.driver.execute_script(MARKS)]

    def marked_text(self):
        """What the result reads without the labels on its marks."""
        return self.driver.execute_script(MARKED_TEXT)

    def complaints(self):
        """What the browser complains of, other than answers that are errors."""
        log = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in log if "Failed to load resource" not in message]


MARKS = "return [...document.querySelectorAll('#marked mark')].map((m) => [m.firstChild.data, m.className])"
MARKED_TEXT = """
const copy = document.getElementById('marked').cloneNode(true);
for (const tag of copy.querySelectorAll('.tag')) tag.remove();
return copy.textContent;
"""
ELEMENTS = "return [...document.querySelectorAll('#marked *, #json *')].map((element) => element.localName)"
# Of each text that can be seen: the contrast of its colour with the nearest background behind it.
CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const [r, g, b] = channels(colour).map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return channels(colour)[3] === 0 && element.parentElement ? behind(element.parentElement) : colour;
};
return [...document.querySelectorAll('body *')]
  .filter((e) => e.checkVisibility() && [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((e) => {
    const [dark, light] = [getComputedStyle(e).color, behind(e)].map(luminance).sort((a, b) => a - b);
    return [e.textContent, (light + 0.05) / (dark + 0.05)];
  });
"""
