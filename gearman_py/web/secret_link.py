"""A link that lets in who has it: for a page of one user, on their own machine."""

import hmac
import secrets
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True)
class SecretLink:
    """The one way in, of ``user``, who operates. It lasts as long as the process."""

    user: str
    key: str = field(default_factory=partial(secrets.token_urlsafe, 32), repr=False)

    @property
    def path(self) -> str:
        """Of its address."""
        return f"/enter?key={self.key}"

    def opens(self, key: str) -> bool:
        """Whether this is its key."""
        return hmac.compare_digest(self.key.encode(), key.encode())
