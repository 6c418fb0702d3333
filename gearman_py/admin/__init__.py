"""Administration of a job server: ``AdminClient`` speaks the text protocol on the same port."""
