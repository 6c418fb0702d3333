"""The lab's hosts from below: what is on their disks, without SSH and without the toolkit."""

import json
from types import ModuleType
from typing import Any

from provision.lab import network
from provision.lab.hosts import INVENTORY as INVENTORY  # of this front: tests take it from here

NETWORK = network.PREFIX
CLIENT, SERVER, WORKER = (f"{NETWORK}.{octet}" for octet in (246, 247, 248))
PASSWORD = "correct horse"  # noqa: S105  # of users made for these tests

# Not told of: what a system writes by itself as time goes by, and what holds times. A power cut
# in the midst of useradd leaves its locks, which the next one takes away.
MANIFEST = r"""
import hashlib, json, os, re, stat, sys
system = r"/var/lib/(systemd|dpkg|gearman-deploy|gearmand)|/etc/\w+(-|\.lock|\.\d+)$"
skipped = re.compile(rf"{system}|/__pycache__|/\.(complete|before|bytecode)$")
found = {}
for top in ("/etc", "/opt", "/usr/local", "/var/lib"):
    for folder, folders, files in os.walk(top):
        for path in (f"{folder}/{name}" for name in folders + files):
            if skipped.search(path):
                continue
            status = os.lstat(path)
            content = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
                if path in ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"):
                    content = b"".join(sorted(content.splitlines()))
                content = hashlib.sha256(content).hexdigest()
            found[path] = [status.st_mode, status.st_uid, status.st_gid, content]
json.dump(found, sys.stdout)
"""
# Every file, and when it or what is told of it was last written.
TIMES = r"""
import json, os, sys
written = {}
for folder, folders, files in os.walk("/"):
    folders[:] = [each for each in folders if not os.path.ismount(os.path.join(folder, each))]
    for path in (os.path.join(folder, name) for name in folders + files):
        if not path.startswith("/var/log/"):
            status = os.lstat(path)
            written[path] = [status.st_mtime_ns, status.st_ctime_ns]
json.dump(written, sys.stdout)
"""


def root(lab: ModuleType, host: str, script: str) -> str:
    """Run a shell script on a host as root, not over SSH; what it said."""
    done = lab.run(host, ["sh", "-ec", script])
    assert done.returncode == 0, f"{host}: {done.stderr}"
    return str(done.stdout)


def manifest(lab: ModuleType, host: str) -> dict[str, Any]:
    """Whatever a deploy may change: kind and mode, owner, group, and content of each file."""
    return dict(json.loads(root(lab, host, f"exec python3 -c '{MANIFEST}'")))


def times(lab: ModuleType, host: str) -> dict[str, Any]:
    """When each file of the host was last written, its log aside."""
    return dict(json.loads(root(lab, host, f"exec python3 -c '{TIMES}'")))


def sudo_user(name: str) -> str:
    """The script that makes a user who logs in with the lab's key and tells sudo PASSWORD."""
    return f"""
useradd --create-home --shell /bin/sh {name}
echo '{name}:{PASSWORD}' | chpasswd
install -d -o {name} -m 700 ~{name}/.ssh
install -o {name} -m 600 ~deploy/.ssh/authorized_keys ~{name}/.ssh/authorized_keys
echo '{name} ALL=(ALL) ALL' > /etc/sudoers.d/{name}
"""
