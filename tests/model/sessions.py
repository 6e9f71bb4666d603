"""Sessions that tests of the model share: one of which all is known, one of which little is, and
any."""

from __future__ import annotations

from hypothesis import strategies as st

from fastx_list.model.session import Session

FULL = Session(
    id="a",
    login="alice",
    server_id="server",
    hostname="host.example.org",
    server_pid=4711,
    geometry="1280x720",
    window_mode="desktop",
    started=1_700_000_000_123,
    last_connect=1_700_000_001_000,
    last_disconnect=1_700_000_002_000,
    command="startxfce4 --größe",
    app_pid=4712,
    clients=2,
    params={"name": "Thesis"},
    display=12,
    idle_since=1_700_000_003_000,
    cpu=150,
    memory=314_572_800,
    client_addresses=("192.0.2.7", "2001:db8::1", "local"),
    cpu_percentage=12.5,
    video_ram=65536,
    sharing=True,
    disconnect_timeout=30,
    kind="xrdp",
)
MINIMAL = Session(id="a", login="alice", server_id="server", hostname="host")

texts = st.text(max_size=8)
wholes = st.none() | st.integers(0, 2**63)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_objects = st.dictionaries(
    texts,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
sessions = st.builds(
    Session,
    id=texts,
    login=texts,
    server_id=texts,
    hostname=texts,
    server_pid=wholes,
    geometry=st.none() | texts,
    window_mode=st.sampled_from([None, "desktop", "rootless"]),
    started=wholes,
    last_connect=wholes,
    last_disconnect=wholes,
    command=st.none() | texts,
    app_pid=wholes,
    clients=wholes,
    params=json_objects,
    display=wholes,
    idle_since=wholes,
    cpu=wholes,
    memory=wholes,
    client_addresses=st.none() | st.lists(texts, max_size=3).map(tuple),
    cpu_percentage=st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    video_ram=wholes,
    sharing=st.none() | st.booleans(),
    disconnect_timeout=wholes,
    kind=st.none() | texts,
)
