"""One foreground job, and all that is heard of it, an event a line.

do SERVERS FUNCTION [priority=high|low] [unique=U] [timeout=MS] [exceptions=1] < WORKLOAD
"""

import sys

from tests.interop.peers.c import libgearman as gearman
from tests.interop.peers.c.libgearman import say, task_data

_, servers, function, *options = sys.argv
option = dict(word.split("=", 1) for word in options)

client = gearman.client(servers)
gearman.client_set_timeout(client, int(option.get("timeout", gearman.FOR_EVER)))
if "exceptions" in option:
    assert gearman.client_set_option(client, b"exceptions", len(b"exceptions"))


def told_status(task: int) -> None:
    say(b"status %d/%d" % (gearman.task_numerator(task), gearman.task_denominator(task)))


gearman.on(client, "created", lambda task: say(b"created", gearman.task_job_handle(task)))
gearman.on(client, "data", lambda task: say(b"data", task_data(task)))
gearman.on(client, "warning", lambda task: say(b"warning", task_data(task)))
gearman.on(client, "status", told_status)
gearman.on(client, "complete", lambda task: say(b"complete", task_data(task)))
gearman.on(client, "fail", lambda task: say(b"fail"))
gearman.on(client, "exception", lambda task: say(b"exception", task_data(task)))
names = option.get("priority", "normal"), function, option.get("unique", "")
gearman.add_task(client, *names, sys.stdin.buffer.read())
code = gearman.client_run_tasks(client)
if code == gearman.TIMEOUT:
    say(b"timeout")
elif code not in (gearman.SUCCESS, gearman.FAIL, gearman.EXCEPTION):
    gearman.check(code)
