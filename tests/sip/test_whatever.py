"""Behind a real Kamailio, whatever the phone answers: what was answered 202 ends at the phone once, in order.

A run of chance with a seed: alice writes, bob's phone comes and goes, and answers each attempt 200, 480, 486, 503, or
not at all.
"""

import random
from dataclasses import dataclass, field

import pytest

from tests.waiting import until

from .conftest import PickUp, StartKamailio
from .peers import Kamailio
from .phone import Phone, Seen

pytestmark = pytest.mark.sip

BOB = "bob@home.lan"
MESSAGES = 20
SILENCES = 2
"Times one message may meet silence: after the third it would let the next one pass, in case it is this one alone."


@dataclass(slots=True)
class Bob:
    """His phone: it answers by chance, and notes what it took."""

    phone: Phone
    chance: random.Random
    took: list[str] = field(default_factory=list)
    silent: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    here: bool = False
    good: bool = False
    "Whether it takes whatever comes from now on."

    def registers(self, kamailio: Kamailio, *, here: bool) -> None:
        """A MESSAGE that comes in between is met like any other."""
        phone = self.phone
        lines = (f"Contact: <{phone.contact}>", f"Expires: {300 if here else 0}")
        phone.send(phone.request("REGISTER", BOB, *lines), kamailio.address)
        while not (seen := phone.receive()).code:
            self.meets(seen)
        self.here = here

    def meets(self, request: Seen) -> None:
        """One MESSAGE; a retransmission of one that met silence meets it again."""
        branch = request.all("Via")[0]
        if branch in self.seen:
            return
        text = request.text
        codes = [200, 200, 480, 486, 503] + [0] * (self.silent.get(text, 0) < SILENCES)
        code = 200 if self.good else self.chance.choice(codes)
        if code == 0:
            self.seen.add(branch)
            self.silent[text] = self.silent.get(text, 0) + 1
            return
        self.phone.answer(request, code)
        if code == 200:
            self.took.append(text)


def played(alice: Phone, bob: Bob, kamailio: Kamailio, chance: random.Random) -> list[str]:
    """The whole run; returns what was answered 202, in order."""
    stored: list[str] = []
    for number in range(MESSAGES):
        text = f"message {number}"
        request = alice.request("MESSAGE", BOB, "Content-Type: text/plain", body=text.encode())
        alice.send(request, kamailio.address)
        answered = False
        while not answered:
            if met := bob.phone.glance(0.01):
                bob.meets(met)
            if (answer := alice.glance(0.01)) and answer.code >= 200:
                answered = True
                assert answer.code in (200, 202)
                if answer.code == 202:
                    stored.append(text)
        move = chance.random()
        if move < 0.4:
            bob.registers(kamailio, here=True)
        elif move < 0.6 and bob.here:
            bob.registers(kamailio, here=False)
        for met in bob.phone.during(0.25 if bob.here else 0.02):
            bob.meets(met)
    return stored


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_the_phone_answers(start_kamailio: StartKamailio, phone: PickUp, seed: int) -> None:
    kamailio, chance = start_kamailio("PHONE_TIMEOUT=400"), random.Random(seed)
    alice, bob = phone("alice"), Bob(phone("bob"), chance)
    stored = played(alice, bob, kamailio, chance)
    assert len(stored) >= 5
    bob.good = True
    bob.registers(kamailio, here=True)

    def empty() -> bool:
        for met in bob.phone.during(0.2):
            bob.meets(met)
        if kamailio.silo.box:
            bob.registers(kamailio, here=True)
        return not kamailio.silo.box

    until(empty, 30, "the box is empty")
    for met in bob.phone.during(0.5):
        bob.meets(met)
    assert [text for text in bob.took if text in stored] == stored, f"seed {seed}"
    assert len(bob.took) == MESSAGES, f"seed {seed}: those that never came to the silo as well, and each once"
