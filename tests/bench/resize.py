"""resize beside the tutorial's PHP Imagick code: jobs a second and likeness, in one run.

    .venv/bin/python -m tests.bench.resize          (needs php-cli and php-imagick)

One picture after the other, ours and PHP's in turn, on one core, bytes to bytes, the median
of the rounds shown. Photographs are made here, with the spectrum and the noise of a camera's, and
are of the quality that both save with. PSNR is against a Lanczos of all pixels, unsaved.
The last rows are the most memory that a fresh process took for a large picture.
"""

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

from PIL import Image, ImageChops, ImageStat
from PIL.Image import Resampling

from gearman_py.functions.resize import fit_size, resize

QUALITY = 85
ROUNDS = 7
# The tutorial's function, and a loop: a path in, seconds out; the last answer goes to PATH.out.
# Imagick saves JPEG with the quality that it had; for WebP it has to be told.
PHP = """<?php
function resize($workload) {
    $image = new Imagick();
    $image->readImageBlob($workload);
    if ($image->getImageFormat() == 'WEBP') { $image->setImageCompressionQuality(QUALITY); }
    if ($image->getImageHeight() > 600) { $image->scaleImage(0, 600); }
    elseif ($image->getImageWidth() > 800) { $image->scaleImage(800, 0); }
    return $image->getImageBlob();
}
while (($path = fgets(STDIN)) !== false) {
    $workload = file_get_contents(trim($path));
    $start = hrtime(true);
    $answer = resize($workload);
    $end = hrtime(true);
    file_put_contents(trim($path) . '.out', $answer);
    echo ($end - $start) / 1e9, "\\n";
}
""".replace("QUALITY", str(QUALITY))
PEAK = r"""
import re, sys
from pathlib import Path
from gearman_py.functions.resize import resize
workload = Path(sys.argv[1]).read_bytes()
try:
    answer = f"{len(resize(workload)):,} bytes"
except ValueError as error:
    answer = f"refused: {error}"
peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
print(f"{int(peak[1]) // 1024:5} MiB: {answer}")
"""


def photograph(width: int, height: int) -> Image.Image:
    """Light at all scales (1/f), soft colours, and a sensor's noise; the same every time."""
    random = Random(width)  # noqa: S311  # a picture, not a secret

    def field(finest: int, noise: float) -> Image.Image:
        band = Image.new("L", (1, 1), 128)
        for halvings in range(9, finest - 1, -1):
            size = max(2, width >> halvings), max(2, height >> halvings)
            grain = Image.frombytes("L", size, random.randbytes(size[0] * size[1]))
            strength = max(noise, 0.7 * 2.0 ** (halvings - 9))
            band = Image.blend(band.resize(size, Resampling.BICUBIC), grain, strength)
        return band.resize((width, height), Resampling.BICUBIC)

    grey = Image.new("L", (width, height), 128)
    colours = (Image.blend(grey, field(4, 0), 0.4) for _ in "uv")
    return Image.merge("YCbCr", [field(0, 0.06), *colours]).convert("RGB")


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def likeness(answer: bytes, wanted: Image.Image) -> float:
    """PSNR in dB."""
    difference = ImageChops.difference(Image.open(BytesIO(answer)).convert("RGB"), wanted)
    squares = [rms**2 for rms in ImageStat.Stat(difference).rms]
    return 10 * math.log10(255**2 / (sum(squares) / len(squares)))


Job = Callable[[bytes], tuple[bytes, float]]
"""Does the job with this workload; its answer, and how many seconds it took."""


def ours(workload: bytes) -> tuple[bytes, float]:
    start = perf_counter()
    answer = resize(workload)
    return answer, perf_counter() - start


