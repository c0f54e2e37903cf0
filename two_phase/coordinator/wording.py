"""What a coordinator calls its transactions where a client reads it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """The application's noun for a transaction, and the sentences that clients see in a 503."""

    one: str = "transaction"
    many: str = "transactions"

    @property
    def too_many(self) -> str:
        """The coordinator has all that it can bear."""
        return f"too many {self.many} are under way"

    @property
    def waited_too_long(self) -> str:
        """The transaction was not begun in time."""
        return f"the {self.one} waited too long for its turn"

    @property
    def not_decided(self) -> str:
        """The transaction was begun, and is cancelled because nothing was decided in time."""
        return f"the {self.one} was not decided in time"

    def restored(self, what: str) -> str:
        """A database came back from an older backup."""
        return f"{what} was restored from an older backup; {self.many} wait for its reconciliation"
