"""Run by `pytest`; gearman_py brings the fixtures: a job server, and a client of it."""

import json
from base64 import b64encode
from io import BytesIO

import pytest
from PIL import Image

from gearman_py import Client, JobFailed
from gearman_py.testing import Server, running
from thumbnails.worker import SIDE, thumbnail, worker


def picture(width: int, height: int) -> bytes:
    encoded = BytesIO()
    Image.new("RGB", (width, height), "teal").save(encoded, "JPEG")
    return encoded.getvalue()


def size(encoded: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(encoded), formats=["PNG"]) as opened:
        return opened.size


def test_a_function_is_called_as_any_other() -> None:
    assert size(thumbnail(picture(400, 200))) == (SIDE, SIDE // 2)


def test_a_page_of_thumbnails(
    gearman_server: Server, gearman_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", gearman_server.address)
    worker.configure(servers=gearman_server.address)
    pictures = [b64encode(picture(300, 300)).decode()] * 3
    with running(worker):
        assert size(gearman_client.do("thumbnail", picture(300, 600))) == (SIDE // 2, SIDE)
        page = gearman_client.do("page", json.dumps({"title": "a & b", "pictures": pictures}))
        assert page.startswith(b"<title>a &amp; b</title>\n")
        assert page.count(b"<img") == 3
        with pytest.raises(JobFailed):
            gearman_client.do("thumbnail", "not a picture")
