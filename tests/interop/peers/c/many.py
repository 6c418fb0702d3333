"""Many jobs in flight at once, their workloads 1, 2, 3 ...; prints each "workload result".

many SERVERS FUNCTION COUNT
"""

import sys

from tests.interop.peers.c import libgearman as gearman

_, servers, function, count = sys.argv
client = gearman.client(servers)
numbers: dict[int, int] = {}
gearman.on(
    client,
    "complete",
    lambda task: print(numbers[task], gearman.task_data(task).decode()),
)
for number in range(1, int(count) + 1):
    task = gearman.add_task(client, "normal", function, "", b"%d" % number)
    numbers[task] = number
gearman.check(gearman.client_run_tasks(client))
