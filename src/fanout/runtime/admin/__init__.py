"""The admin door of a sidecar: health, metrics, live page."""
