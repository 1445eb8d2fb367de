"""The command line, as its users see it: what is printed where, and the exit status."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mien as package

Mien = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def album(tmp_path: Path, photos: dict[str, bytes]) -> Path:
    """A folder with two photos, one of them in a folder below, and a file that is no image."""
    folder = tmp_path / "album"
    (folder / "more").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(photos["person_a_1"])
    (folder / "more" / "b.JPG").write_bytes(photos["person_b_1"])
    (folder / "notes.txt").write_text("no image")
    return folder


def ok(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def test_version(mien_process: Mien) -> None:
    assert ok(mien_process("version")).strip() == package.__version__


def test_faces_as_a_table(mien: Mien, album: Path) -> None:
    printed = ok(mien("faces", str(album / "a.jpg"), "--attributes", "--quality", "--pose"))
    assert re.search(r"score.*age.*gender.*mask.*quality.*roll yaw pitch", printed)
    assert "72 px" in printed or "73 px" in printed
    assert " no " in printed


def test_faces_of_a_folder_as_json_lines(mien: Mien, album: Path) -> None:
    lines = [json.loads(line) for line in ok(mien("faces", str(album), "--json", "--landmarks-68")).splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["a.jpg", "b.JPG"]
    for line in lines:
        (face,) = line["faces"]
        assert len(face["vector"]) == 512
        assert len(face["box"]) == 4
        assert len(face["landmarks"]) == 5
        assert len(face["landmarks_68"]) == 68


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_odd_file_names_are_printed_as_they_are(mien: Mien, tmp_path: Path, photo: bytes, options: list[str]) -> None:
    names = ["[red]a[/].jpg", "a[/b].jpg", ":cat:.jpg", "ünï ☃.jpg", "-a.jpg"]
    given = []
    for name in names:
        for file, content in ((tmp_path / name, photo), (tmp_path / f"bad{name}", b"bad")):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
            given.append(f"./{file.relative_to(tmp_path)}")
    result = mien("faces", *options, "--", *given)
    assert "Traceback" not in result.stderr
    assert result.returncode == 1
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert {name: sum(name in line for line in lines) for name in names} == dict.fromkeys(names, 2)


def test_a_bad_image_fails_alone(mien: Mien, album: Path) -> None:
    (album / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    result = mien("faces", str(album), "--json")
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]


def test_odd_entries_of_a_folder_are_named_and_no_neighbour_is_lost(mien_process: Mien, album: Path) -> None:
    os.mkfifo(album / "b.jpg")
    (album / "dangling.png").symlink_to("nowhere")
    (album / "empty.jpg").touch()
    with (album / "huge.jpg").open("wb") as huge:
        huge.truncate(700_000_000)
    (album / "a.jpg").rename(os.fsdecode(os.fsencode(album) + b"/caf\xe9.jpe"))
    result = mien_process("faces", str(album), "missing.jpg", "--json", "--sheet", "faces.png")
    assert result.returncode == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["path"].rpartition("/")[2] for line in lines] == [
        "caf%E9.jpe", "empty.jpg", "huge.jpg", "b.JPG", "missing.jpg"
    ]  # fmt: skip
    assert [line.get("error", {}).get("code") for line in lines] == [
        None, "image_truncated", "image_too_large", None, "source_not_found"
    ]  # fmt: skip
    assert "b.jpg: a named pipe" in result.stderr
    assert "dangling.png: a link to a file that does not exist" in result.stderr
    assert "2 faces in 5 images, 3 failed, 2 entries skipped" in result.stderr
    with Image.open(album.parent / "faces.png") as sheet:
        assert sheet.size == (244, 152)


def test_a_folder_without_images_says_so(mien: Mien, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    assert "no images in nothing" in mien("faces", "nothing").stderr


def test_faces_into_a_file_and_on_from_there(mien: Mien, album: Path, tmp_path: Path, photo: bytes) -> None:
    for name in ("faces.csv", "faces.jsonl"):
        ok(mien("faces", "album", "--output", name))
        before = (tmp_path / name).read_bytes()
        assert "--resume goes on with it" in refused(mien("faces", "album", "--output", name))
        (tmp_path / name).write_bytes(before[:-20])
        assert "1 done before" in mien("faces", "album", "--output", name, "--resume").stderr
        assert (tmp_path / name).read_bytes() == before


def test_drawing_faces_into_a_file(mien: Mien, album: Path, tmp_path: Path) -> None:
    ok(mien("faces", str(album / "a.jpg"), "--draw", "drawn.jpg"))
    assert Image.open(BytesIO((tmp_path / "drawn.jpg").read_bytes())).format == "JPEG"


def test_drawing_takes_one_image(mien: Mien, album: Path) -> None:
    assert "exactly one image; 2 were given" in refused(mien("faces", str(album), "--draw", "x.jpg"))


def test_drawing_into_a_folder_that_is_not_there_says_so(mien: Mien, album: Path) -> None:
    assert "nowhere" in refused(mien("faces", str(album / "a.jpg"), "--draw", "nowhere/x.jpg"))


def test_a_missing_path_is_one_sentence(mien: Mien) -> None:
    assert "missing.jpg: no such file or directory" in refused(mien("faces", "missing.jpg")).replace("\n", " ")


def test_a_threshold_out_of_range_is_refused(mien: Mien, album: Path) -> None:
    result = mien("faces", str(album), "--threshold", "1.5")
    assert result.returncode == 2
    assert "--threshold" in result.stderr


def test_a_detection_size_is_a_number_or_a_word(mien: Mien, album: Path) -> None:
    result = mien("faces", str(album), "--detection-size", "huge")
    assert result.returncode == 2
    assert "--detection-size" in result.stderr
    assert "`auto`, `full` or a number" in " ".join(result.stderr.replace("│", " ").split())
    assert ok(mien("faces", str(album), "--detection-size", "full"))


def test_a_key_s_life(mien: Mien, tmp_path: Path) -> None:
    created = mien("keys", "create", "alice", "--scope", "infer", "--scope", "admin")
    secret = ok(created).strip()
    assert re.fullmatch(r"mien_[A-Za-z0-9_-]{43}", secret)
    assert secret not in created.stderr
    assert secret not in (tmp_path / "data" / "keys.json").read_text()
    listed = ok(mien("keys", "list"))
    assert "alice" in listed
    assert "infer, admin" in listed
    assert secret not in listed
    key_id = re.search(r"key (\w{8}) for alice", created.stderr)
    assert key_id
    ok(mien("keys", "revoke", key_id[1]))
    assert "alice" not in ok(mien("keys", "list"))
    assert "no API key has the id" in refused(mien("keys", "revoke", key_id[1]))


def test_no_keys_are_said_in_words(mien: Mien) -> None:
    result = mien("keys", "list")
    assert (ok(result), "mien keys create NAME" in result.stderr) == ("", True)


def test_tables_are_not_folded_in_a_pipe(mien: Mien) -> None:
    lines = ok(mien("models", "list")).splitlines()
    assert len([line for line in lines if line.split()[0] == "fr_feature"]) == 1
    assert all(len(line.split()) > 3 for line in lines)


def test_a_key_with_an_odd_name_is_not_lost(mien: Mien) -> None:
    created = mien("keys", "create", "[/bob] :cat:")
    assert ok(created).startswith("mien_")
    assert "[/bob] :cat:" in ok(mien("keys", "list"))


def test_an_unknown_scope_is_refused(mien: Mien) -> None:
    assert "a key needs scopes among infer, admin" in refused(mien("keys", "create", "alice", "--scope", "root"))


def test_doctor_finds_nothing_wrong_here(mien: Mien) -> None:
    printed = ok(mien("doctor", port=0))
    assert "fail" not in printed
    for checked in ("onnxruntime", "model yunet", "model fr_feature", "hash verified", "data folder", "no API keys"):
        assert checked in printed


def test_doctor_finds_no_fault_with_the_ports_of_the_running_server(mien: Mien, server: Any, tmp_path: Path) -> None:
    assert "in use by the server that is running" in ok(mien("doctor", port=server.port, data_dir=server.data_dir))
    assert refused_by(mien("doctor", port=server.port, data_dir=tmp_path / "another"), f"port {server.port}")


def refused_by(result: "subprocess.CompletedProcess[str]", check: str) -> bool:
    return result.returncode == 1 and re.search(rf"fail\s+{check}", result.stdout) is not None


def test_doctor_names_what_would_stop_the_server(mien: Mien, tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = mien("doctor", port=port)
    assert result.returncode == 1
    assert re.search(rf"fail\s+port {port}", result.stdout)
    open_to_all = mien("doctor", port=0, host="0.0.0.0")  # noqa: S104
    assert open_to_all.returncode == 1
    assert "mien keys create" in open_to_all.stdout
    no_cache = mien("doctor", port=0, cache_dir=tmp_path / "empty", offline=True, recogniser="sface")
    assert no_cache.returncode == 1
    assert re.search(r"ok\s+model yunet.*hash verified", no_cache.stdout)  # comes with Mien
    assert re.search(r"fail\s+model sface", no_cache.stdout)
    assert re.search(r"ok\s+model age: missing; .*`mien models pull age`", no_cache.stdout)
    assert "Traceback" not in result.stderr + open_to_all.stderr + no_cache.stderr
    connections = mien("doctor", port=0, max_connections=2_000_000_000, tls_certificate=tmp_path / "no.pem")
    assert connections.returncode == 1
    assert re.search(r"fail\s+connections: MIEN_MAX_CONNECTIONS is 2000000000", connections.stdout)
    assert re.search(r"fail\s+certificate: MIEN_TLS_CERTIFICATE: .*no\.pem cannot be read", connections.stdout)


def test_no_command_shows_the_help(mien: Mien) -> None:
    result = mien()
    for command in ("serve", "demo", "faces", "models", "keys", "doctor", "tune"):
        assert command in result.stdout + result.stderr


@pytest.mark.soak
def test_tune_measures_and_remembers(mien: Mien, tmp_path: Path) -> None:
    """In a cache of its own whose models are those of this machine."""
    from mien.settings import Settings

    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "models").symlink_to(Settings().locations.models_dir)
    printed = ok(mien("tune", "yunet", seconds=300, cache_dir=cache, threads=1))
    assert "yunet" in printed
    (record,) = (cache / "tuning").rglob("*.json")
    assert json.loads(record.read_text())["plan"]["lanes"] == 1


def test_config_check_says_what_to_set_instead_of_variables_of_the_original_server(
    mien: Mien, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEF_DET_THRESH", "0.5")
    result = mien("config", "check")
    assert result.returncode == 0
    assert "DEF_DET_THRESH is a variable of InsightFace-REST" in result.stderr
    assert "set MIEN_DEFAULT_THRESHOLD; see docs/migrating.md" in result.stderr


def test_config_show_says_where_each_value_comes_from_and_masks_secrets(mien: Mien, tmp_path: Path) -> None:
    (tmp_path / "mien.toml").write_text(
        '[listening]\nport = 9000\n[workers.app_secrets]\nTOKEN = "hush"\n[fetching.fetch_headers]\nA = "hush"\n'
        '[nodes]\nnode_key = "hush"\n'
    )
    shown = ok(mien("config", "show", "--json", config="mien.toml", max_images=3))
    assert "hush" not in shown
    found = json.loads(shown)
    file = str(tmp_path / "mien.toml")
    assert found["file"] == file
    settings = found["settings"]
    assert settings["listening"]["port"] == {"value": 9000, "from": f"{file} [listening]"}
    assert settings["limits"]["max_images"] == {"value": 3, "from": "MIEN_MAX_IMAGES"}
    assert settings["limits"]["max_faces"] == {"value": 1024, "from": "default"}
    assert settings["general"]["preset"] == {"value": None, "from": "default"}
    assert settings["workers"]["app_secrets"]["value"] == {"TOKEN": "********"}
    assert settings["fetching"]["fetch_headers"]["value"] == {"A": "********"}
    assert settings["nodes"]["node_key"]["value"] == "********"
    table = ok(mien("--config", "mien.toml", "config", "show"))
    assert "hush" not in table
    assert re.search(r"listening\.port\s*│ 9000", table)


def test_config_check_of_the_documented_file(mien: Mien, tmp_path: Path) -> None:
    page = (Path(__file__).parents[4] / "docs" / "operations.md").read_text()
    (tmp_path / "mien.toml").write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
    for arguments in (("mien.toml",), ("--config", "mien.toml")):
        assert str(tmp_path / "mien.toml") in ok(mien("config", "check", *arguments, log_format=""))


def test_config_check_tells_every_problem(mien: Mien, tmp_path: Path) -> None:
    (tmp_path / "mien.toml").write_text('[listening]\nport = "x"\nprot = 1\n')
    said = refused(mien("config", "check", "mien.toml", recognizer="sface"))
    for problem in ("MIEN_RECOGNISER?", "[listening] prot is not a setting", "[listening] port: Input should be"):
        assert problem in said
    assert "MIEN_IMAGES_ROOT: there is no directory /nowhere" in refused(
        mien("config", "check", images_root="/nowhere")
    )
    warned = mien("config", "check", recognizer="sface", unknown="warn")
    assert ok(warned)
    assert "MIEN_RECOGNISER?" in warned.stderr
    assert "is not read unless" in warned.stderr  # the file is there, but nobody has named it


def test_a_server_with_an_unknown_setting_or_without_its_folder_does_not_start(mien: Mien, tmp_path: Path) -> None:
    assert "MIEN_RECOGNISER?" in refused(mien("serve", recognizer="sface"))
    assert "MIEN_IMAGES_ROOT: there is no directory" in refused(mien("serve", images_root="/nonexistent"))
    assert "images_root: there is no directory" in refused(mien("serve", "--images-root", "/nonexistent"))
    (tmp_path / "mien.toml").write_text("[locations]\nimages_root = 'nowhere'\n")
    said = refused(mien("serve", "--config", "mien.toml"))
    assert f"[locations] images_root: there is no directory {tmp_path / 'nowhere'}" in said
