"""One background job; prints its handle.

queue SERVERS FUNCTION [priority=high|low] [unique=U] < WORKLOAD
"""

import sys

from tests.interop.peers.c import libgearman as gearman

_, servers, function, *options = sys.argv
option = dict(word.split("=", 1) for word in options)
names = option.get("priority", "normal"), function, option.get("unique", "")
client = gearman.client(servers)
print(gearman.do_background(client, *names, sys.stdin.buffer.read()).decode())
