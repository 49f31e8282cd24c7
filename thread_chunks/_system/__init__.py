"""What the package asks of the operating system. Each function says what is lost where a system lacks it."""
