"""A phone that somebody reads: it answers all by itself, in a thread, while the test restarts what is around it."""

import queue
import threading
from types import TracebackType

from .asterisk import Handset
from .phone import Address, Seen


class Reader:
    """Answers OPTIONS and MESSAGE with 200 and notes each MESSAGE once, however often it is repeated."""

    def __init__(self, phone: Handset) -> None:
        self.phone = phone
        self.messages: list[Seen] = []
        self._calls: set[str] = set()
        self._answers: queue.Queue[Seen] = queue.Queue()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(5)

    def _read(self) -> None:
        while not self._over.is_set():
            seen = self.phone.glance(0.1)
            if seen is None:
                continue
            if seen.code:
                self._answers.put(seen)
            elif seen.method == "MESSAGE":
                self.phone.answer(seen, 200)
                if seen["Call-ID"] not in self._calls:
                    self._calls.add(seen["Call-ID"])
                    self.messages.append(seen)

    @property
    def texts(self) -> list[str]:
        """What was read, in order."""
        return [seen.text for seen in self.messages]

    def register(self, to: Address, expires: int = 300) -> None:
        """Register, with the password where it is asked for; repeated until somebody answers 200."""
        phone = self.phone
        lines = (f"Contact: <{phone.contact}>", f"Expires: {expires}")
        for _ in range(20):
            raw = phone.request("REGISTER", f"{phone.user}@home.lan", *lines)
            if self._answered(raw, to) == 200:
                return
        raise AssertionError("no registrar answers")

    def _answered(self, raw: bytes, to: Address) -> int:
        self.phone.send(raw, to)
        try:
            answer = self._answers.get(timeout=1)
            if answer.code != 401:
                return answer.code
            self.phone.send(self.phone.authorize(raw, answer), to)
            return self._answers.get(timeout=1).code
        except queue.Empty:
            return 0
