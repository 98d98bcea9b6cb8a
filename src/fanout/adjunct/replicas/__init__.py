"""Routes what a service asks of its databases: writes to the primary, reads to replicas.

`databases.Databases` follows discovery for a process; `session.RoutedSession` is SQLAlchemy's
session over one of them, `database.Database.writer` and `reader` are the same as plain functions.
Nothing is imported here: `topology`, for those who change one, does without SQLAlchemy.
"""
