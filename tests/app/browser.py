"""The page in Chromium, with a service whose tagger finds a fixed list of words."""

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
from koner.inference.batching import QueueFullError
from koner.inference.tagger import Tagger
from koner.labels.bio import OUTSIDE, Entity, entities_to_bio
from koner.labels.klue import KLUE

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --window-size=1280,900"
)
# The type of each word, and the margin of its tag's logit over the other logits, which determines the score.
WORDS = {
    "서울": ("LC", 8),
    "홍길동": ("PS", 5),
    "3명": ("QT", 3),
    "두 시간": ("TI", 8),
    "각": ("OG", 8),
    "<i>갑</i>": ("OG", 8),
}
CHARACTERS = ["\0", *sorted(set("".join(WORDS)))]
# The tagger rejects a text with the first word, and waits before it tags a text with the second.
REJECTED_WORD, SLOW_WORD = "바쁨", "느림"


class WordRuntime:
    """A runtime that finds `WORDS` in tokens of one character each, whose ids are indices of `CHARACTERS`."""

    description = "words"
    batch_tokens = 512

    def __call__(self, input_ids, attention_mask):
        logits = np.zeros((*input_ids.shape, len(KLUE.tags)), np.float32)
        for row, ids in zip(logits, input_ids, strict=True):
            text = "".join(CHARACTERS[i] for i in ids)
            row[:, KLUE.tags.index(OUTSIDE)] = 8
            for word, (label, margin) in WORDS.items():
                start = text.find(word)
                while start >= 0:
                    for i, tag in enumerate(entities_to_bio([Entity(0, len(word), label)], len(word)), start):
                        row[i] = 0
                        row[i, KLUE.tags.index(tag)] = margin
                    start = text.find(word, start + len(word))
        return logits


class WordTagger(Tagger):
    """A tagger with `WordRuntime`. It rejects `REJECTED_WORD`, and waits for `gate` if a text has `SLOW_WORD`."""

    def __init__(self):
        model = WordLevel({character: i for i, character in enumerate(CHARACTERS)}, unk_token=CHARACTERS[0])
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
        super().__init__(WordRuntime(), tokenizer, KLUE.tags, max_length=512)
        self.gate = threading.Event()

    def encode(self, texts):
        if REJECTED_WORD in texts[0]:
            raise QueueFullError
        if SLOW_WORD in texts[0]:
            self.gate.wait(10)
        return super().encode(texts)


class QuietHandler(WSGIRequestHandler):
    def log(self, *args):
        pass


@contextmanager
def running_service(model, tagger, **settings):
    """Run the application on a free port of the loopback interface, and yield its address."""
    app = create_app(Settings(model=model, allow_unlocked=True, **settings), tagger)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=QuietHandler)
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
    """Start Chromium with a new profile and a preferred language, and yield its driver."""
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
    """The page in a browser, with the actions of a visitor."""

    def __init__(self, driver, url):
        self.driver = driver
        self.url = url
        driver.get(url)

    def element(self, id_):
        return self.driver.find_element(By.ID, id_)

    def type(self, text):
        self.element("text").clear()
        self.element("text").click()
        # Insert the text as an input method does, because WebDriver cannot type emoji.
        self.driver.execute_cdp_cmd("Input.insertText", {"text": text})

    def submit(self, text):
        self.type(text)
        self.driver.find_element(By.CSS_SELECTOR, "button.primary").click()

    def find_entities(self, text):
        """Submit a text, wait for the result, and return its marks."""
        self.submit(text)
        self.wait(lambda: self.element("result").is_displayed())
        return self.marks()

    def submit_invalid(self, text):
        """Submit a text, wait for the error, and return its message."""
        self.submit(text)
        self.wait(lambda: self.element("error").text)
        assert not self.element("result").is_displayed()
        return self.element("error").text

    def wait(self, condition):
        return WebDriverWait(self.driver, 10, poll_frequency=0.05).until(lambda _: condition())

    def marks(self):
        """Return the marks as tuples (text, type), in order."""
        return [tuple(mark) for mark in self.driver.execute_script(MARKS)]

    def marked_text(self):
        """Return the text of the result without the labels of its marks."""
        return self.driver.execute_script(MARKED_TEXT)

    def browser_errors(self):
        """Return the errors in the browser's log, except those about error responses."""
        log = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in log if "Failed to load resource" not in message]


MARKS = (
    "return [...document.querySelectorAll('#marked mark')]"
    ".map((m) => [m.firstChild.data, m.querySelector('.tag').firstChild.data])"
)
MARKED_TEXT = """
const copy = document.getElementById('marked').cloneNode(true);
for (const tag of copy.querySelectorAll('.tag')) tag.remove();
return copy.textContent;
"""
ELEMENTS = "return [...document.querySelectorAll('#marked *, #json *')].map((element) => element.localName)"
# The visible texts, with the contrast ratio of their colour and the nearest background.
CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const [r, g, b] = channels(colour).map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return channels(colour)[3] === 0 && element.parentElement ? background(element.parentElement) : colour;
};
return [...document.querySelectorAll('body *')]
  .filter((e) => e.checkVisibility() && [...e.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((e) => {
    const [dark, light] = [getComputedStyle(e).color, background(e)].map(luminance).sort((a, b) => a - b);
    return [e.textContent, (light + 0.05) / (dark + 0.05)];
  });
"""
