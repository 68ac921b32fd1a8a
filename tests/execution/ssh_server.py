"""An SSH server on a free port of this machine that lets one key in: ``python ssh_server.py FOLDER``.

Leaves in the folder the keys ``user`` and ``known``, and prints its port. What clients run ends with their connection.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncssh


async def serve(folder: Path) -> None:
    keys = {}
    for name in ("host", "user"):
        keys[name] = asyncssh.generate_private_key("ssh-ed25519")
        keys[name].write_private_key(str(folder / name))
    (folder / "allowed").write_bytes(keys["user"].export_public_key())
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[keys["host"]],
        authorized_client_keys=str(folder / "allowed"),
        process_factory=run_command,
    )
    known = f"[127.0.0.1]:{server.get_port()} ".encode() + keys["host"].export_public_key()
    (folder / "known").write_bytes(known)
    sys.stdout.write(f"{server.get_port()}\n")
    sys.stdout.flush()
    await server.wait_closed()


async def run_command(process: asyncssh.SSHServerProcess) -> None:
    """What a client asks for, in a session of its own."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(
        process.command or "true", stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, start_new_session=True
    )
    await process.redirect(stdout=child.stdout, stderr=child.stderr)
    ended = asyncio.ensure_future(child.wait())
    left = asyncio.ensure_future(process.channel.wait_closed())
    await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        os.killpg(child.pid, signal.SIGTERM)
        await ended
    process.exit(ended.result())


asyncio.run(serve(Path(sys.argv[1])))
