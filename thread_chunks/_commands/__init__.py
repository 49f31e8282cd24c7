"""The commands of ``python -m thread_chunks``."""
