import os
import subprocess
import sys
from pathlib import Path

from inferwatt.engines.processes import UNKNOWN_PID, environment, here, home, namespace, numbers, peer_pid


def test_our_own_process_is_read_in_the_real_proc() -> None:
    """Its numbers end with the one that it has, its namespace is ours, and a gone one has nothing."""
    assert numbers(os.getpid())[0] == os.getpid()
    assert namespace(os.getpid()) == namespace() > 0
    assert (numbers(1 << 30), namespace(1 << 30), environment(1 << 30)) == ((), 0, {})
    assert home(1 << 30).container_id == ""


def test_a_child_s_environment_is_what_it_was_started_with() -> None:
    """Real /proc of a real process; a value may hold an equals sign."""
    script = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={"CUDA_VISIBLE_DEVICES": "GPU-1", "ODD": "a=b"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it has begun: what it was started with is there
        found = environment(child.pid)
        child.communicate()

    assert (found["CUDA_VISIBLE_DEVICES"], found["ODD"]) == ("GPU-1", "a=b")


def test_a_title_written_over_it_leaves_no_environment(tmp_path: Path) -> None:
    """A process of vLLM shows nothing but zero bytes there (1504 of 1504 on a real one)."""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "environ").write_bytes(b"\0" * 1504)

    assert environment(7, tmp_path) == {}


def test_a_number_means_a_process_only_in_its_namespace(tmp_path: Path) -> None:
    """The last number of NSpid and the namespace must both fit; two that fit, or none, is nobody."""
    folders = {41: (41, 1), 42: (42, 9, 7), 43: (43, 7), 44: (44, 7)}
    for pid, pids in folders.items():
        (tmp_path / str(pid) / "ns").mkdir(parents=True)
        (tmp_path / str(pid) / "status").write_text("Name:\tx\nNSpid:\t" + "\t".join(map(str, pids)) + "\n")
    spaces = {41: "a", 42: "a", 43: "b", 44: "b"}
    for pid, name in spaces.items():
        (tmp_path / name).touch()
        (tmp_path / str(pid) / "ns" / "pid").symlink_to(tmp_path / name)
    inode_a, inode_b = namespace(41, tmp_path), namespace(43, tmp_path)

    assert numbers(42, tmp_path) == (42, 9, 7)
    assert here(7, inode_a, tmp_path) == 42
    assert here(7, inode_b, tmp_path) == UNKNOWN_PID  # two claim it
    assert here(9, inode_a, tmp_path) == UNKNOWN_PID
    assert here(7, 0, tmp_path) == UNKNOWN_PID


def test_the_kernel_s_word_of_a_peer_stands_over_its_own() -> None:
    """What it says is taken only where the kernel does not say, or cannot show it, and then by its namespace."""
    assert peer_pid(77, 5, namespace()) == 77
    assert peer_pid(-1, 5, None) == 5
    assert peer_pid(0, os.getpid(), namespace()) == os.getpid()
    assert peer_pid(0, 5, None) == peer_pid(0, "5", namespace()) == UNKNOWN_PID
