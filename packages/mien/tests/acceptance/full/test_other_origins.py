"""A real browser shows pages of other origins that try all they can on a server without keys."""

import base64
import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from testing.chromium import Page, chromium
from testing.waiting import eventually

SYNC = """
const body = {
  service: "embedding",
  task: "lumen_clip_embed",
  payload: btoa(/* binary -> base64 string */),
  correlation_id: "req-embed-1"
};

fetch("/v1/infer", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body)
}).then(r => r.json()).then(console.log);
"""

STREAM = r"""
const payloadBase64 = "...."; // your base64-encoded payload
fetch("/v1/infer", {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({
    service: "embedding_stream",
    task: "lumen_clip_embed",
    payload: payloadBase64,
    correlation_id: "stream-browser-1"
  })
}).then(res => {
  // Using EventSource is easier if the server exposes a dedicated endpoint for SSE.
  // However we use the fetch response body here as a stream for modern browsers:
  const reader = res.body.getReader();
  const decoder = new TextDecoder();
  (async function read() {
    let buffer = "";
    while (true) {
      const { done, value } = await reader.read();
      if (done) break;
      buffer += decoder.decode(value, { stream: true });
      // split events by blank line
      const parts = buffer.split("\n\n");
      buffer = parts.pop(); // last partial
      for (const part of parts) {
        try {
          const obj = JSON.parse(part);
          const resultBytes = atob(obj.result_b64); // base64 decode
          console.log("chunk:", obj, resultBytes);
          if (obj.is_final) {
            console.log("stream finished");
          }
        } catch (e) {
          console.error("invalid chunk", e);
        }
      }
    }
  })();
});
"""
"""The samples for browsers as they were published; only the two places where the payload belongs are filled in."""

APP = """
from infsh import BaseApp, BaseAppInput, BaseAppOutput

class AppInput(BaseAppInput):
    text: str = ""

class AppOutput(BaseAppOutput):
    text: str

class App(BaseApp):
    async def run(self, given: AppInput) -> AppOutput:
        return AppOutput(text=given.text.upper())
"""

TOOLS = """
const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
const outcome = promise => promise.then(r => r.type === "opaque" ? "sent" : r.status, () => "failed");
const send = (path, options) => outcome(fetch(server + path, {method: "POST", ...options}));
const blind = (path, body, headers = {}) => send(path, {mode: "no-cors", body, headers});
const loaded = (tag, attributes) => new Promise(done => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.onload = () => done("loaded");
  element.onerror = () => done("failed");
  document.body.append(element);
});
let frames = 0;
const form = (path, enctype, fields, method = "POST") => new Promise(done => {
  const frame = Object.assign(document.createElement("iframe"), {name: `frame${++frames}`});
  const form = Object.assign(document.createElement("form"), {
    action: server + path, method, enctype, target: frame.name,
  });
  for (const [name, value] of Object.entries(fields)) {
    const input = Object.assign(document.createElement("input"), {name});
    if (value instanceof Blob) {
      const files = new DataTransfer();
      files.items.add(new File([value], "photo.jpg", {type: value.type}));
      input.type = "file";
      input.files = files.files;
    } else {
      input.value = value;
    }
    form.append(input);
  }
  document.body.append(frame, form);
  frame.onload = () => done("loaded");
  form.submit();
});
const socket = path => new Promise(done => {
  const opened = new WebSocket(server.replace("http", "ws") + path);
  opened.onmessage = event => { opened.close(); done(event.data); };
  opened.onerror = () => done("failed");
});
const multipart = (name, blob, more = {}) => {
  const data = new FormData();
  data.append(name, blob, "evil.jpg");
  for (const [key, value] of Object.entries(more)) data.append(key, value);
  return data;
};
const app = new Blob([bytes(packed)]);
const photo = new Blob([bytes(image)], {type: "image/jpeg"});
const task = JSON.stringify({app: "evil/page", input: {text: "x"}});
const extract = JSON.stringify({images: {data: [image]}});
const infer = JSON.stringify({service: "face_detection", payload: image});
const asJson = {headers: {"Content-Type": "application/json"}};
"""
"""What a page can do. `outcome` is what it learns: "sent" where it may not look (no-cors), a status where it may."""

