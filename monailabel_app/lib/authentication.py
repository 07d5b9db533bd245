"""MONAI Label's check of bearer tokens, made to work and made strict.

MONAI Label 0.8.5 asks PyJWT to decode without naming an algorithm, which PyJWT 2 refuses for every token, so
that nobody gets in; it takes tokens that never expire; and it fails where a name or a password is wrong.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import jwt
import requests
from fastapi import HTTPException, Request, Security
from monailabel.config import settings
from monailabel.endpoints import login
from monailabel.endpoints.user import auth

ALGORITHMS = [
    "RS256"
]  # as the realm publishes an RSA key; never HS256, whose secret would be that public key


def decode(token: str, key: str, options: dict[str, Any]) -> dict[str, Any]:
    """The claims of a token that the realm signed and that has not expired.

    Raises:
        jwt.InvalidTokenError: another signature or algorithm, expired, or without an end.
    """
    return jwt.decode(token, key, algorithms=ALGORITHMS, options={**options, "require": ["exp"]})


def post(**options: Any) -> requests.Response:
    """Ask the realm for a token.

    Raises:
        HTTPException: the realm refused; 401, as MONAI Label would answer 500.
    """
    reply = requests.post(**options)
    if reply.status_code in (400, 401, 403):
        raise HTTPException(401, "the realm did not take this name and password")
    return reply


class Role(auth.RBAC):
    """MONAI Label's check of a role, with a refusal that says whom to ask."""

    async def __call__(self, user: Annotated[auth.User, Security(auth.get_current_user)]) -> auth.User:
        try:
            return await super().__call__(user)
        except HTTPException as error:
            raise HTTPException(
                error.status_code,
                f"this wants the role {self.roles}, which your account does not have; ask the administrator "
                "of your sign-in for it",
            ) from None


def install() -> None:
    """Let MONAI Label decode with `decode`, and ask for tokens with `post`."""
    auth.jwt = SimpleNamespace(decode=decode)
    login.requests = SimpleNamespace(post=post)


async def may_read(request: Request) -> bool:
    """Whether a request comes with what a reader needs: a valid token with the role, or no authentication."""
    if not settings.MONAI_LABEL_AUTH_ENABLE:
        return True
    try:
        user = await auth.get_current_user(await auth.oauth2_scheme(request))
        await auth.RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER)(user)
    except HTTPException:
        return False
    return True
