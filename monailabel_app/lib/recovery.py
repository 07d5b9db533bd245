"""What a killed server left half done: put right or set aside at the next start, and named in the log."""

from __future__ import annotations

import logging
from typing import Any

from lib.audit import announced_verdicts

logger = logging.getLogger(__name__)


def recover(app: Any) -> None:
    """Remove remains of trainings; store verdicts that the audit announces, set others aside.

    Args:
        app: the `RadclearApp`, before it answers anybody.
    """
    app.datastore().studies.clean()
    for left in app.trainings.clean():
        logger.warning("the training of %s was killed; what it left is removed", left)
    stored, aside = app.verdicts.recover(lambda names: announced_verdicts(app.audit.path, names))
    for name in stored:
        logger.warning("verdict %s was being stored when the server was killed; it is stored now", name)
    for name in aside:
        logger.warning("a verdict was cut off before it was audited; it is set aside as .unfinished/%s", name)
