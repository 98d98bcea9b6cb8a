"""What a process needs of its system: signals, the log, the console, its supervisor."""
