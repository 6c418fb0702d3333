"""The worker: `gearman-worker thumbnails.worker:worker`."""

import asyncio
import html
import json
from base64 import b64decode, b64encode
from io import BytesIO

from PIL import Image

from gearman_py import AsyncClient, Worker

SIDE = 128  # pixels
LARGEST = 50_000_000  # pixels of a picture that is opened at all

worker = Worker(processes=2, concurrency=4, timeout=30)


@worker.function("thumbnail", workload=True)
def thumbnail(picture: bytes) -> bytes:
    """A picture -> a PNG of at most 128x128 pixels. It runs in one of the processes."""
    with Image.open(BytesIO(picture)) as opened:
        if opened.width * opened.height > LARGEST:
            raise ValueError(f"{opened.width}x{opened.height} pixels are too many")
        small = opened.convert("RGBA")
    small.thumbnail((SIDE, SIDE))
    encoded = BytesIO()
    small.save(encoded, "PNG")
    return encoded.getvalue()


@worker.function("page", workload=True)
async def page(request: bytes) -> str:
    """{"title": ..., "pictures": [base64, ...]} -> a page of HTML.

    It has each picture made small by a job of its own, all at once, and waits without a thread.
    """
    wanted = json.loads(request)
    pictures = [b64decode(each) for each in wanted["pictures"]]
    async with AsyncClient() as client:
        small = await asyncio.gather(*(client.do("thumbnail", each) for each in pictures))
    images = (f'<img src="data:image/png;base64,{b64encode(each).decode()}">' for each in small)
    return f"<title>{html.escape(wanted['title'])}</title>\n" + "\n".join(images) + "\n"
