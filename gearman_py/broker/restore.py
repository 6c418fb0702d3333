"""A broker from a snapshot of another: see gearman_py.broker.snapshot."""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify
from math import inf
from typing import Any

from gearman_py.broker.counts import BrokerCounts, Counts, Durations
from gearman_py.broker.failed_jobs import FailedJob
from gearman_py.broker.job_columns import BACKGROUND, DIGIT, QUEUED, Section
from gearman_py.broker.kept_results import KeptResult
from gearman_py.broker.key_limits import KeyLimit
from gearman_py.broker.pauses import Pause
from gearman_py.broker.rates import RateLimit
from gearman_py.broker.restriction_records import SERVER
from gearman_py.broker.rules import Rules
from gearman_py.broker.schedules import unpack_schedule
from gearman_py.broker.state import BrokerJob, Function, Peer, ReduceJob
from gearman_py.broker.stored_jobs import keep_failed, keep_result
from gearman_py.store.base import Record

READABLE = (1, 2, 3, 4, 5)  # formats of a snapshot; see FORMAT in gearman_py.broker.snapshot


class SnapshotError(Exception):
    """This program, with its settings, cannot go on from a snapshot; the message says why."""


def as_bytes(text: str) -> bytes:
    """The inverse of ``as_text``."""
    return text.encode("latin-1")


