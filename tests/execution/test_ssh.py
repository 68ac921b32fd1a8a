"""Workers over SSH, on a server that is started here: logging in, environment, processes that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import dask
import pytest

from deepfinder_dask.errors import InputError
from deepfinder_dask.execution.clusters import keeping, open_workforce, ssh

asyncssh = pytest.importorskip("asyncssh", reason="asyncssh is not installed")


@pytest.fixture
def server(tmp_path):
    """Options to log in with."""
    program = [sys.executable, str(Path(__file__).with_name("ssh_server.py")), str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        port = int(process.stdout.readline())
        yield {"port": port, "key": str(tmp_path / "user"), "known_hosts": str(tmp_path / "known"), "user": "me"}
        process.kill()


def share():
    return os.environ["DEEPFINDER_CORES"], os.getppid()


def squares(seconds, item):
    time.sleep(seconds)
    return item * item


@pytest.fixture(params=["as it is", "of the command line"])
def chatter(request, monkeypatch):
    """What Dask says: where it is hushed, hosts are hushed too."""
    if request.param == "of the command line":
        monkeypatch.setenv("DASK_LOGGING__DISTRIBUTED", "critical")
        with dask.config.set({"logging.distributed": "critical"}):
            yield
    else:
        monkeypatch.delenv("DASK_LOGGING__DISTRIBUTED", raising=False)
        yield


def test_hosts_do_the_work_and_come_again(chatter, server, monkeypatch, caplog):
    caplog.set_level("INFO", "distributed.deploy.ssh")  # what the host says, for whoever looks into a failure
    monkeypatch.setattr(keeping, "LOOK_EVERY", 0.5)
    monkeypatch.setattr(ssh, "START_SECONDS", 120)
    table = {"kind": "ssh", "hosts": ["127.0.0.1"], "processes": 2, "cores": 6, "interface": "lo", **server}
    collected = {}
    with open_workforce(table) as executor:
        executor.client.wait_for_workers(2)
        answers = executor.ask(share)
        assert {cores for cores, _ in answers.values()} == {"3"}
        (nanny,) = {parent for _, parent in answers.values()}
        for index, square in executor.run(partial(squares, 0.05), range(60), label="squares"):
            collected[index] = square
            if len(collected) == 20:
                os.killpg(os.getpgid(nanny), signal.SIGKILL)  # the whole host
    assert collected == {n: n * n for n in range(60)}


def test_a_host_that_lets_nobody_in_is_named(server, tmp_path):
    stranger = asyncssh.generate_private_key("ssh-ed25519")
    stranger.write_private_key(str(tmp_path / "stranger"))
    table = {"kind": "ssh", "hosts": ["127.0.0.1"], "interface": "lo", **server, "key": str(tmp_path / "stranger")}
    with (
        pytest.raises(
            InputError, match=r"no workers on 127\.0\.0\.1 by SSH \(PermissionDenied.*needs no password"
        ) as told,
        open_workforce(table),
    ):
        pass
    assert "\n" not in str(told.value)


def test_a_host_whose_processes_do_not_start_is_named(server, tmp_path, monkeypatch):
    """A Python that says nothing and never ends."""
    idle = tmp_path / "python"
    idle.write_text("#!/bin/sh\nexec sleep 600\n")
    idle.chmod(0o755)
    monkeypatch.setattr(ssh, "START_SECONDS", 3)
    table = {"kind": "ssh", "hosts": ["127.0.0.1"], "interface": "lo", "python": str(idle), **server}
    with (
        pytest.raises(InputError, match=r"no workers on 127\.0\.0\.1 by SSH \(not all had started after 3 s\)"),
        open_workforce(table),
    ):
        pass
