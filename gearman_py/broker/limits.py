"""Bounds on what peers may ask, and on what the broker keeps or does at a time."""

# Bytes. The C server refuses a longer unique; its read buffer of 8 KiB limits other arguments.
MAX_UNIQUE = 64
MAX_ARGUMENT = 8192
MAX_FUNCTIONS = 200_000
MAX_FUNCTIONS_OF_WORKER = 20_000
# Bytes. The next function of a worker with N may have a name of this divided by N + 1: the names of
# one worker take 20 MB at most.
NAMES_OF_WORKER = 4 * 2**20
# Functions without jobs, workers and limits that stay listed, as in gearmand.
MAX_UNUSED_FUNCTIONS = 1000
# Functions that operators limited or paused, which stay listed without jobs and workers, and the
# bytes of their names: the memory of all is bounded.
MAX_FUNCTIONS_WITH_SETTINGS = 10_000
MAX_NAME_WITH_SETTINGS = 512
# Functions whose jobs are counted apart from those of others.
MAX_TOLD_APART = 1000
# Bytes. The requests of a peer that is owed more wait until it has read some.
MAX_OWED = 2**20
# Jobs beyond their time limits whose results a worker may still send.
MAX_OVERDUE = 16
# Functions that a worker has registered no longer, whose turns it gets back with them.
MAX_FORMER_TURNS = 16
# Functions to which a connection has submitted, and submitters of a function that have left, of
# which it is known; bytes of a client id that are kept of these.
MAX_SUBMITTED = 16
MAX_FORMER_SUBMITTERS = 32
MAX_KEPT_ID = 64
# Attempts after which a foreground job that is over its time limit fails. A background job has
# been promised to be done: only --job-retries ends it.
MAX_TIMEOUTS = 3
# Jobs or functions that are processed at a time; peers are served in between.
SLICE = 1000
# Bytes of the failed background jobs that are kept, of all functions.
MAX_FAILED_BYTES = 64 * 2**20
