"""The admin door of a sidecar: health, metrics, the live page."""
