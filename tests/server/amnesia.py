"""A file system that forgets what was not synced: what a power cut leaves, without cutting power.

    python -m tests.server.amnesia STATE MOUNTPOINT     (as root, with /dev/fuse)

Files are written in memory. What is synced goes to STATE/inodes at once, and a sync of the
folder makes the names in STATE/files as they are; so STATE/files is, at every moment, the disk
as it must be found after a power cut. SIGTERM cuts the power: of the writes that were not
synced a random half survives, some of them torn, as disks may do with them in any order. With
SIGKILL none does.

It speaks the kernel's FUSE protocol itself (include/uapi/linux/fuse.h), as little of it as
SQLite needs: one folder, no locks (the kernel has them), no cache.
"""

import ctypes
import os
import random
import signal
import stat
import struct
import sys
from collections.abc import Callable
from errno import ENOENT, ENOSYS
from pathlib import Path

IN, OUT = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
ATTRIBUTES, ENTRY = struct.Struct("<6Q10I"), struct.Struct("<4QII")
FOREVER = 2**62
DIRECT_IO, SIZE_IS_SET = 1, 8
LARGEST_WRITE = 2**17
ROOT = 1
SECTOR = 512
MS_NOSUID, MS_NODEV = 2, 4
LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, OPEN, READ, WRITE = 1, 2, 3, 4, 10, 14, 15, 16
STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR = 17, 18, 20, 25, 26, 27, 28, 29
FSYNCDIR, ACCESS, CREATE, INTERRUPT, BATCH_FORGET = 30, 34, 35, 36, 42


class File:
    """A file as programs see it, and what of it is not synced."""

    def __init__(self, number: int, kept: Path) -> None:
        self.number = number
        self.kept = kept
        self.data = bytearray()
        self.unsynced: list[tuple[int, bytes]] = []
        kept.touch()

    def write(self, offset: int, data: bytes) -> None:
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.unsynced.append((offset, data))

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))

    def sync(self) -> None:
        with self.kept.open("r+b") as kept:
            for offset, data in self.unsynced:
                kept.seek(offset)
                kept.write(data)
            kept.truncate(len(self.data))
        self.unsynced.clear()

    def tear(self, chance: random.Random) -> None:
        """Keep some of what was not synced."""
        with self.kept.open("r+b") as kept:
            for offset, data in chance.sample(self.unsynced, len(self.unsynced) // 2):
                whole = chance.random() < 0.5
                kept.seek(offset)
                kept.write(
                    data if whole else data[: chance.randrange(len(data)) // SECTOR * SECTOR]
                )


class FileSystem:
    """Answers the kernel's requests."""

    def __init__(self, state: Path) -> None:
        self._inodes, self._kept = state / "inodes", state / "files"
        self._inodes.mkdir(parents=True)
        self._kept.mkdir()
        self._names: dict[bytes, File] = {}
        self._files: dict[int, File] = {}
        self._answers: dict[int, Callable[[int, bytes], bytes | int]] = {
            INIT: self._init,
            LOOKUP: self._lookup,
            GETATTR: lambda node, _: struct.pack("<QII", 0, 0, 0) + self._attributes(node),
            SETATTR: self._setattr,
            CREATE: self._create,
            UNLINK: self._unlink,
            OPEN: lambda node, _: struct.pack("<QII", node, DIRECT_IO, 0),
            OPENDIR: lambda node, _: struct.pack("<QII", node, 0, 0),
            READ: self._read,
            WRITE: self._write,
            FSYNC: self._fsync,
            FSYNCDIR: self._fsyncdir,
            STATFS: lambda *_: struct.pack("<5Q10I", *[2**20] * 5, 4096, 255, 4096, *[0] * 7),
            **dict.fromkeys((READDIR, RELEASE, RELEASEDIR, FLUSH, ACCESS), lambda *_: b""),
        }

    def serve(self, device: int) -> None:
        while True:
            try:
                request = os.read(device, LARGEST_WRITE + 4096)
            except OSError:
                return  # it was unmounted
            _, code, unique, node, *_ = IN.unpack_from(request)
            if code in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            answered = self._answers.get(code)
            answer = answered(node, request[IN.size :]) if answered else ENOSYS
            error, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
            os.write(device, OUT.pack(OUT.size + len(body), error, unique) + body)

    def cut(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - to be repeatable
        for file in self._files.values():
            file.tear(chance)

    def _init(self, _: int, body: bytes) -> bytes:
        _, _, readahead, _ = struct.unpack_from("<IIII", body)
        return struct.pack(
            "<4I2H2I2HI7I", 7, 31, readahead, 0, 12, 9, LARGEST_WRITE, 1, 0, 0, 0, *[0] * 7
        )

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == ROOT else len(self._files[node].data)
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o600
        return ATTRIBUTES.pack(node, size, -(-size // 512), *[0] * 6, mode, 1, 0, 0, 0, 4096, 0)

    def _entry(self, node: int) -> bytes:
        return ENTRY.pack(node, 0, 0, 0, 0, 0) + self._attributes(node)

    def _lookup(self, _: int, body: bytes) -> bytes | int:
        file = self._names.get(body.rstrip(b"\0"))
        return self._entry(file.number) if file else ENOENT

    def _setattr(self, node: int, body: bytes) -> bytes:
        what, _, _, size = struct.unpack_from("<IIQQ", body)
        if what & SIZE_IS_SET:
            self._files[node].resize(size)
        return struct.pack("<QII", 0, 0, 0) + self._attributes(node)

    def _create(self, _: int, body: bytes) -> bytes:
        node = ROOT + 1 + len(self._files)
        file = File(node, self._inodes / str(node))
        self._files[node] = self._names[body[16:].rstrip(b"\0")] = file
        return self._entry(node) + struct.pack("<QII", node, DIRECT_IO, 0)

    def _unlink(self, _: int, body: bytes) -> bytes | int:
        return b"" if self._names.pop(body.rstrip(b"\0"), None) else ENOENT

    def _read(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return bytes(self._files[node].data[offset : offset + size])

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        self._files[node].write(offset, body[40:])
        return struct.pack("<II", size, 0)

    def _fsync(self, node: int, _: bytes) -> bytes:
        self._files[node].sync()
        return b""

    def _fsyncdir(self, *_: object) -> bytes:
        for kept in self._kept.iterdir():
            kept.unlink()
        for name, file in self._names.items():
            os.link(file.kept, self._kept / os.fsdecode(name))
        return b""


def main(state: str, mountpoint: str, seed: str = "0") -> None:
    files = FileSystem(Path(state))
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40755,user_id=0,group_id=0,allow_other".encode()
    where, flags = os.fsencode(mountpoint), MS_NOSUID | MS_NODEV
    if libc.mount(b"amnesia", where, b"fuse", flags, options):
        raise OSError(ctypes.get_errno(), "cannot mount", mountpoint)

    def cut(*_: object) -> None:
        files.cut(int(seed))
        os._exit(0)

    signal.signal(signal.SIGTERM, cut)
    files.serve(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
