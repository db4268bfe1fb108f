"""Compiled programs in a folder: loaded by later processes, with the same results."""

import json
import os
import re
import shutil
import stat
from pathlib import Path

import keras
import numpy as np
import pytest

import kerasrnn
from kerasrnn import files, programs
from kerasrnn.recipes import command
from tests.processes import Call

tensorflow = pytest.mark.tensorflow


@pytest.fixture(autouse=True)
def _no_folder_yet(monkeypatch):
    monkeypatch.setattr(programs, "_folder", None)


def train(folder, results):
    """Runs in processes of its own."""
    kerasrnn.cache_programs(folder)
    keras.utils.set_random_seed(0)
    layers = [keras.Input((7, 3)), kerasrnn.LSTM(4), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse")
    x = np.random.default_rng(0).standard_normal((8, 7, 3), "float32")
    history = model.fit(x, x[:, :, 0].sum(1), batch_size=4, epochs=2, verbose=0)
    found = [history.history["loss"], *(w.tolist() for w in model.get_weights())]
    Path(results).write_text(json.dumps(found))


@tensorflow
def test_later_processes_load_programs(tmp_path):
    """The same numbers from compiled and from loaded programs, and after some are damaged."""
    folder, dump = tmp_path / "a folder", tmp_path / "xla"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={dump} --xla_dump_hlo_as_text"
    # Of a process that was killed: TensorFlow would fail on its half of a program.
    left = folder / "tensorflow-0-0123456789abcdef" / f"{files.SCRATCH}abcdefgh"
    left.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    (left / files.LOCK).touch()
    (left / "half.pb").write_bytes(b"half")

    def run(name):
        """The results of a process, and the number of programs that XLA compiled in it."""
        results = tmp_path / name
        shutil.rmtree(dump, ignore_errors=True)
        process = Call(
            tmp_path / "output.txt", train, folder, results, environment={"XLA_FLAGS": flags}
        )
        assert process.wait() == 0, process.output()
        compiled = dump.glob("*before_optimizations.txt")
        return json.loads(results.read_text()), len(list(compiled))

    numbers, compiled = run("first")
    assert compiled == 2
    assert not left.exists()
    stored = sorted(folder.glob("*/*.pb"))
    assert len(stored) == 2
    assert run("second") == (numbers, 0)
    content = stored[0].read_bytes()
    stored[0].write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    stored[1].write_bytes(stored[1].read_bytes()[:5000])
    assert run("third") == (numbers, 2)
    assert len(list(folder.glob("*/*"))) == 2
    for path in folder.glob("*/*"):
        assert path.name.startswith(files.sha256(path))
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("tensorflow-2*")} == {0o700}


@tensorflow
def test_too_late(tmp_path, monkeypatch, capsys):
    keras.Variable(0.0)
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_max_cluster_size=9")
    with pytest.raises(RuntimeError, match="TensorFlow has already read its flags"):
        kerasrnn.cache_programs(tmp_path)
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_max_cluster_size=9"
    monkeypatch.setenv("KERASRNN_CACHE", str(tmp_path))
    assert command.run(["predict", "g2p"]) == 1
    assert "compiled programs are not cached: TensorFlow has" in capsys.readouterr().err


@tensorflow
def test_the_folder_of_the_user(tmp_path, monkeypatch):
    assert kerasrnn.cache_programs() is None  # conftest.py turns the cache off
    monkeypatch.delenv("KERASRNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert programs.default_folder() == tmp_path / "kerasrnn"
    monkeypatch.setenv("KERASRNN_CACHE", str(tmp_path / "mine"))
    assert programs.default_folder() == tmp_path / "mine"
    file = tmp_path / "flags"
    file.write_text('--tf_xla_persistent_cache_directory="/of/mine"')
    monkeypatch.setenv("TF_XLA_FLAGS", str(file))
    assert kerasrnn.cache_programs() == Path("/of/mine")
    assert list(tmp_path.iterdir()) == [file]


@tensorflow
def test_folders_that_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "_has_read_flags", lambda: False)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o775)
    with pytest.raises(ValueError, match=r"folder='.*shared': other users may write .* 775"):
        kerasrnn.cache_programs(shared)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        with pytest.raises(ValueError, match=r"belongs to the user .* of the user 12345"):
            kerasrnn.cache_programs(tmp_path / "mine")
    (tmp_path / "file").touch()
    with pytest.raises(files.WriteError, match="Not a directory"):
        kerasrnn.cache_programs(tmp_path / "file")
    monkeypatch.setattr(programs, "ROOM", 2**60)
    with pytest.raises(files.WriteError, match="No space left on device"):
        kerasrnn.cache_programs(tmp_path / "full")
    assert programs._folder is None


@tensorflow
def test_the_least_recently_used_are_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "LIMIT", 250)
    kinds = [tmp_path / f"{kind}-{'0' * 16}" for kind in ("tensorflow-2", "jax-1", "mine")]
    found = []
    for n in range(9):
        folder = kinds[n % 3]
        folder.mkdir(exist_ok=True)
        path = folder / str(n)
        path.write_bytes(bytes(100))
        written, used = 100 + n, (n == 1) * 500
        os.utime(path, (used, written))
        found.append(path)
    programs._shorten(tmp_path)
    assert [n for n, path in enumerate(found) if path.exists()] == [1, 2, 5, 7, 8]


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX's cache")
def test_the_cache_of_jax(tmp_path, monkeypatch):
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    loaded = []
    jax.monitoring.register_event_listener(lambda event, **_: loaded.append(event))
    monkeypatch.setattr(programs, "WORTHWHILE", 0.0)
    layer = kerasrnn.LSTM(4)
    x = np.random.default_rng(0).standard_normal((2, 7, 3), "float32")
    expected = np.asarray(layer(x))
    try:
        assert kerasrnn.cache_programs(tmp_path) == tmp_path
        for hits in (False, True):
            jax.clear_caches()
            loaded.clear()
            np.testing.assert_array_equal(layer(x), expected)
            assert ("/jax/compilation_cache/cache_hits" in loaded) == hits
        assert any(re.search("jit.*-cache", path.name) for path in tmp_path.glob("jax-*/*"))
        monkeypatch.setattr(programs, "_folder", None)
        (own,) = tmp_path.iterdir()
        assert kerasrnn.cache_programs(tmp_path / "other") == own
    finally:
        jax.config.update("jax_compilation_cache_dir", None)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
        compilation_cache.reset_cache()
        jax.monitoring.clear_event_listeners()
