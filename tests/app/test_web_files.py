"""The files of the results page: none but its own, and nothing from elsewhere."""

from __future__ import annotations

import re

from app_server import ROOT, needs_monailabel

pytestmark = needs_monailabel


def test_only_the_pages_own_files_are_served(server):
    for path in ("main.py", "../main.py", "..%2fmain.py", "%2e%2e/main.py", "..%2f..%2flib%2froutes.py", "",
                 "%2fetc%2fpasswd", "index.html%00.js"):  # fmt: skip
        answer = server.request("GET", f"/radclear/files/{path}")
        assert answer.status_code == 404, path
    page = server.request("GET", "/radclear/")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|style=", page.text)
    assert server.request("GET", "/radclear", allow_redirects=False).headers["Location"] == "/radclear/"


def test_the_page_refers_to_nothing_outside_itself():
    for file in sorted((ROOT / "monailabel_app" / "web").iterdir()):
        addresses = set(re.findall(r"\w+://[^\s\"'`]+", file.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org/2000/svg"}, file.name
