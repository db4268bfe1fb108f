"""Compiled programs in a folder, from which later processes load them."""

import atexit
import contextlib
import hashlib
import os
import platform
import re
from pathlib import Path

from kerasrnn import files

VARIABLE = "KERASRNN_CACHE"
"""The environment variable with the default folder."""

OFF = "off"
"""The value of the variable that turns the cache off."""

LIMIT = 256 * 2**20
"""The size in bytes of the programs in a folder: about two thousand loops."""

ROOM = 64 * 2**20
"""The space in bytes that must be free, since TensorFlow fails if it cannot write a program."""

WORTHWHILE = 0.1
"""The least seconds of compilation for which JAX stores a program; its own default is one."""

KINDS = re.compile(r"(tensorflow|jax)-.+-[0-9a-f]{16}")
"""The names of subfolders."""

# The other lines, such as the frequency, may be different the next time.
PROCESSOR = (
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"),
    *("cpu", "revision", "features", "isa", "uarch"),
)
"""The lines of /proc/cpuinfo that tell kinds of processors apart, on several architectures."""

TOO_LATE = (
    "TensorFlow has already read its flags, which it does when it first computes something, "
    "creates a variable or lists the devices: call cache_programs before that, for example after "
    "the imports."
)

_folder: Path | None = None
"""The folder of this process's programs."""


