"""Take the pictures of the README: the page of the service and the report of the stage evaluate.

    python -m docs.pictures

Starts the service with the model that dvc.lock pins, and Chromium with chromedriver; a Korean font must be installed
(Debian: fonts-nanum).
"""

from __future__ import annotations

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.processes import ROOT, Service, request_body
from koner.errors import exit_on_error

IMAGES = ROOT / "docs/images"
TEXT = (
    "LG유플러스 AX솔루션개발팀은 지난해 서울 마곡으로 사무실을 옮겼다. 김민수 팀장은 3일 오후 2시에 직원 12명과 만났다."
)
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)


def start_browser() -> webdriver.Chrome:
    """Start Chromium with a window of 960 x 860 pixels."""
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options)
    browser.set_window_size(960, 860)
    return browser


def main() -> None:
    """Write docs/images/page.png and docs/images/report.png."""
    IMAGES.mkdir(exist_ok=True)
    with Service(["app"], ROOT) as service, start_browser() as browser:
        service.wait_for_answer(request_body(TEXT))
        browser.get(service.url)
        field = browser.find_element(By.TAG_NAME, "textarea")
        field.clear()
        field.send_keys(TEXT)
        browser.find_element(By.CSS_SELECTOR, "button.primary").click()
        WebDriverWait(browser, 30).until(lambda b: b.find_elements(By.TAG_NAME, "mark"))
        browser.execute_script("window.scrollTo(0, 0)")
        browser.save_screenshot(str(IMAGES / "page.png"))
        browser.get((ROOT / "plots/evaluate/report.html").as_uri())
        browser.save_screenshot(str(IMAGES / "report.png"))


if __name__ == "__main__":
    with exit_on_error():
        main()