@contextmanager
def php(folder: Path) -> Iterator[Job]:
    """The tutorial's function, in a process that stays."""
    script, path = folder / "resize.php", folder / "workload"
    script.write_text(PHP)
    one_thread = os.environ | {"MAGICK_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    command = ["php", str(script)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=one_thread) as process:
        assert process.stdin
        assert process.stdout
        asked, said = process.stdin, process.stdout

        def job(workload: bytes) -> tuple[bytes, float]:
            path.write_bytes(workload)
            print(path, file=asked, flush=True)
            seconds = float(said.readline())
            return path.with_suffix(".out").read_bytes(), seconds

        yield job


def compare(name: str, picture: Image.Image, workload: bytes, theirs: Job) -> None:
    wanted = picture.convert("RGB").resize(fit_size(*picture.size), Resampling.LANCZOS)
    taken: dict[Job, list[float]] = {ours: [], theirs: []}
    answers: dict[Job, bytes] = {}
    for _ in range(ROUNDS):
        for job, times in taken.items():
            answers[job], seconds = job(workload)
            times.append(seconds)
    ms = {job: median(times) * 1000 for job, times in taken.items()}
    dB = {job: likeness(answer, wanted) for job, answer in answers.items()}
    print(
        f"{name:24}{len(workload) / 1e6:6.1f} MB"
        f"{1000 / ms[theirs]:9.1f}{1000 / ms[ours]:9.1f}{ms[theirs] / ms[ours]:8.2f} x"
        f"{dB[theirs]:9.1f}{dB[ours]:7.1f}",
        flush=True,
    )


def rows(megapixels: str, width: int, height: int, theirs: Job, forms: str) -> None:
    picture = photograph(width, height)
    jpeg = {"quality": QUALITY}
    kinds: dict[str, Callable[[], bytes]] = {
        "JPEG": lambda: saved(picture, "JPEG", **jpeg),
        "progressive": lambda: saved(picture, "JPEG", progressive=True, **jpeg),
        "CMYK": lambda: saved(picture.convert("CMYK"), "JPEG", **jpeg),
        "PNG": lambda: saved(picture, "PNG"),
        "PNG-alpha": lambda: saved(picture.convert("RGBA"), "PNG"),
        "WebP": lambda: saved(picture, "WEBP", quality=90, method=2),
        "GIF": lambda: saved(picture, "GIF"),
    }
    for kind in forms.split():
        compare(f"{kind}, {megapixels} MP", picture, kinds[kind](), theirs)


def peak(name: str, picture: Image.Image, folder: Path, form: str, **options: object) -> None:
    path = folder / "large"
    path.write_bytes(saved(picture, form, **options))
    command = [sys.executable, "-c", PEAK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size = picture.width * picture.height / 1e6
    print(f"{name}, {size:.0f} MP, peak RSS ".ljust(40) + done.stdout.rstrip(), flush=True)


def main() -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # and all that it starts
    with tempfile.TemporaryDirectory() as name, php(folder := Path(name)) as theirs:
        print(f"{'':33}{'PHP j/s':>9}{'ours j/s':>9}{'ratio':>10}{'PHP dB':>9}{'ours':>7}")
        rows("2", 1632, 1224, theirs, "JPEG progressive PNG PNG-alpha WebP GIF")
        rows("12", 4000, 3000, theirs, "JPEG progressive CMYK PNG PNG-alpha WebP")
        rows("24", 6000, 4000, theirs, "JPEG")
        large = photograph(1160, 870).resize((11600, 8700))
        peak("JPEG", large, folder, "JPEG", quality=QUALITY)
        peak("progressive", large, folder, "JPEG", quality=QUALITY, progressive=True)
        peak("PNG", large, folder, "PNG", compress_level=1)
        peak("WebP", large, folder, "WEBP", quality=QUALITY, method=0)
        peak("WebP, lossless", large, folder, "WEBP", lossless=True, quality=0, method=0)
        peak("GIF", large.crop((0, 0, 10000, 8000)).quantize(64), folder, "GIF")


if __name__ == "__main__":
    main()
