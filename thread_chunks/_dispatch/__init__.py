"""Every call from its submission to its outcome. Runs in the dispatcher's thread; knows nothing of Ray."""
