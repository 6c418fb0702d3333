"""Workers: ``Worker`` serves functions, each of which is called with a ``WorkerJob``."""
