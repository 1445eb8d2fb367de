"""The documentation page in a real browser: requests with files are sent from it as it fills them in."""

import base64
from typing import Any

import pytest

from testing.chromium import Page, chromium
from testing.waiting import eventually

READY = """
(() => {
    const block = [...document.querySelectorAll(".opblock-post")].find(
        (one) => one.querySelector(".opblock-summary-path")?.dataset.path === PATH
    );
    const press = (button) => { button?.click(); return null; };
    if (!block?.querySelector(".opblock-body")) return press(block?.querySelector(".opblock-summary-control"));
    const start = block.querySelector(".try-out__btn:not(.cancel):not(.reset)");
    if (start) return press(start);
    const kind = block.querySelector("select.content-type");
    if (kind && kind.value !== "multipart/form-data") {
        Object.getOwnPropertyDescriptor(HTMLSelectElement.prototype, "value").set.call(kind, "multipart/form-data");
        kind.dispatchEvent(new Event("change", {bubbles: true}));
        return null;
    }
    const file = block.querySelector("input[type=file]");
    return file ? (window.block = block, true) : press(block.querySelector(".json-schema-form-item-add"));
})()
"""
SEND = """
(() => {
    const bytes = Uint8Array.from(atob(PHOTO), (one) => one.charCodeAt(0));
    const chosen = new DataTransfer();
    chosen.items.add(new File([bytes], "photo.jpg", {type: "image/jpeg"}));
    const input = block.querySelector("input[type=file]");
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
    setTimeout(() => block.querySelector(".execute").click(), 500);
})()
"""
ANSWER = "block.querySelector('.live-responses-table tbody')?.innerText"


@pytest.fixture(scope="module")
def page(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        found.open(f"http://127.0.0.1:{server.port}/docs")
        yield found


@pytest.mark.parametrize("path", ["/multipart/extract", "/multipart/draw_detections", "/files"])
def test_a_form_with_a_file_is_sent_as_the_page_fills_it_in(page: Page, photo: bytes, path: str) -> None:
    eventually(lambda: page.run(READY.replace("PATH", repr(path))), every=0.5)
    page.run(SEND.replace("PHOTO", repr(base64.b64encode(photo).decode())))
    answer = eventually(lambda: page.run(ANSWER))
    assert answer.startswith("200"), answer


def test_the_form_of_infer_has_a_field_for_files(page: Page) -> None:
    assert eventually(lambda: page.run(READY.replace("PATH", "'/v1/infer'")), every=0.5)
