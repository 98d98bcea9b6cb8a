"""Discovery as processes read and write it."""
