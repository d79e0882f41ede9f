"""The command ``bandsplit doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from bandsplit.cli.options import JsonOption
from bandsplit.cli.terminal import make_console, show_json

if TYPE_CHECKING:
    from rich.console import Console

    from bandsplit.tools.doctor import Finding

_STYLES = {"ok": "green", "note": "yellow", "fail": "red"}


def doctor(as_json: JsonOption = False) -> None:
    """Check versions, device, formats, models and disk, and run a short separation; exit code 1 if one is broken."""
    from bandsplit.tools.doctor import examine

    console = make_console()
    with console.status("checking ...") as status:
        findings = examine(lambda section: status.update(f"checking {section} ..."))
    failed = [finding for finding in findings if finding.status == "fail"]
    if as_json:
        rows = [finding._asdict() for finding in findings]
        show_json({"ok": not failed, "findings": rows})
    else:
        _show(make_console(err=False), findings)
    if failed:
        raise typer.Exit(1)


def _show(out: Console, findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from bandsplit.core.printable import printable
    from bandsplit.core.screen import PlainTable

    table = PlainTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for no_wrap in (True, True, False):
        table.add_column(no_wrap=no_wrap, overflow="fold")
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            table.add_row("", "", "")
            table.add_row("", Text(section, "bold"), "")
        style = _STYLES[finding.status]
        fix = Text(f"\n-> {printable(finding.fix)}" if finding.fix else "", style)
        table.add_row(Text(f"{finding.status:>4s}", style), finding.name, Text(printable(finding.value)) + fix)
    out.print(table)
    counts = {status: sum(finding.status == status for finding in findings) for status in _STYLES}
    verdict = "something is broken" if counts["fail"] else "bandsplit works here"
    out.print(f"\n{verdict}: {counts['ok']} ok, {counts['note']} to note, {counts['fail']} failed", highlight=False)