def cache_programs(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Store compiled programs in a folder, and load them from it in later processes.

    XLA compiles a loop in about half a second for each direction and shape. With a cache, only the
    first process that needs a program waits for it. The results are the same, bit by bit.

        >>> import kerasrnn
        >>> kerasrnn.cache_programs()  # doctest: +SKIP
        PosixPath('/home/user/.cache/kerasrnn')

    Call it at the start of a program. On TensorFlow, this must be before TensorFlow computes
    anything or lists the devices, because it reads its flags only once. There, programs for the
    processor are cached, but not those for GPUs. New programs are added to the folder when the
    process exits, unless it is killed. On JAX, the folder is that of JAX's own cache, for programs
    of any device that take at least 0.1 s to compile. If the user has set a folder for TensorFlow
    (`--tf_xla_persistent_cache_directory` in `TF_XLA_FLAGS`) or JAX (`jax_compilation_cache_dir`),
    it remains in use, and nothing is changed.

    The programs are in subfolders: one for each version of the backend, kind of processor, number
    of available processors, and value of `XLA_FLAGS` and `TF_XLA_FLAGS`. Machines may therefore
    share the folder, and any number of processes may use it at once. Each call checks the programs
    for damage, and deletes the least recently used ones in excess of 256 MiB. The folder may be
    deleted at any time.

    Args:
        folder: the folder, created if it does not exist. It must belong to the user, and nobody
            else may write to it, because the programs in it are executed. Default: that in the
            environment variable `KERASRNN_CACHE`, or else `kerasrnn` in `XDG_CACHE_HOME`, or else
            `~/.cache/kerasrnn`. If the variable is `off`, the default is no cache.

    Returns:
        The folder; None if there is no cache.

    Raises:
        RuntimeError: TensorFlow has already read its flags; or this process already uses another
            folder; or Keras's backend is PyTorch, on which nothing is compiled.
        ValueError: the folder belongs to another user, or others may write to it.
        OSError: the folder cannot be written to, or has less than 64 MiB of free space.
    """
    if folder is None:
        folder = default_folder()
        if folder is None:
            return None
    import keras

    backend = keras.config.backend()
    if backend not in ("tensorflow", "jax"):
        raise RuntimeError(
            f"nothing is compiled on Keras's backend {backend}; expected tensorflow or jax."
        )
    global _folder
    folder = Path(os.path.realpath(Path(folder).expanduser()))
    if _folder is not None:
        if folder != _folder:
            raise RuntimeError(
                f"folder={str(folder)!r}: this process caches its programs in {_folder}; expected "
                "that folder."
            )
        return folder
    _folder = _of_tensorflow(folder) if backend == "tensorflow" else _of_jax(folder)
    return _folder


def default_folder() -> Path | None:
    """The folder of the user's programs; None if the environment turns the cache off."""
    own = os.environ.get(VARIABLE)
    if own == OFF:
        return None
    return Path(own or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "kerasrnn")


def _of_jax(folder: Path) -> Path:
    import jax
    import jaxlib

    if jax.config.jax_compilation_cache_dir:
        return Path(jax.config.jax_compilation_cache_dir)
    place = _opened(folder, "jax", jax.__version__, jaxlib.__version__)
    # What JAX cannot read or write is a warning, and compiled.
    jax.config.update("jax_compilation_cache_dir", str(place))
    least = "jax_persistent_cache_min_compile_time_secs"
    if least.upper() not in os.environ:
        jax.config.update(least, WORTHWHILE)
    return folder


def _of_tensorflow(folder: Path) -> Path:
    """Let TensorFlow read and write in a folder of this process alone.

    TensorFlow fails where a program is damaged, incomplete or deleted between two calls. So it gets
    checked programs, linked into a folder that no other process changes; its own are stored at the
    end, each with its checksum.
    """
    import tensorflow as tf

    flags = _flags("TF_XLA_FLAGS")
    own = re.search(r"--tf_xla_persistent_cache_directory=(\S+)", flags)
    if own:
        return Path(own[1].strip("'\""))
    if '"' in str(folder):
        raise ValueError(f"folder={str(folder)!r}: expected a path without quotation marks.")
    if _has_read_flags():
        raise RuntimeError(TOO_LATE)
    place = _opened(folder, "tensorflow", tf.version.VERSION, tf.version.GIT_VERSION)
    files.check_room(place, ROOM)
    at_exit = contextlib.ExitStack()
    private = at_exit.enter_context(files.scratch_folder(place))
    at_exit.callback(_store, private, place, _link(place, private), os.getpid())
    atexit.register(at_exit.close)
    os.environ["TF_XLA_FLAGS"] = (
        f'{flags} --tf_xla_persistent_cache_directory="{private}"'
        " --tf_xla_persistent_cache_device_types=CPU"
    ).lstrip()
    return folder


def _has_read_flags() -> bool:
    """Whether TensorFlow has read its flags: it does so with its first look at the devices.

    It looks at them when it first computes something, too. No public function tells.
    """
    from tensorflow.python.eager import context

    return context.context()._physical_devices is not None


def _link(place: Path, private: Path) -> set[str]:
    """Link the undamaged programs into the folder of this process, and return their names."""
    linked = set()
    for path in place.glob("*.pb"):
        checksum, _, name = path.name.partition("-")
        with contextlib.suppress(OSError):  # unreadable, or deleted by another process
            used = path.stat()
            if files.sha256(path) != checksum:
                files.remove(path)
                continue
            # This check is no use of the program.
            os.utime(path, ns=(used.st_atime_ns, used.st_mtime_ns))
            files.link(path, private / name)
            linked.add(name)
    return linked


def _store(private: Path, place: Path, linked: set[str], process: int) -> None:
    """Store the programs that this process has compiled."""
    if os.getpid() != process:  # a fork
        return
    stored = {path.name.partition("-")[2] for path in place.glob("*.pb")}
    for path in private.glob("*.pb"):
        if path.name in linked | stored:
            continue
        try:
            with files.replacing(place / f"{files.sha256(path)}-{path.name}") as new:
                files.link(path, new)
        except OSError:  # the next process compiles it again
            return


def _opened(folder: Path, backend: str, version: str, build: str) -> Path:
    """Return the subfolder of this process's kind of programs, and shorten the folder."""
    of_kind = "\n".join(
        [build, _processor(), str(_processors()), _flags("XLA_FLAGS"), _flags("TF_XLA_FLAGS")]
    )
    place = folder / f"{backend}-{version}-{hashlib.sha256(of_kind.encode()).hexdigest()[:16]}"
    for path in (folder, place):
        files.create_folder(path, mode=0o700)
        _check_owner(path)
    _shorten(folder)
    return place


def _check_owner(folder: Path) -> None:
    if not hasattr(os, "getuid"):  # Windows: a user's folders are the user's own
        return
    status = folder.stat()
    if status.st_uid != os.getuid():
        raise ValueError(
            f"folder={str(folder)!r}: belongs to the user {status.st_uid}; expected a folder of "
            f"the user {os.getuid()}, because the programs in it are executed."
        )
    if status.st_mode & 0o022:
        raise ValueError(
            f"folder={str(folder)!r}: other users may write to it (mode {status.st_mode & 0o777:o})"
            "; expected that only its owner may, because the programs in it are executed: chmod "
            "go-w."
        )


def _shorten(folder: Path) -> None:
    """Delete the least recently used programs in excess of the limit, and what was unfinished."""
    found = []
    for place in folder.iterdir():
        if not KINDS.fullmatch(place.name):
            continue
        files.remove_strays(place)
        with contextlib.suppress(OSError):
            for path in place.iterdir():
                with contextlib.suppress(OSError):
                    status = path.stat()
                    if path.is_file():
                        # Some systems do not record when a file was read.
                        used = max(status.st_atime_ns, status.st_mtime_ns)
                        found.append((used, status.st_size, path))
    size = 0
    for _, bytes_, path in sorted(found, reverse=True):
        size += bytes_
        if size > LIMIT:
            files.remove(path)


def _flags(name: str) -> str:
    """The flags in an environment variable, or in the file that it names."""
    text = os.environ.get(name, "")
    if text and not text.lstrip().startswith("-"):
        try:
            return Path(text).read_text(encoding="utf-8")
        except OSError:  # XLA ignores it as well
            return ""
    return text


def _processors() -> int:
    """XLA divides the work among this number of processors when it compiles."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """The processor's model and instructions, for which XLA compiles."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().split("\n\n")[0]
    except OSError:  # each machine has programs of its own
        return f"{platform.node()} {platform.machine()} {platform.processor()}"
    return "\n".join(
        line for line in first.splitlines() if line.partition(":")[0].strip() in PROCESSOR
    )
