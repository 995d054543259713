"""What venues do differently with the same order or account: given to the book and the server by a dialect."""

import base64
import binascii
from dataclasses import dataclass

from daemon.testvenue.accounts import FeeMode


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """The defaults are Binance's.

    stops_bind: a stop binds what it would trade from the moment it is taken; else from the moment it triggers, and
    then it ends when that is not there.  refuses_passed_stops: a stop whose price is passed already is refused; else
    it triggers at once.  refuses_taking_posts: a post-only order that would take is refused; else it is taken, and
    cancelled at once.  fee_mode: of accounts that say nothing else.  secrets_are_base64: keys come with such secrets.
    candle_rows: of a market's newest candles, all that it ever shows; None shows every one.
    """

    stops_bind: bool = True
    refuses_passed_stops: bool = True
    refuses_taking_posts: bool = True
    fee_mode: FeeMode = FeeMode.RECEIVED
    secrets_are_base64: bool = False
    candle_rows: int | None = None

    def check_secret(self, secret: str) -> None:
        """Raise ValueError when a key cannot have that secret here; never names it."""
        if not self.secrets_are_base64:
            return
        try:
            base64.b64decode(secret, validate=True)
        except binascii.Error:
            raise ValueError("this exchange's secrets are base64; make one with `openssl rand -base64 64`") from None
