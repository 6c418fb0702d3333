"""Look after a job server: ``AdminClient`` speaks the text protocol that shares its port."""
