"""A background job that is not to run before a time; prints its handle.

epoch SERVERS FUNCTION SECONDS_SINCE_1970 < WORKLOAD
"""

import sys
from ctypes import byref

from tests.interop.peers.c import libgearman as gearman

NORMAL = 1

_, servers, function, due = sys.argv
workload = sys.stdin.buffer.read()
task = gearman.execute(
    gearman.client(servers),
    *(function.encode(), len(function)),
    *(None, 0),
    byref(gearman.attributes_epoch(int(due), NORMAL)),
    byref(gearman.argument_make(None, 0, workload, len(workload))),
    None,
)
assert task, "the job was not taken"
gearman.say(gearman.task_job_handle(task))
