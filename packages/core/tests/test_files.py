from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from multiway_core import files
from multiway_core.errors import InputError, OutputError
from multiway_core.files import atomic_write, check_output, replace_folder, write_bytes, write_text

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def _write_and_raise(path: Path, exception: type[BaseException]) -> None:
    path.write_bytes(b"new")
    raise exception


def test_write_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "öl\r\n\udcff")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "öl\r\n?".encode()
    write_bytes(tmp_path / "a" / "b.txt", b"new")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_file_is_invisible_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert Path(file.name).read_bytes() == b"new"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("exception", [ValueError, KeyboardInterrupt])
def test_exception_in_the_block_keeps_the_old_file(tmp_path: Path, exception: type[BaseException]) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(exception), atomic_write(path) as file:
        _write_and_raise(Path(file.name), exception)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_permissions_follow_umask_or_the_old_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "new", b"")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    (tmp_path / "new").chmod(0o600)
    write_bytes(tmp_path / "new", b"2")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def test_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_longest_file_name(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("n" * 255), b"x")
    with pytest.raises(OutputError, match="too long"):
        write_bytes(tmp_path / ("n" * 256), b"x")


def test_something_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_bytes(tmp_path, b"")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"/file is a file, not a folder"):
        write_bytes(tmp_path / "file" / "below", b"")


@needs_permissions
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            write_bytes(tmp_path / "x", b"")
        with pytest.raises(OutputError, match="permission denied"), replace_folder(tmp_path / "f"):
            pass
    finally:
        tmp_path.chmod(0o700)


def test_special_file_is_written_directly() -> None:
    code = "from multiway_core.files import write_text; write_text('/dev/stdout', 'hello')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"hello"
    if Path("/dev/full").exists():
        with pytest.raises(OutputError, match="no space left on device"):
            write_bytes(Path("/dev/full"), b"x")


def test_disk_full_through_a_size_limit(tmp_path: Path) -> None:
    # RLIMIT_FSIZE makes write() fail part-way as a full disk does, with EFBIG in ENOSPC's place.
    path = tmp_path / "x"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*x: file too large"):
            write_bytes(path, b"n" * 100_000)
        with pytest.raises(OutputError, match="file too large"), replace_folder(tmp_path / "f") as folder:
            (folder / "y").write_bytes(b"n" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys; from pathlib import Path; from multiway_core.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as f:\n"
        "    f.write(b'n' * 100000); f.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left,) = tmp_path.glob(".*.tmp")
    (tmp_path / ".vimrc.tmp").write_text("another program's")
    (tmp_path / ".0123456789ab.tmp").mkdir()
    for old in tmp_path.glob(".*"):
        os.utime(old, (0, 0))
    files._sweep.cache_clear()
    with atomic_write(tmp_path / "y"):
        (held,) = {p for p in tmp_path.glob(".*.tmp") if p.stat().st_mtime > 1000}
        os.utime(held, (0, 0))
        assert not left.exists()
        code = "import sys; from pathlib import Path; from multiway_core.files import write_bytes\n"
        code += "write_bytes(Path(sys.argv[1]), b'')"
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "z")], check=True)
        assert held.exists()  # what another process writes stays
    assert sorted(p.name for p in tmp_path.iterdir()) == [".vimrc.tmp", "x", "y", "z"]


def test_folder_is_new_or_swapped_whole(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "model"
    for content in ("one", "two"):
        with replace_folder(target, overwrite=True) as folder:
            (folder / "sub").mkdir()
            (folder / "sub" / content).write_text(content)
            if content == "two":
                assert (target / "sub" / "one").exists()
        assert [p.name for p in (target / "sub").iterdir()] == [content]
    assert [p.name for p in target.parent.iterdir()] == ["model"]


def test_folder_with_content_is_not_swept_away_by_default(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="not empty"), replace_folder(tmp_path):
        pass
    (tmp_path / "empty").mkdir()
    with replace_folder(tmp_path / "empty") as folder:
        (folder / "a").touch()
    assert (tmp_path / "empty" / "a").exists()


def test_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with replace_folder(Path()) as folder:
        (folder / "a").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "here"]


def test_a_file_is_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    for path in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(OutputError, match="a file"), replace_folder(path, overwrite=True):
            pass


def test_failed_folder_keeps_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "old").touch()
    with pytest.raises(ValueError), replace_folder(tmp_path / "f", overwrite=True) as folder:
        _write_and_raise(folder / "new", ValueError)
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["old"]
    assert len(list(tmp_path.iterdir())) == 1


def test_folder_swap_without_the_linux_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiway_core.files.sys.platform", "darwin")
    test_folder_is_new_or_swapped_whole(tmp_path)


def test_an_output_replaces_no_input_and_no_file_without_a_word(tmp_path: Path) -> None:
    there, link = tmp_path / "there", tmp_path / "link"
    there.write_bytes(b"kept")
    link.symlink_to(there)
    for path in (there, link):
        with pytest.raises(InputError, match="exists; give another name, or --overwrite"):
            check_output(path)
        check_output(path, overwrite=True)
        with pytest.raises(InputError, match="would replace the input"):
            check_output(path, inputs=[None, there], overwrite=True)
    check_output(tmp_path / "new", inputs=[there])
    check_output(Path("/dev/null"))
    check_output(tmp_path)