class Restorer:
    """Gives a new broker the state of another, one section after the other.

    ``peers`` has those of the snapshot, in its order. Raises SnapshotError.
    """

    def __init__(self, broker: Rules) -> None:
        self.peers: list[Peer] = []
        self._broker = broker
        self._queues = broker.queues
        self._functions: list[Function] = []
        self._jobs = 0
        self._copied: list[BrokerJob] = []  # before the snapshot was taken
        self._expected = 0
        self._leaving = 0
        self._aside: list[BrokerJob] = []  # neither queued nor running
        self.complete = False

    def read(self, section: Section, now: float) -> None:
        """Read the next section."""
        if "ahead" in section:
            self._functions = [
                Function(as_bytes(name), self._queues.loaded, self._queues.counts.others)
                for name in section["ahead"]
            ]
        elif "copied" in section:
            self._copied += self._read_jobs(section)
        elif "format" in section:
            self._begin(section)
        elif "peers" in section:
            for facts in section["peers"]:
                self._add_peer(facts, now)
        elif "numbers" in section:
            self._add_jobs(section)
        elif "failed" in section:
            for fields in section["failed"]:
                keep_failed(self._queues, FailedJob(*_unpack_fields(FailedJob, fields)))
            for fields in section.get("results", ()):  # that earlier versions skip
                keep_result(self._queues, KeptResult(*_unpack_fields(KeptResult, fields)))
        else:
            self._end(section, now)

    def _begin(self, section: Section) -> None:
        queues = self._queues
        if section["format"] not in READABLE:
            raise SnapshotError(
                f"the state of the running server has format {section['format']}, and this "
                f"program reads the formats {', '.join(map(str, READABLE))}"
            )
        prefix = as_bytes(section["prefix"])
        if prefix != queues._prefix:
            theirs, ours = (each[:-1].decode(errors="replace") for each in (prefix, queues._prefix))
            raise SnapshotError(
                f"job handles begin with {theirs!r} in the running server and with {ours!r} in "
                "this one: see --job-handle-prefix"
            )
        if section["durable"] != queues.durable:
            raise SnapshotError("--queue-type cannot be changed by a reload")
        _restore_counts(queues.counts, section["counts"])
        self._forget_changed(section.get("changed", ()))
        ahead = {function.name: function for function in self._functions}
        self._functions = []
        for facts in section["functions"]:
            name, counts = as_bytes(facts["name"]), queues.counts
            counted = counts.others if facts["among_others"] else counts.functions[name]
            function = ahead.get(name) or Function(name, queues.loaded, counted)
            queues.functions[name], function.counts = function, counted
            function.limits = facts["limits"]
            function.paused, function.max_running = facts["paused"], facts["max_running"]
            function.rate = RateLimit(facts["rate"]) if facts["rate"] else None
            if facts["record"] is not None:
                queues.restrictions.records[name] = facts["record"]
            if function.has_settings:
                queues.restrictions.settings.add(function)
            if text := facts.get("key_limit"):
                queues.limit_per_key(function, KeyLimit.parse(text), 0)
            if function.has_restrictions:
                queues.apply_restrictions(function, 0)
            self._functions.append(function)
        for name, *pause in section.get("pauses", ()):
            queues.restrictions.pauses[as_bytes(name)] = Pause(*pause)
        if section.get("paused"):
            queues.pause_server()
        for facts in section.get("schedules", ()):
            queues.schedules.put(unpack_schedule(facts))
        if (number := section.get("pause_record")) is not None:
            queues.restrictions.records[SERVER] = number
        for number, handle in section["handles"]:
            queues._foreign_handles.add(number, as_bytes(handle))
        self._expected = section["jobs"]
        self._leaving = section["leaving"]

    def _forget_changed(self, places: Iterable[int]) -> None:
        """Forget copied jobs that have ended, or come again as they are now."""
        queues = self._queues
        self._jobs = len(self._copied)
        for place in places:
            job = self._copied[place]
            job.function.drop(job)
            queues.jobs.remove(job)
            if key := job.key:
                queues.uniques.discard(key, job)
            self._jobs -= 1
        self._copied = []

    def _add_peer(self, facts: Section, now: float) -> None:
        broker = self._broker
        peer = Peer(
            facts["number"], facts["address"], broker.dirty.append, operator=facts["operator"]
        )
        peer.since = facts.get("since", now)
        peer.client_id = as_bytes(facts["client_id"])
        peer.exceptions, peer.retries = facts["exceptions"], facts.get("retries", False)
        peer.results = facts.get("results", False)
        peer.resubmits = facts.get("resubmits", False)
        for place, limit, turn in facts["abilities"]:
            function = self._functions[place]
            peer.abilities[function] = limit
            peer.turns[function] = turn
        peer.absent = dict.fromkeys(self._functions[place] for place in facts["absent"])
        peer.overdue = dict.fromkeys(map(as_bytes, facts["overdue"]))
        excepted = facts["excepted"]
        peer.excepted = None if excepted is None else as_bytes(excepted)
        peer.sleeping, peer.woken, peer.sent = facts["sleeping"], facts["woken"], facts["sent"]
        if facts["owed"]:
            peer.send(as_bytes(facts["owed"]))
        broker.peers[peer] = None
        self.peers.append(peer)

    def _add_jobs(self, section: Section) -> None:
        jobs = self._read_jobs(section)
        for place, worker in section["workers"]:
            job = jobs[place]
            job.worker = self.peers[worker]
            job.worker.running[self._queues.handle(job)] = job
            job.function.running += 1
            if job.function.key_limit:
                job.function.key_limit.note_started(job)
        for place, clients in section["clients"]:
            job = jobs[place]
            job.clients = tuple(self.peers[client] for client in clients)
            for client in job.clients:
                client.waiting.add(job)
        self._aside += [job for job in jobs if not job.queued and job.worker is None]
        self._jobs += len(jobs)

    def _read_jobs(self, section: Section) -> list[BrokerJob]:
        jobs = list(self._make_jobs(section))
        for place, count in section["retries"]:
            jobs[place].retries = count
        return jobs

    def _make_jobs(self, section: Section) -> Iterator[BrokerJob]:
        queues, functions = self._queues, self._functions
        add, uniques = queues.jobs.add, queues.uniques
        reducers = {place: as_bytes(reducer) for place, reducer in section["reducers"]}
        unindexed = set(section["unindexed"])
        all_uniques, all_workloads = map(as_bytes, (section["uniques"], section["workloads"]))
        times = section["times"]
        unique_end = workload_end = 0
        columns = (section[name] for name in ("numbers", "function", "since", "unique", "workload"))
        flags = section["flags"].encode()
        for place, (number, name, since, unique_size, size) in enumerate(
            zip(*columns, strict=True)
        ):
            unique_start, unique_end = unique_end, unique_end + unique_size
            workload_start, workload_end = workload_end, workload_end + size
            flag = flags[place] - DIGIT
            facts = (
                functions[name],
                all_uniques[unique_start:unique_end],
                all_workloads[workload_start:workload_end],
                flag % BACKGROUND,
                bool(flag & BACKGROUND),
            )
            job = ReduceJob(*facts, reducers[place]) if place in reducers else BrokerJob(*facts)
            job.number = number
            job.since = times[since]
            add(job)
            if (key := job.key) and place not in unindexed:
                uniques.add(key, job)
            if flag & QUEUED:
                job.function.push(job)
            yield job

    def _end(self, section: Section, now: float) -> None:
        queues = self._queues
        if self._jobs != self._expected:
            raise SnapshotError(f"{self._expected} jobs were announced, and {self._jobs} came")
        queues._number, queues.turn = section["number"], section["turn"]
        queues.lease, queues.lease_over = section["lease"], section["lease_over"]
        queues.jobs.order_pages(section["pages"])
        for place, priority, numbers in section.get("orders", ()):
            self._functions[place].reorder(priority, map(self._find_job, numbers))
        for numbers in section["uniques"]:
            jobs = [self._find_job(number) for number in numbers]
            if key := jobs[0].key:
                queues.uniques.share(key, jobs)
        self._schedule_jobs(section, now)
        for number, *reported in section["progress"]:
            numerator, denominator = map(as_bytes, reported)
            queues.progress[self._find_job(number)] = numerator, denominator
        for function, workers, sleepers in zip(
            self._functions, section["workers"], section["sleepers"], strict=True
        ):
            function.workers = dict.fromkeys(self.peers[place] for place in workers)
            function.sleepers = dict.fromkeys(self.peers[place] for place in sleepers)
        queues._unused.clear()
        for place in section["unused"]:
            queues._unused[self._functions[place]] = None
        queues._unserved = {self._functions[place]: since for place, since in section["unserved"]}
        for place, since in section["freed"]:
            queues.restrictions.freed[self._functions[place]] = since
        for when, place in section["starts"]:
            function = self._functions[place]
            if function.rate is not None:
                queues.note_start(function, function.rate, when)
        rewritten = [Record(*_unpack_fields(Record, each)) for each in section.get("rewritten", ())]
        queues.changes.resume(dict(section["delivered"]), section["removed"], rewritten)
        remaining = len(self.peers) - self._leaving
        for peer in self.peers[remaining:]:
            self._broker.gone(peer, now)
        del self.peers[remaining:]
        queues.next_event = -inf
        self.complete = True

    def _schedule_jobs(self, section: Section, now: float) -> None:
        """Restore what happens to jobs at certain times."""
        queues = self._queues
        for number, deadline in section["limits"]:
            queues._time_limits.start(self._find_job(number), deadline)
        queues._due = [(due, number) for due, number in section["due"]]
        for due, number in queues._due:
            self._find_job(number).since = due
        queues._withheld = [self._find_job(number) for number in section["withheld"]]
        heapify(queues._due)
        adopted = section.get("adopted", ())  # that earlier versions queue at once
        queues.adopted.numbers += adopted
        queues.adopted.reading = section.get("reading", False)
        scheduled = {number for _, number in queues._due} | {*section["withheld"], *adopted}
        for job in self._aside:
            if job.number in scheduled:
                job.function.scheduled += 1
            else:  # it was withheld from a client that reads slowly: that is judged again
                queues._queue_job(job, now)

    def _find_job(self, number: int) -> BrokerJob:
        job = self._queues.jobs.get(number)
        if job is None:
            raise SnapshotError(f"job {number} is referred to, and did not come")
        return job


def _unpack_fields(kind: type[tuple[Any, ...]], fields: Sequence[Any]) -> Iterator[Any]:
    """The inverse of ``_pack_fields``."""
    for value, what in zip(fields, kind.__annotations__.values(), strict=True):
        yield as_bytes(value) if what is bytes else value


def _restore_counts(counts: BrokerCounts, packed: Section) -> None:
    for each in packed["functions"]:
        name = as_bytes(each["name"])
        counts.functions[name] = Counts(name)
        _restore_count(counts.functions[name], each)
    _restore_count(counts.others, packed["others"])
    counts.wakeups, counts.empty_grabs = packed["wakeups"], packed["empty_grabs"]
    counts.refusals.update(packed["refusals"])
    counts.restore_packets(packed.get("packets", {}))  # an older server did not count them


def _restore_count(counts: Counts, packed: Section) -> None:
    counts.accepted = packed["accepted"]
    counts.update(packed["events"])
    restore_durations(counts.waits, packed["waits"])
    restore_durations(counts.runs, packed["runs"])


def restore_durations(durations: Durations, packed: list[Any]) -> None:
    """Go on counting from durations of the same bounds."""
    durations.total, durations.seconds, durations.bounds, durations._buckets = packed
