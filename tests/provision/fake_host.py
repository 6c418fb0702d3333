"""A host that is a dict: answers questions and applies operations as the agent would."""

import fnmatch
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from provision.agent.schedules import SHOWN as SCHEDULE_FACTS
from provision.remote.messages import Answer, Operation, Question

Entry = dict[str, Any]


def directory(owner: str = "root", group: str = "root", mode: str = "0755") -> Entry:
    return {"kind": "directory", "owner": owner, "group": group, "mode": mode}


def file(content: bytes, owner: str = "root", group: str = "root", mode: str = "0644") -> Entry:
    return {"kind": "file", "owner": owner, "group": group, "mode": mode, "content": content}


def link(target: str) -> Entry:
    return {"kind": "link", "owner": "root", "group": "root", "mode": "0777", "target": target}


def _bare_tree() -> dict[str, Entry]:
    folders = "/ /etc /etc/profile.d /etc/systemd /etc/systemd/system /opt /srv /usr /usr/local"
    return {path: directory() for path in [*folders.split(), "/usr/local/bin", "/var", "/var/lib"]}


@dataclass
class FakeHost:
    facts: dict[str, Any] = field(
        default_factory=lambda: {
            "python": [3, 11, 2],
            "machine": "x86_64",
            "libc": "glibc 2.36",
            "os": {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
            "systemd": 252,
            "ahead": 0.1,
        }
    )
    free: int = 2**40
    paths: dict[str, Entry] = field(default_factory=_bare_tree)
    groups: set[str] = field(default_factory=lambda: {"root"})
    users: dict[str, Entry] = field(default_factory=lambda: {"root": {"group": "root"}})
    theirs: list[str] = field(default_factory=list)  # files of accounts of ours
    packages: set[str] = field(default_factory=set)
    listening: dict[tuple[str, str], Entry] = field(default_factory=dict)
    loaded: dict[str, bytes] = field(default_factory=dict)  # unit file -> as systemd read it
    enabled: set[str] = field(default_factory=set)
    processes: dict[str, Entry] = field(default_factory=dict)  # unit -> {program, config}
    failed: set[str] = field(default_factory=set)  # units whose process ended with an error
    dies: set[str] = field(default_factory=set)  # units whose process ends at once
    releases: dict[str, Entry] = field(default_factory=dict)  # whole: id -> {at, bad}
    given_up: dict[str, str] = field(default_factory=dict)  # bad ones that were removed
    queued: dict[str, int] = field(default_factory=dict)  # function -> jobs
    moved_by: list[str] = field(default_factory=list)  # the command that moved them
    schedules: dict[str, dict[str, str]] = field(default_factory=dict)  # of its job server
    addresses: list[str] = field(default_factory=list)
    servers: dict[tuple[str, str], Entry] = field(default_factory=dict)  # that it can ask
    history: list[Entry] = field(default_factory=list)
    applied: list[Operation] = field(default_factory=list)

    # -- answers ------------------------------------------------------------------------

    def answer(self, questions: list[Question]) -> dict[Question, Answer]:
        return {each: getattr(self, f"_ask_{each[0]}")(*each[1:]) for each in questions}

    def _ask_host(self) -> Answer:
        return self.facts

    def _ask_machine(self) -> Answer:
        return {"addresses": self.addresses}

    def _ask_disk(self, path: str) -> Answer:
        return {"free": self.free, "inodes": 10**6, "readonly": False}

    def _ask_group(self, name: str) -> Answer:
        return {"gid": 1} if name in self.groups else None

    def _ask_user(self, name: str) -> Answer:
        return self.users.get(name)

    def _ask_traces(self, name: str, *places: str) -> Answer:
        units = [unit for unit, each in self.processes.items() if each.get("user") == name]
        runs = [{"pid": 7, "command": "gearmand", "unit": unit} for unit in units]
        none: dict[str, list[Any]] = {
            "processes": runs,
            "units": [],
            "files": self.theirs,
            "group": [],
        }
        return none if name in self.users else None

    def _ask_package(self, name: str) -> Answer:
        return "1.0" if name in self.packages else None

    def _ask_port(self, address: str, port: str) -> Answer:
        return self.listening.get((address, port))

    def _ask_path(self, path: str, digest: str, show: str) -> Answer:
        found = self.paths.get(path)
        if found is None:
            return None
        answer = {"target": None, "digest": None, "acl": False, **found, "content": None}
        if digest and found["kind"] == "file":
            answer["digest"] = hashlib.sha256(found["content"]).hexdigest()
            if show == "text" and answer["digest"] != digest:
                answer["content"] = found["content"].decode()
        return answer

    def _ask_writable(self, path: str, user: str) -> Answer:
        found = self.paths.get(path)
        return found and (found["owner"] == user or bool(int(found["mode"], 8) & 0o002))

    def _ask_releases(self, root: str) -> Answer:
        current = self.paths.get(f"{root}/current", {}).get("target")
        folder = f"{root}/releases/"
        found = [process["program"] for process in self.processes.values()]
        own = [program.removeprefix(folder) for program in found if program.startswith(folder)]
        return {
            "current": PurePosixPath(current).name if current else None,
            "kept": {k: v for k, v in self.releases.items() if f"{folder}{k}" in self.paths},
            "damaged": {},
            "given_up": {
                **self.given_up,
                **{id: one["bad"] for id, one in self.releases.items() if one["bad"]},
            },
            "running": sorted({program.partition("/")[0] for program in own}),
        }

    def _ask_history(self, path: str, number: str) -> Answer:
        return self.history[-int(number) :]

    def _ask_unit(self, name: str) -> Answer:
        file = self._unit_file(name)
        if file not in self.paths and file not in self.loaded:
            return None
        process = self.processes.get(name)
        on_disk = self.paths.get(file, {}).get("content")
        return {
            "load": "loaded",
            "active": "active" if process else "failed" if name in self.failed else "inactive",
            "result": "success",
            "enabled": "enabled" if name in self.enabled else "disabled",
            "stale": self.loaded.get(file, on_disk) != on_disk,
            "program": process["program"] if process else None,
            "restarts": 0,
            "oom_kills": 0,
            "config": process["config"] if process else None,
            "reload_key": process.get("reload_key") if process else None,
            "room_for_two": True if process else None,
            "outdated": None,
        }

    def _ask_units(self, pattern: str) -> Answer:
        folder = "/etc/systemd/system/"
        files = {path.removeprefix(folder) for path in self.paths if path.startswith(folder)}
        found = fnmatch.filter(files | self.enabled | set(self.processes), pattern)
        return {
            name: {
                "file": name in files,
                "ours": self._is_ours(self._unit_file(name)),
                "enabled": name in self.enabled,
                "active": name in self.processes,
                "failed": False,
            }
            for name in sorted(found)
        }

    def _ask_unit_texts(self, pattern: str) -> Answer:
        names = [name for name, found in self._ask_units(pattern).items() if found["file"]]
        files = {name: self.paths[f"/etc/systemd/system/{name}"] for name in names}
        return {name: file["content"].decode() for name, file in files.items()}

    def _is_ours(self, path: str) -> bool:
        entry = self.paths.get(path)
        if entry is None or entry["kind"] == "directory":
            return False
        if entry["kind"] == "link":
            return str(entry["target"]).startswith("/opt/gearman/")
        if path.endswith(".key") or path.startswith("/etc/gearman/secrets/"):
            return True
        return bool(entry["content"].startswith((b"# Made by", b"# of the key")))

    def _ask_marked(self, *places: str) -> Answer:
        found: dict[str, str] = {}
        for path in sorted(self.paths, reverse=True):
            if any(fnmatch.fnmatch(path, place) for place in places):
                below = [each for each in self.paths if each.startswith(f"{path}/")]
                empty = self.paths[path]["kind"] == "directory" and set(below) <= set(found)
                if empty or self._is_ours(path):
                    found[path] = self.paths[path]["kind"]
        return found

    def _ask_queue(self, folder: str, admin: str) -> Answer:
        runs = "gearmand.service" in self.processes
        kept = folder in self.paths
        return {"jobs": self.queued, "kept": kept} if runs or kept else None

    def _ask_schedules(self, admin: str) -> Answer:
        return self.schedules if "gearmand.service" in self.processes else None

    def _ask_group_needs(self, name: str, *places: str) -> Answer:
        if name not in self.groups:
            return None
        users = self.users.items()
        return sorted(user for user, each in users if name in (each.get("groups") or ()))

    def _ask_names(self, folder: str) -> Answer:
        below = [
            path.removeprefix(f"{folder}/") for path in self.paths if path.startswith(f"{folder}/")
        ]
        return sorted({name for name in below if "/" not in name})

    def _ask_overrides(self, name: str, own: str) -> Answer:
        found = {path: self.paths.get(path) for path in [f"/etc/systemd/system/{name}"]}
        return {path: "..." for path, each in found.items() if each and path != own}

    # -- operations ---------------------------------------------------------------------

    def apply(self, operations: list[Operation]) -> None:
        for operation in operations:
            getattr(self, f"_do_{operation.kind}")(operation, **operation.arguments)
            self.applied.append(operation)

    def _do_packages(self, _: Operation, names: list[str], manager: str) -> None:
        self.packages |= set(names)

    def _do_group(self, _: Operation, name: str) -> None:
        self.groups.add(name)

    def _do_user(
        self, _: Operation, name: str, group: str, home: str, shell: str, groups: list[str]
    ) -> None:
        assert self.groups.issuperset([group, *groups]), f"no group {group} for user {name}"
        known = {"group": group, "home": home, "shell": shell, "groups": groups}
        comment = self.users.get(name, {"comment": "gearman_py"}).get("comment", "")
        self.users[name] = known | {"comment": comment}

    def _do_forget_user(self, _: Operation, name: str, group: bool) -> None:
        assert name not in [each.get("user") for each in self.processes.values()]
        del self.users[name]
        self.groups -= {name} if group else set()

    def _do_forget_group(self, _: Operation, name: str) -> None:
        self.groups.remove(name)

    def _do_close_server(self, _: Operation, folder: str, admin: str, command: list[str]) -> None:
        assert command or not self.queued
        self.moved_by, self.queued = command, {}
        for name in ("gearmand.socket", "gearmand.service"):
            self.processes.pop(name, None)
            self.enabled.discard(name)

    _do_drain_server = _do_close_server

    def _do_set_schedule(self, _: Operation, admin: str, name: str, facts: list[str]) -> None:
        assert "gearmand.service" in self.processes
        self.schedules[name] = dict.fromkeys(SCHEDULE_FACTS, "") | dict(
            word.split("=", 1) for word in facts
        )

    def _do_delete_schedule(self, _: Operation, admin: str, name: str) -> None:
        del self.schedules[name]

    def _do_remove_queue(self, _: Operation, folder: str) -> None:
        del self.paths[folder]

    def _do_remove_state(self, _: Operation, folder: str, user: str) -> None:
        assert self.paths.pop(folder)["owner"] == user

    def _do_remove_installation(self, _: Operation, root: str) -> None:
        assert not any(each["program"].startswith(root) for each in self.processes.values())
        gone = [path for path in self.paths if f"{path}/".startswith(f"{root}/")]
        for path in gone:
            del self.paths[path]
        self.releases.clear()

    def _do_directory(self, _: Operation, path: str, **attributes: str) -> None:
        self._put(path, directory(**attributes))

    def _do_file(self, operation: Operation, path: str, **attributes: str) -> None:
        assert isinstance(operation.content, bytes)
        self._put(path, file(operation.content, **attributes))

    def _do_secret(self, operation: Operation, path: str) -> None:
        folder = str(PurePosixPath(path).parent)
        self.paths.setdefault(str(PurePosixPath(folder).parent), directory())
        self.paths.setdefault(folder, directory(mode="0700"))
        self._do_file(operation, path, owner="root", group="root", mode="0600")

    def _do_attributes(self, _: Operation, path: str, **attributes: str) -> None:
        self._put(path, self.paths[path] | attributes)

    def _do_link(self, _: Operation, path: str, target: str) -> None:
        self._put(path, link(target))

    def _do_remove(self, _: Operation, path: str) -> None:
        self.paths.pop(path, None)

    def _do_signature(self, _: Operation, root: str, statement: str, signature: str) -> None:
        assert json.loads(statement)["root"] == root

    def _do_signers(self, operation: Operation, root: str) -> None:
        self._do_file(operation, f"{root}/release_signers", owner="root", group="root", mode="0644")

    def _do_release(self, _: Operation, root: str, id: str, digest: str) -> None:
        self._put(f"{root}/releases/{id}", directory())
        self._put(f"{root}/releases/{id}/units", directory())
        self.releases[id] = {"at": len(self.applied), "bad": None}

    def _do_prune(self, _: Operation, root: str, id: str) -> None:
        folder = f"{root}/releases/{id}"
        assert not any(each["program"].startswith(folder) for each in self.processes.values())
        self.paths = {k: v for k, v in self.paths.items() if not f"{k}/".startswith(f"{folder}/")}
        if bad := self.releases.pop(id)["bad"]:
            self.given_up[id] = bad

    def _do_condemn(self, operation: Operation, root: str, id: str) -> None:
        assert isinstance(operation.content, bytes)
        self.releases[id]["bad"] = operation.content.decode()

    def _do_acquit(self, _: Operation, root: str, id: str) -> None:
        self.releases[id]["bad"] = None

    def _do_remove_app(self, _: Operation, root: str, name: str) -> None:
        folder = f"{root}/{name}/"
        assert not any(each["program"].startswith(folder) for each in self.processes.values())
        self.paths = {k: v for k, v in self.paths.items() if not f"{k}/".startswith(folder)}

    def _do_daemon_reload(self, _: Operation) -> None:
        self.loaded = {
            path: entry["content"]
            for path, entry in self.paths.items()
            if path.startswith("/etc/systemd/system/") and entry["kind"] == "file"
        }

    def _do_unit(self, _: Operation, name: str, enabled: bool | None, action: str | None) -> None:
        path = self._unit_file(name)
        # systemd reads by itself a file it has not met, and never again until told.
        text = self.loaded.setdefault(path, self.paths[path]["content"]).decode()
        if enabled is not None:
            (self.enabled.add if enabled else self.enabled.discard)(name)
        if name.endswith(".socket"):
            self._listen(name, text)
        elif action == "stop":
            self.processes.pop(name, None)
        elif action in ("restart", "reload") or (action == "start" and name not in self.processes):
            self.processes[name] = self._process(text)
        if name in self.dies:
            self.processes.pop(name, None)

    def _do_program(
        self, operation: Operation, name: str, enabled: bool | None, action: str, **_: Any
    ) -> None:
        self._do_unit(operation, name, enabled, action)

    def _listen(self, name: str, text: str) -> None:
        assert name.replace(".socket", ".service") not in self.processes, "its service runs"
        found = re.search(r"^ListenStream=(.*):(\d+)$", text, re.MULTILINE)
        assert found
        who = {"pid": 1, "command": "systemd", "unit": "init.scope"}
        self.listening[found[1], found[2]] = who
        self.processes[name] = {"program": "", "config": ""}

    def _put(self, path: str, entry: Entry) -> None:
        parent = str(PurePosixPath(path).parent)
        assert self.paths.get(parent, {}).get("kind") == "directory", f"no directory {parent}"
        assert entry["owner"] in self.users, f"no user {entry['owner']} for {path}"
        assert entry["group"] in self.groups, f"no group {entry['group']} for {path}"
        self.paths[path] = entry

    def _process(self, text: str) -> Entry:
        settings = dict(re.findall(r"^(?:Environment=)?(\w+)=(.*)$", text, re.MULTILINE))
        if settings.get("Type") == "exec":  # a program, which works in the folder of an app
            folder = settings["WorkingDirectory"]
            assert folder.removesuffix("/app") in self.paths, f"there is nothing in {folder}"
            where = f"{folder}/program" if "/releases/" in folder else ""
            return {"program": where, "config": "", "user": settings.get("User")}
        root = settings["ExecStart"].partition("/current/")[0]
        folder = f"{root}/{self.paths[f'{root}/current']['target']}"
        assert folder in self.paths, f"there is nothing in {folder}"
        user = settings.get("User")
        assert user is None or user in self.users, f"no user {user} to run as"
        return {
            "program": f"{folder}/venv/bin/python",
            "config": settings["GEARMAN_CONFIG"],
            "reload_key": settings.get("GEARMAN_RELOAD_KEY"),
            "user": user,
        }

    def _unit_file(self, name: str) -> str:
        own = f"/etc/systemd/system/{name}"
        return own if own in self.paths else re.sub(r"@.*\.", "@.", own)
