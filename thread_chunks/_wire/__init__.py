"""What crosses the wire: pickling, `__main__`, exceptions, the protocol of messages."""
