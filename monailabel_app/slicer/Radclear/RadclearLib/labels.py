"""Text in the panel: sentences that break lines, and the colours of warnings."""

from __future__ import annotations

import qt

BANNER_STYLES = {
    "demo": "background: #5a3d00; color: #ffe2a8; padding: 6px;",
    "input": "background: #5c1f1f; color: #ffd9d4; padding: 6px;",
    "note": "background: #24384d; color: #d7e8fa; padding: 6px;",
}


def plain_label(text: str = "", *, style: str = "") -> qt.QLabel:
    """A label that breaks lines and takes text from the server as text, never as HTML."""
    label = qt.QLabel()
    label.setTextFormat(qt.Qt.PlainText)
    label.setWordWrap(True)
    label.setText(text)
    label.setStyleSheet(style)
    return label
