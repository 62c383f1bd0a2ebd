"""`batchd dev` as a whole: its output, its ready file, and that no process is left behind."""

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.dev_process import BATCHD, POLICIES, Dev, all_pids, get, run_dev, users_of
from tests.support.waiting import has_exited, until

pytestmark = pytest.mark.slow

FIRST_LINES = "The first lines of its results:\n"
SECOND = "The second one, which calls examples/upstream.py, 600 lines, as get_batch shows it:\n"
PASTE = "A first session, ready to paste:\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A stack with two processes of each kind that has run its samples."""
    folder = tmp_path_factory.mktemp("running") / "data"
    with run_dev(folder, "--api-processes=2", "--workers=2") as dev:
        dev.until_ready()
        yield dev
        assert dev.stop() == 0


@pytest.fixture(scope="module")
def used_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a stack that has stopped."""
    folder = tmp_path_factory.mktemp("used") / "data"
    with run_dev(folder, "--no-sample") as dev:
        dev.until_ready()
        assert dev.stop(signal.SIGINT) == 0
    assert users_of(folder) == []
    return folder


def test_sample_is_run_and_printed(running: Dev) -> None:
    printed, _, rest = running.output.partition(FIRST_LINES)
    batch = json.loads(printed[printed.index("{") :])
    lines = [json.loads(line) for line in rest.partition(SECOND)[0].splitlines() if line]
    assert batch["status"] == "completed"
    assert set(batch) == {"batch", "created_ts", "status", "updated_ts", "hash", "download"}
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["status"] for line in lines] == [200, 200, 404, 200, 200]


def test_sample_that_calls_an_upstream_is_run_and_printed(running: Dev) -> None:
    printed, _, rest = running.output.partition(SECOND)[2].partition(FIRST_LINES)
    batch = json.loads(printed)
    lines = [json.loads(line) for line in rest.partition(PASTE)[0].splitlines() if line]
    assert batch["status"] == "completed"
    assert [line["status"] for line in lines] == [201, 201, 409, 201, 201]
    assert {"EXAMPLE_UPSTREAM_URL", "BATCHD_OPERATIONS"} <= running.until_ready()["env"].keys()


def test_ready_file_describes_how_to_connect(running: Dev) -> None:
    facts = running.until_ready()
    assert stat.S_IMODE(running.ready_file.stat().st_mode) == 0o600
    assert set(facts) == {
        *("api_url", "account", "user", "role", "secret", "database_url", "s3_endpoint"),
        *("s3_access_key", "s3_secret_key", "bucket", "policies_dir", "pids", "env"),
    }
    assert get(f"{facts['api_url']}/whoami", facts["secret"]) == {
        "account": facts["account"],
        "user": facts["user"],
        "role": "admin",
    }
    assert len(facts["pids"]["api"]) == len(facts["pids"]["worker"]) == 2
    assert not any(has_exited(pid) for pid in all_pids(facts))


def test_another_command_works_with_the_variables_of_the_ready_file(running: Dev) -> None:
    facts = running.until_ready()
    created = subprocess.run(
        [*BATCHD, "users", "create", "--role", "reader", "--name", "reader"],
        env={**os.environ, **facts["env"]},
        capture_output=True,
        check=True,
        cwd="/",
    )
    secret = json.loads(created.stdout)["secret"]
    assert get(f"{facts['api_url']}/whoami", secret)["role"] == "reader"


def test_printed_commands_work_as_they_are(running: Dev, tmp_path: Path) -> None:
    facts = running.until_ready()
    lines = running.output.partition(PASTE)[2].partition("\nAPI ")[0]
    # The commands don't wait for the end of the batch: print its id, to wait for it here.
    script = lines + '\necho; echo "$batch"\n'
    result = subprocess.run(
        ["bash", "-euc", script], capture_output=True, check=True, text=True, cwd=tmp_path
    )
    batch = result.stdout.split()[-1]
    url = f"{facts['api_url']}/batches/{batch}?expand=progress"
    until(lambda: get(url, facts["secret"])["status"] == "completed")
    assert get(url, facts["secret"])["progress"]["succeeded"] == 1


def test_second_stack_in_the_same_folder_is_refused(running: Dev) -> None:
    folder = running.ready_file.with_suffix("")
    options = [f"--data-dir={folder}", "--port=0", f"--ready-file={running.ready_file}"]
    policies = f"--policies={POLICIES}"
    command = [*BATCHD, "dev", *options, policies]
    result = subprocess.run(command, capture_output=True, check=False, text=True)
    assert result.returncode == 1
    assert f"{folder} is in use by another batchd dev" in result.stderr
    assert running.ready_file.exists()


def test_port_in_use_is_refused(running: Dev, tmp_path: Path) -> None:
    port = urlsplit(running.until_ready()["api_url"]).port
    assert port is not None
    with run_dev(tmp_path / "data", port=port) as dev:
        assert dev.process.wait(timeout=60) == 1
        assert f"Port {port} on 127.0.0.1 is in use." in dev.output


def test_second_start_keeps_the_data_and_sigterm_ends_every_process(used_folder: Path) -> None:
    admin = json.loads((used_folder / "admin.json").read_text())
    with run_dev(used_folder, "--no-sample") as dev:
        facts = dev.until_ready()
        assert facts["secret"] == admin["secret"]
        assert get(f"{facts['api_url']}/whoami", facts["secret"])["user"] == admin["user"]
        assert dev.stop(signal.SIGTERM) == 0
        assert not dev.ready_file.exists()
    assert all(has_exited(pid) for pid in all_pids(facts))


@pytest.mark.parametrize("kind", ["worker", "postgres"])
def test_dead_child_is_reported_and_stops_the_rest(used_folder: Path, kind: str) -> None:
    with run_dev(used_folder, "--no-sample") as dev:
        facts = dev.until_ready()
        pid = facts["pids"][kind]
        os.kill(pid if isinstance(pid, int) else pid[0], signal.SIGKILL)
        assert dev.process.wait(timeout=60) == 1
        name = kind if isinstance(pid, int) else f"{kind}-1"
        assert f"batchd dev: {name} ended unexpectedly (killed by SIGKILL)" in dev.output
        assert str(used_folder) in dev.output.rpartition("ended unexpectedly")[2]
        assert not dev.ready_file.exists()
    assert all(has_exited(pid) for pid in all_pids(facts))


def test_ctrl_c_during_the_start_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with run_dev(folder, "--no-sample") as dev:
        until((folder / "postgres" / "cluster.new").exists)
        assert dev.stop(signal.SIGINT) == 0
        assert "Stopped." in dev.output
    assert users_of(folder) == []


def test_no_process_outlives_a_killed_stack_and_the_next_start_works(used_folder: Path) -> None:
    with run_dev(used_folder, "--no-sample") as dev:
        facts = dev.until_ready()
        dev.stop(signal.SIGKILL)
        until(lambda: all(has_exited(pid) for pid in all_pids(facts)))
    assert dev.ready_file.exists()
    with run_dev(used_folder, "--no-sample") as dev:
        until(lambda: not dev.ready_file.exists())
        assert dev.until_ready()["secret"] == facts["secret"]
        assert dev.stop() == 0
