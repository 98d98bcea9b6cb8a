"""A certificate authority for TLS on loopback."""

from pathlib import Path

import trustme


class Authority:
    """A certificate authority whose files lie in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._authority = trustme.CA()
        self._folder = folder
        self.ca = folder / f"{name}-ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, host: str = "localhost") -> Path:
        """Write certificate and key to one file."""
        certificate = self._authority.issue_cert(host, "127.0.0.1")
        path = self._folder / f"{name}.pem"
        certificate.private_key_and_cert_chain_pem.write_to_path(path)
        return path