ATTACKS = """(async () => { const results = [];
const kinds = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];
for (const [path, text] of [
  ["/apps?name=evil/page", app], ["/run", task], ["/apps/run", task], ["/tasks/list", "{}"], ["/files", "{}"],
  ["/extract", extract], ["/compare", extract], ["/draw_detections", extract], ["/v1/infer", infer],
  ["/compat/latest/run", task], ["/compat/0.5/apps?name=evil/page", app], ["/sessions", "{}"],
  ["/apps/test/kit/rollback", "{}"], ["//run", task], ["/v1/infer/", infer],
]) {
  const blob = new Blob([text]);
  results.push(await blind(path, blob));                       // no content type at all
  for (const kind of kinds) results.push(await blind(path, blob, {"Content-Type": kind}));
  results.push(await blind(path, new Blob([text], {type: "application/octet-stream"})));
  results.push(await send(path, {body: text, ...asJson}));     // asks first
  results.push(await send(path, {body: text}));
  results.push(await send(path, {body: text, headers: {"X-API-Key": "x", "Authorization": "Bearer x"}}));
  results.push(await send(path, {body: text, credentials: "include", mode: "no-cors", redirect: "manual"}));
  navigator.sendBeacon(server + path, blob);
  navigator.sendBeacon(server + path, new Blob([text], {type: "text/plain"}));
}
results.push(await blind("/files", multipart("file", photo)));
results.push(await blind("/multipart/extract", multipart("files", photo)));
results.push(await blind("/v1/infer", multipart("payload", photo, {service: "face_detection"})));
for (const path of ["/files", "/multipart/extract", "/v1/infer", "/run", "/apps?name=evil/page"]) {
  await form(path, "multipart/form-data", {file: photo, files: photo, payload: photo, service: "face_detection"});
  await form(path, "application/x-www-form-urlencoded", {service: "face_detection", payload: image, app: "evil/page"});
  await form(path, "text/plain", {'{"app": "evil/page", "input": {"text": "': '"}}'});
  await form(path, "text/plain", {'{"service": "face_detection", "payload": "': image + '"}'});
}
for (const path of ["/tasks", "/info", "/apps", "/metrics", "/files", "/v1/nodes", "/openapi.json", "/sessions"]) {
  await form(path, "application/x-www-form-urlencoded", {}, "GET");
  results.push(await loaded("img", {src: server + path}));
  results.push(await loaded("script", {src: server + path}));
  results.push(await loaded("link", {rel: "stylesheet", href: server + path}));
  results.push(await outcome(fetch(server + path)));
  results.push(await outcome(fetch(server + path, {mode: "no-cors"})));
  results.push(await outcome(fetch(server + path, {method: "DELETE"})));
}
for (const path of ["/", "/docs", "/tasks"]) results.push(await loaded("iframe", {src: server + path}));
results.push(await socket("/v1/nodes/watch"));
results.push(await outcome(fetch(server + "/files/" + file, {method: "DELETE"})));
results.push(await outcome(fetch(server + "/livez", {mode: "no-cors"})));
return results;
})()"""

ALLOWED = """(async () => {
const json = (path, options) => fetch(server + path, options).then(r => r.json());
const results = {};
results.deployed = await json("/apps?name=evil/page", {method: "POST", body: app});
results.task = await json("/run", {method: "POST", body: task, ...asJson});
results.extracted = await json("/extract", {method: "POST", body: extract, ...asJson});
results.drawn = await outcome(fetch(server + "/draw_detections", {method: "POST", body: extract, ...asJson}));
results.multipart = await json("/multipart/extract", {method: "POST", body: multipart("files", photo)});
results.inferred = await json("/v1/infer", {method: "POST", body: infer, ...asJson});
results.uploaded = await json("/files", {method: "POST", body: multipart("file", photo)});
results.image = await loaded("img", {src: results.uploaded.data.uri, crossOrigin: "anonymous"});
results.read = await outcome(fetch(results.uploaded.data.uri));
results.removed = await outcome(fetch(server + "/files/" + results.uploaded.data.id, {method: "DELETE"}));
results.watched = await socket("/v1/nodes/watch");
results.blind = await blind("/run", new Blob([task]));
results.beacon = navigator.sendBeacon(server + "/run", new Blob([task]));
await form("/multipart/extract", "multipart/form-data", {files: photo});
results.requestId = (await fetch(server + "/info")).headers.get("x-request-id");
results.patched = await outcome(fetch(server + "/info", {method: "PATCH"}));
return results;
})()"""


class _Blank(BaseHTTPRequestHandler):
    """An empty page at every address; one with `?base=URL` resolves relative URLs there."""

    def do_GET(self) -> None:
        base = self.path.partition("?base=")[2]
        page = f'<!doctype html><base href="{base}/"><body>' if base else "<!doctype html><body>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """The port of another web server of this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Blank) as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield web.server_address[1]
        web.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture(scope="module")
