"""Whether all is as it should be, once nothing befalls anybody any more."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from fastx_list.replica.topics import Everything, Topic
from tests.simulation.model import Said, read

if TYPE_CHECKING:
    from tests.simulation.world import World


def differences(world: World) -> Iterator[str]:
    """Yield how what readers and subscribers hold differs from what runs."""
    expected = {
        session.id: (session.login, session.version)
        for agent in world.agents
        if agent.is_alive
        for session in world.truth.running(agent.server)
    }
    held: list[tuple[str, Topic, Collection[Said]]] = []
    for reader in world.readers:
        if reader.warns:
            yield f"{reader.name}: {reader.replica.problem}"
        if lost := world.truth.lost(reader.replica.revoked):
            yield f"{reader.name} takes revoked tokens for good: {lost}"
        for topic in (Everything.SESSIONS, *world.logins):
            texts = (entry.text for entry in reader.replica.entries(topic).values())
            held.append((reader.name, topic, [read(text) for text in texts]))
    for subscriber in world.sidecar.subscribers:
        messages = subscriber.messages
        held.append((messages.who, subscriber.topic, messages.now().values()))
    for who, topic, all_said in held:
        there = {said.id: (said.login, said.version) for said in all_said}
        ours = {
            name: each
            for name, each in expected.items()
            if topic is Everything.SESSIONS or each[0] == topic
        }
        if there != ours:
            yield f"{who} holds of {topic} {there}, and it should be {ours}"
        for said in all_said:
            if said.param not in world.truth.sessions[said.id].params:
                yield f"{who} has lost params of {world.truth.sessions[said.id]}: {said}"
