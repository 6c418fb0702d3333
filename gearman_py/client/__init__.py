"""Submit jobs: ``Client`` blocks, ``AsyncClient`` awaits; both speak through one session."""