def tools(photo: bytes) -> Callable[[str, str], str]:
    """The script that defines a page's tools, for one server and one of its files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inf.yml", "name: page\nnamespace: evil\n")
        archive.writestr("inference.py", APP)
    known = {"packed": base64.b64encode(packed.getvalue()).decode(), "image": base64.b64encode(photo).decode()}

    def script(server: str, file: str = "") -> str:
        values = {**known, "server": server, "file": file}
        return "".join(f"var {name} = {json.dumps(value)};\n" for name, value in values.items()) + TOOLS

    return script


def effects(server: Any) -> dict[str, Any]:
    """All that a request could have changed or cost."""
    listed = {
        kind: [item["id"] for item in server.client.get(f"/{kind}").json()["data"]["items"]]
        for kind in ("tasks", "files")
    }
    counted = {
        name: server.metric(name)
        for name in ("mien_images_total", "mien_faces_total", "mien_model_run_seconds_count", "mien_file_bytes_total",
                     "mien_worker_starts_total", "mien_tasks_queued")
    }  # fmt: skip
    return {**listed, **counted, "apps": server.client.get("/apps").json()}


@pytest.mark.parametrize(
    ("page_host", "server_host"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("127.0.0.1", "localhost")]
)
def test_a_page_of_another_origin_has_no_effect(
    page: Page, server: Any, other_port: int, tools: Callable[..., str], page_host: str, server_host: str
) -> None:
    upload = server.client.post("/files", files={"file": ("a.txt", b"mine", "text/plain")}).json()["data"]
    before, refused = effects(server), server.metric("mien_requests_total", status="403")
    page.open(f"http://{page_host}:{other_port}/")
    page.start(tools(f"http://{server_host}:{server.port}", upload["id"]))
    results = page.run(ATTACKS)
    assert set(results) == {"sent", "failed", "loaded"}  # nothing could be read
    assert results[-1] == "sent"  # of a probe
    eventually(lambda: server.metric("mien_requests_total", status="403") - refused > 180)
    after = effects(server)
    assert after == before
    assert "evil" not in json.dumps(after)
    assert server.client.get(upload["uri"]).content == b"mine"


def test_a_link_on_another_page_opens_the_documentation_and_nothing_else(
    page: Page, server: Any, other_port: int
) -> None:
    for path, shown in (("/", "/docs"), ("/docs", "/docs")):
        page.open(f"http://localhost:{other_port}/")
        page.start(f"location.href = '{server.url}{path}'")
        page.until_at(f"{server.url}{shown}")
        assert "Swagger UI" in page.run("document.title")
        eventually(lambda: page.run("document.querySelectorAll('.opblock').length") > 30)
    page.open(f"http://localhost:{other_port}/")
    page.start(f"location.href = '{server.url}/tasks'")
    page.until_at(f"{server.url}/tasks")
    assert "MIEN_CORS_ORIGINS" in page.run("document.body.innerText")
    page.open(f"{server.url}/tasks")  # typed
    assert '"items"' in page.run("document.body.innerText")


def test_a_page_can_use_the_server_from_its_documentation(page: Page, server: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        page.open(f"http://{host}:{server.port}/docs")
        found = page.run("fetch('/info').then(r => r.status)")
        posted = page.run("fetch('/tasks/list', {method: 'POST', body: '{}'}).then(r => r.status)")
        assert (found, posted) == (200, 200)


@pytest.fixture(scope="module")
def open_server(serve_module: Any, light: dict[str, str], other_port: int) -> Any:
    """A server that lets one other origin in."""
    settings = {**light, "text_model": "minilm", "app_memory": 512 * 1024**2}
    return serve_module(cors_origins=f"http://127.0.0.1:{other_port}", **settings)


def test_a_page_of_a_listed_origin_can_do_everything(
    page: Page, open_server: Any, other_port: int, tools: Callable[..., str]
) -> None:
    page.open(f"http://127.0.0.1:{other_port}/")
    page.start(tools(open_server.url))
    results = page.run(ALLOWED)
    assert results["deployed"]["data"]["name"] == "page"
    assert len(results["extracted"]["data"][0]["faces"]) == len(results["multipart"]["data"][0]["faces"]) == 1
    assert results["drawn"] == 200
    assert results["inferred"]["success"] is True
    assert (results["image"], results["read"], results["removed"]) == ("loaded", 200, 200)
    assert '"nodes"' in results["watched"] or "{" in results["watched"]
    assert (results["blind"], results["beacon"]) == ("sent", True)
    assert results["requestId"]
    assert results["patched"] == "failed"

    def outputs() -> list[str]:
        listed = open_server.client.get("/tasks").json()["data"]["items"]
        return [(task["output"] or {}).get("text") for task in listed]

    eventually(lambda: outputs() == ["X"] * 3)  # by fetch, blindly, and by a beacon
    eventually(lambda: open_server.metric("mien_images_total") >= 5)  # the form's, too


def test_an_origin_that_is_not_listed_has_no_effect_there_either(
    page: Page, open_server: Any, other_port: int, tools: Callable[..., str]
) -> None:
    page.open(f"http://localhost:{other_port}/")
    page.start(tools(open_server.url))
    before = effects(open_server)
    results = page.run(ATTACKS)
    assert set(results) == {"sent", "failed", "loaded"}
    assert effects(open_server) == before


@pytest.mark.parametrize(("sample", "shown"), [(SYNC, "success"), (STREAM, "stream finished")], ids=["fetch", "stream"])
def test_the_published_samples_work_on_a_page_of_a_listed_origin(
    page: Page, open_server: Any, other_port: int, sample: str, shown: str
) -> None:
    filled = sample.replace("/* binary -> base64 string */", "'a photo of a cat'").replace('"...."', "btoa('a cat')")
    page.console.clear()
    page.open(f"http://127.0.0.1:{other_port}/?base={open_server.url}")
    page.start(filled)
    page.wait_for(shown)
    assert "invalid chunk" not in str(page.console)
