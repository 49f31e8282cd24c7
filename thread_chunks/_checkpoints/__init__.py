"""The checkpoint file: store, writer, rows, identity of a call."""
