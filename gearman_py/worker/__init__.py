"""Do jobs: ``Worker`` serves functions, each of which is given a ``WorkerJob``."""
