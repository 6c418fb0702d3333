"""Whether the server echoes.

ping SERVERS < DATA
"""

import sys

from tests.interop.peers.c import libgearman as gearman

data = sys.stdin.buffer.read()
gearman.check(gearman.client_echo(gearman.client(sys.argv[1]), data, len(data)))
