"""For each line, a foreground job by the same client; prints its result, or "lost".

turns SERVERS FUNCTION
"""

import sys

from tests.interop.peers.c import libgearman as gearman
from tests.interop.peers.c.libgearman import say

_, servers, function = sys.argv
client = gearman.client(servers)
for line in sys.stdin.buffer:
    say(gearman.do(client, function, line.rstrip(b"\n")) or b"lost")
