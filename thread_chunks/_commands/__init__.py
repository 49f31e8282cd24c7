"""What ``python -m thread_chunks`` does, a module for each of its subjects."""
