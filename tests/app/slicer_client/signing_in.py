"""A reader at a server that wants a password, and whose token ends meanwhile; writes `report.json`.

Usage: signing_in.py MODULE_FOLDER SERVER OUTPUT IMAGE PASSWORD ENDED

ENDED is a token of the reader's that is no longer valid.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import application
from reader import Session


def connect(session: Session, password: str) -> dict:
    """Enter a password and connect."""
    session.form.password.setText(password)
    session.form.connectButton.click()
    session.wait()
    asks = not session.form.password.isHidden()
    return {**session.shown(), "asks": asks, "password kept": bool(session.form.password.text)}


def main(folder: str, server: str, output: str, image: str, password: str, ended: str) -> None:
    report: dict = {}
    app = application.Application()
    sys.path.insert(0, folder)
    session = Session(app, server, Path(output))
    session.form.reader.setText("dr.reader")
    report["no password"] = connect(session, "")
    report["wrong password"] = connect(session, "something else")
    report["connected"] = connect(session, password)
    session.choose(f"On the server: {image}")
    report["asked"] = session.ask()
    session.widget.connection.server._session.headers["Authorization"] = f"Bearer {ended}"
    report["verdict after the end"] = session.verdict(0, "agree", reader="dr.reader", comment="typed once")
    report["asked after the end"] = session.ask()
    report["again"] = connect(session, password)
    tab = session.widget.shown.tabs[0]
    report["still typed"] = tab.comment.text
    tab.sendButton.click()
    session.wait()
    report["verdict"] = tab.sent.text
    report["settings"] = app.settings
    session.widget.cleanup()
    (Path(output) / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
