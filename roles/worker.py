"""Workers: a unit for each that the inventory names, and for each of its instances."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from provision.inventory.host import Host, Inventory
from provision.inventory.workers import WorkerDefinition, ping_function, workers
from provision.release.app import FILES, command_line
from provision.release.build import Artifact
from provision.render import exec_word
from provision.resources.base import Resource
from provision.resources.files import Directory, File
from provision.resources.health import (
    CheckFile,
    FunctionCheck,
    Health,
    OtherWorkers,
    WorkerHealth,
)
from provision.resources.program import Program, ProgramHealth, program_file
from provision.resources.release import Release
from provision.resources.sample_jobs import PING, SAMPLES, Sample, stated_sample, write_check
from provision.resources.secret import FOLDER as SECRETS
from provision.resources.secret import SecretFile
from provision.resources.unit import Unit, UnitFile, unit_file
from provision.resources.writable_folder import WritableFolder
from roles.apps import app_releases, in_use, staged
from roles.once import once
from roles.runtime import ROOT, WORKER_USER, account
from roles.servers import servers, serving
from roles.tls import certificate_names, fingerprint, flags, readers, tls

TEMPLATE = "gearman-worker@.service"
TASKS = 64  # threads and processes, of each job that runs at a time


@once
def worker(host: Host, inventory: Inventory, artifact: Artifact) -> Iterator[Resource]:
    release = Release(ROOT, artifact)
    yield from account(WORKER_USER, readers(inventory))
    yield from tls(host, inventory)
    yield from _secrets(host)
    apps = app_releases(host, artifact)
    yield from staged(apps)
    found = [
        one
        for each in workers(host)
        for one in _worker(host, inventory, release, each, apps.get(each.app))
    ]
    # Files first: one daemon-reload does for all of them.
    yield from (each for each in found if isinstance(each, File | Directory))
    yield from (each for each in found if isinstance(each, Program))
    yield from in_use(apps)  # what programs have begun from, and commands are found by
    yield from (
        each for each in found if isinstance(each, Unit | Health) and not isinstance(each, Program)
    )


def _worker(
    host: Host, inventory: Inventory, release: Release, each: WorkerDefinition, app: Release | None
) -> Iterator[Resource]:
    staged = each
    if app and each.kind == "command":
        staged = replace(each, argv=command_line(each, app.folder))
        each = replace(each, argv=command_line(each, f"{app.root}/current"))
    code = app if app and each.kind == "run" else release  # an app has gearman_py of its own
    for folder in each.writes:
        named = (one for other in workers(host) for one in other.writes)
        around = tuple(sorted({one for one in named if folder.startswith(f"{one}/")}))
        yield WritableFolder(folder, WORKER_USER, WORKER_USER, "0750", around)
    if each.metrics:
        yield WritableFolder(each.metrics, WORKER_USER, WORKER_USER)
    for instance in each.instance_names:
        if each.kind == "program":
            yield from _program(host, inventory, release, each, instance, app)
            continue
        file = _unit_file(host, inventory, code, each, instance, app)
        unit = unit_name(instance)
        yield file
        yield Unit(unit, file, code.current, reloads=True, secrets=_secret_files(each))
        check = _check_file(each, app or release)
        yield from [check] if check else ()
        for health in _health(
            host, inventory, release, code, each, instance, staged, file.limits, check
        ):
            yield replace(health, function_check=_function_check(host, inventory, each, instance))


def _secrets(host: Host) -> Iterator[Resource]:
    found = [one for each in workers(host) for one in _secret_files(each)]
    if found:
        yield Directory("/etc/gearman")
        yield Directory(SECRETS, mode="0700")
    yield from found


def _secret_files(each: WorkerDefinition) -> tuple[SecretFile, ...]:
    return tuple(SecretFile(each.name, name, secret) for name, secret in each.secrets)


def unit_name(instance: str) -> str:
    return TEMPLATE.replace("@", f"@{instance}")


def _unit_file(
    host: Host,
    inventory: Inventory,
    release: Release,
    each: WorkerDefinition,
    instance: str,
    app: Release | None,
) -> UnitFile:
    """Of the worker alone; a plain one's is that of all plain ones, whatever their name."""
    shared = each.is_plain and each.name in SAMPLES  # others answer a ping, by their own name
    if shared:
        file = f"--metrics-file {each.metrics}/%i.prom " if each.metrics else ""
        arguments = f"--address {exec_word(host.name)} {file}%i"
    else:
        arguments = " ".join(map(exec_word, _arguments(host, inventory, each, instance)))
    return unit_file(
        TEMPLATE if shared else unit_name(instance),
        release,
        TEMPLATE,
        arguments=arguments,
        labels=_labels("%i" if shared else each.name, each.app, app or release),
        **_common(inventory, each),
    )


def _labels(pool: str, app: str, code: Release) -> str:
    """What a worker is called at the job servers; the link is followed when it starts."""
    return ",".join(
        [f"pool={pool}", *([f"app={app}"] if app else []), f"release={code.root}/current"]
    )


