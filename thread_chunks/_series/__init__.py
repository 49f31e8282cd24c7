"""A series as its consumer sees it: feeding, order, buffer, bar, resumption. Runs in the caller's thread."""
