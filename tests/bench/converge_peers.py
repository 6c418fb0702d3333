"""What Ansible and pyinfra are given to do: the same, as their users write it.

The unit files are rendered before, by our own roles, so all three leave the same bytes. Left out
are what only ours does: checks of system, clock and ports, old releases, jobs sent as a health
check, asking again at the end.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provision.inventory import load as inventory
from provision.lab import lab
from provision.lab.base import USER
from provision.release.build import Artifact
from provision.resources.files import File
from roles import ROLES

ROOT = Path(__file__).resolve().parents[2]
SSH = 22
ANSIBLE = """
- hosts: all
  gather_facts: false
  become: true
  vars:
    place: "/opt/gearman/releases/{{ release }}"
  tasks:
    - file: {path: /opt/gearman, state: directory, mode: "0755", owner: root, group: root}
    - file: {path: /opt/gearman/releases, state: directory, mode: "0755", owner: root, group: root}
    - file: {path: "{{ place }}", state: directory, mode: "0755", owner: root, group: root}
    - unarchive: {src: "{{ tar }}", dest: "{{ place }}", creates: "{{ place }}/MANIFEST.json"}
    - command:
        cmd: "/usr/bin/python3 -I -m venv --without-pip {{ place }}/venv"
        creates: "{{ place }}/venv/bin/python"
    - shell:
        cmd: "cd {{ place }} && PYTHONPATH=$(echo installer/*.whl) venv/bin/python -m installer
          --compile-bytecode=0 wheels/*.whl && touch .complete"
        creates: "{{ place }}/.complete"
    - file: {src: "releases/{{ release }}", dest: /opt/gearman/current, state: link, force: true}

- hosts: job_server:worker
  gather_facts: false
  become: true
  tasks:
    - group: {name: "{{ item }}", system: true}
      loop: [gearmand, gearman-worker]
    - user:
        name: "{{ item }}"
        group: "{{ item }}"
        system: true
        home: /nonexistent
        create_home: false
        shell: /usr/sbin/nologin
      loop: [gearmand, gearman-worker]

- hosts: job_server
  gather_facts: false
  become: true
  tasks:
    - file:
        src: /opt/gearman/current/venv/bin/gearadmin
        dest: /usr/local/bin/gearadmin
        state: link
        force: true
    - copy: {src: "{{ inventory_hostname }}/{{ item }}", dest: /etc/systemd/system/, mode: "0644"}
      loop: [gearmand.service, gearmand.socket]
      register: units
    - systemd_service:
        name: gearmand.socket
        enabled: true
        state: started
        daemon_reload: "{{ units is changed }}"
    - systemd_service: {name: gearmand.service, enabled: true, state: started}

- hosts: worker
  gather_facts: false
  become: true
  tasks:
    - copy:
        src: "{{ inventory_hostname }}/gearman-worker@.service"
        dest: /etc/systemd/system/
        mode: "0644"
      register: units
    - systemd_service:
        name: "gearman-worker@{{ item }}.service"
        enabled: true
        state: started
        daemon_reload: "{{ units is changed }}"
      loop: [reverse, resize, wc]

- hosts: client
  gather_facts: false
  become: true
  tasks:
    - file:
        src: "/opt/gearman/current/venv/bin/{{ item }}"
        dest: "/usr/local/bin/{{ item }}"
        state: link
        force: true
      loop: [gearman, gearadmin]
    - copy: {src: "{{ inventory_hostname }}/gearman.sh", dest: /etc/profile.d/, mode: "0644"}
"""

PYINFRA = """
from pyinfra import host
from pyinfra.facts.files import File
from pyinfra.operations import files, server, systemd

release, tar = host.data.release, host.data.tar
place = f"/opt/gearman/releases/{release}"
commands = "/opt/gearman/current/venv/bin"

files.directory("/opt/gearman", mode="755", user="root", group="root")
files.directory("/opt/gearman/releases", mode="755", user="root", group="root")
files.directory(place, mode="755", user="root", group="root")
if not host.get_fact(File, path=f"{place}/.complete"):
    files.put(tar, "/opt/gearman/releases/it.tar")
    server.shell([
        f"tar -xf /opt/gearman/releases/it.tar -C {place}",
        f"/usr/bin/python3 -I -m venv --without-pip {place}/venv",
        f"cd {place} && PYTHONPATH=$(echo installer/*.whl) venv/bin/python -m installer"
        " --compile-bytecode=0 wheels/*.whl && touch .complete",
        "rm /opt/gearman/releases/it.tar",
    ])
files.link("/opt/gearman/current", target=f"releases/{release}")


def unit(name):
    return files.put(f"{host.name}/{name}", f"/etc/systemd/system/{name}", mode="644")


accounts = {"job_server": "gearmand", "worker": "gearman-worker"}
for account in (accounts[group] for group in host.groups if group in accounts):
    server.group(account, system=True)
    server.user(
        account,
        group=account,
        system=True,
        home="/nonexistent",
        ensure_home=False,
        shell="/usr/sbin/nologin",
    )
if "job_server" in host.groups:
    files.link("/usr/local/bin/gearadmin", target=f"{commands}/gearadmin")
    service, socket = unit("gearmand.service"), unit("gearmand.socket")
    systemd.daemon_reload(_if=lambda: service.did_change() or socket.did_change())
    systemd.service("gearmand.socket", running=True, enabled=True)
    systemd.service("gearmand.service", running=True, enabled=True)
# What all hosts do is what keeps pyinfra from starting workers before their job server.
files.directory("/opt/gearman", mode="755")
if "worker" in host.groups:
    service = unit("gearman-worker@.service")
    systemd.daemon_reload(_if=service.did_change)
    for function in ("reverse", "resize", "wc"):
        systemd.service(f"gearman-worker@{function}.service", running=True, enabled=True)
if "client" in host.groups:
    for command in ("gearman", "gearadmin"):
        files.link(f"/usr/local/bin/{command}", target=f"{commands}/{command}")
    files.put(f"{host.name}/gearman.sh", "/etc/profile.d/gearman.sh", mode="644")
"""


def write_inventories(folder: Path, reached: Mapping[str, tuple[str, int]]) -> None:
    """The lab's hosts, by the address and port where each is reached: for us and Ansible in
    inventory/, for pyinfra in inventory.py."""
    groups: dict[str, dict[str, Any]] = {name: {} for name in ROLES}
    keys = []
    for host in inventory.load(lab.INVENTORY).hosts:
        address, port = reached[host.name]
        group = next(name for name in ROLES if name in host.groups)
        place = {"ansible_host": address, "ansible_port": port}
        groups[group][host.name] = place | {"gearman_listen": host.address}
        place_of_keys = address if port == SSH else f"[{address}]:{port}"
        for line in lab.KNOWN_HOSTS.read_text().splitlines():
            names, key = line.split(" ", 1)
            if host.name in names.split(","):
                keys.append(f"{place_of_keys} {key}\n")
    login = {"ansible_user": USER, "ansible_become": True}
    everybody = {
        "vars": login | {"ansible_ssh_private_key_file": str(lab.KEY)},
        "children": {name: {"hosts": hosts} for name, hosts in groups.items()},
    }
    ours = folder / "inventory"
    ours.mkdir()
    (ours / "hosts.yml").write_text(json.dumps({"all": everybody}))
    (ours / "known_hosts").write_text("".join(keys))
    lines = [
        f"{group} = {[(name, _of_pyinfra(place)) for name, place in hosts.items()]!r}\n"
        for group, hosts in groups.items()
    ]
    (folder / "inventory.py").write_text("".join(lines))


def _of_pyinfra(place: Mapping[str, Any]) -> dict[str, Any]:
    return {"ssh_hostname": place["ansible_host"], "ssh_port": place["ansible_port"]}


def write_work(folder: Path) -> None:
    """Playbook and deploy.py, and the files for them, as our roles make them.

    The release is the one that the hosts have.
    """
    link = lab.run("server1", ["readlink", "/opt/gearman/current"]).stdout.strip()
    release = link.removeprefix("releases/")
    tar = ROOT / ".cache" / "releases" / f"{release}.tar"
    known = inventory.load(folder / "inventory")
    for host in known.hosts:
        (folder / host.name).mkdir()
        roles = [role for name in ROLES if name in host.groups for role in ROLES[name]]
        for role in roles:
            for one in role(host, known, Artifact(release, "", 0, tar)):
                if isinstance(one, File):
                    (folder / host.name / Path(one.path).name).write_bytes(one.content)
    told = {"release": release, "tar": str(tar)}
    (folder / "told.json").write_text(json.dumps(told))
    (folder / "site.yml").write_text(ANSIBLE)
    login = {
        "ssh_user": USER,
        "ssh_key": str(lab.KEY),
        "ssh_known_hosts_file": str(folder / "inventory" / "known_hosts"),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": True,
    }
    data = (f"{key} = {value!r}\n" for key, value in (told | login).items())
    (folder / "group_data").mkdir()
    (folder / "group_data" / "all.py").write_text("".join(data))
    (folder / "deploy.py").write_text(PYINFRA)
