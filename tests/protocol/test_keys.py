"""Keys in their files: who may read and change them, and what is in a list that was changed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import msgspec
import pytest

from sipherd.protocol.errors import KeyNotFound, KeysError
from sipherd.protocol.keys import ClientKey, KeyStore, keys_dir, load_client_key


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "config" / "keys")


def names(store: KeyStore) -> list[str]:
    return [key.name for key in store.allowed()]


def use(store: KeyStore) -> None:
    """What a supervisor does with it."""
    store.server()
    store.allowed()


def written(key: ClientKey, path: Path, mode: int = 0o600) -> Path:
    path.write_bytes(msgspec.json.encode(key))
    path.chmod(mode)
    return path


def test_a_new_key_is_let_in_and_knows_its_server(store: KeyStore) -> None:
    laptop = store.new("laptop", "2026-11-24")
    desk = store.new("desk", "2026-11-25")
    assert [(key.name, key.public, key.made) for key in store.allowed()] == [
        ("laptop", laptop.public, "2026-11-24"),
        ("desk", desk.public, "2026-11-25"),
    ]
    assert laptop.server == desk.server == store.server().public
    assert len({laptop.public, laptop.secret, desk.public, desk.secret}) == 4


def test_all_is_for_the_owner_alone(store: KeyStore) -> None:
    before = os.umask(0)
    try:
        store.new("laptop", "")
    finally:
        os.umask(before)
    assert store.directory.stat().st_mode & 0o777 == 0o700
    files = list(store.directory.iterdir())
    assert sorted(path.name for path in files) == ["clients.json", "server.json"]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_the_clients_secret_is_kept_nowhere_and_shown_nowhere(store: KeyStore) -> None:
    key = store.new("laptop", "")
    assert not [p for p in store.directory.iterdir() if key.secret in p.read_text()]
    assert key.secret not in repr(key)
    assert store.server().secret not in repr(store.server())


def test_a_revoked_key_is_let_in_no_longer_and_its_name_is_free(store: KeyStore) -> None:
    first = store.new("laptop", "")
    store.new("desk", "")
    server = store.server()
    store.revoke("laptop")
    assert names(store) == ["desk"]
    assert store.new("laptop", "").public != first.public
    assert store.server() == server


def test_every_change_changes_the_stamp(store: KeyStore) -> None:
    stamps = [store.stamp()]
    store.new("laptop", "")
    stamps.append(store.stamp())
    store.new("desk", "")
    stamps.append(store.stamp())
    store.revoke("desk")
    stamps.append(store.stamp())
    assert stamps[0] is None
    assert len(set(stamps)) == 4
    assert stamps[-1] == store.stamp()


def test_a_name_that_is_taken(store: KeyStore) -> None:
    store.new("laptop", "")
    with pytest.raises(KeysError, match=r'a key "laptop" already.*sipherd keys revoke laptop'):
        store.new("laptop", "")
    assert names(store) == ["laptop"]


def test_a_name_that_is_none(store: KeyStore) -> None:
    with pytest.raises(KeysError, match=r'key name "\.\./x"'):
        store.new("../x", "")
    assert not store.directory.exists()


def test_a_key_that_is_not_there(store: KeyStore) -> None:
    with pytest.raises(KeyNotFound):
        store.revoke("laptop")
    assert not store.directory.exists()
    store.new("laptop", "")
    with pytest.raises(KeyNotFound) as caught:
        store.revoke("labtop")
    assert caught.value.near == ("laptop",)


def test_without_keys(store: KeyStore) -> None:
    assert store.allowed() == ()
    with pytest.raises(KeysError, match="make the first with: sipherd keys new"):
        store.server()


def test_many_at_once_lose_nothing(store: KeyStore) -> None:
    threads = [
        threading.Thread(target=store.new, args=(f"k{n}", ""), daemon=True) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(names(store)) == [f"k{n}" for n in range(8)]


@pytest.mark.parametrize(
    ("what", "mode"), [(".", 0o750), ("server.json", 0o640), ("clients.json", 0o620)]
)
def test_what_others_may_use_is_not_used(store: KeyStore, what: str, mode: int) -> None:
    store.new("laptop", "")
    (store.directory / what).chmod(mode)
    with pytest.raises(KeysError, match=r"others may use it; chmod [67]00"):
        use(store)


@pytest.mark.parametrize("what", [".", "server.json", "clients.json"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_somebody_else_is_not_used(store: KeyStore, what: str) -> None:
    store.new("laptop", "")
    os.chown(store.directory / what, 65534, -1)
    with pytest.raises(KeysError, match="owned by user 65534"):
        use(store)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[1]", '[{"name": "x", "public": "short", "made": ""}]', "[" * 100_000],
)
def test_a_list_that_is_none(store: KeyStore, text: str) -> None:
    store.new("laptop", "")
    (store.directory / "clients.json").write_text(text)
    with pytest.raises(KeysError, match="not as sipherd writes it"):
        store.allowed()


def test_a_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "keys").touch()
    with pytest.raises(KeysError, match="--keys-dir or SIPHERD_KEYS_DIR"):
        KeyStore(tmp_path / "keys").new("laptop", "")


def test_a_clients_key_from_its_file(store: KeyStore, tmp_path: Path) -> None:
    key = store.new("laptop", "")
    assert load_client_key(written(key, tmp_path / "k")) == key


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_clients_key_that_others_may_read(store: KeyStore, tmp_path: Path, mode: int) -> None:
    with pytest.raises(KeysError, match="chmod 600"):
        load_client_key(written(store.new("laptop", ""), tmp_path / "k", mode))


def test_a_bad_key_file_is_not_quoted(store: KeyStore, tmp_path: Path) -> None:
    key = store.new("laptop", "")
    path = written(key, tmp_path / "k")
    path.write_text(path.read_text().replace('"name"', '"nom"'))
    with pytest.raises(KeysError, match="make a key with") as caught:
        load_client_key(path)
    assert key.secret not in str(caught.value)


def test_files_that_are_no_key_files(tmp_path: Path) -> None:
    with pytest.raises(KeysError, match="No such file"):
        load_client_key(tmp_path / "nowhere")
    with pytest.raises(KeysError, match="key file"):
        load_client_key(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(KeysError, match="not a file"):
        load_client_key(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("explicit", "environ", "expected"),
    [
        (Path("/a"), {"SIPHERD_KEYS_DIR": "/b"}, "/a"),
        (None, {"SIPHERD_KEYS_DIR": "/b", "XDG_CONFIG_HOME": "/c"}, "/b"),
        (None, {"XDG_CONFIG_HOME": "/c", "HOME": "/d"}, "/c/sipherd/keys"),
        (None, {"HOME": "/d"}, "/d/.config/sipherd/keys"),
    ],
)
def test_the_directory(explicit: Path | None, environ: dict[str, str], expected: str) -> None:
    assert keys_dir(explicit, environ) == Path(expected)
