"""Submit jobs: ``Client`` blocks, ``AsyncClient`` awaits; they share the session."""