def _program(
    host: Host,
    inventory: Inventory,
    release: Release,
    each: WorkerDefinition,
    instance: str,
    app: Release | None,
) -> Iterator[Resource]:
    known, folder = serving(inventory), app.folder if app else ""
    argv = command_line(each, folder)
    file = program_file(
        instance,
        "gearman-program.service.j2",
        functions=each.functions,
        argv=argv,
        folder=f"{folder}/{FILES}" if folder else ROOT,
        stop_signal=each.stop_signal,
        **_common(inventory, each),
    )
    name = file.path.rpartition("/")[2]
    yield file
    yield Program(
        name,
        file,
        (app or release).current,
        functions=each.functions,
        servers=known,
        folder=folder,
        secrets=_secret_files(each),
    )
    asked = each.checked_function if each.check else ""
    check = _check_file(each, app or release)
    yield from [check] if check else ()
    first = instance == each.name  # the others would be tried with the same arguments
    yield ProgramHealth(
        name,
        release,
        flags(inventory),
        each.functions,
        known,
        asked,
        _stated(each),
        is_tried=each.trial,
        trial=argv if first and each.trial else (),
        properties=file.limits,
        environment=each.environment,
        names=tuple(sorted(certificate_names(host), key=host.name.__eq__)),  # addresses first
        check_file=check,
        function_check=_function_check(host, inventory, each, instance),
    )


@cache
def _stated(each: WorkerDefinition) -> Sample:
    """The job by which a worker is checked; equal workers have the same."""
    return stated_sample(dict(each.check)) if each.check else PING


def _check_file(each: WorkerDefinition, release: Release) -> CheckFile | None:
    """Kept with the code that does its job: the app's, if it has one."""
    if not each.check:
        return None
    content = write_check(each.checked_function, dict(each.check))
    return CheckFile(f"{release.units}/{each.name}.check", mode="0600", content=content)


def _common(inventory: Inventory, each: WorkerDefinition) -> dict[str, object]:
    """What stands in every worker's unit file."""
    return {
        "servers": ",".join(servers(inventory)),
        "ca": fingerprint(inventory),
        "user": WORKER_USER,
        "environment": each.environment,
        "secrets": _secret_files(each),
        "stop_timeout": each.stop_timeout,
        "tasks": TASKS * each.most_jobs,
        "memory": each.memory,
        "cpu": each.cpu,
        "nice": each.nice,
        "writes": [*each.writes, *([each.metrics] if each.metrics else [])],
        "jit": each.jit,
    }


def _arguments(
    host: Host, inventory: Inventory, each: WorkerDefinition, instance: str
) -> Iterator[str]:
    """Of gearman-worker."""
    yield from (
        "--address",
        _address(host, each, instance),
        "--ping",
        ping_function(host.name, instance),
    )
    if each.metrics:
        yield from ("--metrics-file", f"{each.metrics}/{instance}.prom")
    yield from each.settings
    yield from each.served(servers(inventory))


def _address(host: Host, each: WorkerDefinition, instance: str) -> str:
    """The host's name; of further instances with their number."""
    return host.name + instance.removeprefix(each.name)


def _health(
    host: Host,
    inventory: Inventory,
    release: Release,
    code: Release,
    each: WorkerDefinition,
    instance: str,
    staged: WorkerDefinition,
    limits: tuple[str, ...],
    check: CheckFile | None,
) -> Iterator[WorkerHealth]:
    """A bundled function does its sample job, if it has one; other workers their check, or a ping.

    ``code``: the release that it runs; ``staged``: the worker as it is before its app is in use.
    """
    first = instance == each.name  # the others would be tried with the same arguments
    prefix = f"trial@{host.name}/"
    others = _others(host, each, prefix)
    tried = f"{prefix}ping@{instance}" if others else f"{prefix}{instance}"
    alone = ("--prefix", prefix, "--ping", tried) if others else ("--trial", tried)
    served = (*staged.settings, *staged.served(servers(inventory)))
    ping = WorkerHealth(
        unit=unit_name(instance),
        release=release,
        tls=flags(inventory),
        code=code,
        functions=each.functions,
        asked=ping_function(host.name, instance),
        tried=tried,
        trial=(*alone, *served) if first else (),
        sample=PING,
        servers=serving(inventory),
        properties=limits,
        target=each.target,
        environment=each.environment,
        others=others,
    )
    if each.check:
        yield replace(
            ping,
            asked=f"{each.checked_function}@{_address(host, each, instance)}",
            tried=f"{prefix}{each.checked_function}",
            trial=("--prefix", prefix, *served) if first else (),
            sample=_stated(each),
            check_file=check,
            pinged=ping,
        )
        return
    if each.kind != "functions" or not SAMPLES.keys() >= set(each.functions):
        yield ping
        return
    for function in each.functions:
        yield replace(
            ping,
            functions=(function,),
            asked=f"{function}@{_address(host, each, instance)}",
            tried=f"{prefix}{function}",
            trial=("--prefix", prefix, *staged.settings, function) if first else (),
            sample=SAMPLES[function],
        )


def _others(host: Host, each: WorkerDefinition, prefix: str) -> OtherWorkers | None:
    """The other workers of its host, for one whose functions the inventory does not tell."""
    others = [one for one in workers(host) if one.name != each.name]
    if each.functions or not others:
        return None
    functions = [(function, one.name) for one in others for function in one.functions]
    return OtherWorkers(each.name, prefix, tuple(functions), _pings_of_code(host, each))


def _function_check(
    host: Host, inventory: Inventory, each: WorkerDefinition, instance: str
) -> FunctionCheck | None:
    """For the first instance of one whose functions the inventory tells, where others' are not."""
    pings, known = _pings_of_code(host, each), serving(inventory)
    if instance != each.name or not (each.functions and pings and known):
        return None
    return FunctionCheck(each.name, each.functions, known[0], pings)


def _pings_of_code(host: Host, each: WorkerDefinition) -> tuple[tuple[str, str], ...]:
    """Of other workers whose functions the inventory does not tell, each with its worker."""
    return tuple(
        (ping_function(host.name, instance), one.name)
        for one in workers(host)
        if one.name != each.name and not one.functions
        for instance in one.instance_names
    )
