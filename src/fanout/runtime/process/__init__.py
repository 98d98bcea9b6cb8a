"""The process and its system: signals, logs, console, supervisor, files."""
