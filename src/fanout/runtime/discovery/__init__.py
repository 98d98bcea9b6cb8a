"""Reading and writing the records of a fleet in discovery."""
