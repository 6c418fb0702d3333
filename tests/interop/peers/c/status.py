"""What the server knows of a job: known, running, numerator, denominator.

status SERVERS HANDLE
"""

import sys

from tests.interop.peers.c import libgearman as gearman

_, servers, handle = sys.argv
print(*gearman.job_status(gearman.client(servers), handle))
