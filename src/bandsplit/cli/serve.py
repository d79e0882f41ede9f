"""The command ``bandsplit serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bandsplit.cli.options import DEVICE_HELP, MODEL_NAMES
from bandsplit.cli.terminal import make_console, print_lines


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option(
            *MODEL_NAMES,
            metavar="MODEL",
            help="Model file, bag or folder to offer next to the fetched models; repeatable.",
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="Folder of songs, queue and results.")
    ] = Path("served"),
    host: Annotated[str, typer.Option("--host", help="Address; others than this machine's own need --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", help="Port; 0 for any that is free.", min=0, max=65535)] = 8410,
    token: Annotated[
        str | None, typer.Option("--token", envvar="BANDSPLIT_TOKEN", help="Secret that clients must know.")
    ] = None,
    max_upload: Annotated[
        float, typer.Option("--max-upload", metavar="MB", help="Largest upload in MB.", min=0.001)
    ] = 200,
    keep_free: Annotated[
        float, typer.Option("--keep-free", metavar="GB", help="Refuse uploads that leave less free disk.", min=0)
    ] = 1,
    device: Annotated[str, typer.Option("--device", "-d", metavar="DEVICE", help=DEVICE_HELP)] = "auto",
) -> None:
    """Serve a page for songs to separate and listen to, and a REST API, until Ctrl-C; a later start continues.

    The page shows its address here; the API is documented at /docs.
    """
    from bandsplit.serve.server import ServerConfig, run_server
    from bandsplit.serve.service import Limits

    console = make_console()
    limits = Limits(round(max_upload * 1e6), round(keep_free * 1e9))
    config = ServerConfig(folder, model or (), host, port, token, device, limits)
    try:
        run_server(config, lambda text: print_lines(console, text))
    except KeyboardInterrupt:
        print_lines(console, "stopped; songs that wait are separated after the next start")
