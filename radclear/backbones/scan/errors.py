"""Why a scan tier cannot run."""

from __future__ import annotations

from radclear.errors import RadclearError


class ScanUnavailableError(RadclearError):
    """A tier of the selective scan cannot run here; the message is the reason."""
