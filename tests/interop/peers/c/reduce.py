"""A reduce job: the mapper's worker has each part done by the reducer; prints the result.

reduce SERVERS MAPPER REDUCER < WORKLOAD
"""

import sys
from ctypes import byref

from tests.interop.peers.c import libgearman as gearman

NORMAL = 1

_, servers, mapper, reducer = sys.argv
workload = sys.stdin.buffer.read()
task = gearman.execute_by_partition(
    gearman.client(servers),
    *(mapper.encode(), len(mapper)),
    *(reducer.encode(), len(reducer)),
    *(None, 0),
    byref(gearman.attributes(NORMAL)),
    byref(gearman.argument_make(None, 0, workload, len(workload))),
    None,
)
assert task, "the job was not taken"
gearman.check(gearman.task_return(task))
gearman.say(gearman.task_results(task)[0])
