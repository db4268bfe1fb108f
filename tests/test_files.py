"""Files are written completely or not at all, and no file of the user is replaced."""

import ast
import errno
import json
import os
import re
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kerasrnn import files
from kerasrnn.files import (
    Kind,
    LockedError,
    OccupiedError,
    WriteError,
    check_place,
    create_folder,
    locked,
    remove_strays,
    replacing,
    replacing_together,
    starts_with,
    writing,
)

ROOT = Path(__file__).parents[1]

MARKED = Kind("a marked file", starts_with(b"mark"))
BOX = Kind("a box", lambda path: (path / "lid").is_file(), is_folder=True)


def write(path, text="mark 2", kind=MARKED):
    with replacing(path, kind) as new:
        new.write_text(text)


def write_box(path, text="new"):
    with replacing(path, BOX) as new:
        new.mkdir()
        (new / "lid").write_text(text)
        (new / "inner").mkdir()
        (new / "inner" / "thing").write_text(text)


def tree(folder):
    """The contents of a folder: the text of files by their relative paths; None: a folder."""
    return {
        str(path.relative_to(folder)): path.read_text() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


# What may be replaced.


@pytest.mark.parametrize("name", ["m", "a b.x", "Übung-数.x", "n" * 255])
def test_a_file_of_the_kind_is_replaced(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (Path(name), tmp_path / name):
        for text in ("mark 1", "mark 2"):
            write(path, text)
            assert tree(tmp_path) == {name: text}


def test_other_files_are_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "project" / "src").mkdir(parents=True)
    (tmp_path / "project" / "setup.py").write_text("setup()")
    (tmp_path / "notes.x").write_text("remember")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("project")
    write_box(tmp_path / "box")
    (tmp_path / "box" / "lid").unlink()
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    calls = []

    def refused(path, kind, found):
        with pytest.raises(OccupiedError) as error, replacing(path, kind):
            calls.append(path)
        message = f"path={str(path)!r}: there is {found}; expected a new path, or {kind.name}"
        assert str(error.value).startswith(message)

    refused(tmp_path / "project", MARKED, "a folder of 2 files and folders")
    refused(tmp_path / "link", MARKED, "a folder of 2 files and folders")
    refused(tmp_path / "empty", MARKED, "a folder of 0 files and folders")
    refused(tmp_path / "notes.x", MARKED, "a file of 8 bytes that is not a marked file")
    refused(tmp_path / "notes.x", BOX, "a file of 8 bytes that is not a box")
    refused(tmp_path / "pipe", MARKED, "neither a file nor a folder")
    refused("/dev/null", MARKED, "neither a file nor a folder")
    refused(tmp_path / "box", BOX, "a folder with other contents than a box (inner)")
    monkeypatch.chdir(tmp_path / "project" / "src")
    for path in (".", "..", "/", tmp_path / "project", tmp_path / "link"):
        refused(path, BOX, "the working folder")
    monkeypatch.chdir("/")
    refused("/proc", BOX, "a mounted file system")
    refused(tmp_path / "link", BOX, "a folder with other contents than a box (setup.py, src)")
    assert not calls
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_links_are_kept(tmp_path):
    """Their targets are replaced, as when a file is opened for writing."""
    (tmp_path / "far").mkdir()
    write(tmp_path / "far" / "v1", "mark 1")
    write_box(tmp_path / "far" / "box", "old")
    for name in ("v1", "box"):
        (tmp_path / name).symlink_to(tmp_path / "far" / name)
    write(tmp_path / "v1", "mark 2")
    write_box(tmp_path / "box", "new")
    assert (tmp_path / "v1").is_symlink()
    assert (tmp_path / "box").is_symlink()
    assert (tmp_path / "far" / "v1").read_text() == "mark 2"
    assert tree(tmp_path / "far" / "box") == {"lid": "new", "inner": None, "inner/thing": "new"}


@pytest.mark.parametrize("swap", [True, False], ids=["in one step", "in two"])
def test_a_folder_is_replaced(tmp_path, monkeypatch, swap):
    if not swap:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for text in ("old", "new"):
        write_box(tmp_path / "box", text)
    (tmp_path / "empty").mkdir()
    write_box(tmp_path / "empty", "new")
    box = {"lid": "new", "inner": None, "inner/thing": "new"}
    assert tree(tmp_path / "box") == tree(tmp_path / "empty") == box
    assert len(list(tmp_path.iterdir())) == 2


def test_permissions(tmp_path):
    """A replaced file keeps its permissions; those of a new file depend on the umask."""
    before = os.umask(0o027)
    try:
        write(tmp_path / "new", "mark")
        write_box(tmp_path / "box")
        write(tmp_path / "old", "mark")
        (tmp_path / "old").chmod(0o664)
        write(tmp_path / "old", "mark again")
    finally:
        os.umask(before)

    def mode(name):
        return stat.S_IMODE((tmp_path / name).stat().st_mode)

    assert [mode(name) for name in ("new", "box", "old")] == [0o640, 0o750, 0o664]


def test_an_error_leaves_the_old_file(tmp_path):
    write(tmp_path / "m", "mark 1")
    with pytest.raises(TypeError), replacing(tmp_path / "m", MARKED) as new, new.open("w") as file:
        file.writelines(["half", None])
    assert tree(tmp_path) == {"m": "mark 1"}


# Several processes, and processes that are killed.

LIVES = """
import os, signal, sys
from pathlib import Path
from kerasrnn import files
from tests.test_files import write, write_box

above, name, two_steps = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "True"
if two_steps:
    files._exchange = lambda one, other: False
at = count = 0

def watched(original):
    def call(*arguments, **options):
        event()
        result = original(*arguments, **options)
        event()
        return result
    return call

def event():
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)

for place, function in (
    (files.os, "replace"), (files.shutil, "move"), (files.shutil, "rmtree"),
    (files.tempfile, "mkdtemp"), (files, "_sync"), (files, "_exchange"), (files._Lock, "take"),
):
    setattr(place, function, watched(getattr(place, function)))
for at in range(1, 60):
    folder = above / f"{at:02}"
    folder.mkdir()
    count = -1000
    write_box(folder / name, "old") if name == "box" else write(folder / name, "mark 1")
    child = os.fork()
    if child == 0:
        count = 0
        write_box(folder / name) if name == "box" else write(folder / name)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        sys.exit(status)
sys.exit("never done")
"""


@pytest.mark.parametrize(
    ("name", "two_steps"), [("m", False), ("box", False), ("box", True)], ids=str
)
def test_killed_at_any_moment(tmp_path, name, two_steps):
    """Either the old or the new file exists, complete, and strays are removed."""
    command = [sys.executable, "-c", LIVES, str(tmp_path), name, str(two_steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    old = {"box": {"lid": "old", "inner": None, "inner/thing": "old"}, "m": "mark 1"}[name]
    new = {"box": {"lid": "new", "inner": None, "inner/thing": "new"}, "m": "mark 2"}[name]
    lives = []
    for folder in sorted(tmp_path.iterdir()):
        there = (folder / name).exists()
        assert there or two_steps
        remove_strays(folder)
        found = tree(folder / name) if name == "box" else (folder / name).read_text()
        assert found in (old, new)
        assert [path.name for path in folder.iterdir()] == [name]
        lives.append((there, found == new))
    assert len(lives) > 8
    assert lives == sorted(lives, key=lambda life: life[1])
    assert {changed for _, changed in lives} == {False, True}
    assert all(there for there, _ in lives) != two_steps


HOLDS = """
import sys, time
from pathlib import Path
from kerasrnn import files
with files.{context} as held:
    print("ready", flush=True)
    sys.stdin.readline()
    {last}
"""


def holder(context, last="pass"):
    """A process that keeps a context open until it receives a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(context=context, last=last)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process):
    process.kill()
    process.communicate(timeout=30)


def go_on(process):
    process.communicate("\n", timeout=30)
    return process.returncode


def test_two_writers_of_one_path(tmp_path):
    """Unfinished files of a running process are no strays; those of a killed one are."""
    path = tmp_path / "m"
    other = holder(f"replacing(Path({str(path)!r}))", "held.write_text('mark other')")
    write(path, "mark 1")
    assert len(list(tmp_path.iterdir())) == 2
    assert go_on(other) == 0
    assert tree(tmp_path) == {"m": "mark other"}
    killed = holder(f"replacing(Path({str(path)!r}))")
    kill(killed)
    assert len(list(tmp_path.iterdir())) == 2
    write(path, "mark 3")
    assert tree(tmp_path) == {"m": "mark 3"}


def test_a_hidden_folder_of_the_user_is_no_stray(tmp_path):
    mine = tmp_path / ".kerasrnn-unfinished-abcdefgh"
    mine.mkdir()
    (mine / "mine").write_text("mine")
    write(tmp_path / "m", "mark")
    assert tree(tmp_path) == {mine.name: None, f"{mine.name}/mine": "mine", "m": "mark"}


def test_a_lock(tmp_path):
    """The error names the process; the lock of a killed process is ignored."""
    other = holder(f"locked({str(tmp_path)!r}, 'training')")
    with pytest.raises(LockedError) as error, locked(tmp_path, "training"):
        pass
    host = os.uname().nodename
    message = f"{tmp_path} is in use: training by process {other.pid} on {host} since 2"
    assert str(error.value).startswith(message)
    kill(other)
    assert (tmp_path / files.LOCK).exists()
    here = pytest.raises(LockedError, match=f"by process {os.getpid()} on")
    with locked(tmp_path, "training"), here, locked(tmp_path, "training"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_lock_is_waited_for(tmp_path):
    other = holder(f"locked({str(tmp_path)!r}, 'preparing')")
    messages = []

    def wait(message):
        messages.append(message)
        assert go_on(other) == 0

    with locked(tmp_path, "preparing", wait=wait):
        assert json.loads((tmp_path / files.LOCK).read_text())["process"] == os.getpid()
    assert len(messages) == 1
    assert f"preparing by process {other.pid}" in messages[0]


def test_file_systems_without_locks(tmp_path, monkeypatch):
    """Nothing is locked, and strays are kept, since their processes may be running."""
    killed = holder(f"replacing(Path({str(tmp_path / 'm')!r}))")
    kill(killed)

    def flock(handle, what):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with locked(tmp_path, "training"), locked(tmp_path, "training"):
        write(tmp_path / "m", "mark")
    assert len(list(tmp_path.iterdir())) == 2


# Errors of writing.


def test_a_full_disk(tmp_path, monkeypatch):
    write(tmp_path / "m", "mark 1")

    def fsync(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", fsync)
        with pytest.raises(WriteError) as error:
            write(tmp_path / "m")
    assert str(error.value) == (
        f"{tmp_path / 'm'} cannot be written: No space left on device. Free some space or some "
        "inodes there (df, df -i), or write to another place."
    )
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "m"))
    assert tree(tmp_path) == {"m": "mark 1"}


def test_a_limit_on_files(tmp_path):
    """The limit of the operating system."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(WriteError, match=r"m cannot be written: File too large. Raise the"):
            write(tmp_path / "m", "mark" + 200_000 * " ")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    ["/a/b; No space left on device [Op:SaveV2]", "Unable to write (errno = 28, 'No space left "
     "on device')"],
)  # fmt: skip
def test_errors_of_libraries_about_a_full_disk(text):
    full = pytest.raises(WriteError, match="here cannot be written: No space left on device")
    with full, writing("here"):
        raise RuntimeError(text)


def test_other_errors_are_unchanged(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"^no$"), writing(tmp_path / "m"):
        raise ValueError("no")
    with pytest.raises(BrokenPipeError), writing(tmp_path / "m"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    with pytest.raises(PermissionError), writing(tmp_path / "m"):
        raise PermissionError(errno.EACCES, "Permission denied", "/etc/shadow")
    with pytest.raises(WriteError, match=r"below cannot be written: Not a directory"):
        create_folder(tmp_path / "file" / "below")
    with pytest.raises(WriteError, match=r"file cannot be written: Not a directory"):
        check_place(tmp_path / "file" / "m", MARKED)
    with pytest.raises(WriteError, match=r"nnn cannot be written: File name too long"):
        check_place(tmp_path / ("n" * 256), MARKED)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_permission(tmp_path):
    write(tmp_path / "m", "mark")
    (tmp_path / "m").chmod(0o444)
    with pytest.raises(WriteError, match=r"m cannot be written: Permission denied. Change"):
        check_place(tmp_path / "m", MARKED)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(WriteError, match=r"cannot be written: Permission denied. Change"):
            check_place(tmp_path / "below" / "new", MARKED)
    finally:
        tmp_path.chmod(0o755)


def test_permissions_are_checked_in_advance(tmp_path, monkeypatch):
    """Also for root, who is not refused by the system."""
    write(tmp_path / "m", "mark")
    monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(WriteError) as error:
        check_place(tmp_path / "below" / "new", MARKED)
    assert (error.value.errno, error.value.filename) == (errno.EACCES, str(tmp_path))
    monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != tmp_path / "m")
    with pytest.raises(WriteError) as error:
        check_place(tmp_path / "m", MARKED)
    assert (error.value.errno, error.value.filename) == (errno.EACCES, str(tmp_path / "m"))


# Rules of the code.

DELETING = {"rmtree", "unlink", "rmdir", "removedirs", "renames", "copytree"}
OF_MODULES = {"remove", "replace", "rename", "move", "truncate"}


def test_other_modules_do_not_rename_or_delete():
    """They call `kerasrnn.files`, which protects files of the user."""
    found = []
    for top in ("kerasrnn", "zoo", "recipes"):
        for file in sorted((ROOT / top).rglob("*.py")):
            if file == ROOT / "kerasrnn" / "files.py":
                continue
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                name, of = node.func.attr, node.func.value
                of_module = isinstance(of, ast.Name) and of.id in ("os", "shutil")
                # `Path.replace` and `Path.rename` have one argument, `str.replace` two.
                of_path = name in ("replace", "rename") and len(node.args) == 1
                of_path &= not node.keywords
                if name in DELETING or (of_module and name in OF_MODULES) or of_path:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert found == []


WRITING = {"write_text", "write_bytes", "savefig", "copy", "copy2", "copyfile"}
ALONE = {
    "kerasrnn/diagnostics/gradient_flow.py": "into memory",
    "kerasrnn/export/litert.py": "to the scratch path of `parity.write`",
    "kerasrnn/files.py": "`link`, between a scratch folder and the scratch path of a caller",
    "kerasrnn/export/onnx.py": "to the scratch path of `parity.write`",
    "recipes/datasets/sources.py": "into the scratch folder of `fetch`",
    "recipes/tuning/chief.py": "logs, to which lines are added",
}
"""Files that write outside of a `with replacing(...)`, and why they may."""


def test_files_are_written_by_replacing():
    found = set()
    for top in ("kerasrnn", "zoo", "recipes"):
        for file in sorted((ROOT / top).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            whole = {
                node
                for block in ast.walk(tree)
                if isinstance(block, ast.With)
                and any(ast.unparse(item).startswith("replacing(") for item in block.items)
                for node in ast.walk(block)
            }
            for node in ast.walk(tree):
                if not isinstance(node, ast.Call) or node in whole:
                    continue
                if not isinstance(node.func, ast.Attribute):
                    name, of = getattr(node.func, "id", ""), ""
                else:
                    name, of = node.func.attr, ast.unparse(node.func.value)
                modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
                opens = name == "open" and any(
                    isinstance(mode, str) and re.fullmatch(r"[rwaxbt+]*[wax+][rwaxbt+]*", mode)
                    for mode in modes
                )
                copies = name.startswith("copy") and of != "shutil"
                if opens or (name in WRITING and not copies):
                    found.add(str(file.relative_to(ROOT)))
    assert found == set(ALONE)


def test_several_files_are_replaced_together(tmp_path):
    """Only the named ones, also in a folder with other files."""
    kinds = {"m": MARKED, "box": BOX}

    def put(folder, text):
        (folder / "m").write_text(text)
        (folder / "box").mkdir()
        (folder / "box" / "lid").write_text(text)
        (folder / "scrap").touch()

    def contents(folder):
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_text() for path in files}

    def fail(folder):
        with replacing_together(folder, kinds) as staged:
            put(staged, "mark")
            raise KeyError

    for folder in (tmp_path / "new" / "deep", tmp_path):
        with pytest.raises(KeyError):
            fail(folder)
        assert not list(tmp_path.iterdir())
    folder = tmp_path / "new" / "deep"
    with replacing_together(folder, kinds) as staged:
        put(staged, "mark 1")
    assert contents(tmp_path) == {"new/deep/m": "mark 1", "new/deep/box/lid": "mark 1"}
    (folder / "mine").write_text("mine")
    with replacing_together(folder, kinds) as staged:
        put(staged, "mark 2")
        assert contents(folder)["m"] == "mark 1"
    assert contents(tmp_path) == {
        "new/deep/m": "mark 2",
        "new/deep/box/lid": "mark 2",
        "new/deep/mine": "mine",
    }
    (folder / "m").write_text("mine")
    with pytest.raises(OccupiedError), replacing_together(folder, kinds):
        pytest.fail("the block ran")


def test_places_where_no_folder_can_be_created(tmp_path, monkeypatch):
    """As /proc: the error names the place, not the scratch folder."""
    there = tmp_path / "there"

    def refuse(*arguments, **options):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "a name")

    monkeypatch.setattr(files.tempfile, "mkdtemp", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WriteError, match=f"^{there} cannot be written: No such file"):
        create_folder(there)
    with (
        pytest.raises(WriteError, match=f"^{tmp_path} cannot be written: No such file"),
        replacing(there),
    ):
        pytest.fail("the block ran")
