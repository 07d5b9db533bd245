"""A reader meets two servers that give one study id to two patients; writes `report.json`.

Usage: two_servers.py MODULE_FOLDER FIRST SECOND OUTPUT IMAGE

The reader asks the first server about IMAGE and connects to the second. Then both stand behind one address,
and the second takes the first's place between answer and verdict, and between answer and question.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import application
from reader import Session
from relay import Relay


def connect(session: Session, address: str) -> dict:
    """Connect to an address; what is left of earlier answers then."""
    session.form.address.setText(address)
    session.form.connectButton.click()
    session.wait()
    return session.shown()


def main(folder: str, first: str, second: str, output: str, image: str) -> None:
    report: dict = {}
    app = application.Application()
    sys.path.insert(0, folder)
    session = Session(app, first, Path(output))
    connect(session, first)
    session.choose(f"On the server: {image}")
    report["first"] = session.ask()
    report["nobody there"] = connect(session, "127.0.0.1:9")
    report["verdict after a failed connect"] = session.verdict(0, "agree", comment="after a failed connect")
    report["second connected"] = connect(session, second)
    report["studies"] = [session.form.study.itemText(i) for i in range(session.form.study.count)]
    session.choose(f"On the server: {image}")
    report["second"] = session.ask()
    report["verdict at the second"] = session.verdict(0, "disagree", comment="at the second")
    session.choose("In Slicer: ")
    report["volume of the first at the second"] = session.ask()
    relay = Relay(urlsplit(first).port)
    connect(session, f"127.0.0.1:{relay.port}")
    session.choose(f"On the server: {image}")
    report["through the relay"] = session.ask()
    volume = app.views_show()
    relay.switch(urlsplit(second).port)
    report["verdict to the wrong server"] = session.verdict(0, "correct", comment="to the wrong server")
    session.choose_volume(volume)
    report["asked about the first's volume"] = session.ask()
    session.choose(f"On the server: {image}")
    report["its own at the second"] = session.ask()
    session.widget.cleanup()
    (Path(output) / "report.json").write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
