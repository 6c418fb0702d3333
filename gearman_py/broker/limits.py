"""What peers may ask of the broker, and how much it does or keeps at a time."""

# The C server refuses a unique of more than 64 bytes; other arguments it bounds by its
# 8 KiB read buffer.
MAX_UNIQUE = 64
MAX_ARGUMENT = 8192
MAX_FUNCTIONS = 200_000
MAX_FUNCTIONS_OF_WORKER = 20_000
# Functions without jobs, workers and limits stay listed, as in gearmand, but no more than these.
MAX_UNUSED_FUNCTIONS = 1000
# Functions whose jobs are counted apart from those of others.
MAX_TOLD_APART = 1000
# Bytes. A peer that is owed more is answered no further until it has read some.
MAX_OWED = 2**20
# Jobs of a worker that were over their time limits and whose results it may still send.
MAX_OVERDUE = 16
# A foreground job fails when it was over its time limit in the last of this many attempts. A
# background job was promised to be done: only --job-retries ends it.
MAX_TIMEOUTS = 3
# Jobs, or functions, that are dealt with at a time; others are served in between.
SLICE = 1000
