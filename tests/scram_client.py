"""The client's side of SCRAM-SHA-256, for conversations (RFC 5802, RFC 7677)."""

from __future__ import annotations

import base64
import hashlib
import hmac


class ScramClient:
    """One exchange. C{header} is the GS2 header; the rest as the specification names it."""

    def __init__(
        self, user_name: str, password: str, nonce: str = "clientnonce", header: str = "n,,"
    ) -> None:
        self.password = password
        self.nonce = nonce
        self.header = header
        escaped = user_name.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={escaped},r={nonce}"
        self.signature = b""

    def first(self) -> bytes:
        """client-first-message."""
        return (self.header + self.bare).encode()

    def final(self, server_first: bytes) -> bytes:
        """client-final-message."""
        fields = dict(part.split("=", 1) for part in server_first.decode().split(","))
        if not fields["r"].startswith(self.nonce):
            raise AssertionError("the server's nonce does not begin with ours")
        salted = hashlib.pbkdf2_hmac(
            "sha256", self.password.encode(), base64.b64decode(fields["s"]), int(fields["i"])
        )
        bound = base64.b64encode(self.header.encode()).decode()
        without_proof = f"c={bound},r={fields['r']}"
        message = f"{self.bare},{server_first.decode()},{without_proof}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        signed = hmac.digest(stored_key, message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signed, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.signature = hmac.digest(server_key, message, "sha256")
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def is_server(self, server_final: bytes) -> bool:
        """Whether the server has proved that it knows the password as well."""
        return server_final == b"v=" + base64.b64encode(self.signature)
